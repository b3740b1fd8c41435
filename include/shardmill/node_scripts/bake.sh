#!/bin/bash
# Turns an Amazon Linux 2023 instance into what clusters start from. It is the instance's user data, with these
# variables set above it: LOCK_URL (hashed list of packages), WHEELS_URL (a page of links to wheels; empty for PyPI),
# RESULT_URL (takes a PUT of what came of it), GPU (yes or no), MINUTES (until it goes down, whatever hangs).
set -euo pipefail
: "${LOCK_URL:?}" "${RESULT_URL:?}" "${GPU:?}" "${MINUTES:?}" "${WHEELS_URL=}"
shutdown -h "+$MINUTES"

work=/var/lib/shardmill-bake
mkdir -p "$work"
exec </dev/null >>"$work/log" 2>&1
step=start

begin() {
    step=$1
    echo "== $step"
}

fail() {
    echo "$*" >&2
    exit 1
}

# Whatever happens, the result is told first, and then the instance goes down: that is what is waited for.
finish() {
    local status=$?
    trap - EXIT
    set +e
    python3 "$work/tell.py" "$status" "$step" "$SECONDS" "$work" "$RESULT_URL"
    [[ $status -ne 0 ]] || rm -rf "$work"
    shutdown -h now
}

cat >"$work/tell.py" <<'END'
import json, pathlib, sys, time, urllib.request

status, step, seconds, folder, url = sys.argv[1:]
folder = pathlib.Path(folder)


def read(name):
    path = folder / name
    return path.read_text(errors="replace").strip() if path.exists() else ""


checked = json.loads(read("checked.json") or "{}")
lines = [line[:400] for line in read("log").splitlines()[-40:]]
told = {"ok": status == "0", "step": step, "seconds": int(seconds), "lines": lines, **checked}
told |= {"ffmpeg": read("ffmpeg"), "gpu": read("gpu")}
for pause in (1, 5, 15, 30, 0):
    try:
        request = urllib.request.Request(url, json.dumps(told).encode(), {"Content-Type": ""}, method="PUT")
        with urllib.request.urlopen(request, timeout=60):
            break
    except OSError as error:
        print("the result was not taken:", error, file=sys.stderr)
        time.sleep(pause)
END

cat >"$work/check.py" <<'END'
import importlib, importlib.metadata, importlib.util, json, platform, re, sys

# Elephas imports pyspark, which EMR adds when a cluster starts; tensorflow imports the other, which takes it once only.
NOT_ALONE = {"elephas", "tensorflow-io-gcs-filesystem"}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


with open(sys.argv[1]) as lock:
    pins = {plain(name): version for name, version in re.findall(r"(?m)^([\w.-]+)(?:\[[^]]*\])?==([^\s\\;]+)", lock.read())}
wrong, modules = [], {}
for module, names in importlib.metadata.packages_distributions().items():
    for name in names:
        modules.setdefault(plain(name), set()).add(module)
imported = 0
for name, version in sorted(pins.items()):
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "nothing"
    if found != version:
        wrong.append(f"{name}: expected {version}, found {found}")
        continue
    for module in sorted(modules.get(name, ())):
        if name not in NOT_ALONE and module.isidentifier() and not module.startswith("_"):
            try:
                importlib.import_module(module)
                imported += 1
            except Exception as error:
                wrong.append(f"{name}: import {module}: {type(error).__name__}: {error}")
if importlib.util.find_spec("pyspark"):
    wrong.append("pyspark: it is EMR's to bring, and must not be in the image")
with open(sys.argv[2], "w") as report:
    json.dump({"python": platform.python_version(), "packages": pins, "imported": imported}, report)
if wrong:
    sys.exit("\n".join(wrong))
END
trap finish EXIT

begin system
dnf install -y python3.11 python3.11-pip
systemctl disable --now amazon-ssm-agent || echo "no SSM agent to disable"

begin "list of packages"
python3 - "$LOCK_URL" "$work/lock.txt" <<'END'
import sys, urllib.request

urllib.request.urlretrieve(sys.argv[1], sys.argv[2])
END

if [[ $GPU == yes ]]; then
    begin "NVIDIA driver"
    kernel=$(uname -r)
    repository=https://developer.download.nvidia.com/compute/cuda/repos/amzn2023/x86_64/cuda-amzn2023.repo
    dnf install -y dkms "kernel-devel-$kernel" "kernel-headers-$kernel" "kernel-modules-extra-$kernel"
    dnf config-manager --add-repo "$repository"
    dnf module enable -y nvidia-driver:580-open
    dnf install -y nvidia-driver-cuda kmod-nvidia-open-dkms
    modprobe nvidia
fi

begin packages
from=()
[[ -z $WHEELS_URL ]] || from=(--no-index --find-links "$WHEELS_URL")
python3.11 -m pip install --no-deps --require-hashes --only-binary :all: --no-cache-dir --no-input \
    --disable-pip-version-check --progress-bar off --root-user-action ignore "${from[@]}" -r "$work/lock.txt"

begin ffmpeg
if grep -q '^imageio-ffmpeg==' "$work/lock.txt"; then
    program=$(python3.11 -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
    ln -sf "$program" /usr/local/bin/ffmpeg
    ffmpeg -version >"$work/ffmpeg.all"
    head -n 1 "$work/ffmpeg.all" >"$work/ffmpeg"
fi

begin "check of packages"
python3.11 "$work/check.py" "$work/lock.txt" "$work/checked.json"

begin "check of EMR's rules"
for name in hadoop hdfs yarn spark; do
    ! getent passwd "$name" || fail "there is a user named $name: EMR adds it itself, and fails where it exists"
done
! systemctl is-enabled --quiet amazon-ssm-agent || fail "the SSM agent is still enabled: it disturbs EMR's nodes"

if [[ $GPU == yes ]] && grep -qs 0x10de /sys/bus/pci/devices/*/vendor; then
    begin "check of the GPU"
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader >"$work/gpu"
    if grep -q '^tensorflow==' "$work/lock.txt"; then
        python3.11 -c 'import sys, tensorflow; sys.exit(not tensorflow.config.list_physical_devices("GPU"))' ||
            fail "TensorFlow sees no GPU, and nvidia-smi does: its CUDA libraries are not those that it was built for"
    fi
fi

begin clean
dnf clean all
rm -rf /root/.cache /tmp/pip-*
