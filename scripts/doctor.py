"""Say what is missing or odd on this machine, and how to mend it. Standard library only: runs before the set-up.

Exit status 1 where something is missing without which `make demo` cannot work; notes alone give 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import locale
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import set_up

ROOT = set_up.ROOT
LOCAL = set_up.LOCAL
GIB = 1024**3
DISK_FOR_SET_UP_GB = 12
DISK_FOR_RUNS_GB = 4
MEMORY_GIB = 7
"""What a machine sold with 8 GB reports to have, rounded down."""
PORTS = {8080: "Airflow's UI and API", 5600: "the local AWS"}
MAX_SOCKET_PATH = 107
"""Bytes; a Linux limit."""
JAIL = ROOT / "include" / "shardmill" / "adapters" / "sandbox" / "jail.py"
SANDBOX_MEND = (
    "apt install bubblewrap, or allow user namespaces to users (sysctl -w user.max_user_namespaces=10000 "
    "kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0, those that this kernel has)"
)
OK, NOTE, MISSING = "ok", "note", "MISSING"


@dataclass(frozen=True)
class Finding:
    """What was found about one thing, and what mends it."""

    level: str
    thing: str
    found: str
    mend: str = ""


# ---------------------------------------------------------------- programs


def python_version(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    text = ".".join(map(str, version))
    if version[:2] == (3, 11):
        return Finding(OK, "Python", text)
    return Finding(MISSING, "Python", f"{text}, and 3.11 is needed", "apt install python3.11 (or pyenv install 3.11)")


def installer(has: Callable[[str], object] = importlib.util.find_spec) -> Finding:
    if has("venv") and has("ensurepip"):
        return Finding(OK, "venv", "with ensurepip")
    if has("pip"):
        return Finding(OK, "venv", "no ensurepip, pip does as well")
    return Finding(MISSING, "venv", "neither ensurepip nor pip in this Python", "apt install python3.11-venv")


def program(name: str, level: str, why: str, package: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(OK, name, path)
    return Finding(level, name, f"not found; {why}", f"apt install {package}")


def system() -> Finding:
    name = f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver()) or 'C library unknown'}"
    if platform.system() != "Linux":
        return Finding(
            MISSING, "system", f"{name}; the laptop stack needs Linux", "use a Linux machine or a virtual one"
        )
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return Finding(NOTE, "system", f"{name}; only tried on x86_64 with glibc", "expect wheels to be missing")
    return Finding(OK, "system", name)


# ---------------------------------------------------------------- the machine


def disk(free_bytes: int, *, is_set_up: bool) -> Finding:
    free, needed = free_bytes / 1e9, DISK_FOR_RUNS_GB if is_set_up else DISK_FOR_SET_UP_GB
    if free >= needed:
        return Finding(OK, "disk", f"{free:.0f} GB free")
    what = "a run's files" if is_set_up else "the set-up"
    mend = f"free some, or clone to a larger disk than that of {ROOT}"
    return Finding(NOTE if is_set_up else MISSING, "disk", f"{free:.1f} GB free, {what} needs {needed} GB", mend)


def memory_limit() -> int:
    """Give the bytes of memory that this process may use: the machine's, or less where a cgroup says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def memory(total_bytes: int) -> Finding:
    total = total_bytes / GIB
    if total >= MEMORY_GIB:
        return Finding(OK, "memory", f"{total:.1f} GiB")
    return Finding(
        MISSING, "memory", f"{total:.1f} GiB, and a demo needs 8 GB", "raise the machine's or container's limit"
    )


def processor(cpuinfo: str, cores: int) -> Finding:
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    if "avx" not in flags:
        mend = "use another machine type; in a virtual machine, pass the host's CPU flags through"
        return Finding(MISSING, "processor", "without AVX, which TensorFlow's and x264's builds need", mend)
    if cores < 2:
        return Finding(NOTE, "processor", "1 core, AVX", "two workers will share it: expect twice the time")
    return Finding(OK, "processor", f"{cores} cores, AVX")


