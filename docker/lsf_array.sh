#!/bin/bash
# A study as a job array of LSF: every task runs its share of the cells, the last one to end gathers cards and tables.
#   STUDY=study.yaml OUT=out bsub -J 'monai-advdef[1-8]' < docker/lsf_array.sh
# Submitted again, tasks go on where they were: only cells that are not done are run. OUT must be a folder that all hosts see.
#BSUB -gpu num=1
#BSUB -n 4
#BSUB -R span[hosts=1]
#BSUB -M 32GB
#BSUB -W 12:00
#BSUB -o sweep-%J_%I.log
#BSUB -r
set -euo pipefail
study=${STUDY:?set STUDY to the file of the study}
out=${OUT:?set OUT to a folder that all hosts see}
step=${LSB_JOBINDEX_STEP:-1}
shard="$(((LSB_JOBINDEX - 1) / step + 1))/$(((LSB_JOBINDEX_END - 1) / step + 1))"

# One of the two: the environment into which monai_advdef was installed, or the image made from docker/apptainer.def.
run=(monai-advdef)
if [ -n "${ADVDEF_IMAGE:-}" ]; then
    run=(apptainer run --nv --bind "$PWD" "$ADVDEF_IMAGE")
fi
exec "${run[@]}" sweep "$study" --output_dir "$out" --shard "$shard"
