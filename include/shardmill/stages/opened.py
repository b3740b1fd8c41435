"""A run that is opened, and the lake that it works in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from shardmill.adapters.access import Access
from shardmill.adapters.run_folder import load, load_run
from shardmill.adapters.store import Store, StoreSettings
from shardmill.specs.record_files import RecordPlan
from shardmill.specs.run import RunLabels, RunPlan, RunSpec
from shardmill.specs.video_pipeline import VideoRun
from shardmill.stages.outcomes import Say


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
