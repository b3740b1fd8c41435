"""The runner of the tests: nothing is left out, and no failure is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import run_tests  # noqa: E402


def test_every_file_with_tests_is_in_one_share_and_none_in_two():
    found = [
        file
        for paths in run_tests.shares(run_tests.TESTS)
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("test_*.py"))
    ]
    assert sorted(found) == sorted(run_tests.TESTS.rglob("test_*.py"))
    assert {path.name for path in run_tests.TESTS.iterdir()} > set(run_tests.LONGEST_FIRST)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Tests of three folders, with a settings file that keeps pytest from ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it starts in a fraction of the time
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("core", "e2e", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text(f"def test_{name}(): print('{name} ran')\n")
    return tmp_path


@pytest.mark.parametrize("share", ["core", "e2e", "jobs"])
def test_the_output_of_all_is_shown_and_a_failure_in_any_fails_the_whole(folder, capfd, share):
    with (folder / share / f"test_{share}.py").open("a") as file:
        file.write("def test_more(): assert 'it' == 'other'\n")
    assert run_tests.run(folder, ["-q", "-s"]) == 1
    told = capfd.readouterr().out
    assert all(f"{name} ran" in told for name in ("core", "e2e", "jobs"))
    assert told.index("tests of e2e") < told.index("tests of jobs") < told.index("tests of core")
    assert "1 failed, 1 passed" in told


def test_one_lane_runs_all(folder, capfd):
    assert run_tests.run(folder, ["-q", run_tests.ONE_LANE]) == 0
    assert "3 passed" in capfd.readouterr().out


def test_tests_that_are_selected_in_one_share_only_are_enough_and_none_at_all_is_told():
    assert run_tests.worst([0, run_tests.NOTHING_CHOSEN]) == 0
    assert run_tests.worst([1, run_tests.NOTHING_CHOSEN]) == 1
    assert run_tests.worst([0, -9]) == -9
    assert run_tests.worst([run_tests.NOTHING_CHOSEN] * 2) == run_tests.NOTHING_CHOSEN
