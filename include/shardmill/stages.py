"""The stages of a run, each done for some of its shards: what Airflow's tasks and the command line both call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from shardmill.adapters.access import Access
from shardmill.adapters.run_folder import load, load_run
from shardmill.adapters.store import Store, StoreSettings
from shardmill.specs.record_files import RecordPlan
from shardmill.specs.run import RunLabels, RunPlan, RunSpec
from shardmill.specs.shard_runs import NightlySpec, WorkersRun
from shardmill.specs.video_pipeline import VideoRun

if TYPE_CHECKING:
    from shardmill.jobs.split import Splitting
    from shardmill.specs.records import RecordSet

Say = Callable[[str], None]
Work = Callable[[int], "ShardOutcome"]
"""Does a stage for a shard."""


class ShardOutcome(Protocol):
    """What every stage tells of a shard."""

    @property
    def shard(self) -> int: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def why(self) -> str: ...


@dataclass(frozen=True)
class OpenRun:
    """A run and the lake that it works in."""

    lake: Store
    run: RunSpec
    access: Access
    show: Say = lambda line: None
    """Shows how far a stage is where people look while it runs."""
    workers: int = 0
    """Processes or threads that a stage may use; 0 for one a core."""

    def settings_of(self, uri: str) -> StoreSettings | None:
        """Tell how something is reached that the run reads beside its shards."""
        return self.access.settings_of(uri, self.run.asked.source)

    @cached_property
    def plan(self) -> RunPlan:
        """The shards of a run; frozen, so it is read once."""
        return load(self.lake, self.run.run, "plan.json", RunPlan)

    @property
    def files(self) -> RecordPlan:
        """The files of a run that trains on records."""
        return load(self.lake, self.run.run, "files.json", RecordPlan)

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of the run's shards, or of its files of records."""
        return (self.plan if isinstance(self.run.asked, VideoRun) else self.files).numbers

    @property
    def labels(self) -> RunLabels:
        return load(self.lake, self.run.run, "labels.json", RunLabels)


def open_run(spec_uri: str, access_of: Callable[[str], Access] = lambda connection: Access()) -> OpenRun:
    """Open the lake of a run by the URI of its ``spec.json``.

    Args:
        access_of: tells how things are reached, given the connection of the run's source (empty: none of its own).
    """
    run = load_run(spec_uri, access_of("").lake)
    access = access_of(run.asked.source_connection)
    return OpenRun(Store(run.asked.lake, access.lake), run, access)


