"""Decide which images that were baked here go, and which of their snapshots nothing needs any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from shardmill.core.bake import CLUSTER, TAG

ABANDONED = timedelta(days=3)
"""An image that no cluster may start from at this age is left over: a run of the DAG ends within two days."""
SETTLED = timedelta(days=1)
"""A younger snapshot may belong to an image that is being made and does not name it yet."""


class PruneError(RuntimeError):
    """Something old could not be removed; the images that clusters start from are not concerned."""


def to_prune(
    images: Sequence[Mapping[str, Any]], *, keep: int, in_use: Collection[str], now: datetime
) -> list[tuple[str, tuple[str, ...]]]:
    """Choose which baked images go.

    Of those that clusters may start from, all but the newest ``keep``; of those that were never approved, for their
    bake failed, all that nobody can be waiting for any more. None of either goes that is in use.

    Args:
        images: as DescribeImages gives them; such as carry no ``recipe`` were not baked here and stay.
        keep: from 1 on.
        in_use: ids of images that a live cluster uses, and of the one that this run made.
        now: with its time zone.

    Returns:
        The id of each image that goes, with those of its snapshots.
    """
    baked = [image for image in images if "recipe" in _tags(image)]
    approved = [image for image in baked if _tags(image).get(TAG) == CLUSTER]
    approved.sort(key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), reverse=True)
    unfinished = [image for image in baked if _tags(image).get(TAG) != CLUSTER]
    doomed = approved[keep:] + [image for image in unfinished if _is_abandoned(image, now)]
    return [(image["ImageId"], snapshots_of(image)) for image in doomed if image["ImageId"] not in in_use]


def orphans(
    snapshots: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[str, ...]:
    """Choose which snapshots go: those that no image lies on, for they stayed when theirs was removed.

    Args:
        snapshots: as DescribeSnapshots gives them; all were tagged by a bake.
        images: all of the account, whoever made them and whether or not they may be used.
        now: with its time zone.
    """
    used = {snapshot for image in images for snapshot in snapshots_of(image)}
    settled = [one for one in snapshots if now - one["StartTime"] >= SETTLED]
    return tuple(sorted(one["SnapshotId"] for one in settled if one["SnapshotId"] not in used))


def snapshots_of(image: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the ids of the snapshots that an image lies on."""
    mappings = image.get("BlockDeviceMappings", ())
    return tuple(mapping["Ebs"]["SnapshotId"] for mapping in mappings if mapping.get("Ebs", {}).get("SnapshotId"))


def _is_abandoned(image: Mapping[str, Any], now: datetime) -> bool:
    created = image.get("CreationDate", "")
    return bool(created) and now - datetime.fromisoformat(created) >= ABANDONED


def _tags(image: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in image.get("Tags", ())}
