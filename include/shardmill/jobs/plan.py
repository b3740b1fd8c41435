"""Plan a run: freeze what was asked and the listing of its source, before anything is spent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from shardmill.adapters import run_folder
from shardmill.adapters.extractors import ExtractorError, check_extractor
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core import layout, planning
from shardmill.core.labels import LabelError, parse_label_csv
from shardmill.specs.manifest import SourceObject
from shardmill.specs.run import PlannedShard, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

LONGEST_NAME = 63
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True)
class Planned:
    """A run that may start."""

    run: RunSpec
    plan: RunPlan
    batches: Sequence[Sequence[int]]
    """Shard numbers, batch by batch."""

    @property
    def spec_uri(self) -> str:
        return f"{self.run.folder}/spec.json"


def run_name(run_id: str) -> str:
    """Make a folder's name of a run id: small letters, digits, '.', '_' and '-'.

    An id that is no such name gets a hash of it at its end, for two ids must never become one run.
    """
    name = _NOT_IN_A_NAME.sub("-", run_id.lower()).strip("-._")
    if name == run_id and len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}".lstrip("-._")


def plan_run(asked: VideoPipelineSpec, run_id: str, settings: StoreSettings | None = None) -> Planned:
    """Check what was asked against the source and freeze it in the run's folder.

    A run that was planned before keeps its plan: what it works on does not move under it.

    Raises:
        BadRequestError: nothing to do, an absent shard, an unreadable label table, or a run of this name that asked
            for something else.
    """
    lake = Store(asked.lake, settings, create=True)
    run = _freeze_run(lake, asked, run_name(run_id))
    _check_labels(asked, settings)
    _check_extractor(asked)
    plan = _freeze_plan(lake, run, settings)
    sizes = {planned.shard: planned.source.size for planned in plan.shards}
    return Planned(run, plan, planning.batch_shards(sizes, asked.batch_mb * planning.MEGABYTE))


def _freeze_run(lake: Store, asked: VideoPipelineSpec, name: str) -> RunSpec:
    run = RunSpec(run=name, started=datetime.now(UTC).isoformat(timespec="seconds"), asked=asked)
    frozen = run_folder.freeze(lake, name, "spec.json", run)
    if frozen.asked != asked:
        changed = [field for field in type(asked).model_fields if getattr(asked, field) != getattr(frozen.asked, field)]
        raise planning.BadRequestError(
            f"the run {name} was planned with other values of {', '.join(changed)}: trigger a new run"
        )
    return frozen


def _check_labels(asked: VideoPipelineSpec, settings: StoreSettings | None) -> None:
    if not asked.labels:
        return
    try:
        parse_label_csv(read_uri(asked.labels, settings).decode())
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
    for item in source.list():
        number = layout.shard_number(item.key)
        if number is None or "/" in item.key:
            continue
        if number in found:
            raise planning.BadRequestError(
                f"source: two files of shard {layout.shard_name(number)}: "
                f"{found[number].uri} and {source.uri_of(item.key)}"
            )
        found[number] = SourceObject(uri=source.uri_of(item.key), size=item.size, version=item.version)
    return found


def _freeze_plan(lake: Store, run: RunSpec, settings: StoreSettings | None) -> RunPlan:
    planned = run_folder.find(lake, run.run, "plan.json", RunPlan)
    if planned is not None:
        return planned
    try:
        found = list_source(Store(run.asked.source, settings))
    except MissingObjectError as error:
        raise planning.BadRequestError(f"source: {error}") from error
    chosen = planning.choose_shards(run.asked.shards, found, run.asked.source)
    plan = RunPlan(shards=tuple(PlannedShard(shard=number, source=source) for number, source in chosen.items()))
    return run_folder.freeze(lake, run.run, "plan.json", plan)
