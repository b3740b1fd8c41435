"""Evaluation without Spark: shares scored one after the other in this process, by models that nobody trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters.model_store import publish_model, put_weights
from shardmill.adapters.record_batches import LabelError
from shardmill.adapters.records import Record, VideoRecord, write_records
from shardmill.adapters.store import Store, read_sealed
from shardmill.core import metrics
from shardmill.core.evaluation import Found
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.worker_shares import worker_shares
from shardmill.jobs.evaluate import Scorer, evaluate
from shardmill.specs.curves import LabelCurves
from shardmill.specs.records import MODEL_VERSION, ModelManifest, Predictions, RecordPart, RecordSet, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

SMALL = {"rgb_units": 3, "audio_units": 2, "dense_units": 4}
MEANS = {"mean.rgb": np.full(1024, 120, np.uint8), "mean.audio": np.full(128, 130, np.uint8)}


def in_this_process(name: str, scorer: Scorer, parts: Sequence[RecordPart]) -> dict[str, bytes]:
    added: dict[str, Found] = {}
    for share in worker_shares(parts, 3):
        for found in scorer(share):
            added[found.name] = added[found.name] + found if found.name in added else found
    return {name: found.content for name, found in added.items()}


def frame_record(index: int, labels: int, **fields: object) -> Record:
    random = np.random.default_rng(index)
    rgb, audio = (random.integers(0, 256, (3 + index % 4, values), np.uint8) for values in (1024, 128))
    return Record(f"v{index:04d}", tuple(random.choice(labels, 2, replace=False).tolist()), rgb, audio, **fields)


def video_record(index: int, labels: int) -> VideoRecord:
    random = np.random.default_rng(index)
    rgb, audio = (random.uniform(-2, 2, values).astype(np.float32) for values in (1024, 128))
    return VideoRecord(f"v{index:04d}", tuple(random.choice(labels, 2, replace=False).tolist()), rgb, audio)


class EvaluatedRun:
    """A run with two parts of validation records and a model that has the weights it was born with."""

    def __init__(self, folder: Path, records: Sequence[Record | VideoRecord], labels: int, **asked: object) -> None:
        from shardmill.adapters.keras_models import build_model, named_weights

        self.run = RunSpec.model_validate(
            {
                "run": "run-1",
                "started": "2026-11-21T00:00:00Z",
                "asked": VideoPipelineSpec.model_validate({"lake": folder.as_uri(), **SMALL, **asked}),
            }
        )
        self.store = Store(self.run.folder, create=True)
        half = len(records) // 2
        parts = [
            self._part(folder / f"{number}.tfrecord", some)
            for number, some in enumerate((records[:half], records[half:]))
        ]
        self.paths = [folder / f"{number}.tfrecord" for number in range(2)]
        self.records, self.labels = list(records), labels
        training = self.run.asked.training
        self.model = build_model(labels, training)
        means = MEANS if isinstance(records[0], Record) else {}
        self._publish(parts, put_weights(self.store, {**named_weights(self.model), **means}))

    @staticmethod
    def _part(path: Path, records: Sequence[Record | VideoRecord]) -> RecordPart:
        write_records(path, records)
        return RecordPart(uri=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), records=len(records))

    def _publish(self, parts: Sequence[RecordPart], weights: tuple[str, str]) -> None:
        vocabulary = tuple(f"label {number}" for number in range(self.labels))
        records = RecordSet(vocabulary=vocabulary, max_frames=6, train=parts, validation=parts)
        self.store.put("records.json", records.to_json())
        training = self.run.asked.training
        manifest = ModelManifest(
            inputs=model_inputs(training, records),
            model_version=MODEL_VERSION,
            training=training,
            vocabulary=vocabulary,
            records=records.digest,
            train_records=len(self.records),
            label_counts=tuple(
                np.bincount([label for one in self.records for label in one.labels], minlength=self.labels)
            ),
            weights=weights[0],
            weights_sha256=weights[1],
            parameters=1,
            trainer="nobody",
            history=(),
            seconds=1.0,
            examples_per_second=1.0,
        )
        publish_model(self.store, manifest)

    def truth(self) -> np.ndarray:
        truth = np.zeros((len(self.records), self.labels), np.bool_)
        for row, record in zip(truth, self.records, strict=True):
            row[list(record.labels)] = True
        return truth


def frames_of(records: Sequence[Record]) -> np.ndarray:
    frames = np.zeros((len(records), 6, 1152), np.uint8)
    for row, record in zip(frames, records, strict=True):
        row[: len(record.rgb)] = np.hstack([record.rgb, record.audio])
    return frames


@pytest.mark.parametrize("labels", [20, 3862])
def test_shares_scored_apart_give_the_metrics_of_all_videos_at_once(tmp_path: Path, labels: int) -> None:
    made = EvaluatedRun(tmp_path, [frame_record(index, labels) for index in range(50)], labels)
    report = evaluate(made.run, made.store, in_this_process)
    scores, truth = made.model.predict_on_batch(frames_of(made.records)), made.truth()
    assert report.videos == 50
    assert report.gap == pytest.approx(metrics.global_average_precision(scores, truth), abs=1e-5)
    assert report.map == pytest.approx(metrics.mean_average_precision(scores, truth), abs=1e-5)
    assert report.perr == pytest.approx(metrics.precision_at_equal_recall_rate(scores, truth), abs=1e-5)
    assert report.loss == pytest.approx(metrics.binary_cross_entropy(scores, truth), abs=1e-5)
    frames = frames_of(made.records)
    frames[..., 1024:][frames.any(axis=-1)] = MEANS["mean.audio"]
    without_sound = metrics.global_average_precision(made.model.predict_on_batch(frames), truth)
    assert report.gap_rgb_only == pytest.approx(without_sound, abs=1e-5)
    assert len(report.labels) == labels
    listed = read_sealed(made.store, "predictions.json", Predictions).listed
    assert list(listed) == [record.id for record in made.records]
    best = int(scores[7].argmax())
    assert listed["v0007"].top[0] == (f"label {best}", pytest.approx(float(scores[7, best]), abs=1e-5))
    drawn = read_sealed(made.store, "curves.json", LabelCurves)
    assert (drawn.inputs, drawn.videos, drawn.together.positives) == (report.inputs, 50, 100)
    assert drawn.labels[0].positives == truth.sum(axis=0).max()
    if labels == 20:
        assert drawn.together.points[-1].recall == 1.0, "no label is beyond the best 20"


def test_a_model_of_videos_is_evaluated_without_what_needs_frames(tmp_path: Path) -> None:
    made = EvaluatedRun(tmp_path, [video_record(index, 8) for index in range(30)], 8, model="video_level_dense")
    report = evaluate(made.run, made.store, in_this_process)
    means = np.stack([np.concatenate([one.mean_rgb, one.mean_audio]) for one in made.records])
    scores = made.model.predict_on_batch(means)
    assert report.gap == pytest.approx(metrics.global_average_precision(scores, made.truth()), abs=1e-5)
    assert (report.gap_rgb_only, report.gap_audio_only, report.gap_shuffled_frames) == (None, None, None)
    assert report.gap_constant > 0


def cut_the_last_record(made: EvaluatedRun) -> None:
    path = made.paths[1]
    path.write_bytes(path.read_bytes()[:-10])
    records = read_sealed(made.store, "records.json", RecordSet)
    parts = (records.validation[0], records.validation[1].model_copy(update={"sha256": ""}))
    changed = records.model_copy(update={"validation": parts})
    made.store.put("records.json", changed.to_json())
    manifest = read_sealed(made.store, "model/model.json", ModelManifest)
    inputs = model_inputs(made.run.asked.training, changed)
    made.store.put("model/model.json", manifest.model_copy(update={"inputs": inputs}).to_json())


def test_a_record_that_cannot_be_read_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = EvaluatedRun(tmp_path, [frame_record(index, 8) for index in range(30)], 8, max_reject_share=0.1)
    cut_the_last_record(made)
    report = evaluate(made.run, made.store, in_this_process)
    assert (report.videos, report.rejected) == (29, 1)
    assert f"reject: {made.paths[1].as_uri()} at offset" in capsys.readouterr().out


def test_more_rejects_than_the_run_allows_fail_it(tmp_path: Path) -> None:
    made = EvaluatedRun(tmp_path, [frame_record(index, 8) for index in range(30)], 8, max_reject_share=0.01)
    cut_the_last_record(made)
    with pytest.raises(TooManyRejectsError, match="1 of 30 records"):
        evaluate(made.run, made.store, in_this_process)
    assert not made.store.head("metrics.json")


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    unlabelled = [frame_record(index, 8, has_labels=index < 3) for index in range(10)]
    made = EvaluatedRun(tmp_path, unlabelled, 8)
    with pytest.raises(LabelError, match="take a split that has them"):
        evaluate(made.run, made.store, in_this_process)
    assert not made.store.head("metrics.json")
