"""Elephas' parameter server and its client, in the cluster's environment, without Spark."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
PROGRAM = """
import json, socket
import numpy as np
from shardmill.adapters.elephas_training import asynchronous
from shardmill.adapters.keras_models import build_model, compile_model
from shardmill.specs.training import TrainSpec

spec = TrainSpec(rgb_units=2, audio_units=2, dense_units=2)
model = compile_model(build_model(2, spec), spec)
elephas_model = asynchronous.AsynchronousModel(
    model, mode="hogwild", frequency="batch", parameter_server_mode="bounded_http", port=asynchronous._free_port()
)
found = {}
server = elephas_model.parameter_server.server
try:
    with elephas_model.run_parameter_server():
        pid = server.pid
        before = elephas_model.client.get_parameters()
        elephas_model.client.update_parameters([np.ones_like(weight) for weight in before])
        after = elephas_model.client.get_parameters()
        found["moved"] = all(np.allclose(old - 1, new) for old, new in zip(before, after))
        raise RuntimeError("the training failed")
except RuntimeError as error:
    found["raised"] = str(error)
try:
    elephas_model.client.get_parameters()
except OSError as error:
    found["after"] = str(error)
found["process_left"] = __import__("os").path.exists(f"/proc/{pid}")

again = asynchronous.AsynchronousModel(
    model, mode="hogwild", frequency="batch", parameter_server_mode="bounded_http", port=asynchronous._free_port()
)
try:
    with again.run_parameter_server():
        again.parameter_server.server.kill()
        again.parameter_server.server.join()
        raise OSError("no answer")
except asynchronous.ParameterServerError as error:
    found["lost"] = str(error)

asynchronous.CALL_SECONDS = 0.5
with socket.create_server(("127.0.0.1", 0)) as silent:
    elephas_model.client.master_url = "127.0.0.1:%d" % silent.getsockname()[1]
    try:
        elephas_model.client.get_parameters()
    except OSError as error:
        found["silent"] = str(error)
print(json.dumps(found))
"""


def test_the_server_ends_when_training_fails_and_a_silent_one_is_not_waited_for() -> None:
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"the cluster's environment is not there: {CLUSTER_PYTHON}")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT / "include"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "http_proxy": "http://127.0.0.1:9",  # a proxy must not come between the two
    }
    done = subprocess.run(
        [str(CLUSTER_PYTHON), "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["moved"]
    assert found["raised"] == "the training failed"
    assert "refused" in found["after"]
    assert not found["process_left"]
    assert "parameter server ended before the training did" in found["lost"]
    assert "timed out" in found["silent"]
