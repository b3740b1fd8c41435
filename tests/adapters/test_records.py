from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.adapters.records import (
    Damage,
    Entry,
    Example,
    Record,
    RecordError,
    SequenceExample,
    VideoRecord,
    decode_means,
    decode_record,
    decode_video_record,
    encode_record,
    encode_video_record,
    frame,
    mean_record,
    read_entries,
    read_records,
    read_video_records,
    write_records,
)
from shardmill.adapters.records.wire import view_record, view_video_record
from shardmill.core.quantise import dequantise


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
        whole.add(max(whole) + len(frame(encode_record(record))))
    for size in [*range(1, 40), *range(40, len(content), 997), len(content) - 1]:
        if size in whole:
            continue
        with pytest.raises(RecordError, match=r"cut\.tfrecord is cut at offset \d+"):
            list(read_records(content[:size], "cut.tfrecord"))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(place, bit):
    content = bytearray(frame(encode_record(make_record(seconds=2))))
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
    (record,) = read_records(frame(message.SerializeToString()), "old")
    assert record.id == "old"


def test_frames_of_another_size_are_named():
    message = SequenceExample()
    message.ParseFromString(encode_record(make_record()))
    message.feature_lists.feature_list["audio"].feature[1].bytes_list.value[0] = b"short"
    with pytest.raises(RecordError, match=r"f\.tfrecord, record at offset 0: expected frame 1 of 'audio'.*128.*\[5\]"):
        list(read_records(frame(message.SerializeToString()), "f.tfrecord"))


def test_bytes_that_are_no_example_are_named():
    with pytest.raises(RecordError, match="expected a SequenceExample"):
        list(read_records(frame(b"\xff\xff\xff"), "x"))


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


def make_video_record(video: str = "-a_b", labels: tuple[int, ...] = (0, 5, 3861)) -> VideoRecord:
    random = np.random.default_rng(5)
    return VideoRecord(video, labels, *(random.normal(size=n).astype(np.float32) for n in (1024, 128)))


def same_means(one: VideoRecord, other: VideoRecord) -> bool:
    arrays = np.array_equal(one.mean_rgb, other.mean_rgb) and np.array_equal(one.mean_audio, other.mean_audio)
    return arrays and (one.id, one.labels, one.has_labels) == (other.id, other.labels, other.has_labels)


def test_video_level_records_are_written_and_read(tmp_path):
    records = [make_video_record("one", ()), make_video_record(), replace(make_video_record("x", ()), has_labels=False)]
    path = tmp_path / "video.tfrecord"
    sizes = write_records(path, iter(records))
    assert sum(sizes) == path.stat().st_size
    found = list(read_video_records(path.read_bytes(), path.name))
    assert all(same_means(one, other) for one, other in zip(found, records, strict=True))


