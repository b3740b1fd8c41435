"""The doctor runs before the set-up, so it is loaded here as the script that it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardmill.adapters.sandbox import SandboxError, find

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import doctor  # noqa: E402

AVX = "processor\t: 0\nflags\t\t: fpu sse2 avx avx2\n"


def test_another_python_is_missing_and_the_mend_is_named():
    finding = doctor.python_version((3, 12, 1))

    assert finding.level == doctor.MISSING
    assert "3.12.1" in finding.found
    assert "python3.11" in finding.mend


@pytest.mark.parametrize(
    ("modules", "level"),
    [({"venv", "ensurepip"}, doctor.OK), ({"venv", "pip"}, doctor.OK), ({"venv"}, doctor.MISSING)],
)
def test_venv_with_ensurepip_or_else_pip_is_needed(modules, level):
    assert doctor.installer(lambda name: name in modules or None).level == level


def test_a_missing_program_says_which_package_brings_it():
    finding = doctor.program("no-such-program-here", doctor.MISSING, "needed", "some-package")

    assert (finding.level, finding.mend) == (doctor.MISSING, "apt install some-package")


@pytest.mark.parametrize(
    ("free_gb", "is_set_up", "level"),
    [(11, False, doctor.MISSING), (13, False, doctor.OK), (11, True, doctor.OK), (2, True, doctor.NOTE)],
)
def test_the_set_up_needs_twelve_gigabytes_and_a_run_less(free_gb, is_set_up, level):
    assert doctor.disk(int(free_gb * 1e9), is_set_up=is_set_up).level == level


def test_little_memory_is_missing():
    assert doctor.memory(4 * doctor.GIB).level == doctor.MISSING
    assert doctor.memory(int(7.7 * doctor.GIB)).level == doctor.OK


def test_a_processor_without_avx_is_missing_and_a_single_core_is_noted():
    assert doctor.processor(AVX.replace("avx", "sse"), 4).level == doctor.MISSING
    assert doctor.processor(AVX, 1).level == doctor.NOTE
    assert doctor.processor(AVX, 2).level == doctor.OK


def test_a_taken_port_is_only_a_note():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finding = doctor.port(taken.getsockname()[1], "the UI")

    assert finding.level == doctor.NOTE
    assert "take a free one" in finding.found


def test_user_namespaces_matter_to_root_alone():
    assert doctor.namespaces(1000, ["false"]).level == doctor.OK
    assert doctor.namespaces(0, ["true"]).level == doctor.OK
    assert doctor.namespaces(0, ["false"]).level == doctor.MISSING
    assert doctor.namespaces(0, ["no-such-program-here"]).level == doctor.MISSING


def test_the_first_sandbox_that_works_is_named_and_why_not_the_better_ones():
    trials = {"no-such-program-here": ["true"], "sh": ["false"], "env": ["true"], "cat": ["false"]}
    finding = doctor.sandbox({}, trials)

    expected = "by env; no-such-program-here: not installed; sh: exit status 1"
    assert (finding.level, finding.found) == (doctor.OK, expected)


def test_without_a_sandbox_something_is_missing_unless_the_variable_allows_it():
    trials = {"sh": ["sh", "-c", "echo first >&2; echo 'sh: Operation not permitted' >&2; exit 1"]}
    refused = doctor.sandbox({"SHARDMILL_UNSANDBOXED_OK": "yes"}, trials)
    allowed = doctor.sandbox({"SHARDMILL_UNSANDBOXED_OK": "1"}, trials)

    assert (refused.level, refused.found) == (doctor.MISSING, "sh: Operation not permitted")
    assert "bubblewrap" in refused.mend
    assert "SHARDMILL_UNSANDBOXED_OK=1" in refused.mend
    assert (allowed.level, "export" in allowed.mend) == (doctor.NOTE, False)


@pytest.mark.parametrize(("kind", "program"), [("bubblewrap", "bwrap"), ("namespaces", "unshare")])
def test_the_doctor_and_the_project_agree_on_each_sandbox(kind, program, tmp_path):
    finding = doctor.sandbox({}, {program: doctor.sandbox_trials(str(tmp_path))[program]})
    try:
        find._find(kind)
    except SandboxError as refusal:
        assert finding.level == doctor.MISSING, refusal
    else:
        assert finding.level == doctor.OK, finding.found


def test_a_socket_path_over_107_bytes_is_noted():
    assert doctor.socket_path(Path("/srv/project")).level == doctor.OK
    assert doctor.socket_path(Path("/" + "x" * 100)).level == doctor.NOTE


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({}, doctor.OK),
        ({"https_proxy": "http://proxy:3128"}, doctor.NOTE),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,127.0.0.1"}, doctor.OK),
        ({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "*"}, doctor.OK),
    ],
)
def test_a_proxy_for_loopback_is_noted_without_its_address(environment, level):
    finding = doctor.proxy(environment)

    assert finding.level == level
    assert "3128" not in finding.found


def test_a_certificate_variable_that_leads_nowhere_is_noted(tmp_path):
    assert doctor.certificates({"SSL_CERT_FILE": str(tmp_path)}).level == doctor.OK
    finding = doctor.certificates({"SSL_CERT_FILE": str(tmp_path / "absent.pem")})

    assert finding.level == doctor.NOTE
    assert finding.mend.startswith("unset SSL_CERT_FILE")


def test_an_index_that_only_pip_knows_is_noted(tmp_path):
    pip_file = tmp_path / "pip.conf"
    pip_file.write_text("[global]\nindex-url = https://user:secret@example.org/simple\n")

    finding = doctor.package_index({}, [pip_file])

    assert finding.level == doctor.NOTE
    assert "secret" not in finding.found + finding.mend
    assert doctor.package_index({"UV_DEFAULT_INDEX": "x"}, [pip_file]).level == doctor.OK
    assert doctor.package_index({}, [tmp_path / "absent"]).level == doctor.OK


def test_processes_left_under_local_are_named_with_their_pid(tmp_path):
    local = tmp_path / ".local"
    local.mkdir()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", f"{local}/state"])
    try:
        deadline = time.monotonic() + 10
        while not (found := doctor.own_processes(Path("/proc"), local)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        sleeper.kill()
        sleeper.wait()

    assert [pid for pid, _ in found] == [sleeper.pid]
    assert str(sleeper.pid) in doctor.processes(found)[0].thing
    assert doctor.own_processes(Path("/proc"), tmp_path / "other") == []


def test_an_environment_of_other_locks_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LOCAL", tmp_path)
    assert {finding.found for finding in doctor.environments()} == {"not set up yet"}

    for name, locks in doctor.set_up.ENVIRONMENTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / ".made-from").write_text(doctor.set_up.fingerprint(doctor.set_up.BUILD_LOCK, *locks))
    assert {finding.level for finding in doctor.environments()} == {doctor.OK}

    (tmp_path / "cluster" / ".made-from").write_text("another")
    assert [finding.level for finding in doctor.environments()] == [doctor.OK, doctor.NOTE]


def test_only_something_missing_gives_exit_status_1(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["doctor.py"])
    monkeypatch.setattr(doctor, "examine", lambda _: [doctor.Finding(doctor.NOTE, "locale", "odd", "export it")])
    assert doctor.main() == 0
    assert "nothing is missing, 1 to note" in capsys.readouterr().out

    monkeypatch.setattr(doctor, "examine", lambda _: [doctor.Finding(doctor.MISSING, "make", "none", "install it")])
    assert doctor.main() == 1
    assert "→ install it" in capsys.readouterr().out


def test_the_script_runs_with_a_bare_python_and_an_empty_environment(tmp_path):
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-S", "-s", str(SCRIPTS / "doctor.py")]
    done = subprocess.run(argv, check=False, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    assert "doctor: " in done.stdout
