#!/bin/sh
# Runs an image of buildah under strict conditions, sends requests to it, and stops it. It has the image's own user,
# variables and command, python as process 1, no network but the loopback, and a read-only file system, /tmp and /dev/shm
# included. Needs root, util-linux, iproute2 and procps.
#
#   deploy/try-without-docker.sh IMAGE CHECKPOINT
# shellcheck disable=SC2016,SC2046,SC2086
set -euf # -f: the variables and arguments below are lists; they are split into lines, without globbing
READY_WITHIN_S=300

fail() { echo "$0: $1" >&2; exit 1; }
buildah() { command buildah --storage-driver overlay "$@"; }
list() { buildah inspect --format "{{range .Docker.Config.$1}}{{println .}}{{end}}" "$container"; }
one() { buildah inspect --format "{{.Docker.Config.$1}}" "$container"; }
inside() {
    nsenter --target "$server" --mount --pid --net --root --wd --setuid "${user%:*}" --setgid "${user#*:}" \
        env --ignore-environment $environment "$@"
}
clean_up() {
    [ -z "$runner" ] || kill -KILL "$runner" 2> /dev/null || true # this kills the server too
    buildah rm "$container" > /dev/null
}

[ $# = 2 ] || fail "takes an image and a checkpoint"
[ "$(id -u)" = 0 ] || fail "must be run as root"
for tool in buildah ip nsenter pgrep unshare; do
    command -v "$tool" > /dev/null || fail "$tool is not installed"
done
checkpoint=$(realpath "$2")
[ -f "$checkpoint" ] || fail "$checkpoint: no such checkpoint"
smoke=$(dirname "$0")/smoke.py

runner=
container=$(buildah from --pull=never "$1")
trap clean_up EXIT
trap 'exit 1' INT TERM
root=$(buildah mount "$container")
IFS='
'
environment="$(list Env)
VGG_CHECKPOINT=/checkpoints/$(basename "$checkpoint")"
user=$(one User)
mkdir -p "$root/checkpoints"

unshare --mount --pid --net --fork --kill-child sh -euc '
    root=$1 checkpoints=$2 user=$3 directory=$4
    shift 4
    ip link set lo up
    mount --bind "$root" "$root"
    mount --bind --options ro "$checkpoints" "$root/checkpoints"
    mount -t proc proc "$root/proc"
    for device in null zero full random urandom; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mount --options remount,bind,ro "$root"
    exec chroot --userspec="$user" "$root" env --ignore-environment --chdir="$directory" "$@"
' sh "$root" "$(dirname "$checkpoint")" "$user" "$(one WorkingDir)" $environment $(list Entrypoint) &
runner=$!

waited_s=0
server=
until [ -n "$server" ] && reason=$(inside $(list Healthcheck.Test | tail -n +2) 2>&1); do
    kill -0 "$runner" 2> /dev/null || fail "the server ended before it was ready"
    [ "$waited_s" -lt "$READY_WITHIN_S" ] || fail "not ready after $waited_s s: ${reason:-it did not start}"
    sleep 1
    waited_s=$((waited_s + 1))
    server=$(pgrep --parent "$runner" || true)
done
echo "ready after $waited_s s; process 1 is: $(inside sh -c 'tr "\\0" " " < /proc/1/cmdline')as $(inside sh -c 'grep Uid: /proc/1/status')"

! inside touch /tmp/probe 2> /dev/null || fail "/tmp is writable, but the file system must be read-only"
for tool in pip cc gcc; do
    ! inside sh -c "command -v $tool" || fail "$tool is in the image"
done
inside python - < "$smoke"

kill -TERM "$server"
status=0
wait "$runner" || status=$?
runner=
[ "$status" = 0 ] || fail "after SIGTERM the server ended with status $status, but must end with 0"
echo "ended with 0 after SIGTERM"