def test_tensorflow_reads_our_video_level_files_and_we_read_its(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    record = make_video_record()
    ours, theirs = tmp_path / "ours.tfrecord", tmp_path / "theirs.tfrecord"
    write_records(ours, [record])
    (raw,) = tensorflow.data.TFRecordDataset(str(ours))
    parsed = tensorflow.io.parse_single_example(
        raw,
        {
            "id": tensorflow.io.FixedLenFeature([], tensorflow.string),
            "labels": tensorflow.io.VarLenFeature(tensorflow.int64),
            "mean_rgb": tensorflow.io.FixedLenFeature([1024], tensorflow.float32),
            "mean_audio": tensorflow.io.FixedLenFeature([128], tensorflow.float32),
        },
    )
    assert parsed["id"].numpy().decode() == record.id
    assert tuple(parsed["labels"].values.numpy()) == record.labels
    assert np.array_equal(parsed["mean_rgb"], record.mean_rgb)
    assert np.array_equal(parsed["mean_audio"], record.mean_audio)
    train = tensorflow.train
    features = {
        "video_id": train.Feature(bytes_list=train.BytesList(value=[record.id.encode()])),
        "labels": train.Feature(int64_list=train.Int64List(value=record.labels)),
        "mean_rgb": train.Feature(float_list=train.FloatList(value=record.mean_rgb)),
        "mean_audio": train.Feature(float_list=train.FloatList(value=record.mean_audio)),
    }
    with tensorflow.io.TFRecordWriter(str(theirs)) as writer:
        writer.write(train.Example(features=train.Features(feature=features)).SerializeToString())
    (found,) = read_video_records(theirs.read_bytes(), theirs.name)
    assert same_means(found, record)


def test_means_are_those_of_the_dequantised_frames():
    record = make_record(seconds=7)
    for means in (mean_record(record), decode_means(encode_record(record))):
        assert means.mean_rgb == pytest.approx(dequantise(record.rgb).mean(axis=0), abs=1e-6)
        assert means.mean_audio == pytest.approx(dequantise(record.audio).mean(axis=0), abs=1e-6)
        assert (means.id, means.labels) == (record.id, record.labels)
    video = make_video_record()
    assert same_means(decode_means(encode_video_record(video)), video)


def test_a_record_of_the_other_level_is_named():
    with pytest.raises(RecordError, match="expected a feature 'mean_rgb', found"):
        decode_video_record(encode_record(make_record()))
    with pytest.raises(RecordError, match="at least one frame"):
        mean_record(make_record(seconds=0))


def test_means_that_are_no_numbers_are_refused():
    record = make_video_record()
    record.mean_audio[3] = np.nan
    with pytest.raises(RecordError, match="finite values in mean_audio, found nan"):
        encode_video_record(record)
    message = Example.FromString(encode_video_record(make_video_record()))
    message.features.feature["mean_rgb"].float_list.value[7] = np.inf
    with pytest.raises(RecordError, match="finite values in mean_rgb, found inf"):
        decode_video_record(message.SerializeToString())
    del message.features.feature["mean_rgb"].float_list.value[1000:]
    with pytest.raises(RecordError, match=r"mean_rgb as float32 \[1024\], found float32 \[1000\]"):
        decode_video_record(message.SerializeToString())


# The quick way through the wire format against the general parser ---------------------------------------------------


def parsed_generally(payload: bytes, decode: Callable[[bytes], Any] = decode_record) -> Any:
    """What protobuf's own parser makes of a payload; None where it refuses it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shardmill.adapters.records.coding.view_record", lambda payload: None)
        patch.setattr("shardmill.adapters.records.coding.view_video_record", lambda payload: None)
        try:
            return decode(payload)
        except RecordError:
            return None


labels_lists = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300), max_size=5).map(tuple)


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 5), labels_lists, st.booleans())
def test_frames_are_viewed_as_the_general_parser_reads_them(name, seconds, labels, has_labels):
    record = replace(make_record(name, seconds, labels if has_labels else ()), has_labels=has_labels)
    payload = encode_record(record)
    viewed, general = view_record(payload), parsed_generally(payload)
    assert viewed is not None or not seconds
    assert general is not None
    assert all(same(found, record) and found.has_labels == has_labels for found in (viewed or general, general))


@given(st.data())
def test_whatever_is_viewed_is_what_the_general_parser_finds(data):
    """Any bytes changed: the view is the same record, or there is none."""
    payload = bytearray(encode_record(make_record("video", 2, (1, 300))))
    # Where the messages' tags and lengths lie: before the frames, and in what looks the same in each of them.
    structure = [at for at in range(len(payload)) if at < 80 or payload[at] in (10, 18, 26, 8, 128, 131, 134)]
    for at in data.draw(st.lists(st.sampled_from(structure), min_size=1, max_size=3)):
        payload[at] = data.draw(st.sampled_from([0, 1, 2, 8, 10, 18, 26, 127, 128, 255]) | st.integers(0, 255))
    changed = bytes(payload[: data.draw(st.sampled_from([len(payload), len(payload), len(payload) - 1, 300]))])
    viewed, general = view_record(changed), parsed_generally(changed)
    if viewed is not None and general is not None:
        assert same(viewed, general)
        assert viewed.has_labels == general.has_labels


def value_places(payload: bytes, values: list[np.ndarray]) -> set[int]:
    """The places of a payload where frames or means lie."""
    starts = [payload.index(row.tobytes()) for row in values]
    return {at for start, row in zip(starts, values, strict=True) for at in range(start, start + row.nbytes)}


@pytest.mark.parametrize("level", ["frame", "video"])
def test_no_changed_byte_is_taken_for_right_by_the_view_alone(level):
    """Every byte outside of the values changed to some others: what is viewed is what the general parser finds."""
    view: Callable[[bytes], Any]
    decode: Callable[[bytes], Any]
    if level == "frame":
        record, view, decode, compare = make_record("v", 2, (1, 300)), view_record, decode_record, same
        payload = encode_record(record)
        values = value_places(payload, [*record.rgb, *record.audio])
    else:
        means, view, decode, compare = make_video_record(), view_video_record, decode_video_record, same_means
        payload = encode_video_record(means)
        values = value_places(payload, [means.mean_rgb, means.mean_audio])
    places = set(range(len(payload))) - values
    assert 60 < len(places) < 200
    viewed = 0
    for at, byte in itertools.product(places, (0, 1, 3, 8, 10, 11, 18, 26, 127, 128, 255)):
        changed = payload[:at] + bytes([byte]) + payload[at + 1 :]
        if (found := view(changed)) is not None:
            viewed += 1
            general = parsed_generally(changed, decode)
            assert general is not None, (at, byte)
            assert compare(found, general), (at, byte)
    assert viewed > 20  # e.g. another id


def test_numbers_that_are_not_packed_are_read_too():
    """A repeated number may be written one by one; tensorflow's parser takes both."""

    def field(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    def context(labels: bytes) -> bytes:
        name = field(0x0A, field(0x0A, b"id") + field(0x12, field(0x0A, field(0x0A, b"v"))))
        return field(0x0A, name + field(0x0A, field(0x0A, b"labels") + field(0x12, field(0x1A, labels))))

    lists = encode_record(make_record("v", labels=(5, 6)))[len(context(field(0x0A, b"\x05\x06"))) :]
    packed, one_by_one = (context(labels) + lists for labels in (field(0x0A, b"\x05\x06"), b"\x08\x05\x08\x06"))
    assert packed == encode_record(make_record("v", labels=(5, 6)))
    assert view_record(one_by_one) is None
    assert same(decode_record(one_by_one), decode_record(packed))


# What is damaged, without an end to reading -------------------------------------------------------------------------


def found_in(content: bytes) -> list[str]:
    return [
        decode_record(entry.payload).id if isinstance(entry, Entry) else entry.reason for entry in read_entries(content)
    ]


def test_reading_goes_on_behind_a_damaged_payload_and_not_behind_a_damaged_header(three):
    path, records = three
    content = path.read_bytes()
    starts = list(accumulate((len(frame(encode_record(record))) for record in records), initial=0))
    payload, header = bytearray(content), bytearray(content)
    payload[starts[1] + 20] ^= 1
    header[starts[1] + 3] ^= 1
    entries = list(read_entries(bytes(payload)))
    assert [entry.offset for entry in entries] == starts[:3]
    assert entries[1] == Damage(starts[1], "is damaged: the record's checksum does not match", False)
    assert found_in(bytes(payload))[::2] == ["one", "höhe"]
    assert list(read_entries(bytes(header)))[1:] == [
        Damage(starts[1], "is damaged: expected the header of a record", True)
    ]
    assert found_in(content[: starts[2] + 5])[2:] == ["is cut: a record's header has 12 bytes, found 5"]


def test_reading_needs_no_tensorflow():
    code = "import sys, shardmill.adapters.records; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
