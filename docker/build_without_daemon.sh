#!/bin/sh
# Build the image where no Docker daemon runs, with buildah. Usage, from anywhere:
#   BASE_IMAGE=<image with torch> docker/build_without_daemon.sh [further options of buildah bud, such as --volume]
# chroot isolation and the vfs driver work inside containers; the Docker format keeps the HEALTHCHECK.
set -eu
command -v buildah > /dev/null || { echo "skipped: no buildah on this machine (apt-get install buildah)" >&2; exit 77; }
cd "$(dirname "$0")/.."
exec buildah --storage-driver "${STORAGE_DRIVER:-vfs}" bud --isolation chroot --format docker \
    ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} --tag "${IMAGE:-monai-advdef}" "$@" --file docker/Dockerfile .
