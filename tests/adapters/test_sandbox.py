"""The sandbox, from outside and from inside: by bubblewrap and by unshare alike."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardmill
from shardmill.adapters.process import start_child
from shardmill.adapters.sandbox import Sandbox, SandboxError, ending_signal, find, find_sandbox

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = Path(shardmill.__file__).parent
SECRET = "AWS_SECRET_ACCESS_KEY"  # noqa: S105


@pytest.fixture(params=["bubblewrap", "namespaces"], scope="module")
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    try:
        return find._find(request.param)
    except SandboxError as refusal:
        pytest.skip(str(refusal))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def fresh_search() -> Iterator[None]:
    find._found.cache_clear()
    yield
    find._found.cache_clear()


def run(sandbox: Sandbox, work: Path, code: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    argv = [sys.executable, "-I", "-c", code, *map(str, arguments)]
    child = start_child(
        sandbox.command(argv, work=work), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    stdout, stderr = child.communicate(timeout=60)
    return subprocess.CompletedProcess(argv, child.returncode, stdout, stderr)


def answer(sandbox: Sandbox, work: Path, code: str, *arguments: object, **options):
    done = run(sandbox, work, code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def with_mark(mark: str) -> list[int]:
    """List the processes that were started with the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def wait_for(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# ---------------------------------------------------------------- files

READ = """
import json, sys
def read(path):
    try:
        with open(path, "rb") as file:
            return "read"
    except OSError as error:
        return type(error).__name__
print(json.dumps({path: read(path) for path in sys.argv[1:]}))
"""


def test_a_file_outside_cannot_be_read(sandbox, work, tmp_path):
    in_tmp = tmp_path / "canary"
    in_tmp.write_text("outside")
    git = PROJECT / ".git"
    places = [in_tmp, PROJECT / "pyproject.toml", git / "HEAD" if git.is_dir() else git, Path("/etc/passwd")]
    with tempfile.NamedTemporaryFile(dir=Path.home()) as in_home:
        places.append(Path(in_home.name))
        assert all(path.is_file() and os.access(path, os.R_OK) for path in places)
        found = answer(sandbox, work, READ, *places)

    assert found == {str(path): "FileNotFoundError" for path in places}


def test_of_etc_proc_sys_home_var_and_run_nothing_shows(sandbox, work):
    code = "import json, os; print(json.dumps({name: os.listdir('/' + name) for name in os.listdir('/')}))"
    seen = answer(sandbox, work, code)

    assert not {"proc", "sys", "var", "run", "home", "mnt", "opt"} & set(seen) - set(PROJECT.parts)
    assert set(seen["etc"]) <= {"ld.so.cache"}
    assert set(seen["dev"]) == {"null", "zero", "urandom", "random"}


WRITE = """
import ctypes, json, os, sys, uuid
libc = ctypes.CDLL(None, use_errno=True)
def make_file(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    os.unlink(path)
def make_folder(path):
    os.mkdir(path)
    os.rmdir(path)
def errors(path):  # should one succeed, it leaves nothing behind: this may be root, and the place /usr
    found, new, mode = [], os.path.join(path, str(uuid.uuid4())), os.stat(path).st_mode & 0o7777
    for attempt in (lambda: make_file(new), lambda: make_folder(new), lambda: os.chmod(path, mode)):
        try:
            attempt()
            found.append("done")
        except OSError as error:
            found.append(error.strerror)
    for flags in (32, 32 | 4096):  # remount, remount of the bind
        found.append("done" if libc.mount(b"", path.encode(), None, flags, None) == 0 else "refused")
    return sorted(set(found))
print(json.dumps({path: errors(path) for path in sys.argv[1:]}))
"""


def _is_private(path: Path) -> bool:
    """Say whether a folder is made anew inside: a checkout may lie below /tmp, whose folders are not those outside."""
    return path.is_relative_to("/tmp")


def test_no_place_but_work_and_the_private_tmp_can_be_written(sandbox, work, tmp_path):
    folders = ["/", "/dev", "/etc", "/usr", "/usr/bin", sys.prefix, os.__file__.rpartition("/")[0], str(PACKAGE)]
    folders += [str(PACKAGE / "adapters"), *(str(parent) for parent in PROJECT.parents if not _is_private(parent))]

    found = answer(sandbox, work, WRITE, *folders)

    assert found == {folder: ["Read-only file system", "refused"] for folder in folders}
    writable = [str(work), str(tmp_path), "/tmp"]
    assert answer(sandbox, work, WRITE, *writable) == {folder: ["done", "refused"] for folder in writable}
    run(sandbox, work, "import sys; open(sys.argv[1], 'x')", tmp_path / "new")
    assert list(tmp_path.iterdir()) == [work]


def test_the_tmp_inside_is_empty_private_and_small(sandbox, work):
    code = """
import json, os
names = os.listdir("/tmp")
try:
    with open("/tmp/big", "wb") as file:
        for _ in range(80):
            file.write(bytes(1 << 20))
except OSError as error:
    print(json.dumps([names, error.strerror]))
"""
    names, error = answer(sandbox, work, code)

    bound = [work, *(Path(inside) for _, inside in sandbox.view.binds)]
    assert set(names) == {path.parts[2] for path in bound if path.is_relative_to("/tmp")}
    assert error == "No space left on device"
    assert not Path("/tmp/big").exists()


def test_files_go_in_and_come_out_of_the_work_folder(sandbox, work):
    (work / "in").write_text("hello")
    code = "open('out', 'w').write(open('in').read().upper()); import os; os.mkdir('folder'); print(os.getcwd())"
    done = run(sandbox, work, code)

    assert (done.stdout.strip(), done.stderr) == (str(work), "")
    assert (work / "out").read_text() == "HELLO"
    assert (work / "out").stat().st_uid == os.getuid()
    shutil.rmtree(work)


def test_a_work_folder_behind_a_symbolic_link_is_seen_at_that_path(sandbox, work, tmp_path):
    link = tmp_path / "a lïnk \\040, or another"
    link.symlink_to(tmp_path)
    run(sandbox, link / "work", "open('out', 'w').write(__import__('os').getcwd())")

    assert (work / "out").read_text() == str(link / "work")


def test_a_work_folder_that_would_open_read_only_ones_is_refused(sandbox, tmp_path):
    for folder in (Path("/"), PACKAGE.parent, tmp_path / "absent", Path("relative")):
        with pytest.raises(ValueError, match="folder"):
            sandbox.command(["true"], work=folder)


def test_a_mount_keeps_the_flags_that_it_came_with(sandbox, tmp_path):
    script = """
import subprocess, sys
from pathlib import Path
from shardmill.adapters.sandbox import find
code = "import os; print(os.statvfs('.').f_flag & (os.ST_NOEXEC | os.ST_NOATIME | os.ST_RDONLY))"
command = find._find(sys.argv[2]).command([sys.executable, "-I", "-c", code], work=Path(sys.argv[1]))
sys.exit(subprocess.run(command).returncode)
"""
    shell = 'mount -t tmpfs -o noexec,nosuid,nodev,noatime none "$1" && mkdir "$1/w" && "$2" -c "$3" "$1/w" "$4"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh"]
    done = subprocess.run(
        [*argv, str(tmp_path), sys.executable, script, sandbox.kind], check=False, capture_output=True, text=True
    )

    assert (done.stderr, int(done.stdout)) == ("", os.ST_NOEXEC | os.ST_NOATIME)


# ---------------------------------------------------------------- network, processes, power

CONNECT = """
import json, socket, sys
def connect(family, address):
    try:
        with socket.socket(family) as client:
            client.connect(address)
        return "connected"
    except OSError as error:
        return error.strerror
found = [connect(socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))), connect(socket.AF_UNIX, chr(0) + sys.argv[2]),
         connect(socket.AF_INET, ("192.0.2.1", 80))]
print(json.dumps([found, [name for _, name in socket.if_nameindex()]]))
"""


def test_no_server_outside_can_be_reached_by_loopback_or_abstract_socket(sandbox, work):
    name = f"shardmill-{uuid.uuid4()}"
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        port = inet.getsockname()[1]
        outside = subprocess.run([sys.executable, "-c", CONNECT, str(port), name], capture_output=True, check=True)
        assert json.loads(outside.stdout)[0][:2] == ["connected", "connected"]
        found, devices = answer(sandbox, work, CONNECT, port, name)

    # Bubblewrap raises the loopback device of the namespace, where nobody listens.
    assert found[0] == ("Connection refused" if sandbox.kind == "bubblewrap" else "Network is unreachable")
    assert found[1:] == ["Connection refused", "Network is unreachable"]
    assert devices in ([], ["lo"])


def test_no_process_outside_is_seen_or_signalled(sandbox, work):
    code = """
import json, os, sys
pids = []
for pid in range(2, int(sys.argv[1]) + 1):
    try:
        os.kill(pid, 0)
        pids.append(pid)
    except ProcessLookupError:
        pass
print(json.dumps([os.getpid(), os.getppid(), os.getsid(0), pids]))
"""
    outside = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert answer(sandbox, work, code, outside.pid) == [1, 0, 1, []]
    finally:
        outside.communicate()


def test_every_namespace_is_its_own(sandbox, work):
    ours = {name: Path(f"/proc/self/ns/{name}").readlink() for name in ("user", "mnt", "net", "pid", "ipc", "uts")}
    mark = str(uuid.uuid4())
    argv = [sys.executable, "-I", "-c", "input()", mark]
    child = start_child(sandbox.command(argv, work=work), stdin=subprocess.PIPE)
    try:
        assert wait_for(lambda: any(b"input()\0" + mark.encode() in cmdline(pid) for pid in with_mark(mark)))
        inside = next(pid for pid in with_mark(mark) if b"input()\0" + mark.encode() in cmdline(pid))
        theirs = {name: Path(f"/proc/{inside}/ns/{name}").readlink() for name in ours}
    finally:
        child.communicate(b"\n", timeout=20)

    assert [name for name in ours if ours[name] == theirs[name]] == []
    assert child.returncode == 0


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_the_program_has_no_capability_and_no_way_to_one(sandbox, work):
    code = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
bounding = [libc.prctl(23, number, 0, 0, 0) for number in range(64)]
print(json.dumps([list(data), max(bounding), libc.prctl(39, 0, 0, 0, 0), libc.unshare(0x10000000)]))
"""
    assert answer(sandbox, work, code) == [[0] * 6, 0, 1, -1]


def test_nothing_of_the_callers_environment_or_open_files_comes_in(sandbox, work, monkeypatch, tmp_path):
    monkeypatch.setenv(SECRET, "canary")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = """
import json, os
open_files = []
for number in range(256):
    try:
        os.fstat(number)
        open_files.append(number)
    except OSError:
        pass
print(json.dumps([dict(os.environ), open_files]))
"""
    with (tmp_path / "secret").open("w") as secret:
        environment, open_files = answer(sandbox, work, code, pass_fds=[secret.fileno()])

    assert open_files == [0, 1, 2]
    assert (environment.pop("PATH"), environment.pop("HOME")) == ("/usr/bin:/bin", "/tmp")
    assert set(environment) <= {"LANG", "PWD", "TMPDIR", "LC_CTYPE"} | {
        "PYTHONDONTWRITEBYTECODE",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
    }


def test_the_limits_hold_inside(sandbox, work):
    code = """
import json, resource, signal
names = ["CORE", "NOFILE", "FSIZE", "AS"]
blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
print(json.dumps([[resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names], blocked]))
"""
    limits, blocked = answer(sandbox, work, code)

    assert limits == [[0, 0], [256, 256], [1 << 32, 1 << 32], [1 << 32, 1 << 32]]
    assert blocked == []
    assert run(sandbox, work, "bytes(5 << 30)").stderr.strip().endswith("MemoryError")


# ---------------------------------------------------------------- the program's life


def test_exit_status_and_the_three_streams_pass_through(sandbox, work):
    code = "import sys; print(sys.stdin.read().upper()); sys.stderr.write('told'); sys.exit(7)"
    with (work / "in").open("w+") as file:
        file.write("said")
        file.seek(0)
        done = run(sandbox, work, code, stdin=file)

    assert (done.returncode, done.stdout, done.stderr) == (7, "SAID\n", "told")
    assert ending_signal(done.returncode) is None


def test_the_signal_that_ended_the_program_is_told(sandbox, work):
    done = run(sandbox, work, "import ctypes; ctypes.string_at(0)")

    assert ending_signal(done.returncode) == signal.SIGSEGV


def test_a_program_that_is_not_there_gives_a_message(sandbox, work):
    child = start_child(sandbox.command(["no-such-program"], work=work), stderr=subprocess.PIPE)

    assert b"sandbox: " in child.communicate(timeout=20)[1]
    assert child.returncode == 125


FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
open("ready." + str(os.getpid()), "w").close()
time.sleep(600)
"""
CALLER = """
import sys, time
from pathlib import Path
from shardmill.adapters.process import start_child
from shardmill.adapters.sandbox import find
work = Path(sys.argv[2])
child = start_child(find._find(sys.argv[1]).command([sys.executable, "-I", "-c", sys.argv[3], sys.argv[4]], work=work))
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["caller", "command"])
def test_nothing_inside_outlives_a_killed_caller_or_command(sandbox, work, victim):
    mark = str(uuid.uuid4())
    argv = [sys.executable, "-c", CALLER, sandbox.kind, str(work), FAMILY, mark]
    caller = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert caller.stdout is not None
    try:
        command = int(caller.stdout.readline())
        assert wait_for(lambda: len(list(work.iterdir())) == 3)
        assert len(with_mark(mark)) >= 5  # the caller, the command, the program and what that started
        os.kill({"caller": caller.pid, "command": command}[victim], signal.SIGKILL)
        rest = [] if victim == "caller" else [caller.pid, command]  # the caller lives and has not reaped the command

        assert wait_for(lambda: [pid for pid in with_mark(mark) if pid not in rest] == [])
    finally:
        caller.kill()
        caller.communicate()


def test_a_program_whose_command_died_on_the_way_in_is_not_run(sandbox, work):
    command = sandbox.command([sys.executable, "-c", "open('out', 'w')"], work=work)
    assert command.pop(2) == 'exec "$@" "$$" 3</proc'
    command.insert(2, f'exec "$@" {os.getpid()} 3</proc')  # it looks for that parent, and has another
    child = start_child(command, stderr=subprocess.PIPE)

    assert child.communicate(timeout=20)[1] == b"sandbox: the caller is gone\n"
    assert (child.returncode, list(work.iterdir())) == (125, [])


def test_what_the_program_started_ends_with_it(sandbox, work):
    mark = str(uuid.uuid4())
    code = FAMILY.replace("time.sleep(600)", "os.getpid() == 1 or time.sleep(600)")
    done = run(sandbox, work, code, mark)

    assert done.returncode == 0
    assert wait_for(lambda: with_mark(mark) == [])


def test_callers_in_many_threads_are_served_at_once(sandbox, work):
    statuses = []

    def call() -> None:
        statuses.append(run(sandbox, work, "import sys; sys.exit(3)").returncode)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [3] * 8


def test_the_projects_packages_and_ffmpeg_work_inside(sandbox, work):
    code = """
import json, subprocess
import av, imageio_ffmpeg, numpy
import shardmill.adapters.video.cut
source = ["-f", "lavfi", "-i", "testsrc=size=128x96:rate=10:duration=2"]
ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *source, "-threads", "4", "made.mp4"]
subprocess.run(ffmpeg, check=True)
with av.open("made.mp4") as video:
    frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
