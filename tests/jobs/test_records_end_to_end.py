"""From a mirror to an evaluated model at all 3,862 labels, job by job, without Airflow."""

from __future__ import annotations

import numpy as np
import pytest
from jobs.mirror_server import mirror_server

from shardmill import stages
from shardmill.adapters.access import Access
from shardmill.adapters.records import Record, write_records
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import read_sealed
from shardmill.jobs.plan_records import plan_records
from shardmill.specs.records import MetricsReport, ModelManifest
from shardmill.specs.train_on_records import TrainOnRecordsSpec

LABELS = 3862


def records_file(folder, name: str, count: int) -> bytes:
    random = np.random.default_rng(len(name) + count)
    path = folder / name
    records = (
        Record(
            f"{name}-{index}",
            tuple(sorted({int(label) for label in random.integers(0, LABELS, 3)} | {index % 2})),
            np.full((4, 1024), 40 + 170 * (index % 2), np.uint8),
            random.integers(1, 255, (4, 128), np.uint8),
        )
        for index in range(count)
    )
    write_records(path, records)
    return path.read_bytes()


@pytest.mark.slow
def test_published_records_become_a_model_of_all_labels(tmp_path, spark_lab):
    with mirror_server() as mirror:
        mirror.publish("2/frame/train", {f"train{n}.tfrecord": records_file(tmp_path, f"t{n}", 16) for n in range(2)})
        mirror.publish("2/frame/validate", {"validate0.tfrecord": records_file(tmp_path, "v", 8)})
        asked = TrainOnRecordsSpec(
            origin="mirror",
            mirror=mirror.url,
            plans=mirror.url,
            train_shard="1,1",
            validation_shard="1,1",
            lake=f"file://{tmp_path}/lake",
            batch_size=8,
            epochs=1,
            rgb_units=4,
            audio_units=2,
            dense_units=8,
        )
        access = Access(roots=Roots((mirror.url,), (f"file://{tmp_path}",)))
        planned = plan_records(asked, "r1", access)
        opened = stages.open_run(planned.spec_uri, lambda connection: access)
        for stage in ("fetch", "find"):
            stages.STAGES[stage](opened, opened.numbers, lambda line: None)
    status, output = spark_lab.run(opened.run.folder, "train", "evaluate")
    assert status == 0, output[-3000:]
    model = read_sealed(opened.lake, "runs/r1/model/model.json", ModelManifest)
    assert (len(model.vocabulary), model.train_records) == (LABELS, 32)
    assert model.label_counts[0] >= 16 and model.label_counts[1] >= 16
    report = read_sealed(opened.lake, "runs/r1/metrics.json", MetricsReport)
    assert report.videos == 8
    assert len(report.labels) == LABELS
    assert 0.0 <= report.gap <= 1.0
