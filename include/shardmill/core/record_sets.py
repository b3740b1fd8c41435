"""Which files of records a run takes, and what it may train on of what was found in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from shardmill.core.planning import BadRequestError
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.streams import streams_of
from shardmill.core.vocabulary import numbered
from shardmill.specs.record_files import SUBSETS, FoundRecords, Level, PlannedFile, RecordFile, Subset
from shardmill.specs.records import RecordPart, RecordSet
from shardmill.specs.train_on_records import TrainOnRecordsSpec

SUFFIX = ".tfrecord"
_SHOWN = 3


def download_shard(names: Iterable[str], shard: str) -> list[str]:
    """Choose a share of published files by their names, as the data set's own download does.

    A file belongs to the share i of n where the MD5 of its name, as a number, leaves i - 1 when divided by n.

    Args:
        shard: ``i,n`` with 1 <= i <= n.

    Returns:
        The names, ascending.
    """
    number, total = map(int, shard.split(","))
    return sorted(name for name in names if _name_number(name) % total == number - 1)


def _name_number(name: str) -> int:
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16)


def keep_share(names: Sequence[str], share: float) -> frozenset[str]:
    """Choose which files are kept for validation: at least one and not all, by the hashes of their names.

    Raises:
        BadRequestError: there is one file only.
    """
    if len(names) < 2:
        raise BadRequestError(
            f"validation_share: {len(names)} file cannot be shared between training and validation: "
            "name a validation_source"
        )
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return frozenset(sorted(names, key=lambda name: (_name_number(name), name))[:count])


def settle_records(
    asked: TrainOnRecordsSpec, looks: Sequence[tuple[Subset, RecordFile]], vocabulary: Sequence[str]
) -> RecordSet:
    """Put the files together that were found whole, and refuse what cannot be trained on.

    Args:
        looks: what was found in each file, in the order of the plan.
        vocabulary: names that the user gave; empty where none.

    Raises:
        BadRequestError: levels that differ, validation records without labels, labels without a name; names a field.
        TooManyRejectsError: more than `max_reject_share` of the files or of their records cannot be used.
    """
    _check_rejects(asked, sum_up(looks))
    used = [(subset, look) for subset, look in looks if look.broken is None]
    level = _one_level(used).level
    _check_model(asked, level)
    for subset in SUBSETS:
        _check_labels(subset, [look for other, look in used if other == subset], asked)
    names = _names(asked, vocabulary, [look for _, look in used])
    by_subset = {
        subset: tuple(
            RecordPart(uri=look.uri, sha256=look.file_sha256, records=look.records)
            for other, look in used
            if other == subset
        )
        for subset in SUBSETS
    }
    return RecordSet(
        level=level,
        vocabulary=tuple(names),
        max_frames=max(look.max_frames for _, look in used),
        train=by_subset["train"],
        validation=by_subset["validation"],
    )


def sum_up(looks: Sequence[tuple[Subset, RecordFile]]) -> FoundRecords:
    """Say what became of the files together, those that cannot be used among them."""
    files = [look for _, look in looks]
    whole = [look for look in files if look.broken is None]
    return FoundRecords(
        files=len(files),
        bytes=sum(look.size for look in whole),
        records=sum(look.records for look in whole),
        rejected_records=sum(look.rejected for look in whole),
        broken=tuple(look.broken for look in files if look.broken is not None),
        rejects=tuple(look.rejects[0] for look in whole if look.rejects),
    )


def _check_rejects(asked: TrainOnRecordsSpec, found: FoundRecords) -> None:
    for what, bad, total, first in (
        ("files", len(found.broken), found.files, found.broken),
        ("records", found.rejected_records, found.records, found.rejects),
    ):
        if bad > asked.max_reject_share * total:
            shown = "; ".join(f"{one.file} at offset {one.offset}: {one.reason}" for one in first[:_SHOWN])
            raise TooManyRejectsError(
                f"max_reject_share: {bad} of {total} {what} cannot be used, more than {asked.max_reject_share:g} of "
                f"them: fetch these files again, or raise it. First: {shown}"
            )


def _one_level(used: Sequence[tuple[Subset, RecordFile]]) -> RecordFile:
    """Give a file of the level that all of them are of."""
    if not used:
        raise BadRequestError("source: no file holds a record that can be used")
    first = used[0][1]
    for _, look in used:
        if look.level != first.level:
            raise BadRequestError(
                f"source: {first.uri} is at the level of {first.level}s, {look.uri} of {look.level}s: "
                "take files of one level"
            )
    return first


def _check_model(asked: TrainOnRecordsSpec, level: Level) -> None:
    """Refuse means of frames for a model that reads frames; a model of means takes frames, and makes their mean."""
    if level == "video" and streams_of(asked):
        raise BadRequestError(
            f"model: {asked.model} reads frames, and the records are at the level of videos: take video_level_dense"
        )


def _check_labels(subset: Subset, files: Sequence[RecordFile], asked: TrainOnRecordsSpec) -> None:
    """Refuse a split without labels: nothing can be learned from it, and nothing measured on it."""
    records, labelled = sum(look.records - look.rejected for look in files), sum(look.labelled for look in files)
    suffix = "_partition" if asked.origin == "mirror" else "_source"
    field = f"{subset}{suffix}".replace("train_source", "source")
    if not records:
        raise BadRequestError(f"{field}: no {subset} record can be used")
    if not labelled:
        raise BadRequestError(
            f"{field}: none of its {records} records has a label, as in the test splits that are published: "
            "take a split with labels"
        )


def _names(asked: TrainOnRecordsSpec, given: Sequence[str], files: Sequence[RecordFile]) -> Sequence[str]:
    top = max(files, key=lambda look: look.highest_label)
    count = asked.classes or len(given) or asked.published_labels or top.highest_label + 1
    if given and count != len(given):
        raise BadRequestError(f"classes: expected the {len(given)} of the vocabulary, found {count}: leave it 0")
    if top.highest_label >= count:
        field = "vocabulary" if given else "classes"
        raise BadRequestError(
            f"{field}: {count} labels, but {top.uri} has the label {top.highest_label}: name all of them, or leave "
            "`classes` 0"
        )
    return given or numbered(count)


def subset_counts(looks: Iterable[tuple[Subset, RecordFile]]) -> Mapping[str, int]:
    """Count the records that can be used, by subset."""
    counts: dict[str, int] = dict.fromkeys(SUBSETS, 0)
    for subset, look in looks:
        if look.broken is None:
            counts[subset] += look.records - look.rejected
    return counts


def planned_files(listed: Mapping[Subset, Sequence[PlannedFile]], field: str) -> tuple[PlannedFile, ...]:
    """Put the files of both subsets in one order. Raises BadRequestError, of ``field``, where one file is in both."""
    both = {file.uri for file in listed["train"]} & {file.uri for file in listed["validation"]}
    if both:
        raise BadRequestError(f"{field}: {min(both)} would be trained on and validated on")
    return (*listed["train"], *listed["validation"])