def executable_disk(path: Path) -> Finding:
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return Finding(
            MISSING, "mount", f"{path} is mounted noexec: nothing under .local could start", "clone elsewhere"
        )
    return Finding(OK, "mount", "programs may run from here")


def open_files(limit: int) -> Finding:
    if limit == resource.RLIM_INFINITY or limit >= 1024:
        return Finding(OK, "open files", "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}")
    return Finding(NOTE, "open files", f"up to {limit} only", "ulimit -n 4096")


# ---------------------------------------------------------------- what the stack asks of the system


def port(number: int, what: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return Finding(NOTE, f"port {number}", f"{error.strerror}; {what} will take a free one", "")
    return Finding(OK, f"port {number}", f"free, for {what}")


UNSHARE = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "true")


def namespaces(uid: int, argv: Iterable[str] = UNSHARE) -> Finding:
    """Try what PostgreSQL needs when root starts it: it refuses to run as root itself."""
    thing = "user namespaces"
    if uid:
        return Finding(OK, thing, "not needed: this is not root")
    mend = "apt install util-linux; sysctl -w user.max_user_namespaces=10000; or work as a user other than root"
    try:
        done = subprocess.run([*argv], check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(MISSING, thing, f"cannot be tried: {error}", mend)
    if done.returncode:
        return Finding(MISSING, thing, f"refused ({done.stderr.strip()}), and PostgreSQL refuses to be root", mend)
    return Finding(OK, thing, "usable, PostgreSQL runs as nobody")


def sandbox_trials(folder: str) -> dict[str, list[str]]:
    """Give, by program, the commands that try each sandbox with little but /usr and a folder inside; the best first."""
    beside = [Path("/", name) for name in ("lib", "lib64", "bin")]
    links = {str(path): str(path.readlink()) for path in beside if path.is_symlink()}
    folders = ["/usr", *(str(path) for path in beside if path.is_dir() and str(path) not in links)]
    root = {"work": folder, "work_outside": folder, "tmp_bytes": 1 << 20, "links": list(links.items())}
    plan = {"argv": ["true"], "environment": {"PATH": "/usr/bin:/bin"}, "limits": {"RLIMIT_CORE": 0}, "isolated": True}
    plan["root"] = {**root, "binds": [(path, path) for path in folders]}
    names = ("user", "map-root-user", "mount", "net", "pid", "ipc", "uts", "fork", "kill-child=SIGKILL")
    jail = ["sh", "-c", 'exec "$@" "$$" 3</proc', "sh", "unshare", *(f"--{name}" for name in names), "--"]
    namespaces = [f"--unshare-{name}" for name in ("user", "pid", "net", "ipc", "uts")]
    behaviour = ["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"]
    mounts = ["--size", str(1 << 20), "--tmpfs", "/tmp", "--dev-bind", "/dev/null", "/dev/null"]  # noqa: S108
    mounts += [word for path, target in links.items() for word in ("--symlink", target, path)]
    mounts += [word for path in folders for word in ("--ro-bind", path, path)]
    mounts += ["--bind", folder, folder, "--remount-ro", "/", "--chdir", folder]
    bubble = ["bwrap", *namespaces, *behaviour, "--uid", "0", "--gid", "0", *mounts, "--", "/usr/bin/true"]
    return {"bwrap": bubble, "unshare": [*jail, sys.executable, "-I", "-S", str(JAIL), json.dumps(plan)]}


def sandbox(environment: Mapping[str, str], trials: Mapping[str, list[str]]) -> Finding:
    """Try where videos would be read: they come from strangers, so nowhere else, unless the user allows it."""
    thing, refusals = "sandbox", []
    for name, argv in trials.items():
        if shutil.which(name) is None:
            refusals.append(f"{name}: not installed")
            continue
        try:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired) as error:
            refusals.append(f"{name}: {error}")
            continue
        if done.returncode == 0:
            return Finding(OK, thing, "; ".join([f"by {name}", *refusals]))
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        refusals.append(f"{name}: {said[-1].removeprefix(f'{name}: ')}")
    found = "; ".join(refusals)
    if environment.get("SHARDMILL_UNSANDBOXED_OK") == "1":
        return Finding(NOTE, thing, f"none ({found}), allowed by SHARDMILL_UNSANDBOXED_OK", SANDBOX_MEND)
    mend = f"{SANDBOX_MEND}; or, if you trust the videos: export SHARDMILL_UNSANDBOXED_OK=1"
    return Finding(MISSING, thing, found, mend)


