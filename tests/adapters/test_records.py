from __future__ import annotations

import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.adapters.records import (
    Record,
    RecordError,
    SequenceExample,
    _frame,
    encode_record,
    read_records,
    write_records,
)


def make_record(video: str = "-a_b", seconds: int = 3, labels: tuple[int, ...] = (0, 5)) -> Record:
    random = np.random.default_rng(seconds)
    return Record(
        video,
        labels,
        random.integers(0, 256, (seconds, 1024), dtype=np.uint8),
        random.integers(0, 256, (seconds, 128), dtype=np.uint8),
    )


def same(one: Record, other: Record) -> bool:
    arrays = np.array_equal(one.rgb, other.rgb) and np.array_equal(one.audio, other.audio)
    return arrays and (one.id, one.labels) == (other.id, other.labels)


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[Record]]:
    records = [make_record("one", 1, ()), make_record("two", 2), make_record("höhe", 7, (3,))]
    path = tmp_path / "some.tfrecord"
    assert len(write_records(path, iter(records))) == 3
    return path, records


def test_what_was_written_is_read(three):
    path, records = three
    found = list(read_records(path.read_bytes(), path.name))
    assert len(found) == 3
    assert all(same(one, other) for one, other in zip(records, found, strict=True))


def test_the_sizes_say_where_each_record_lies(tmp_path):
    records = [make_record("one", 1, ()), make_record("two", 2), make_record("höhe", 7, (3,))]
    path = tmp_path / "some.tfrecord"
    sizes = write_records(path, iter(records))
    content = path.read_bytes()
    assert sum(sizes) == len(content)
    for record, size, start in zip(records, sizes, accumulate(sizes, initial=0), strict=False):
        (found,) = read_records(content[start : start + size], path.name)
        assert same(found, record)
    assert write_records(tmp_path / "empty.tfrecord", []) == []


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_chunks_of_any_size_give_the_same_records(three, size):
    path, records = three
    content = path.read_bytes()
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    assert [record.id for record in read_records(chunks, "some")] == [record.id for record in records]


def test_equal_records_give_equal_bytes():
    assert encode_record(make_record()) == encode_record(make_record())


def test_every_cut_is_found_and_named(three):
    path, _ = three
    content = path.read_bytes()
    whole = {0}
    for record in read_records(content, "x"):
        whole.add(max(whole) + len(_frame(encode_record(record))))
    for size in [*range(1, 40), *range(40, len(content), 997), len(content) - 1]:
        if size in whole:
            continue
        with pytest.raises(RecordError, match=r"cut\.tfrecord is cut at offset \d+"):
            list(read_records(content[:size], "cut.tfrecord"))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(place, bit):
    content = bytearray(_frame(encode_record(make_record(seconds=2))))
    content[int(place * len(content))] ^= 1 << bit
    with pytest.raises(RecordError, match="at offset 0"):
        list(read_records(bytes(content), "x"))


def test_a_failure_half_way_leaves_no_file(tmp_path):
    def broken():
        yield make_record()
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_records(tmp_path / "x.tfrecord", broken())
    assert list(tmp_path.iterdir()) == []


def test_the_older_name_of_the_id_is_read():
    message = SequenceExample()
    message.ParseFromString(encode_record(make_record("old")))
    message.context.feature["video_id"].CopyFrom(message.context.feature["id"])
    del message.context.feature["id"]
    (record,) = read_records(_frame(message.SerializeToString()), "old")
    assert record.id == "old"


def test_frames_of_another_size_are_named():
    message = SequenceExample()
    message.ParseFromString(encode_record(make_record()))
    message.feature_lists.feature_list["audio"].feature[1].bytes_list.value[0] = b"short"
    with pytest.raises(RecordError, match=r"f\.tfrecord, record at offset 0: expected frame 1 of 'audio'.*128.*\[5\]"):
        list(read_records(_frame(message.SerializeToString()), "f.tfrecord"))


def test_bytes_that_are_no_example_are_named():
    with pytest.raises(RecordError, match="expected a SequenceExample"):
        list(read_records(_frame(b"\xff\xff\xff"), "x"))


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(RecordError, match=r"expected rgb as uint8 \[seconds, 1024\]"):
        encode_record(Record("x", (), np.zeros((1, 3), np.uint8), np.zeros((1, 128), np.uint8)))


def test_tensorflow_reads_our_files(three):
    tensorflow = pytest.importorskip("tensorflow")
    path, records = three
    for raw, record in zip(tensorflow.data.TFRecordDataset(str(path)), records, strict=True):
        context, lists = tensorflow.io.parse_single_sequence_example(
            raw,
            context_features={
                "id": tensorflow.io.FixedLenFeature([], tensorflow.string),
                "labels": tensorflow.io.VarLenFeature(tensorflow.int64),
            },
            sequence_features={
                "rgb": tensorflow.io.FixedLenSequenceFeature([], tensorflow.string),
                "audio": tensorflow.io.FixedLenSequenceFeature([], tensorflow.string),
            },
        )
        assert context["id"].numpy().decode() == record.id
        assert tuple(context["labels"].values.numpy()) == record.labels
        assert np.array_equal(tensorflow.io.decode_raw(lists["rgb"], tensorflow.uint8).numpy(), record.rgb)
        assert np.array_equal(tensorflow.io.decode_raw(lists["audio"], tensorflow.uint8).numpy(), record.audio)


def test_what_tensorflow_wrote_is_read(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    record = make_record()
    path = tmp_path / "google.tfrecord"
    example = tensorflow.train.SequenceExample.FromString(encode_record(record))
    with tensorflow.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    (found,) = read_records(path.read_bytes(), path.name)
    assert same(found, record)


def test_reading_needs_no_tensorflow():
    code = "import sys, shardmill.adapters.records; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
