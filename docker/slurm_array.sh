#!/bin/bash
# A study as a job array of Slurm: every task runs its share of the cells, the last one to end gathers cards and tables.
#   sbatch --array=1-8 docker/slurm_array.sh STUDY.yaml OUT
# Submitted again, tasks go on where they were: only cells that are not done are run. OUT must be a folder that all nodes see.
#SBATCH --job-name=monai-advdef
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --output=sweep-%A_%a.log
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
study=${1:?usage: sbatch --array=1-8 slurm_array.sh STUDY.yaml OUT}
out=${2:?usage: sbatch --array=1-8 slurm_array.sh STUDY.yaml OUT}
shard="$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / ${SLURM_ARRAY_TASK_STEP:-1} + 1))/$SLURM_ARRAY_TASK_COUNT"

# One of the two: the environment into which monai_advdef was installed, or the image made from docker/apptainer.def.
run=(monai-advdef)
if [ -n "${ADVDEF_IMAGE:-}" ]; then
    run=(apptainer run --nv --bind "$PWD" "$ADVDEF_IMAGE")
fi
exec srun "${run[@]}" sweep "$study" --output_dir "$out" --shard "$shard"
