"""Make the environments under ``.local/`` from the committed, hash-checked locks. Standard library only.

    python3.11 scripts/set_up.py [browser]

Without a name, the two that everything needs. Run by ``make``;
safe to run again: an environment whose locks have not changed is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
UV_HOME = LOCAL / "uv"
ENVIRONMENTS = {
    "airflow": ("requirements.txt",),
    "cluster": ("requirements-cluster.txt", "requirements-cluster-local.txt"),
}
ON_REQUEST = {"browser": ("requirements-browser.txt",)}
BUILD_LOCK = "requirements-build.txt"
UV_LOCK = "requirements-uv.txt"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of those made on request: {', '.join(ON_REQUEST)}")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in ON_REQUEST]:
        return fail(f"expected one of {', '.join(ON_REQUEST)}, found {unknown[0]!r}")
    if sys.version_info[:2] != (3, 11):
        return fail(f"Python 3.11 is needed, this is {sys.version.split()[0]}: install python3.11")
    LOCAL.mkdir(exist_ok=True)
    try:
        uv = ensure_uv()
        for name, locks in ({name: ON_REQUEST[name] for name in asked.names} or ENVIRONMENTS).items():
            ensure_environment(uv, name, locks)
        compile_sources()
    except SetUpError as error:
        return fail(str(error))
    return 0


class SetUpError(RuntimeError):
    """A step of the set-up that could not be done; the message says what to do."""


def fail(message: str) -> int:
    print(f"set-up: {message}", file=sys.stderr)
    return 1


def say(message: str) -> None:
    print(f"set-up: {message}", flush=True)


def fingerprint(*names: str) -> str:
    """Hash what an environment is made from: its locks, this script and its place (scripts in it name it)."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (Path(__file__), *(ROOT / name for name in names)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def ensure_uv() -> Path:
    """Install the pinned uv wheel by venv, else by pip, and give the path of its program."""
    stamp, wanted = UV_HOME / ".made-from", fingerprint(UV_LOCK)
    uv = UV_HOME / "bin" / "uv"
    if uv.exists() and stamp.exists() and stamp.read_text() == wanted:
        return uv
    shutil.rmtree(UV_HOME, ignore_errors=True)
    install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    lock = ["-r", str(ROOT / UV_LOCK)]
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        say("uv, into an environment of its own")
        call([sys.executable, "-m", "venv", str(UV_HOME)])
        call([str(UV_HOME / "bin" / "python"), "-m", "pip", *install, *lock])
    elif importlib.util.find_spec("pip"):
        say("uv, by pip (this Python has no ensurepip)")
        call([sys.executable, "-m", "pip", *install, "--target", str(UV_HOME), *lock])
    else:
        raise SetUpError("this Python has neither venv nor pip: install python3.11-venv (apt install python3.11-venv)")
    stamp.write_text(wanted)
    return uv


def ensure_environment(uv: Path, name: str, locks: tuple[str, ...]) -> None:
    """Make one environment from its locks, unless it was made from the very same ones."""
    home = LOCAL / name
    stamp, wanted = home / ".made-from", fingerprint(BUILD_LOCK, *locks)
    if (home / "bin" / "python").exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    say(f"the {name} environment, from {' and '.join(locks)} (a few minutes the first time)")
    quiet = ["--quiet", "--system-certs", "--no-python-downloads", "--no-config"]
    call([str(uv), "venv", *quiet, "--clear", "--python", sys.executable, str(home)])
    python = ["--python", str(home / "bin" / "python")]
    # Compiled at once: sandboxes cannot write what they compile, and many an environment forbids Python to.
    install = [str(uv), "pip", "install", *quiet, "--compile-bytecode", *python]
    # pyspark alone has no wheel: it is built without isolation, by build requirements that are locked as well.
    call([*install, "--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / BUILD_LOCK)])
    wheels_only = ["--only-binary", ":all:", "--no-binary", "pyspark", "--no-build-isolation-package", "pyspark"]
    files = [argument for lock in locks for argument in ("-r", str(ROOT / lock))]
    call([*install, "--require-hashes", "--no-deps", *wheels_only, *files])
    if name == "airflow":
        call([*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    stamp.write_text(wanted)
    say(f"the {name} environment is ready ({time.monotonic() - started:.0f} s)")


def compile_sources() -> None:
    """Compile our own code too: what runs in a sandbox would be compiled there each time, for it can write nothing."""
    folders = [str(ROOT / name) for name in ("include", "plugins", "dags") if (ROOT / name).is_dir()]
    # Only for speed: a file that does not compile, or a folder that cannot be written, is somebody else's to tell.
    subprocess.run([sys.executable, "-m", "compileall", "-qq", *folders], check=False)


def call(argv: list[str]) -> None:
    environment = {**os.environ, "UV_CACHE_DIR": str(LOCAL / "uv-cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(argv, env=environment, cwd=ROOT, check=False)
    if done.returncode:
        command = " ".join(argv)
        raise SetUpError(f"exit status {done.returncode} from: {command}\nset-up: run `make doctor`, then try again")


if __name__ == "__main__":
    sys.exit(main())