def try_sandbox(environment: Mapping[str, str]) -> Finding:
    with tempfile.TemporaryDirectory(prefix="shardmill-doctor-") as folder:
        return sandbox(environment, sandbox_trials(str(Path(folder).resolve())))


def socket_path(folder: Path) -> Finding:
    length = len(os.fsencode(folder / ".s.PGSQL.5432"))
    if length <= MAX_SOCKET_PATH:
        return Finding(OK, "socket path", f"{length} of {MAX_SOCKET_PATH} bytes")
    found = f"{length} bytes, a socket's path has at most {MAX_SOCKET_PATH}"
    return Finding(NOTE, "socket path", f"{found}: PostgreSQL's goes to a folder under {tempfile.gettempdir()}")


def language() -> Finding:
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        names = {name: os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if name in os.environ}
        return Finding(NOTE, "locale", f"{names} is not installed here", "export LC_ALL=C.UTF-8")
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        found = f"file names are read as {sys.getfilesystemencoding()}"
        return Finding(NOTE, "locale", found, "export LC_ALL=C.UTF-8")
    return Finding(OK, "locale", f"{locale.setlocale(locale.LC_CTYPE)}, file names in UTF-8")


# ---------------------------------------------------------------- network


def proxy(environment: Mapping[str, str]) -> Finding:
    lowered = {name.lower(): value for name, value in environment.items() if value}
    set_here = [name for name in ("http_proxy", "https_proxy", "all_proxy") if name in lowered]
    if not set_here:
        return Finding(OK, "proxy", "none")
    exempt = {host.strip() for host in lowered.get("no_proxy", "").split(",")}
    if "*" in exempt or {"127.0.0.1", "localhost"} <= exempt:
        return Finding(OK, "proxy", f"{', '.join(set_here)}, not for loopback")
    mend = "export no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost"
    return Finding(NOTE, "proxy", f"{', '.join(set_here)} also for loopback, where the stack's parts talk", mend)


def certificates(environment: Mapping[str, str]) -> Finding:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE")
    absent = [name for name in names if environment.get(name) and not Path(environment[name]).exists()]
    if absent:
        found = ", ".join(f"{name}={environment[name]}" for name in absent)
        return Finding(NOTE, "certificates", f"{found}: not there", f"unset {' '.join(absent)}, or correct the path")
    return Finding(OK, "certificates", "the system's")


def package_index(environment: Mapping[str, str], pip_files: Iterable[Path]) -> Finding:
    """See whether pip is told of an index that uv, which does not read pip's configuration, is not told of."""
    by_file = [path for path in pip_files if path.is_file() and "index-url" in path.read_text(errors="replace")]
    if not (environment.get("PIP_INDEX_URL") or by_file):
        return Finding(OK, "package index", "the default")
    if environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL"):
        return Finding(OK, "package index", "pip and uv are each told of one")
    where = "PIP_INDEX_URL" if environment.get("PIP_INDEX_URL") else str(by_file[0])
    found = f"{where} names one for pip; uv does not read it"
    return Finding(
        NOTE, "package index", found, "if the set-up cannot download: export UV_DEFAULT_INDEX with the same address"
    )


