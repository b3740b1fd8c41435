#!/bin/bash
# Bootstrap action: this node shuts itself down at a fixed time, whatever hangs, on it or outside.
#
#   deadline.sh <when>      ISO 8601 with its offset (2026-11-21T06:01:00+00:00), or seconds since 1970
#
# A node that joins later gets what is left; one that comes too late shuts down at once. To run it twice changes nothing.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
UNIT=shardmill-deadline

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

if [ "$#" -ne 1 ] || [ -z "$1" ]; then
    echo "deadline.sh: expected one argument, the time at which this node must be gone; found: $*" >&2
    exit 2
fi
case "$1" in
    *[!0-9]*) end=$(date -u -d "$1" +%s) ;;
    *) end=$1 ;;
esac
left=$((end - $(date -u +%s)))
halt=$(command -v shutdown)

if [ "$left" -le 0 ]; then
    echo "deadline.sh: $1 is over: this node shuts down now" >&2
    as_root "$halt" -h now
    exit 1
fi
# A timer of systemd survives the end of this script and of its session; by default it may be a minute late.
if as_root systemd-run --unit="$UNIT" --on-active="$left" --timer-property=AccuracySec=1s "$halt" -h now; then
    echo "deadline.sh: this node shuts down in $left s, at $1"
elif as_root systemctl is-active --quiet "$UNIT.timer"; then
    echo "deadline.sh: the timer was set before"
else
    echo "deadline.sh: systemd-run failed: a process waits instead" >&2
    # shellcheck disable=SC2016  # the inner shell expands them
    as_root nohup setsid sh -c 'sleep "$1" && "$2" -h now' "$UNIT" "$left" "$halt" </dev/null >/dev/null 2>&1 &
    waiting=$!
    sleep 1
    if [ ! -d "/proc/$waiting" ] && [ "$left" -gt 1 ]; then
        echo "deadline.sh: no timer could be set on this node" >&2
        exit 1
    fi
fi
