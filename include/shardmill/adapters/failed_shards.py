"""Remember which shards nights could not do, so that these do not take other shards' places night after night."""

from __future__ import annotations

from collections.abc import Iterable

from shardmill.adapters.shared_value import change
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core.layout import shard_name
from shardmill.specs.failed_shard import FailedShard
from shardmill.specs.run import PlannedShard, RunSpec
from shardmill.specs.value import short_hash
from shardmill.specs.video_pipeline import VideoRun

LONGEST_WHY = 300


def note_failure(lake: Store, run: RunSpec, labels: str, planned: PlannedShard, why: str) -> None:
    """Write down that a run could not do a shard; once for a run.

    Args:
        labels: digest of the label table.

    Raises:
        StoreError: it cannot be written.
    """
    asked = asked_hash(run.video, labels)

    def add(before: FailedShard | None) -> FailedShard:
        same = before is not None and before.source == planned.source and before.asked == asked
        runs = before.runs if before is not None and same else ()
        return FailedShard(
            shard=planned.shard,
            source=planned.source,
            asked=asked,
            runs=runs if run.run in runs else (*runs, run.run),
            why=why[:LONGEST_WHY],
        )

    change(lake, _key(run.video.dataset, planned.shard), FailedShard, add)


def read_failures(lake: Store, asked: VideoRun, labels: str, shards: Iterable[PlannedShard]) -> dict[int, FailedShard]:
    """Read what is known of some shards, of these very versions of their sources and as they are asked for now."""
    there = {item.key for item in lake.files(f"failed/{asked.dataset}")}
    found: dict[int, FailedShard] = {}
    for planned in shards:
        key = _key(asked.dataset, planned.shard)
        if key not in there:
            continue
        try:
            failed = read_sealed(lake, key, FailedShard)
        except (DamagedObjectError, MissingObjectError):
            continue  # the shard is tried as if it never had been
        if failed.source == planned.source and failed.asked == asked_hash(asked, labels):
            found[planned.shard] = failed
    return found


def asked_hash(asked: VideoRun, labels: str) -> str:
    """Give the hash of what a shard's success rests on beside its source."""
    return short_hash([asked.split_recipe.hash, asked.feature_recipe(labels).hash, str(asked.max_reject_share)])


def _key(dataset: str, shard: int) -> str:
    return f"failed/{dataset}/{shard_name(shard)}.json"