print(json.dumps([len(frames), float(numpy.mean(frames)) > 0, (numpy.ones((200, 200)) @ numpy.ones((200, 200))).sum()]))
"""
    assert answer(sandbox, work, code) == [20, True, 200.0**3]
    assert (work / "made.mp4").stat().st_size > 0


# ---------------------------------------------------------------- who may have which


def test_the_first_choice_is_bubblewrap_and_the_answer_is_kept(fresh_search):
    try:
        expected = find._find("bubblewrap" if shutil.which("bwrap") else "namespaces").kind
    except SandboxError as refusal:
        pytest.skip(str(refusal))

    assert find_sandbox().kind == expected
    assert find_sandbox() is find_sandbox()


def test_without_bubblewrap_unshare_does(fresh_search, monkeypatch, tmp_path, work):
    try:
        program = find._find("namespaces").program
    except SandboxError as refusal:
        pytest.skip(str(refusal))
    (tmp_path / "unshare").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_sandbox().kind == "namespaces"
    assert run(find_sandbox(), work, "print('inside')").stdout == "inside\n"


def test_without_bubblewrap_and_unshare_the_refusal_says_what_to_do(fresh_search, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SHARDMILL_UNSANDBOXED_OK", raising=False)

    with pytest.raises(SandboxError) as refusal:
        find_sandbox()
    for part in (
        "bwrap is not installed; unshare is not installed",
        "install bubblewrap",
        "SHARDMILL_UNSANDBOXED_OK=1",
    ):
        assert part in str(refusal.value)


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!{shutil.which('sh')}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_kernel_that_gives_no_user_namespace_is_named_in_the_refusal():
    script = """
