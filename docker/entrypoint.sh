#!/bin/sh
# `bundle ...` is stock MONAI's command line, programs are run as given, every other word is a verb of monai-advdef.
set -eu
case "${1:-}" in
    bundle) shift; exec python3 -m monai.bundle "$@" ;;
    mlflow_server) shift; exec "$(dirname "$0")/mlflow_server.sh" "$@" ;;
    mlflow | nvidia-smi | python | python3 | ray | sh | bash | torchrun) exec "$@" ;;
    *) exec monai-advdef "$@" ;;
esac
