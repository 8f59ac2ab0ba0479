#!/bin/sh
# Builds and tests the image without a Docker engine. Needs root on Debian or Ubuntu, and
#   apt-get install buildah debootstrap iproute2 procps
#
#   deploy/build-without-docker.sh [CHECKPOINT]     default: checkpoints/digits.safetensors
#
# BASE          the base image; by default a small Debian that this script makes, which needs no registry
# SUITE         the version of that Debian; default: bookworm
# IMAGE         the name of the image to build; default: localhost/vggserve
# BUILDAH_ARGS  more arguments for `buildah build`, as in '--volume /etc/pip.conf:/etc/pip.conf:ro'
set -eu

fail() { echo "$0: $1" >&2; exit 1; }
buildah() { command buildah --storage-driver overlay "$@"; }

[ "$(id -u)" = 0 ] || fail "must be run as root"
for tool in buildah debootstrap; do
    command -v "$tool" > /dev/null || fail "$tool is not installed"
done
checkpoint=$(realpath "${1:-checkpoints/digits.safetensors}")
[ -f "$checkpoint" ] || fail "$checkpoint: no such checkpoint; \`make train\` makes one"
cd "$(dirname "$0")/.."
image=${IMAGE:-localhost/vggserve}
suite=${SUITE:-bookworm}
base=${BASE:-localhost/debian:$suite}

if [ -z "${BASE:-}" ] && [ -z "$(buildah images --quiet --filter "reference=$base")" ]; then
    container=$(buildah from scratch)
    trap 'buildah rm "$container" > /dev/null' EXIT
    root=$(buildah mount "$container")
    debootstrap --variant=minbase "$suite" "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    buildah commit "$container" "$base"
    buildah rm "$container" > /dev/null
    trap - EXIT
fi

# Only Docker's image format has HEALTHCHECK. BUILDAH_ARGS is split into words on purpose.
build() {
    # shellcheck disable=SC2086
    buildah build --isolation chroot --format docker --layers --build-arg "BASE=$base" \
        --build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)" ${BUILDAH_ARGS:-} "$@" .
}
# buildah 1.28 cannot mount from a stage that is completely cached. It can mount from an image.
build --target pip --tag "$image-pip"
build --build-context "pip=container-image://$image-pip" --tag "$image"

exec deploy/try-without-docker.sh "$image" "$checkpoint"
