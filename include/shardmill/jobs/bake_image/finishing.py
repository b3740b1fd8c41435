"""From an instance that is down to an image that clusters start from; and the end of old ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shardmill.adapters import baking
from shardmill.adapters.images import check_image_for, examine
from shardmill.core import bake, bake_pruning, bake_requests
from shardmill.core.bake import BakeFailedError
from shardmill.core.bake_pruning import PruneError
from shardmill.jobs.bake_image.opened import OpenBake
from shardmill.specs.image import BakeResult

UNTAGGED = "baked before snapshots were tagged: remove it and its snapshots by hand"


def finish(opened: OpenBake, instance_id: str, attempt: int, state: str) -> BakeResult:
    """Read what an instance said of itself, once it is down.

    Args:
        opened: the bake.
        instance_id: the instance; terminated where it failed.
        attempt: which one it was.
        state: what became of it, in words.

    Raises:
        BakeFailedError: with the installer's last lines.
    """
    result = opened.result(attempt)
    try:
        if result is None:
            raise BakeFailedError(
                f"{instance_id} is {state} and has told nothing: it never ran its user data, its signed URL expired "
                "(max_hours, or credentials that end earlier), or it could not reach the bucket from its subnet"
            )
        pins = bake.lock_pins(opened.lake.get(opened.lock_key).decode())
        bake.check_result(result, pins=pins, instance_id=instance_id)
        if not state.startswith("stopped"):
            raise BakeFailedError(f"{instance_id} was to be stopped, and is {state}: no image can be made of it")
    except BakeFailedError:
        baking.terminate_builders(opened.ec2, opened.plan.name)
        raise
    return result


def make_image(opened: OpenBake) -> str:
    """Make an image of the instance that stopped after a good end, or join the one that an earlier try made."""
    for builder in baking.builders(opened.ec2, opened.plan.name):
        result = opened.result(builder.attempt)
        if builder.state == "stopped" and result is not None and result.ok:
            return baking.make_image(
                opened.ec2, bake_requests.image_request(opened.plan, builder.instance_id, builder.attempt)
            )
    raise BakeFailedError(f"no stopped instance of {opened.plan.name} holds a finished image: clear the task before")


def approve(opened: OpenBake, image_id: str) -> Sequence[str]:
    """Check an image by EMR's rules, and let clusters find it.

    Returns:
        What the check could not tell.

    Raises:
        RefusedError: naming each broken rule.
    """
    asked = opened.plan.asked
    check_image_for(opened.ec2, image_id, asked.release_label, [asked.instance_type], asked.root_gib, opened.lake)
    verdict, facts = examine(opened.ec2, image_id, asked.release_label, [asked.instance_type], opened.lake)
    if facts.tags.get(bake.TAG) != bake.CLUSTER:
        result = opened.result(int(facts.tags.get("attempt", "0")))
        if result is None:
            raise BakeFailedError(f"{image_id}: what its instance said of itself is not in the lake: deregister it")
        baking.tag(opened.ec2, image_id, bake.cluster_tags(result))
    # An older image of the same recipe is chosen again: clusters are to start from it, and not from a newer one.
    chosen = datetime.now(UTC).isoformat(timespec="seconds")
    baking.tag(opened.ec2, image_id, {"chosen": chosen, "driver": "yes" if opened.plan.gpu else "no"})
    return verdict.notes


def prune(opened: OpenBake, image_id: str, emr: Any, now: datetime | None = None) -> list[str]:
    """Remove old images that were baked here, those of bakes that failed, and snapshots that no image lies on.

    Args:
        opened: the bake that made, or chose, ``image_id``, which stays.
        emr: tells which images live clusters use.
        now: with its time zone; None for the present.

    Returns:
        The ids of what was removed: images, and snapshots that had lost theirs.

    Raises:
        PruneError: something could not be removed, or lies on snapshots without our tag, which nobody here may delete.
            All else was; a snapshot is found again by its tag.
    """
    now, ec2 = now or datetime.now(UTC), opened.ec2
    in_use = baking.images_in_use(emr) | {image_id}
    doomed = bake_pruning.to_prune(baking.baked_images(ec2), keep=opened.plan.asked.keep, in_use=in_use, now=now)
    tagged = {one["SnapshotId"] for one in baking.baked_snapshots(ec2)}
    left = {old: UNTAGGED for old, snapshots in doomed if not tagged.issuperset(snapshots)}
    for old, snapshots in doomed:
        if old not in left:
            left |= baking.remove_image(ec2, old, snapshots)
    # The snapshots are listed before the images: of an image that is made meanwhile none is seen as left over.
    lost = bake_pruning.orphans(baking.baked_snapshots(ec2), baking.all_images(ec2), now)
    left |= baking.delete_snapshots(ec2, [snapshot for snapshot in lost if snapshot not in left])
    if left:
        told = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise PruneError(f"not removed, the image {image_id} is not concerned: {told}")
    return [*(old for old, _ in doomed), *lost]
