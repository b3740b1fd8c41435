"""Plan a run: freeze what was asked and the listing of its source, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shardmill.adapters import run_folder
from shardmill.adapters.access import Access
from shardmill.adapters.extractors import ExtractorError, check_extractor
from shardmill.adapters.label_tables import label_table, settle_table
from shardmill.adapters.roots import Roots
from shardmill.adapters.run_folder import run_name
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core import layout, planning
from shardmill.core.labels import LabelError, LabelTable
from shardmill.core.shard_states import ShardStates
from shardmill.jobs.plan.backfill import plan_backfill
from shardmill.jobs.plan.night import plan_night
from shardmill.jobs.plan.survey import survey
from shardmill.specs.run import RunPlan, RunSpec
from shardmill.specs.run_kinds import VideoAsked
from shardmill.specs.shard_runs import BackfillSpec, NightlySpec, WorkersRun
from shardmill.specs.video_pipeline import VideoPipelineSpec, VideoRun

__all__ = ["Planned", "look", "plan_run", "run_name"]


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
        if isinstance(self.run.asked, NightlySpec) and not unfinished:
            left = self.plan.left
            return "; ".join(("nothing is done tonight", *left)) if left else self.plan.notes[-1]
        return "; ".join((f"{shards} shards of {self.run.video.source}: {todo}", *self.plan.left))

    @property
    def lines(self) -> Iterator[str]:
        """What was found at each stage, and why each shard is to be done."""
        yield from self.plan.notes
        for planned in self.plan.unfinished:
            why = ", ".join(f"{stage}: {reason}" for stage, reason in planned.todo.items())
            yield f"shard {layout.shard_name(planned.shard)}: {why}"


def plan_run(asked: VideoAsked, run_id: str, access: Access | None = None) -> Planned:
    """Check what was asked against the source and freeze it in the run's folder.

    A run that was planned before keeps its plan: what it works on does not move under it.

    Raises:
        BadRequestError: a place that may not be used, nothing to do, an absent shard, an unreadable label table, what
            the trainer does not do, or a run of this name that asked for something else.
        BudgetError: more than `max_usd`, or prices are missing that it would take to know.
    """
    access = access or Access()
    if isinstance(asked, VideoPipelineSpec):
        planning.check_trainer(asked)
    _check_roots(asked, access.roots)
    lake = Store(asked.lake, access.lake, create=True)
    run = run_folder.begin(lake, asked, run_name(run_id))
    labels = _read_labels(asked, access.settings_of(asked.labels, asked.source))
    if labels is not None and isinstance(asked, WorkersRun):
        settle_table(lake, run, labels)
        labels = label_table(lake, run)
    _check_extractor(asked)
    plan = _freeze_plan(lake, run, labels.digest if labels else "", access)
    return Planned(run, plan, _batches(asked, plan))


def _batches(asked: VideoAsked, plan: RunPlan) -> list[list[int]]:
    sizes = {planned.shard: planned.source.size for planned in plan.unfinished}
    aim = asked.batch_mb * planning.MEGABYTE
    if isinstance(asked, BackfillSpec):
        if asked.preview:
            return []
        if asked.canary and sizes:
            del sizes[min(sizes)]
    if isinstance(asked, WorkersRun):
        aim = min(aim, max(1, sum(sizes.values()) // asked.min_batches))
    batches = planning.batch_shards(sizes, aim)
    # A night goes through its shards upwards: who goes the other way meets it at one shard, and else finds things done.
    return [batch[::-1] for batch in batches] if isinstance(asked, BackfillSpec) else batches


def _check_roots(asked: VideoRun, roots: Roots) -> None:
    roots.check_lake("lake", asked.lake)
    for field in ("source", "labels", "extractor_weights", "projection", "prices"):
        if uri := getattr(asked, field, ""):
            roots.check_source(field, uri)


def _read_labels(asked: VideoRun, settings: StoreSettings | None) -> LabelTable | None:
    """Read the label table that was named; without one the labels are known only after the split."""
    if not asked.labels:
        return None
    try:
        return LabelTable.from_csv(read_uri(asked.labels, settings).decode())
    except (MissingObjectError, LabelError, UnicodeDecodeError) as error:
        raise planning.BadRequestError(f"labels: {asked.labels} cannot be used: {error}") from error


def _check_extractor(asked: VideoRun) -> None:
    try:
        check_extractor(asked.feature_recipe(labels=""))
    except ExtractorError as error:
        raise planning.BadRequestError(str(error)) from error


def _freeze_plan(lake: Store, run: RunSpec, labels: str, access: Access) -> RunPlan:
    planned = run_folder.find(lake, run.run, "plan.json", RunPlan)
    if planned is not None:
        return planned
    asked = run.video
    found = survey(lake, asked, access, labels)
    if isinstance(asked, NightlySpec):
        plan = plan_night(lake, asked, found, access, labels=labels)
    elif isinstance(asked, BackfillSpec):
        plan = plan_backfill(asked, found, access)
    else:
        plan = RunPlan(shards=found.planned(retry=asked.retry_rejects), notes=tuple(found.states.lines()))
    return run_folder.freeze(lake, run.run, "plan.json", plan.model_copy(update={"labels": labels}))


def look(asked: VideoRun, access: Access) -> ShardStates:
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
    return survey(lake, asked, access, labels.digest if labels else "", keep=False).states