def ingest(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Take shards into the lake, by reference or as verified copies; what is present and equal is skipped."""
    outcomes = _each(shards, _ingesting(opened), say)
    return _tell("copied" if opened.run.video.ingest == "copy" else "took in", outcomes, say)


def _ingesting(opened: OpenRun) -> Work:
    from shardmill.jobs.ingest import Copying, ingest_shard

    sources = {planned.shard: planned.source for planned in opened.plan.shards}
    asked, copying = opened.run.video, Copying(opened.access.source_settings)
    return lambda shard: ingest_shard(opened.lake, asked.dataset, (shard, sources[shard]), asked.ingest, copying)


def split(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Cut every video of some shards into exact clips; what was cut by this recipe is skipped.

    Where the run asks for it (`fused`), their records are made on the way, out of the decoding that proves the clips.
    """
    return _tell("split", _each(shards, _splitting(opened, say), say), say)


def _splitting(opened: OpenRun, say: Say) -> Work:
    from shardmill.jobs.split import Splitting, split_shard

    asked = opened.run.video
    retries = {planned.shard: planned.retry_of for planned in opened.plan.shards}
    how = Splitting(
        max_reject_share=asked.max_reject_share,
        workers=opened.workers,
        settings=opened.access.source_settings,
        progress=say,
        watch=lambda line: opened.show(_say(line, say)),
    )
    fusing = _Fusing(opened, say) if asked.fused else None

    def cut(shard: int) -> ShardOutcome:
        planned = replace(how, retry_of=retries[shard])
        if fusing is not None:
            return fusing.split(shard, planned)
        return split_shard(opened.lake, asked.dataset, shard, asked.split_recipe, planned)

    return cut


class _Fusing:
    """Splits shards and makes their records at once."""

    def __init__(self, opened: OpenRun, say: Say) -> None:
        from shardmill.jobs.label import given_table, label_table

        self._opened, self._say = opened, say
        if opened.plan.labels and isinstance(opened.run.asked, WorkersRun):
            self._table = label_table(opened.lake, opened.run)
        else:
            self._table = given_table(opened.run, opened.settings_of(opened.run.video.labels))
        self._recipe = opened.run.video.feature_recipe(self._table.digest)

    def split(self, shard: int, how: Splitting) -> ShardOutcome:
        """Do both for a shard. What an earlier try cut is decoded once more for its records."""
        from shardmill.jobs.features import Featurizing, Prepared, featurize_shard
        from shardmill.jobs.split import split_shard

        lake, asked, settings = self._opened.lake, self._opened.run.video, self._opened.access.source_settings
        with lake.scratch("described-") as folder:
            prepared = Prepared(self._recipe, folder, settings)
            done = split_shard(lake, asked.dataset, shard, asked.split_recipe, replace(how, footage=prepared.take))
            making = Featurizing(max_reject_share=asked.max_reject_share, settings=settings, prepared=prepared)
            records = featurize_shard(lake, (asked.dataset, shard), self._recipe, self._table, making)
            self._say(f"shard {shard:06d}: {records.records} records ({records.why})")
        return done


def label(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Settle the run's labels and their vocabulary; stop where no video has one."""
    from shardmill.jobs.label import label_run

    labels = label_run(opened.lake, opened.run, shards, opened.settings_of(opened.run.video.labels))
    some = ", ".join(labels.vocabulary[:20]) + (", …" if len(labels.vocabulary) > 20 else "")
    return _say(f"{labels.labelled} of {labels.videos} videos have labels: {some}", say)


def features(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Make YouTube-8M records of some shards; what was made by this recipe is skipped."""
    return _tell("made records of", _each(shards, _describing(opened, opened.labels.digest, say), say), say)


def _describing(opened: OpenRun, labels: str, say: Say) -> Work:
    from shardmill.jobs.features import Featurizing, featurize_shard
    from shardmill.jobs.label import label_table

    asked, table = opened.run.video, label_table(opened.lake, opened.run)
    recipe = asked.feature_recipe(labels)

    def count(done: int, total: int) -> None:
        if done == total or done % 100 == 0:
            say(f"{done} of {total} videos")

    how = Featurizing(max_reject_share=asked.max_reject_share, progress=count, settings=opened.access.source_settings)
    return lambda shard: featurize_shard(opened.lake, (asked.dataset, shard), recipe, table, how)


def through(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Take shards through all stages, one shard after the other, so that a killed task leaves whole ones behind it.

    The run's labels are known beforehand. What is done is skipped, stage by stage.
    """
    stages = _ingesting(opened), _splitting(opened, say), _describing(opened, opened.plan.labels, say)

    def do(shard: int) -> ShardOutcome:
        try:
            return _Through(shard, [stage(shard) for stage in stages])
        except unfit_errors() as error:
            _remember(opened, shard, error, say)
            raise

    return _tell("did", _each(shards, do, say), say)


def _remember(opened: OpenRun, shard: int, error: Exception, say: Say) -> None:
    """Note that a night could not do a shard, for the nights that come."""
    from shardmill.adapters.failed_shards import note_failure
    from shardmill.adapters.store import StoreError

    if not isinstance(opened.run.asked, NightlySpec):
        return
    planned = next(planned for planned in opened.plan.shards if planned.shard == shard)
    try:
        note_failure(opened.lake, opened.run, opened.plan.labels, planned, f"{type(error).__name__}: {error}")
    except StoreError as missed:
        # The shard's own error is what matters: it is raised.
        say(f"shard {shard:06d}: its failure was not noted: {missed}")


@dataclass(frozen=True)
class _Through:
    shard: int
    outcomes: Sequence[ShardOutcome]
    """Of the stages, in order."""

    @property
    def skipped(self) -> bool:
        return all(outcome.skipped for outcome in self.outcomes)

    @property
    def why(self) -> str:
        return ", ".join(dict.fromkeys(outcome.why for outcome in self.outcomes))


def select(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    from shardmill.jobs.select_records import select_records

    return _records_line(select_records(opened.lake, opened.run, shards, opened.labels), say)


def fetch(opened: OpenRun, numbers: Sequence[int], say: Say) -> str:
    """Fetch files of records into the lake, or look at them where they lie; what is known of is skipped."""
    from shardmill.adapters.file_work import Telling
    from shardmill.jobs.fetch_records import HOPELESS, Fetching, fetch_files
    from shardmill.jobs.find_records import look_at_files

    asked, planned = opened.run.on_records, opened.files.files
    files, settings = [planned[number] for number in numbers], opened.access.source_settings
    if asked.copies:
        found = fetch_files(opened.lake, asked, files, say, Fetching(settings, show=opened.show))
    else:
        found = look_at_files(opened.lake, asked, files, Telling(say, opened.show, HOPELESS), settings)
    records, broken = sum(look.records for look in found), sum(look.broken is not None for look in found)
    refused = f", {broken} files cannot be used" if broken else ""
    return _say(f"{records:,} records in {len(found)} files{refused}", say)


def find(opened: OpenRun, numbers: Sequence[int], say: Say) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    from shardmill.jobs.find_records import find_records

    settings = opened.settings_of(opened.run.on_records.vocabulary)
    return _records_line(find_records(opened.lake, opened.run, opened.files, settings, say), say)


def _records_line(records: RecordSet, say: Say) -> str:
    training, validation = (sum(part.records for part in parts) for parts in (records.train, records.validation))
    return _say(f"{training} training and {validation} validation records, {len(records.vocabulary)} labels", say)


VIDEO_STAGES: Mapping[str, Callable[[OpenRun, Sequence[int], Say], str]] = {
    "ingest": ingest,
    "split": split,
    "label": label,
    "features": features,
    "select": select,
}
"""Those of the video pipeline, in order."""
RECORD_STAGES: Mapping[str, Callable[[OpenRun, Sequence[int], Say], str]] = {"fetch": fetch, "find": find}
"""Those of training on records, in order."""
STAGES = {**VIDEO_STAGES, **RECORD_STAGES, "through": through}


def hopeless_errors() -> tuple[type[Exception], ...]:
    """List the errors of a stage that another try cannot mend: the request or the data is what is wrong."""
    from shardmill.adapters.extractors import ExtractorError
    from shardmill.adapters.sandbox import SandboxError
    from shardmill.adapters.store import ChangedObjectError
    from shardmill.adapters.video.avx import UnfitCpuError
    from shardmill.core.planning import BadRequestError
    from shardmill.core.rejects import TooManyRejectsError
    from shardmill.core.tar_header import DamagedTarError
    from shardmill.jobs.split import EmptyShardError

    request = BadRequestError, ExtractorError
    shard = ChangedObjectError, DamagedTarError, EmptyShardError, TooManyRejectsError
    return *request, *shard, SandboxError, UnfitCpuError


def unfit_errors() -> tuple[type[Exception], ...]:
    """List the errors by which a shard itself is found unfit: neither the machine nor a service is what is wrong."""
    from shardmill.adapters.store import DamagedObjectError
    from shardmill.core.rejects import ReconcileError, RejectsMayPassError, TooManyRejectsError
    from shardmill.core.tar_header import DamagedTarError
    from shardmill.jobs.split import EmptyShardError

    rejects = TooManyRejectsError, RejectsMayPassError
    return DamagedTarError, DamagedObjectError, EmptyShardError, ReconcileError, *rejects


def _each(shards: Sequence[int], work: Work, say: Say) -> list[ShardOutcome]:
    """Work on every shard, whatever becomes of the others; raise then what another try may mend before what not."""
    outcomes: list[ShardOutcome] = []
    errors: list[Exception] = []
    for shard in shards:
        try:
            outcomes.append(work(shard))
        except Exception as error:  # noqa: BLE001  (raised below, behind the other shards)
            say(f"shard {shard:06d} failed: {type(error).__name__}: {error}")
            errors.append(error)
    if errors:
        hopeless = hopeless_errors()
        raise next((error for error in errors if not isinstance(error, hopeless)), errors[0])
    return outcomes


def _say(line: str, say: Say) -> str:
    say(line)
    return line


def _tell(verb: str, outcomes: Sequence[ShardOutcome], say: Say) -> str:
    """Say for each shard what was done or why not; give the sum in one line."""
    for outcome in outcomes:
        say(f"shard {outcome.shard:06d}: {'nothing to do' if outcome.skipped else verb} ({outcome.why})")
    done = sum(not outcome.skipped for outcome in outcomes)
    rest = "" if done else ": nothing to do, all present"
    return _say(f"{verb} {done} of {len(outcomes)} shards{rest}", say)
