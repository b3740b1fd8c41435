#!/bin/bash
# Bootstrap action: YARN gives a container its GPUs by the `devices` controller of cgroup v1; Amazon Linux 2023 mounts
# cgroup v2 only. So it is mounted beside it, where yarn-site and container-executor look for it.
set -euo pipefail
CGROUPS=/spark-rapids-cgroup

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

as_root mkdir -p "$CGROUPS/devices"
if ! grep -qs " $CGROUPS/devices cgroup " /proc/mounts; then
    as_root mount -t cgroup -o devices cgroupv1-devices "$CGROUPS/devices"
fi
as_root chmod -R a+rwx "$CGROUPS"
