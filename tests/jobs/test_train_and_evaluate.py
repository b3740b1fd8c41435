"""Training and evaluation: what is decided without Spark, and both for real with Elephas on a local Spark."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from jobs.spark_lab import SparkLab, descendants, end, spark_variables
from jobs.training_runs import VOCABULARY, lines_until, make_run, records_of, start_jobs

from shardmill.adapters.model_store import OtherModelError, find_model, load_weights
from shardmill.adapters.records import read_payloads
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core.planning import BadRequestError
from shardmill.jobs import evaluate, train
from shardmill.specs.records import (
    EpochLoss,
    MetricsReport,
    ModelManifest,
    Predictions,
    model_inputs,
)
from shardmill.specs.run import RunSpec
from shardmill.specs.training_run import TrainingHistory


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
    run = make_run(tmp_path, trainer="elephas", batch_size=60, workers=6)
    with pytest.raises(BadRequestError, match=r"60 training records on 6 workers are 10 each.*share of batch_size, 10"):
        train.train(run, Store(run.folder))


def test_evaluation_needs_a_model(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(MissingObjectError, match="train the run first"):
        evaluate.evaluate(run, Store(run.folder))


def test_jobs_take_one_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([]) == 2
    assert evaluate.main(["a", "b"]) == 2
    assert "URI of the run's spec.json" in capsys.readouterr().err


# With Spark, in the cluster's environment ----------------------------------------------------------------------


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


def test_a_run_is_trained_and_evaluated_once(tmp_path: Path, spark_lab: SparkLab) -> None:
    run = make_run(tmp_path, precision="float32")
    status, output = spark_lab.run(run.folder, "train", "evaluate", "train", "evaluate")
    assert status == 0, output[-3000:]
    check_trained_and_evaluated(run)
    manifest = find_model(Store(run.folder), model_inputs(run.asked.training, records_of(run)))
    assert manifest is not None
    report = read_sealed(Store(run.folder), "metrics.json", MetricsReport)
    for ablation in ("gap_rgb_only", "gap_audio_only", "gap_shuffled_frames"):
        assert getattr(report, ablation) < report.gap - 0.02, ablation
    assert [done.epoch for done in manifest.history] == [0, 1, 2, 3, 4]
    assert all(len(done.worker_losses) == 2 for done in manifest.history[1:])
    # What the workers measured together while training is what evaluation finds; in float32, as Keras scores.
    last = manifest.history[-1]
    assert (last.validation_loss, last.validation_gap) == pytest.approx((report.loss, report.gap), abs=1e-4)
    assert (last.validation_map, last.validation_perr) == pytest.approx((report.map, report.perr), abs=1e-4)
    assert read_sealed(Store(run.folder), "history.json", TrainingHistory).epochs == manifest.history
    assert {export.kind for export in manifest.exports} == {"keras", "saved_model", "vocabulary"}
    for line in ("training begins on 2 workers with 60 records", "epoch 4/4: loss", "already trained", "already eval"):
        assert output.count(line) == 1, output[-3000:]


@pytest.mark.parametrize("trainer", ["single", "allreduce", "one_shot_average", "elephas"])
def test_every_other_trainer_trains_too(tmp_path: Path, spark_lab: SparkLab, trainer: str) -> None:
    run = make_run(tmp_path, trainer=trainer)
    status, output = spark_lab.run(run.folder, "train")
    assert status == 0, output[-3000:]
    manifest = find_model(Store(run.folder), model_inputs(run.asked.training, records_of(run)))
    assert manifest is not None
    assert manifest.history[-1].validation_loss < manifest.history[0].validation_loss - 0.05
    assert manifest.train_records == 60
    assert sum(manifest.label_counts) > 60
    assert load_weights(Store(run.folder), manifest).keys() >= {"mean.rgb", "mean.audio"}


def test_events_for_tensorboard_lie_in_the_runs_folder(tmp_path: Path, spark_lab: SparkLab) -> None:
    run = make_run(tmp_path, model="video_level_dense", epochs=2)
    status, output = spark_lab.run(run.folder, "train")
    assert status == 0, output[-3000:]
    (info,) = Store(run.folder).list("tensorboard")
    content = Store(run.folder).get(info.key)
    tags = {b"loss/training", b"loss/validation", b"validation/gap", b"speed/examples_per_second", b"loss/worker_1"}
    assert all(tag in content for tag in tags)
    assert len(list(read_payloads(content, "events"))) > 10


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_the_modes_without_waiting_train_too(tmp_path: Path, spark_lab: SparkLab, mode: str, frequency: str) -> None:
    run = make_run(tmp_path, trainer="elephas", mode=mode, frequency=frequency, learning_rate=0.005, epochs=6)
    status, output = spark_lab.run(run.folder, "train", "evaluate")
    assert status == 0, output[-3000:]
    assert "Debug mode: off" in output
    check_trained_and_evaluated(run)


def test_a_damaged_part_fails_the_step_at_once_and_is_named(tmp_path: Path, spark_lab: SparkLab) -> None:
    run = make_run(tmp_path)
    (tmp_path / "part-1.tfrecord").write_bytes(b"something else")
    status, output = spark_lab.run(run.folder, "train")
    assert status != 0
    assert "part-1.tfrecord is damaged: expected SHA-256" in output
    assert output.count("training begins") == 1
    assert not list(Store(run.folder).list("model"))


def test_more_workers_than_slots_are_refused_with_the_numbers(tmp_path: Path, spark_lab: SparkLab) -> None:
    run = make_run(tmp_path, workers=3)
    status, output = spark_lab.run(run.folder, "train")
    assert status != 0
    assert "workers: 3 train at the same time, and Spark has 2 slots" in output
    assert "training begins" not in output


def test_the_parameter_server_is_on_loopback_without_debugger_and_dies_with_the_driver(
    tmp_path: Path, spark_lab: SparkLab
) -> None:
    run = make_run(tmp_path, trainer="elephas", mode="asynchronous", frequency="batch", epochs=1000)
    process = start_jobs(run, spark_variables(), "train")
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
