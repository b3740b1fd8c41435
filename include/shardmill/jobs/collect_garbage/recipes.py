"""Collect whole recipes: those that are past their retention, unless a run refers to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shardmill.adapters import run_folder
from shardmill.adapters.store import DamagedObjectError, Store, read_sealed
from shardmill.core import layout
from shardmill.core.garbage import (
    Recipe,
    Retention,
    clips_folder_of,
    deletion_order,
    features_folder_of,
    is_recipe,
    past_retention,
)
from shardmill.jobs.collect_garbage.tally import Tally
from shardmill.specs.garbage import GarbageSpec
from shardmill.specs.manifest import Manifest
from shardmill.specs.records import RecordSet
from shardmill.specs.run import RunLabels, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoRun

GROUP = 100
"""Shards that are deleted at once: where a pass is broken off, at most so many are left without their manifests."""
RUN_SECONDS = 8 * 24 * 3600.0
"""A run that chose no records yet may still be at work for so long."""


def collect_recipes(lake: Store, spec: GarbageSpec, before: float, tally: Tally) -> set[str]:
    """Collect recipes of features, then of the clips that no features that stay were made of.

    Args:
        before: a recipe that was written to since then stays, seconds since 1970.

    Returns:
        The folders that went, or would.
    """
    gone: set[str] = set()
    if not spec.keep_recipes and not spec.named_recipes:
        return gone
    asked = Retention(spec.keep_recipes, spec.named_recipes, before)
    runs = _Runs(lake, before)
    datasets = [spec.dataset] if spec.dataset else sorted({*lake.folders("features"), *lake.folders("clips")})
    try:
        for dataset in datasets:
            for stage in ("features", "clips"):
                _collect_stage(lake, f"{stage}/{dataset}", asked, runs, (tally, gone))
    except DamagedObjectError as error:
        tally.stay("all further recipes", f"what is referred to cannot be told: {error}: run verify")
    return gone


def _collect_stage(lake: Store, parent: str, asked: Retention, runs: _Runs, results: tuple[Tally, set[str]]) -> None:
    tally, gone = results
    recipes = [_look(lake, folder) for folder in _recipe_folders(lake, parent)]
    # Asked for each stage anew, so that it is as young as can be when something goes.
    used = runs.used()
    if parent.startswith("clips/"):
        used = _used_by_features(lake, parent.replace("clips", "features", 1), gone) | used
    going, staying = past_retention(recipes, asked, used)
    for folder, why in staying.items():
        tally.stay(folder, why)
    for folder, why in going.items():
        if _collect(lake, folder, why, asked.before, tally):
            gone.add(folder)


def _recipe_folders(lake: Store, parent: str) -> list[str]:
    return [f"{parent}/{name}" for name in lake.folders(parent) if is_recipe(name)]


def _look(lake: Store, folder: str) -> Recipe:
    manifest = newest = 0.0
    for item in lake.list(folder):
        newest = max(newest, item.modified)
        if layout.shard_of_manifest(item.key) is not None:
            manifest = max(manifest, item.modified)
    return Recipe(folder, manifest, newest)


def _collect(lake: Store, folder: str, why: str, before: float, tally: Tally) -> bool:
    """Delete a recipe shard by shard; say whether it went, or would."""
    found = list(lake.list(folder))
    if not found:
        return False
    if any(item.modified > before for item in found):
        tally.stay(folder, "written to just now")
        return False
    if tally.delete:
        for keys in _groups(folder, [item.key for item in found]):
            for group in deletion_order(folder, keys):
                lake.delete(group)
    tally.go(f"recipe {why}", len(found), sum(item.size for item in found), folder)
    return True


def _groups(folder: str, keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield the keys of some shards after the other, last those of none."""
    shards: dict[str, list[str]] = {}
    others = []
    for key in keys:
        first, _, rest = key.removeprefix(folder + "/").partition("/")
        name = rest.partition("/")[0] if first == "_manifests" else first
        if name.isdigit():
            shards.setdefault(name, []).append(key)
        else:
            others.append(key)
    numbers = sorted(shards)
    for start in range(0, len(numbers), GROUP):
        yield [key for number in numbers[start : start + GROUP] for key in shards[number]]
    yield others


class _Runs:
    """Which folders of stages the runs of a lake refer to: by their records, or by what they asked while at work."""

    def __init__(self, lake: Store, before: float) -> None:
        self._lake, self._begun_since = lake, before - RUN_SECONDS
        self._chosen: dict[str, frozenset[str]] = {}
        """Of runs that froze their records; that does not change any more."""

    def used(self) -> dict[str, str]:
        """Say who refers to each folder. Raises DamagedObjectError where that cannot be read."""
        used: dict[str, str] = {}
        for run in self._lake.folders("runs"):
            for folder in self._folders(run):
                used.setdefault(folder, f"the run {run} refers to it")
        return used

    def _folders(self, run: str) -> frozenset[str]:
        if run not in self._chosen:
            records = run_folder.find(self._lake, run, "records.json", RecordSet)
            if records is None:
                return self._asked(run)
            folders = {reference.key.partition("/_manifests/")[0] for reference in records.manifests}
            parts = (features_folder_of(part.uri) for part in (*records.train, *records.validation))
            self._chosen[run] = frozenset(folders | {folder for folder in parts if folder})
        return self._chosen[run]

    def _asked(self, run: str) -> frozenset[str]:
        begun = self._lake.head(run_folder.run_key(run, "spec.json"))
        if begun is None or begun.modified < self._begun_since:
            return frozenset()
        asked = run_folder.load(self._lake, run, "spec.json", RunSpec).asked
        if not isinstance(asked, VideoRun):
            return frozenset()  # what is made of records refers to no recipe
        folders = {layout.stage_folder("clips", asked.dataset, asked.split_recipe.hash)}
        if digest := self._labels(run):
            folders.add(layout.stage_folder("features", asked.dataset, asked.feature_recipe(digest).hash))
        return frozenset(folders)

    def _labels(self, run: str) -> str:
        """Give the digest of a run's label table; empty where it did not come so far."""
        labels = run_folder.find(self._lake, run, "labels.json", RunLabels)
        if labels is not None:
            return labels.digest
        plan = run_folder.find(self._lake, run, "plan.json", RunPlan)
        return plan.labels if plan is not None else ""


def _used_by_features(lake: Store, parent: str, gone: set[str]) -> dict[str, str]:
    """Say which clips the features that stay were made of. Raises DamagedObjectError where that cannot be read."""
    used = {}
    for folder in _recipe_folders(lake, parent):
        manifest = None if folder in gone else _any_manifest(lake, folder)
        if manifest is not None:
            clips = clips_folder_of(manifest.source.uri)
            if clips is None:
                raise DamagedObjectError(f"{manifest.source.uri} is no manifest of clips, {folder} refers to it")
            used[clips] = f"{folder} was made of it"
    return used


def _any_manifest(lake: Store, folder: str) -> Manifest | None:
    """Read a manifest of a recipe: one is like the other in what recipe of clips it was made of."""
    for shard in lake.folders(layout.manifests_folder(folder)):
        for item in lake.list(f"{layout.manifests_folder(folder)}/{shard}"):
            return read_sealed(lake, item.key, Manifest)
    return None
