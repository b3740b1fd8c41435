"""Say which shards are fresh, and whether training may follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        digest=short_hash([[shard, row.manifest_sha256 if row else ""] for shard, row in rows.items()]),
    )


def why_not_announced(fresh: Fresh, missing_ok: int, announced: str) -> str:
    """Say why no training follows; empty where it does.

    Args:
        missing_ok: shards that may be missing.
        announced: digest of what was announced last; empty where nothing was.
    """
    if not fresh.count:
        return "no shard is fresh"
    if len(fresh.missing) > missing_ok:
        return f"{len(fresh.missing):,} shards are missing, and missing_ok allows {missing_ok:,}"
    return "nothing is new since training was called for last" if fresh.digest == announced else ""


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
