"""Decide what a run does: which shards, in which batches."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from shardmill.core.layout import shard_name
from shardmill.specs.manifest import SourceObject
from shardmill.specs.training import BILSTMS, TrainSpec
from shardmill.specs.value import parse_shard_range

MEGABYTE = 1_000_000
MAX_BATCHES = 1000


class BadRequestError(ValueError):
    """What was asked cannot be done; trying again does not help."""


def check_trainer(asked: TrainSpec) -> None:
    """Refuse what only Elephas does of another trainer, and what it does not. Raises BadRequestError."""
    for name in ("mode", "frequency"):
        found = getattr(asked, name)
        if asked.trainer != "elephas" and found != TrainSpec.model_fields[name].default:
            raise BadRequestError(
                f"{name}: only elephas has it, found {found} for {asked.trainer}: take trainer elephas, or leave it out"
            )
    if asked.precision == "bfloat16" and (asked.trainer == "elephas" or asked.model not in BILSTMS):
        raise BadRequestError(
            f"precision: only {' and '.join(BILSTMS)} have bfloat16, and not by elephas; found {asked.model} by "
            f"{asked.trainer}: leave it out"
        )


def choose_shards(
    asked: str, found: Mapping[int, SourceObject], where: str, among: Container[int] | None = None
) -> dict[int, SourceObject]:
    """Pick the shards of a range, ascending.

    Args:
        asked: ``all`` or a range such as ``000000..000002``.
        found: the shards at the source.
        where: URI of the source, for messages.
        among: only these of the range are asked for; None for all of it.

    Returns:
        Empty only where none of the range is among these.

    Raises:
        BadRequestError: where nothing is found, or a shard that is asked for is absent.
    """
    wanted = parse_shard_range(asked)
    numbers = sorted(found) if wanted is None else wanted
    if not numbers:
        raise BadRequestError(f"shards: 0 found at {where}: expected files whose names end in -NNNNNN.tar")
    if among is not None:
        numbers = [number for number in numbers if number in among]
    absent = [number for number in numbers if number not in found]
    if absent:
        names = ", ".join(shard_name(number) for number in absent[:5]) + (", …" if len(absent) > 5 else "")
        raise BadRequestError(
            f"shards: {len(numbers)} asked for by {asked!r}, {len(numbers) - len(absent)} found, "
            f"{len(absent)} absent at {where}: {names}"
        )
    return {number: found[number] for number in numbers}


def batch_shards(shards: Mapping[int, int], batch_bytes: int) -> list[list[int]]:
    """Group shards, in order, into batches of about so many bytes; a larger shard is a batch of its own.

    Args:
        shards: size in bytes by shard number.
        batch_bytes: aim for a batch, above 0; raised where more than 1,000 batches would come of it.
    """
    aim = max(batch_bytes, -(-sum(shards.values()) // MAX_BATCHES))
    while len(batches := _fill_batches(shards, aim)) > MAX_BATCHES:
        aim *= 2
    return batches


def _fill_batches(shards: Mapping[int, int], aim: int) -> list[list[int]]:
    batches: list[list[int]] = []
    filled = 0
    for number, size in sorted(shards.items()):
        if not batches or filled + size > aim:
            batches.append([])
            filled = 0
        batches[-1].append(number)
        filled += size
    return batches


def check_enough_records(counts: Mapping[str, int], asked: TrainSpec) -> None:
    """Refuse a training without records, and one that Elephas would silently skip.

    Raises:
        BadRequestError: with the counts, naming the fields to change.
    """
    train, validation = counts.get("train", 0), counts.get("validation", 0)
    if validation < 1:
        raise BadRequestError(
            f"validation_share: {train} training and {validation} validation records: add shards or raise the share"
        )
    each = train // asked.ranks
    if not each:
        raise BadRequestError(f"workers: {train} training records for {asked.ranks} workers: lower it, or add shards")
    if asked.trainer == "elephas" and each <= asked.worker_batch_size:
        raise BadRequestError(
            f"batch_size: {train} training records on {asked.ranks} workers are {each} each, "
            f"and a worker of Elephas trains only on more than its share of batch_size, {asked.worker_batch_size}: "
            "lower batch_size or workers, add shards, or take another trainer"
        )


def count_by_subset(parts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up records by subset."""
    counts: dict[str, int] = {}
    for subset, records in parts:
        counts[subset] = counts.get(subset, 0) + records
    return counts


def count_labelled(videos: Sequence[str], labelled: Mapping[str, object]) -> int:
    """Count the videos that have at least one label."""
    return sum(bool(labelled.get(video)) for video in videos)
