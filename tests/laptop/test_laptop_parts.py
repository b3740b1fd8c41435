from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from shardmill.laptop import airflow, demo, postgres
from shardmill.laptop.processes import tail
from shardmill.laptop.stack import running_stack, stop_running
from shardmill.specs.video_pipeline import VideoPipelineSpec

HOLDER = """
import signal, sys, time
from pathlib import Path
from shardmill.laptop.processes import Processes

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where a shell ignores it

with Processes(Path(sys.argv[1])) as processes:
    child = "import subprocess, time; subprocess.Popen(['sleep', '97531'], start_new_session=True); time.sleep(97531)"
    processes.start("child", [sys.executable, "-c", child], {})
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def sleepers() -> int:
    done = subprocess.run(["pgrep", "-fc", "^sleep 97531"], capture_output=True, text=True, check=False)
    return int(done.stdout or 0)


def wait_for_sleepers(number: int) -> None:
    give_up = time.monotonic() + 20
    while sleepers() != number:
        assert time.monotonic() < give_up, sleepers()
        time.sleep(0.1)


def test_a_grandchild_in_a_session_of_its_own_ends_with_the_stack(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), "60"], stdout=subprocess.PIPE)
    wait_for_sleepers(1)
    holder.send_signal(signal.SIGINT)
    holder.wait(30)
    assert sleepers() == 0


def test_a_taken_port_is_not_used(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert airflow.free_port(number) != number


def test_the_secrets_are_made_once_and_readable_by_the_owner_only(tmp_path):
    made = airflow.keys(tmp_path)
    assert airflow.keys(tmp_path) == made
    assert len(set(made.values())) == 4
    assert (tmp_path / "airflow" / "keys.json").stat().st_mode & 0o077 == 0


def test_airflow_gets_nothing_of_the_callers_environment_but_places_and_locale(tmp_path):
    address = airflow.Airflow(tmp_path, tmp_path / "state", 8080, "http://127.0.0.1:1")
    settings = airflow.environment(address, {"HOME": "/h", "AWS_SECRET_ACCESS_KEY": "real", "PYTHONPATH": "/x"})
    assert settings["HOME"] == "/h"
    assert "real" not in settings.values()
    assert "PYTHONPATH" not in settings


def test_lineage_is_written_to_a_file_by_a_switch_and_people_are_told_as_the_caller_says(tmp_path):
    address = airflow.Airflow(tmp_path, tmp_path / "state", 8080, "http://127.0.0.1:1")
    assert not [name for name in airflow.environment(address, {}) if "OPENLINEAGE" in name]
    caller = {"SHARDMILL_LINEAGE": "1", "SHARDMILL_NOTIFY_SLACK": "#ops", "AIRFLOW_CONN_SLACK_API_DEFAULT": "x"}
    settings = airflow.environment(address, caller)
    transport = json.loads(settings["AIRFLOW__OPENLINEAGE__TRANSPORT"])
    assert transport["type"] == "file" and transport["log_file_path"].startswith(str(tmp_path))
    assert settings["SHARDMILL_NOTIFY_SLACK"] == "#ops" and settings["AIRFLOW_CONN_SLACK_API_DEFAULT"] == "x"


def test_a_socket_path_too_long_for_the_kernel_moves_to_a_private_folder(tmp_path):
    near, far = tmp_path / "s", tmp_path / ("long" * 30)
    far.mkdir()
    near.mkdir()
    folder = postgres.socket_folder(far)
    assert len(str(folder / ".s.PGSQL.5432")) <= postgres.LONGEST_SOCKET_PATH
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_uid == os.getuid()
    folder.rmdir()


def test_the_demo_asks_for_a_valid_run_of_the_sample():
    assert VideoPipelineSpec(**demo.demo_conf("", "", {})).source == demo.SAMPLE


def test_the_demo_asks_for_a_valid_run_of_a_folder(tmp_path):
    folder = tmp_path / "My Videos"
    asked = VideoPipelineSpec(**demo.demo_conf(str(folder), str(folder / "labels.csv"), {"epochs": 3}))
    assert asked.source == f"file://{folder}"
    assert asked.labels == f"file://{folder}/labels.csv"
    assert (asked.dataset, asked.epochs) == ("my-videos", 3)


def test_a_demo_that_fails_ends_with_its_json_line_too(tmp_path):
    argv = [sys.executable, "-m", "shardmill.laptop.demo", "--conf", "{bad", "--state", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = json.loads(done.stdout.splitlines()[-1])
    assert (set(last), last["state"], last["gap"]) == (set(demo.SUMMARY_KEYS), "failed", None)


def test_a_stack_that_was_never_started_is_not_running(tmp_path):
    assert running_stack(tmp_path) is None
    said = []
    assert not stop_running(tmp_path, said.append)
    assert said == ["nothing runs"]


def test_the_last_line_of_the_demo_names_every_figure_even_where_unknown():
    assert demo.Result().line().startswith('{"run": null, "state": null, "shards": null')


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("a\nb\nc\n", "b\nc")])
def test_the_tail_of_a_log_is_its_last_lines(tmp_path, text, shown):
    (tmp_path / "log").write_text(text)
    assert tail(tmp_path / "log", 2) == shown