def python_variables(environment: Mapping[str, str]) -> Finding:
    odd = [name for name in ("PYTHONPATH", "PYTHONHOME", "SPARK_HOME", "JAVA_TOOL_OPTIONS") if environment.get(name)]
    if odd:
        return Finding(
            NOTE, "variables", f"{', '.join(odd)} set: may mix foreign code into runs", f"unset {' '.join(odd)}"
        )
    return Finding(OK, "variables", "nothing that changes Python, Java or Spark")


# ---------------------------------------------------------------- our own state


def environments() -> list[Finding]:
    """Compare what stands under .local with the locks, as the set-up itself does."""
    findings = []
    for name, locks in set_up.ENVIRONMENTS.items():
        stamp = LOCAL / name / ".made-from"
        if not stamp.is_file():
            findings.append(Finding(NOTE, f".local/{name}", "not set up yet", "make demo, or make setup"))
        elif stamp.read_text() != set_up.fingerprint(set_up.BUILD_LOCK, *locks):
            mend = "make setup (done by every make target that needs it)"
            findings.append(Finding(NOTE, f".local/{name}", "made from other locks or elsewhere", mend))
        else:
            findings.append(Finding(OK, f".local/{name}", "set up, of the committed locks"))
    return findings


def own_processes(proc: Path, local: Path) -> list[tuple[int, str]]:
    """List the processes that run from, or were given, a path under ``.local``: pid and command line."""
    found = []
    marks = (f"{local}/".encode(), f"{local}\0".encode())
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or belongs to someone else
        if any(mark in command for mark in marks):
            found.append((int(entry.name), command.replace(b"\0", b" ").decode(errors="replace").strip()))
    return sorted(found)


def processes(found: list[tuple[int, str]]) -> list[Finding]:
    """Name each process; what mends it, once."""
    if not found:
        return [Finding(OK, "processes", "none of ours is running")]
    mend = "make down; if nothing of ours should run, and these stay: kill, by their numbers"
    *first, last = [Finding(NOTE, f"process {pid}", f"running: {command[:90]}") for pid, command in found]
    return [*first, replace(last, mend=mend)]


# ---------------------------------------------------------------- all together


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything, in the order in which it would be needed."""
    is_set_up = all((LOCAL / name / ".made-from").is_file() for name in set_up.ENVIRONMENTS)
    cpuinfo = Path("/proc/cpuinfo")
    home = Path.home()
    pip_files = (Path("/etc/pip.conf"), home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf")
    return [
        system(),
        python_version(),
        installer(),
        program("make", MISSING, "every command of this project starts with it", "make"),
        program("git", NOTE, "only needed to fetch and change this project", "git"),
        program("setpriv", MISSING, "it ends our programs when their starter dies", "util-linux"),
        processor(cpuinfo.read_text() if cpuinfo.is_file() else "", len(os.sched_getaffinity(0))),
        memory(memory_limit()),
        disk(shutil.disk_usage(ROOT).free, is_set_up=is_set_up),
        executable_disk(ROOT),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        namespaces(os.getuid()),
        try_sandbox(environment),
        socket_path(LOCAL / "state" / "postgres-socket"),
        *(port(number, what) for number, what in PORTS.items()),
        language(),
        proxy(environment),
        certificates(environment),
        package_index(environment, pip_files),
        python_variables(environment),
        *environments(),
        *processes(own_processes(Path("/proc"), LOCAL)),
    ]


def show(findings: list[Finding]) -> str:
    """Write the findings as lines: what is missing stands out, each with its remedy."""
    width = max(len(finding.thing) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8}{finding.thing:<{width}}  {finding.found}")
        if finding.mend:
            lines.append(f"{'':<8}{'':<{width}}  → {finding.mend}")
    missing = sum(finding.level == MISSING for finding in findings)
    notes = sum(finding.level == NOTE for finding in findings)
    verdict = f"{missing} missing" if missing else "nothing is missing"
    return "\n".join([*lines, "", f"doctor: {verdict}, {notes} to note"])


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    findings = examine(os.environ)
    print(show(findings))
    return int(any(finding.level == MISSING for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
