"""Freeze which records a run trains on and which it is evaluated on."""

from __future__ import annotations

from collections.abc import Iterable

from shardmill.adapters import lake as commits
from shardmill.adapters import run_folder
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.core.planning import BadRequestError, check_enough_records, count_by_subset
from shardmill.specs.records import ManifestReference, RecordPart, RecordSet
from shardmill.specs.run import RunLabels, RunSpec


def select_records(lake: Store, run: RunSpec, shards: Iterable[int], labels: RunLabels) -> RecordSet:
    """Collect the records of the run's shards, refuse what cannot be trained on, and freeze the list.

    Raises:
        BadRequestError: too few records, or the list changed since the run froze it.
    """
    recipe = run.video.feature_recipe(labels.digest).hash
    revisions = [_revision(lake, run, recipe, shard) for shard in shards]
    manifests = [revision.manifest for revision in revisions]
    parts = [part for manifest in manifests for part in manifest.parts]
    counts = count_by_subset((part.subset, part.samples) for part in parts)
    check_enough_records(counts, run.on_cluster)
    by_subset: dict[str, tuple[RecordPart, ...]] = {
        subset: tuple(
            RecordPart(uri=lake.uri_of(part.name), sha256=part.sha256, records=part.samples)
            for part in parts
            if part.subset == subset
        )
        for subset in ("train", "validation")
    }
    records = RecordSet(
        vocabulary=labels.vocabulary,
        max_frames=max(video.frames for manifest in manifests for video in manifest.videos),
        manifests=tuple(ManifestReference(key=revision.key, sha256=revision.sha256) for revision in revisions),
        train=by_subset["train"],
        validation=by_subset["validation"],
    )
    if run_folder.freeze(lake, run.run, "records.json", records) != records:
        raise BadRequestError("the run's records changed since it chose them: trigger a new run")
    return records


def _revision(lake: Store, run: RunSpec, recipe: str, shard: int) -> commits.Revision:
    revision = commits.latest_revision(lake, "features", run.video.dataset, recipe, shard)
    if revision is None:
        raise MissingObjectError(f"shard {shard:06d} has no records of recipe {recipe}: make its features first")
    return revision