from shardmill.adapters.sandbox import SandboxError, find_sandbox
try:
    find_sandbox()
except SandboxError as refusal:
    print(refusal)
"""
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh", sys.executable, "-c", script]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    if "unshare failed" in done.stderr or "cannot create" in done.stderr:
        pytest.skip(done.stderr.strip())

    assert "; unshare: unshare: unshare failed: No space left on device): install bubblewrap" in done.stdout, (
        done.stderr
    )


def test_a_program_that_refuses_or_does_not_keep_its_word_is_no_sandbox(fresh_search, monkeypatch, tmp_path):
    write_program(tmp_path / "bwrap", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    write_program(tmp_path / "unshare", "echo first >&2; echo 'unshare failed: Operation not permitted' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SHARDMILL_UNSANDBOXED_OK", "yes")

    with pytest.raises(SandboxError) as refusal:
        find_sandbox()
    assert "bwrap: " in str(refusal.value)
    assert "unshare: unshare failed: Operation not permitted" in str(refusal.value)


def test_the_variable_allows_none_and_limits_and_a_clean_environment_stay(fresh_search, monkeypatch, tmp_path, work):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SHARDMILL_UNSANDBOXED_OK", "1")
    monkeypatch.setenv(SECRET, "canary")
    code = """
import json, os, resource
print(json.dumps([os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE), sorted(os.environ)]))
"""
    sandbox = find_sandbox()
    folder, limit, names = answer(sandbox, work, code)

    assert sandbox.kind == "none"
    assert (folder, limit) == (str(work), [256, 256])
    assert SECRET not in names
    assert ending_signal(run(sandbox, work, "import os; os.kill(os.getpid(), 9)").returncode) == signal.SIGKILL


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike a test's usual one."""
    with tempfile.TemporaryDirectory(prefix="shardmill-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def copy_sandbox(folder: Path) -> Path:
    """Copy what the sandbox is made of to a place of its own."""
    adapters = folder / "code" / "shardmill" / "adapters"
    shutil.copytree(
        PACKAGE / "adapters" / "sandbox", adapters / "sandbox", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("__init__.py", "adapters/__init__.py", "adapters/process.py", "adapters/scratch.py"):
        shutil.copy(PACKAGE / name, folder / "code" / "shardmill" / name)
    return folder / "code"


ORDINARY = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from shardmill.adapters.sandbox import find
inside = '''
import json, os, sys
forks = 0
try:
    while forks < 1000:
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        forks += 1
except BlockingIOError:
    pass
open("out", "w").close()
print(json.dumps([os.getpid(), forks]))
'''
sandbox = find._find(sys.argv[2])
argv = [sys.executable, "-I", "-c", inside]
done = subprocess.run(sandbox.command(argv, work=Path(sys.argv[3])), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(json.dumps([os.getuid(), sorted(sandbox.extras), json.loads(done.stdout)]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; the other tests run as one")
def test_an_ordinary_user_has_the_same_sandbox(sandbox, open_folder):
    python = next((path for name in ("python3.11", "python3") if (path := shutil.which(name, path="/usr/bin"))), None)
    if python is None:
        pytest.skip("no Python in /usr/bin that another user could run")
    code, work = copy_sandbox(open_folder), open_folder / "work"
    work.mkdir()
    os.chown(work, 1234, 1234)
    argv = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", python, "-I", "-c", ORDINARY]
    done = subprocess.run([*argv, code, sandbox.kind, work], check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    uid, extras, (pid, forks) = json.loads(done.stdout)
    assert (uid, pid) == (1234, 1)
    assert (work / "out").stat().st_uid == 1234
    assert ("fewer processes" in extras) == (forks < 512)


def test_a_package_that_came_as_a_zip_and_one_beside_it_run_inside_too(sandbox, open_folder):
    code, work, archive = copy_sandbox(open_folder), open_folder / "work", open_folder / "shardmill.zip"
    work.mkdir()
    beside = open_folder / "other" / "site-packages"
    beside.mkdir(parents=True)
    (beside / "spoken.py").write_text("word = 'hello'")
    greeting = "import sys\nfrom spoken import word\nprint(word, __name__, __file__, sys.argv[1:])\n"
    (code / "shardmill" / "greeting.py").write_text(greeting)
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in code.rglob("*.py"):
            zipped.write(path, path.relative_to(code))
    shutil.rmtree(code)
    script = """
import subprocess, sys
sys.path[:0] = [sys.argv[1], sys.argv[4]]
from pathlib import Path
from shardmill.adapters.sandbox import find, module_command
argv = module_command("shardmill.greeting", "--name", "x")
subprocess.run(find._find(sys.argv[2]).command(argv, work=Path(sys.argv[3])), check=True)
"""
    argv = [sys.executable, "-I", "-c", script, str(archive), sandbox.kind, str(work), str(beside)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)

    assert done.stdout == f"hello __main__ {archive}/shardmill/greeting.py ['--name', 'x']\n", done.stderr
