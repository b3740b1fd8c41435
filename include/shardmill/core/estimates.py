"""Estimate what a run comes to, as the least and the most that is likely, and say what each figure rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from shardmill.core.shard_states import IndexRow
from shardmill.specs.manifest import Stage
from shardmill.specs.prices import Rates, Span
from shardmill.specs.run import PlannedShard, PlannedStage
from shardmill.specs.video_pipeline import VideoPipelineSpec, VideoRun

STAGES: dict[Stage, str] = {"raw": "ingest", "clips": "split", "features": "features"}
_MB = 1_000_000
_Run_co = TypeVar("_Run_co", bound=VideoRun, covariant=True)
EVALUATIONS = 4
"""Passes over the validation records: as they are, without sound, without picture, shuffled."""


def planned_stages(shards: Iterable[PlannedShard]) -> tuple[PlannedStage, ...]:
    """Count what is to be done at each stage, by reason."""
    todo: dict[str, list[PlannedShard]] = {str(stage): [] for stage in STAGES}
    for planned in shards:
        for stage in planned.todo:
            todo[stage].append(planned)
    return tuple(
        PlannedStage(
            stage=name,
            shards=len(todo[stage]),
            bytes=sum(planned.source.size for planned in todo[stage]),
            why=dict(Counter(planned.todo[stage] for planned in todo[stage]).most_common()),
        )
        for stage, name in STAGES.items()
        if todo[stage]
    )


@dataclass(frozen=True)
class Load(Generic[_Run_co]):
    """What a run has before it: bytes for certain, seconds of video as they are known or likely."""

    asked: _Run_co
    shards: tuple[PlannedShard, ...]
    rows: Mapping[int, IndexRow]
    """Of the shards whose clips are there, made from the very source that was planned."""
    rates: Rates
    other_region: bool = False
    """Whether the source lies in another region of AWS than the clusters."""

    @property
    def measured(self) -> tuple[IndexRow, ...]:
        """The rows that tell how long videos are."""
        return tuple(row for row in self.rows.values() if row.seconds > 0 and row.source_size > 0)

    @property
    def mbit_s(self) -> tuple[Span, str]:
        """Megabits of source that are a second of video, and what that rests on."""
        rates = [row.source_size * 8 / _MB / row.seconds for row in self.measured]
        if rates:
            many = "1 shard is" if len(rates) == 1 else f"{len(rates):,} shards are"
            return (min(rates), max(rates)), f"as {many} cut already: {both_text((min(rates), max(rates)))} Mbit/s"
        return (
            self.rates.source_mbit_s,
            f"assumed: {both_text(self.rates.source_mbit_s)} Mbit/s of source, no shard is cut",
        )

    def to_do(self, stage: str) -> tuple[PlannedShard, ...]:
        """The shards for which something is to be done at a stage of the lake."""
        return tuple(planned for planned in self.shards if stage in planned.todo)

    def bytes(self, stage: str) -> int:
        """Bytes at the source of the shards that are to be done at a stage."""
        return sum(planned.source.size for planned in self.to_do(stage))

    def seconds(self, shards: Iterable[PlannedShard]) -> Span:
        """Seconds of video in some shards, exact for those that are cut."""
        known, rest = 0.0, 0
        for planned in shards:
            row = self.rows.get(planned.shard)
            if row is not None:
                known += row.seconds
            else:
                rest += planned.source.size
        (least, most), _ = self.mbit_s
        return known + rest * 8 / _MB / most, known + rest * 8 / _MB / least

    @property
    def clips(self) -> tuple[Span | None, str]:
        """Clips that are to be cut, and what that rests on; None where none are."""
        shards = self.to_do("clips")
        if not shards:
            return None, ""
        seconds, why = self.seconds(shards), self.mbit_s[1]
        each = self.asked.clip_seconds
        return (seconds[0] / each, seconds[1] / each), f"{each:g} s each; {why}"

    @property
    def frames(self) -> tuple[Span, str]:
        """Frames of all records of the run, and what that rests on."""
        least, most = self.seconds(self.shards)
        videos, length = sum(row.videos for row in self.measured), sum(row.seconds for row in self.measured)
        if videos:
            longest = self.asked.feature_recipe("").max_frames
            share = min(1.0, longest * videos / length)
            return (least * share, most * share), self.mbit_s[1]
        share_least, share_most = self.rates.frames_share
        why = f"{self.mbit_s[1]}; {both_text((100 * share_least, 100 * share_most))} % of the seconds become frames"
        return (least * share_least, most * share_most), why


def both_text(span: Span) -> str:
    """Write a least and a most, once where both read the same."""
    least, most = (f"{value:,.2g}" if value < 100 else f"{value:,.0f}" for value in span)
    return least if least == most else f"{least} to {most}"


@dataclass(frozen=True)
class ClusterWork:
    """Hours that a cluster works, start-up and end not counted."""

    hours: Span
    rests_on: str

    def alive(self, rates: Rates, max_hours: float) -> Span:
        """Hours that the cluster is paid for."""
        start = rates.cluster_start_hours
        least, most = self.hours[0] + start[0], self.hours[1] + start[1]
        return min(least, max_hours), min(most, max_hours)


def training(load: Load[VideoPipelineSpec]) -> ClusterWork:
    """Estimate training and evaluation."""
    asked, rates = load.asked, load.rates
    share = asked.validation_share
    passes = (1 - share) * asked.epochs + share * EVALUATIONS
    (least, most), why = load.frames
    slow, fast = rates.train_frames_s
    hours = (least * passes / (fast * asked.workers) / 3600, most * passes / (slow * asked.workers) / 3600)
    pace = f"{both_text(rates.train_frames_s)} frames a second and worker"
    return ClusterWork(hours, f"{both_text((least, most))} frames, {asked.epochs} epochs, {pace}; {why}")


def core_hours_to_split(load: Load[VideoRun]) -> Span:
    """Estimate the hours that one core takes to cut what is to be cut."""
    least, most = load.rates.split_core_seconds_mb
    megabytes = load.bytes("clips") / _MB
    return megabytes * least / 3600, megabytes * most / 3600


def core_hours_to_describe(load: Load[VideoRun]) -> Span:
    """Estimate the hours that one core takes to make the records that are to be made."""
    least, most = load.rates.describe_core_seconds_mb
    megabytes = load.bytes("features") / _MB
    return megabytes * least / 3600, megabytes * most / 3600


def splitting(load: Load[VideoRun], nodes: int, vcpus: int) -> ClusterWork:
    """Estimate the cutting of videos on the nodes of a cluster, each of which does a shard at a time."""
    busy = max(1, min(nodes, len(load.to_do("clips"))))
    least, most = core_hours_to_split(load)
    pace = f"{both_text(load.rates.split_core_seconds_mb)} core-seconds a megabyte"
    return ClusterWork(
        (least / busy / vcpus, most / busy / vcpus),
        f"{load.bytes('clips') / _MB:,.0f} MB on {busy} nodes of {vcpus} vCPUs, {pace}",
    )
