"""Batches of records, read from a lake on disk."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardmill.adapters.record_batches import Batch, BatchPlan, LabelError, RecordBatches
from shardmill.adapters.record_batches.prefetch import Prefetch
from shardmill.adapters.records import (
    Record,
    SequenceExample,
    VideoRecord,
    encode_record,
    frame,
    mean_record,
    write_records,
)
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, MissingObjectError, Store
from shardmill.core.frames import multi_hot, stack_frames
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.worker_shares import PartSlice, worker_shares
from shardmill.specs.records import RecordPart

PLAN = BatchPlan(batch_size=4, labels=5, max_frames=30, seed=3, buckets=(10, 20, 30))


def make_record(name: str, random: np.random.Generator, seconds: int = 0) -> Record:
    seconds = seconds or int(random.integers(1, 31))
    rgb = random.integers(0, 256, (seconds, 1024), np.uint8)
    labels = tuple(np.flatnonzero(random.integers(0, 2, 5)).tolist())
    return Record(name, labels, rgb, random.integers(0, 256, (seconds, 128), np.uint8))


def make_part(folder: Path, name: str, records: Sequence[Record | VideoRecord]) -> RecordPart:
    path = folder / name
    write_records(path, records)
    return part_of(path, len(records))


def part_of(path: Path, records: int) -> RecordPart:
    return RecordPart(uri=path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), records=records)


def whole(parts: Sequence[RecordPart]) -> tuple[PartSlice, ...]:
    return tuple(PartSlice(part, 0, part.records) for part in parts)


@pytest.fixture
def records() -> list[Record]:
    random = np.random.default_rng(0)
    return [make_record(f"v{index:02d}", random) for index in range(30)]


@pytest.fixture
def parts(tmp_path: Path, records: list[Record]) -> list[RecordPart]:
    return [make_part(tmp_path, f"part-{at}.tfrecord", records[at : at + 10]) for at in (0, 10, 20)]


def read(batches: RecordBatches, epoch: int = 1, skip: int = 0) -> list[Batch]:
    with contextlib.closing(batches.epoch(epoch, skip=skip)) as found:  # type: ignore[type-var]
        return list(found)


def real_ids(found: Sequence[Batch]) -> list[str]:
    return [name for batch in found for name in batch.ids[: batch.records]]


def same(found: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(found) == len(others) and all(
        one.ids == other.ids
        and one.records == other.records
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("frames", "truth", "weights"))
        for one, other in zip(found, others, strict=True)
    )


# What a batch holds -------------------------------------------------------------------------------------------------


def test_each_record_comes_once_with_its_frames_and_labels(parts, records):
    by_id = {record.id: record for record in records}
    batches = RecordBatches(whole(parts), PLAN, rank=0)
    found = read(batches)
    assert sorted(real_ids(found)) == sorted(by_id)
    assert len(found) == batches.batches == 8
    for batch in found:
        assert batch.frames.dtype == np.uint8
        for name, frames, truth in zip(batch.ids, batch.frames, batch.truth, strict=True):
            record = by_id[name]
            assert np.array_equal(frames, stack_frames(record.rgb, record.audio, batch.frames.shape[1]))
            assert np.array_equal(truth, multi_hot(record.labels, 5))


def test_batches_are_always_as_large_and_filled_by_rows_of_weight_0(parts):
    found = read(RecordBatches(whole(parts), PLAN, rank=0))
    assert {batch.frames.shape[0] for batch in found} == {4}
    assert {batch.frames.shape[1] for batch in found} <= {10, 20, 30}
    (short,) = [batch for batch in found if batch.records < 4]
    assert short.records == 2
    assert short.weights.tolist() == [1, 1, 0, 0]
    assert short.ids[1] == short.ids[2] == short.ids[3]
    assert np.array_equal(short.frames[1], short.frames[3])
    assert np.array_equal(short.truth[1], short.truth[3])


def test_a_real_frame_of_zeros_is_lifted_and_one_that_begins_with_zeros_is_not(tmp_path):
    random = np.random.default_rng(1)
    record = make_record("v", random, seconds=3)
    record.rgb[1], record.audio[1] = 0, 0
    record.rgb[2, :100] = 0
    part = make_part(tmp_path, "zeros.tfrecord", [record])
    (batch,) = read(RecordBatches(whole([part]), PLAN, rank=0))
    assert np.array_equal(batch.frames[0], stack_frames(record.rgb, record.audio, 10))
    assert batch.frames[0, 1, 0] == 1
    assert batch.frames[0, 2, 0] == 0


def test_records_whose_wire_format_is_laid_out_otherwise_make_the_same_batch(tmp_path, records):
    """The same messages with their fields the other way round: only the general parser reads them."""
    path = tmp_path / "turned.tfrecord"
    turned = []
    for record in records[:4]:
        message = SequenceExample.FromString(encode_record(record))
        first, second = SequenceExample(), SequenceExample()
        first.feature_lists.CopyFrom(message.feature_lists)
        second.context.CopyFrom(message.context)
        turned.append(frame(first.SerializeToString() + second.SerializeToString()))
    path.write_bytes(b"".join(turned))
    usual = make_part(tmp_path, "usual.tfrecord", records[:4])
    assert same(*(read(RecordBatches(whole([part]), PLAN, rank=0)) for part in (part_of(path, 4), usual)))


# Video level --------------------------------------------------------------------------------------------------------


def test_video_level_records_and_the_means_of_frame_level_ones_make_the_same_batches(tmp_path, parts, records):
    plan = replace(PLAN, level="video")
    means = [mean_record(record) for record in records]
    video_parts = [make_part(tmp_path, f"video-{at}.tfrecord", means[at : at + 10]) for at in (0, 10, 20)]
    found = read(RecordBatches(whole(video_parts), plan, rank=0))
    assert same(found, read(RecordBatches(whole(parts), plan, rank=0)))
    assert {(batch.frames.shape, str(batch.frames.dtype)) for batch in found} == {((4, 1152), "float32")}
    by_id = {record.id: record for record in means}
    first = by_id[found[0].ids[0]]
    assert np.array_equal(found[0].frames[0], np.concatenate([first.mean_rgb, first.mean_audio]))


def test_video_level_records_are_no_frames(tmp_path, records):
    part = make_part(tmp_path, "video.tfrecord", [mean_record(record) for record in records])
    with pytest.raises(TooManyRejectsError, match=r"30 of 30 records.*found 0: video-level records are for"):
        read(RecordBatches(whole([part]), PLAN, rank=0))


# Order --------------------------------------------------------------------------------------------------------------


def test_the_order_changes_with_seed_epoch_and_rank_and_with_nothing_else(parts):
    share = whole(parts)
    first = real_ids(read(RecordBatches(share, PLAN, rank=0)))
    assert first == real_ids(read(RecordBatches(share, PLAN, rank=0)))
    assert first != real_ids(read(RecordBatches(share, PLAN, rank=0), epoch=2))
    assert first != real_ids(read(RecordBatches(share, PLAN, rank=1)))
    assert first != real_ids(read(RecordBatches(share, replace(PLAN, seed=4), rank=0)))
    assert first != sorted(first)


def test_without_shuffling_records_of_one_length_come_in_the_order_of_the_share(tmp_path):
    random = np.random.default_rng(0)
    made = [make_record(f"v{index:02d}", random, seconds=7) for index in range(10)]
    parts = [make_part(tmp_path, f"{at}.tfrecord", made[at : at + 5]) for at in (0, 5)]
    batches = RecordBatches(whole(parts), replace(PLAN, shuffle=False), rank=2)
    assert [real_ids(read(batches, epoch)) for epoch in (1, 2)] == [[record.id for record in made]] * 2


@pytest.mark.parametrize("memory_mb", [0, 256])
def test_skipped_batches_are_those_that_would_have_come_first(parts, memory_mb, monkeypatch):
    plan = replace(PLAN, memory_mb=memory_mb)
    all_of_it = read(RecordBatches(whole(parts), plan, rank=0), epoch=2)
    copied = []
    original = RecordBatches._batches.__globals__["assemble"]
    monkeypatch.setitem(RecordBatches._batches.__globals__, "assemble", lambda *a: copied.append(1) or original(*a))
    assert same(read(RecordBatches(whole(parts), plan, rank=0), epoch=2, skip=5), all_of_it[5:])
    assert len(copied) == 3
    assert read(RecordBatches(whole(parts), plan, rank=0), skip=8) == []


def test_each_batch_that_is_left_out_is_told_of(parts):
    told: list[int] = []
    batches = RecordBatches(whole(parts), PLAN, rank=0)
    with contextlib.closing(batches.epoch(2, skip=5, passed=told.append)) as found:
        next(found)
        assert told == [0, 1, 2, 3, 4]


def test_keeping_records_in_memory_changes_nothing(parts, records, monkeypatch):
    requests = []
    original = Store.stream
    monkeypatch.setattr(
        Store, "stream", lambda self, key, *a, **k: requests.append(key) or original(self, key, *a, **k)
    )
    nothing_kept, all_kept = (
        RecordBatches(worker_shares(parts, 2, 1)[1], replace(PLAN, memory_mb=memory), rank=0) for memory in (0, 256)
    )
    for epoch in (1, 2, 3):
        assert same(read(nothing_kept, epoch), read(all_kept, epoch))
    assert (
        len(requests) == 4 * 2
    )  # a share of 15 lies in two parts, half of the first one: three times read from the lake, and once


def test_what_does_not_fit_into_memory_is_read_again(tmp_path):
    random = np.random.default_rng(0)
    made = [make_record(f"v{index}", random, seconds=300) for index in range(8)]  # 345,600 bytes each
    parts = [make_part(tmp_path, f"{at}.tfrecord", made[at : at + 4]) for at in (0, 4)]
    plan = BatchPlan(batch_size=2, labels=5, max_frames=300)
    some, whole_share = (RecordBatches(whole(parts), replace(plan, memory_mb=mb), rank=0) for mb in (2, 200))
    assert all(same(read(some, epoch), read(whole_share, epoch)) for epoch in (1, 2))
    assert len(some._reader._kept) == 1
    assert len(whole_share._reader._kept) == 2


def test_workers_shares_hold_every_record_once(parts, records):
    found = [
        name
        for rank, share in enumerate(worker_shares(parts, 4, seed=1))
        for name in real_ids(read(RecordBatches(share, PLAN, rank=rank)))
    ]
    assert sorted(found) == sorted(record.id for record in records)


# Labels -------------------------------------------------------------------------------------------------------------


def test_a_label_beyond_the_vocabulary_is_an_error_that_names_the_record(parts):
    with pytest.raises(
        LabelError, match=r"part-\d+\.tfrecord, record 'v\d\d' at offset \d+: expected labels from 0 to 3"
    ):
        read(RecordBatches(whole(parts), replace(PLAN, labels=4), rank=0))


def test_records_without_labels_are_for_prediction_only(tmp_path, records):
    unlabelled = [replace(record, labels=(), has_labels=False) for record in records]
    part = make_part(tmp_path, "test.tfrecord", unlabelled)
    with pytest.raises(LabelError, match=r"test\.tfrecord, record 'v00' at offset 0: expected labels, found none"):
        read(RecordBatches(whole([part]), PLAN, rank=0))
    found = read(RecordBatches(whole([part]), replace(PLAN, labels=None), rank=0))
    assert sorted(real_ids(found)) == [record.id for record in records]
    assert {batch.truth.shape for batch in found} == {(4, 0)}


def test_an_empty_list_of_labels_is_a_truth_of_its_own(tmp_path, records):
    part = make_part(tmp_path, "none.tfrecord", [replace(record, labels=()) for record in records[:4]])
    (batch,) = read(RecordBatches(whole([part]), replace(PLAN, buckets=(30,)), rank=0))
    assert batch.truth.tolist() == [[0] * 5] * 4


# Damage -------------------------------------------------------------------------------------------------------------


def damaged(part: RecordPart, change: Any) -> RecordPart:
    """A part whose bytes are wrong, and were so when it was planned with."""
    path = Path(part.uri.removeprefix("file://"))
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content) or content)
    return part_of(path, part.records)


def offsets_of(part: RecordPart, records: Sequence[Record]) -> list[int]:
    sizes = [len(frame(encode_record(record))) for record in records]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def test_a_damaged_payload_is_a_reject_and_reading_goes_on_behind_it(parts, records):
    at = offsets_of(parts[1], records[10:20])[4]

    def flip(content: bytearray) -> None:
        content[at + 500] ^= 1

    parts[1] = damaged(parts[1], flip)
    batches = RecordBatches(whole(parts), PLAN, rank=0)
    for epoch in (1, 2):
        assert sorted(real_ids(read(batches, epoch))) == [r.id for r in records if r.id != "v14"]
    (reject,) = batches.rejects.rejects
    assert (reject.file, reject.offset, reject.records) == (parts[1].uri, at, 1)
    assert "checksum" in reject.reason


def test_behind_a_damaged_header_the_rest_of_the_file_is_one_reject(parts, records):
    at = offsets_of(parts[1], records[10:20])[4]

    def flip(content: bytearray) -> None:
        content[at + 2] ^= 1

    parts[1] = damaged(parts[1], flip)
    batches = RecordBatches(whole(parts), replace(PLAN, max_reject_share=0.2, memory_mb=0), rank=0)
    for epoch in (1, 2):
        assert sorted(real_ids(read(batches, epoch))) == [r.id for r in records if not 14 <= int(r.id[1:]) < 20]
    (reject,) = batches.rejects.rejects
    assert (reject.offset, reject.records) == (at, 6)
    assert "header of a record; from there on the file is lost" in reject.reason


@pytest.mark.parametrize(("slices", "lost"), [((0, 4), []), ((2, 7), [3]), ((8, 10), [2])])
def test_of_a_cut_file_each_worker_counts_what_it_lost_itself(parts, records, slices, lost):
    at = offsets_of(parts[0], records[:10])[4]
    part = damaged(parts[0], lambda content: content[: at + 100])
    batches = RecordBatches([PartSlice(part, *slices)], replace(PLAN, max_reject_share=1, memory_mb=0), rank=0)
    for epoch in (1, 2):
        expected = [record.id for record in records[:4][slice(*slices)]]
        assert sorted(real_ids(read(batches, epoch))) == expected
        assert [(reject.offset, reject.records) for reject in batches.rejects.rejects] == [(at, n) for n in lost]


def test_bytes_that_are_no_record_are_a_reject(tmp_path, records):
    path = tmp_path / "odd.tfrecord"
    odd = [
        frame(b"\xff\xff"),
        frame(encode_record(replace(records[0], rgb=records[0].rgb[:0], audio=records[0].audio[:0]))),
    ]
    path.write_bytes(b"".join([*odd, *(frame(encode_record(record)) for record in records)]))
    batches = RecordBatches(whole([part_of(path, 32)]), replace(PLAN, max_reject_share=0.1), rank=0)
    assert sorted(real_ids(read(batches))) == [record.id for record in records]
    first, second = batches.rejects.rejects
    assert (first.offset, first.reason) == (0, "expected a SequenceExample, found other bytes")
    assert second.offset == len(odd[0])
    assert "expected 1 to 30 frames in a record, found 0" in second.reason


def test_too_many_rejects_end_the_epoch_with_the_first_reasons(parts):
    def flip(content: bytearray) -> None:
        content[500] ^= 1

    parts = [damaged(part, flip) for part in parts]
    with pytest.raises(
        TooManyRejectsError, match=r"of 30 records cannot be used.*0\.05.*part-\d+\.tfrecord at offset 0"
    ):
        read(RecordBatches(whole(parts), PLAN, rank=0))


@pytest.mark.parametrize("memory_mb", [0, 256])
def test_a_part_that_is_not_the_file_that_was_planned_with_is_an_error(parts, memory_mb):
    path = Path(parts[1].uri.removeprefix("file://"))
    path.write_bytes(b"something else")
    with pytest.raises(DamagedObjectError, match=r"part-10\.tfrecord is damaged: expected SHA-256"):
        read(RecordBatches(whole(parts), replace(PLAN, memory_mb=memory_mb), rank=0))


def test_a_part_that_changes_between_epochs_is_an_error(parts, records):
    batches = RecordBatches(whole(parts), replace(PLAN, memory_mb=0), rank=0)
    read(batches)
    path = Path(parts[1].uri.removeprefix("file://"))
    path.unlink()
    write_records(path, records[:9])
    with pytest.raises(ChangedObjectError, match="part-10"):
        read(batches, epoch=2)


def test_a_part_with_another_number_of_records_is_an_error(parts):
    more = parts[0].model_copy(update={"records": 11})
    with pytest.raises(DamagedObjectError, match="expected 11 records, found 10"):
        read(RecordBatches(whole([more]), PLAN, rank=0))


def test_a_missing_part_is_an_error(parts):
    Path(parts[2].uri.removeprefix("file://")).unlink()
    with pytest.raises(MissingObjectError, match="part-20"):
        read(RecordBatches(whole(parts), PLAN, rank=0))


# The thread ---------------------------------------------------------------------------------------------------------


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("records of rank")]


def test_an_epoch_left_early_ends_its_thread(parts):
    batches = RecordBatches(whole(parts), PLAN, rank=0)
    with contextlib.closing(batches.epoch(1)) as found:  # type: ignore[type-var]
        next(found)
        assert len(threads()) == 1
    assert not threads()
    assert len(real_ids(read(batches))) == 30


def test_a_new_epoch_ends_the_one_before(parts):
    batches = RecordBatches(whole(parts), PLAN, rank=0)
    left = batches.epoch(1)
    next(left)
    assert len(real_ids(read(batches, epoch=2))) == 30
    batches.epoch(3)
    batches.close()
    assert not threads()


def test_no_more_is_made_than_the_depth_ahead():
    made: list[int] = []
    may_go_on = threading.Event()

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 5:
                may_go_on.set()
            yield number

    ahead = Prefetch(source(), 2, "records of rank x")
    taken = iter(ahead)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    assert may_go_on.wait(30)  # three were taken, two are ready, one is made
    ahead.close()
    assert made == [0, 1, 2, 3, 4, 5]


def test_an_error_of_the_source_comes_behind_what_was_good():
    def source() -> Iterator[int]:
        yield 1
        raise RuntimeError("of the source")

    ahead = iter(Prefetch(source(), 2, "x"))
    assert next(ahead) == 1
    with pytest.raises(RuntimeError, match="of the source"):
        next(ahead)


def test_a_plan_that_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="batch_size above 0"):
        replace(PLAN, batch_size=0)
    with pytest.raises(ValueError, match="buckets up to max_frames = 31"):
        replace(PLAN, max_frames=31)
    with pytest.raises(ValueError, match="ascending"):
        replace(PLAN, buckets=(30, 10))


# Against tensorflow -------------------------------------------------------------------------------------------------


def test_what_tensorflow_wrote_and_parses_is_what_we_batch(tmp_path, records):
    """Written by TensorFlow's writer, read by its reader and its batch parser; ours gives the same arrays."""
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "google.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            lists = {
                name: tf.train.FeatureList(
                    feature=[tf.train.Feature(bytes_list=tf.train.BytesList(value=[row.tobytes()])) for row in rows]
                )
                for name, rows in (("rgb", record.rgb), ("audio", record.audio))
            }
            context = {
                "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[record.id.encode()])),
                "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=record.labels)),
            }
            message = tf.train.SequenceExample(
                context=tf.train.Features(feature=context), feature_lists=tf.train.FeatureLists(feature_list=lists)
            )
            writer.write(message.SerializeToString())
    plan = BatchPlan(batch_size=30, labels=5, max_frames=30, buckets=(30,), shuffle=False)
    (ours,) = read(RecordBatches(whole([part_of(path, 30)]), plan, rank=0))
    (raw,) = tf.data.TFRecordDataset(str(path)).batch(30)
    context, lists, _ = tf.io.parse_sequence_example(
        raw,
        context_features={
            "id": tf.io.FixedLenFeature([], tf.string),
            "labels": tf.io.VarLenFeature(tf.int64),
        },
        sequence_features={name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")},
    )
    assert [name.decode() for name in context["id"].numpy()] == list(ours.ids)
    truth = np.zeros((30, 5), np.float32)
    truth[context["labels"].indices[:, 0], context["labels"].values] = 1
    assert np.array_equal(ours.truth, truth)
    for name, columns in (("rgb", slice(0, 1024)), ("audio", slice(1024, 1152))):
        theirs = np.zeros((30, 30, columns.stop - columns.start), np.uint8)
        for row, values in zip(theirs, lists[name].numpy(), strict=True):
            for place, value in zip(row, values, strict=False):
                place[: len(value)] = np.frombuffer(value, np.uint8)
        assert np.array_equal(ours.frames[..., columns], theirs)
