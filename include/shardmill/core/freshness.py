"""Say which shards are fresh, and whether training may follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shardmill.core.layout import shard_name
from shardmill.core.shard_states import ShardStates
from shardmill.specs.fresh import Fresh
from shardmill.specs.value import short_hash

_SHOWN = 20


def find_fresh_shards(states: ShardStates, dataset: str, recipe: str) -> Fresh:
    """Sum up which shards are done at every stage, and why the others are not."""
    todo = {shard: states.todo(shard) for shard in states.shards}
    fresh = [shard for shard, stages in todo.items() if not stages]
    rows = {shard: states.by_stage["features"][shard].row for shard in fresh}
    digests = {shard: row.manifest_sha256 if row else "" for shard, row in rows.items()}
    return Fresh(
        dataset=dataset,
        recipe=recipe,
        shards=shard_range(fresh),
        count=len(fresh),
        missing={
            shard: ", ".join(f"{stage}: {why}" for stage, why in stages.items())
            for shard, stages in todo.items()
            if stages
        },
        digest=short_hash([[shard, digest] for shard, digest in digests.items()]),
        records={shard: short_hash(digest) for shard, digest in digests.items()},
    )


@dataclass(frozen=True)
class Announced:
    """What training was called for last; nothing where it never was."""

    digest: str = ""
    records: Mapping[int, str] = field(default_factory=dict)
    """By shard; empty where it cannot be read any more: then another digest is something new."""

    def holds(self, fresh: Fresh) -> bool:
        """Whether all that is fresh was in it: where shards only went away, there is nothing new to train on."""
        return fresh.digest == self.digest or (
            bool(self.records) and bool(fresh.records) and fresh.records.items() <= self.records.items()
        )


def why_not_announced(fresh: Fresh, missing_ok: int, announced: Announced) -> str:
    """Say why no training follows; empty where it does.

    Args:
        missing_ok: shards that may be missing.
        announced: what was announced last.
    """
    if not fresh.count:
        return "no shard is fresh"
    if len(fresh.missing) > missing_ok:
        return f"{len(fresh.missing):,} shards are missing, and missing_ok allows {missing_ok:,}"
    return "nothing is new since training was called for last" if announced.holds(fresh) else ""


def fresh_lines(fresh: Fresh) -> Iterator[str]:
    """Say it to people, the missing ones by name."""
    yield f"{fresh.count:,} of {fresh.count + len(fresh.missing):,} shards are fresh"
    for shard, why in list(fresh.missing.items())[:_SHOWN]:
        yield f"missing: shard {shard_name(shard)}: {why}"
    if len(fresh.missing) > _SHOWN:
        yield f"missing: {len(fresh.missing) - _SHOWN:,} more; all stand in fresh.json in the run's folder"


def shard_range(shards: Iterable[int]) -> str:
    """Write ascending shard numbers as a range such as ``000000..000099,000205``; empty where there are none."""
    spans: list[list[int]] = []
    for shard in shards:
        if spans and shard == spans[-1][1] + 1:
            spans[-1][1] = shard
        else:
            spans.append([shard, shard])
    return ",".join(shard_name(a) if a == b else f"{shard_name(a)}..{shard_name(b)}" for a, b in spans)
