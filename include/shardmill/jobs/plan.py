"""Plan a run: freeze what was asked and the listing of its source, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shardmill.adapters import run_folder
from shardmill.adapters.access import Access
from shardmill.adapters.extractors import ExtractorError, check_extractor
from shardmill.adapters.roots import Roots
from shardmill.adapters.run_folder import run_name
from shardmill.adapters.shard_index import Asked, survey_shards
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core import layout, planning
from shardmill.core.labels import LabelError, LabelTable
from shardmill.core.shard_states import ShardStates
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

__all__ = ["Planned", "list_source", "look", "plan_run", "run_name"]


@dataclass(frozen=True)
class Planned:
    """A run that may start."""

    run: RunSpec
    plan: RunPlan
    batches: Sequence[Sequence[int]]
    """Numbers of the shards for which there is something to do, batch by batch."""

    @property
    def spec_uri(self) -> str:
        return f"{self.run.folder}/spec.json"

    @property
    def summary(self) -> str:
        """What the run does, in a line."""
        unfinished, shards = self.plan.unfinished, len(self.plan.shards)
        size = sum(planned.source.size for planned in unfinished) / planning.MEGABYTE
        todo = f"{len(unfinished)} to do ({size:.1f} MB) in {len(self.batches)} batches" if unfinished else "all done"
        return f"{shards} shards of {self.run.video.source}: {todo}"

    @property
    def lines(self) -> Iterator[str]:
        """What was found at each stage, and why each shard is to be done."""
        yield from self.plan.notes
        for planned in self.plan.unfinished:
            why = ", ".join(f"{stage}: {reason}" for stage, reason in planned.todo.items())
            yield f"shard {layout.shard_name(planned.shard)}: {why}"


def plan_run(asked: VideoPipelineSpec, run_id: str, access: Access | None = None) -> Planned:
    """Check what was asked against the source and freeze it in the run's folder.

    A run that was planned before keeps its plan: what it works on does not move under it.

    Raises:
        BadRequestError: a place that may not be used, nothing to do, an absent shard, an unreadable label table, what
            the trainer does not do, or a run of this name that asked for something else.
    """
    access = access or Access()
    planning.check_trainer(asked)
    _check_roots(asked, access.roots)
    lake = Store(asked.lake, access.lake, create=True)
    run = run_folder.begin(lake, asked, run_name(run_id))
    labels = _read_labels(asked, access.settings_of(asked.labels, asked.source))
    _check_extractor(asked)
    plan = _freeze_plan(lake, run, labels, access)
    sizes = {planned.shard: planned.source.size for planned in plan.unfinished}
    return Planned(run, plan, planning.batch_shards(sizes, asked.batch_mb * planning.MEGABYTE))


def _check_roots(asked: VideoPipelineSpec, roots: Roots) -> None:
    roots.check_lake("lake", asked.lake)
    for field in ("source", "labels", "extractor_weights", "projection", "prices"):
        if uri := getattr(asked, field):
            roots.check_source(field, uri)


def _read_labels(asked: VideoPipelineSpec, settings: StoreSettings | None) -> LabelTable | None:
    """Read the label table that was named; without one the labels are known only after the split."""
    if not asked.labels:
        return None
    try:
        return LabelTable.from_csv(read_uri(asked.labels, settings).decode())
    except (MissingObjectError, LabelError, UnicodeDecodeError) as error:
        raise planning.BadRequestError(f"labels: {asked.labels} cannot be used: {error}") from error


def _check_extractor(asked: VideoPipelineSpec) -> None:
    try:
        check_extractor(asked.feature_recipe(labels=""))
    except ExtractorError as error:
        raise planning.BadRequestError(str(error)) from error


def list_source(source: Store) -> dict[int, SourceObject]:
    """List the shards in a folder by number.

    Raises:
        BadRequestError: where two files carry one number.
    """
    found: dict[int, SourceObject] = {}
    for item in source.files():
        number = layout.shard_number(item.key)
        if number is None:
            continue
        _check_inside(source, item.key)
        if number in found:
            raise planning.BadRequestError(
                f"source: two files of shard {layout.shard_name(number)}: "
                f"{found[number].uri} and {source.uri_of(item.key)}"
            )
        found[number] = SourceObject(uri=source.uri_of(item.key), size=item.size, version=item.version)
    return found


def _check_inside(source: Store, key: str) -> None:
    """Refuse a file that is a link out of its folder: what may be read is said of folders."""
    folder = source.folder
    if folder is not None and not (folder / key).resolve().is_relative_to(folder.resolve()):
        raise planning.BadRequestError(
            f"source: {source.uri_of(key)} is a link that leads out of its folder: remove it"
        )


def _freeze_plan(lake: Store, run: RunSpec, labels: LabelTable | None, access: Access) -> RunPlan:
    planned = run_folder.find(lake, run.run, "plan.json", RunPlan)
    if planned is not None:
        return planned
    asked = run.video
    chosen = _choose(asked, access)
    states = _judge(lake, asked, chosen, labels)
    retry = asked.retry_rejects
    shards = tuple(_planned(states, number, source, retry=retry) for number, source in chosen.items())
    return run_folder.freeze(lake, run.run, "plan.json", RunPlan(shards=shards, notes=tuple(states.lines())))


def look(asked: VideoPipelineSpec, access: Access) -> ShardStates:
    """Say what a run would do, without planning one; nothing is written.

    Raises:
        BadRequestError: as ``plan_run``.
    """
    _check_roots(asked, access.roots)
    labels = _read_labels(asked, access.settings_of(asked.labels, asked.source))
    try:
        lake = Store(asked.lake, access.lake)
    except MissingObjectError as error:
        raise planning.BadRequestError(f"lake: {error}; the first run makes it") from error
    return _judge(lake, asked, _choose(asked, access), labels, keep=False)


def _choose(asked: VideoPipelineSpec, access: Access) -> dict[int, SourceObject]:
    try:
        found = list_source(Store(asked.source, access.source_settings))
    except MissingObjectError as error:
        raise planning.BadRequestError(f"source: {error}") from error
    return planning.choose_shards(asked.shards, found, asked.source)


def _judge(
    lake: Store,
    asked: VideoPipelineSpec,
    chosen: Mapping[int, SourceObject],
    labels: LabelTable | None,
    *,
    keep: bool = True,
) -> ShardStates:
    recipe = asked.feature_recipe(labels.digest) if labels else None
    return survey_shards(lake, Asked(asked.dataset, asked.split_recipe, recipe, asked.ingest), chosen, keep=keep)


def _planned(states: ShardStates, shard: int, source: SourceObject, *, retry: bool) -> PlannedShard:
    todo, retry_of = states.todo(shard), states.retry_of(shard) if retry else None
    if retry_of is not None:
        todo = {**todo, "clips": f"rejects of revision {retry_of} may pass now", "features": "its clips will change"}
    return PlannedShard(shard=shard, source=source, todo=todo, retry_of=retry_of)
