"""Estimate what a run on records comes to: its frames are known from the sizes of its files, but for a few percent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shardmill.core.estimates import EVALUATIONS, ClusterWork, both_text
from shardmill.core.run_plan import Draft, Outlook, Where, prices_there, settle_costs
from shardmill.core.side_costs import GIB, PIECE_BYTES, REPEATS, STORAGE, cost_of
from shardmill.specs.prices import Prices, Rates, Span
from shardmill.specs.record_files import RecordPlan, Subset
from shardmill.specs.run import PlannedCost, PlannedStage, RunClusters
from shardmill.specs.train_on_records import TrainOnRecordsSpec

FRAME_BYTES: Span = (1152.0, 1200.0)
"""Of a second of video in a record: 1,024 and 128 values of a byte each, and what stands between them."""
VIDEO_BYTES: Span = (4608.0, 4900.0)
"""Of a record at the level of videos: 1,152 values of four bytes, its id and its labels."""
REQUESTS_A_FILE = 4
"""That write, and as many that read, beside the pieces of large files."""


@dataclass(frozen=True)
class RecordLoad:
    """What a run on records has before it."""

    asked: TrainOnRecordsSpec
    plan: RecordPlan
    to_do: frozenset[int]
    """Numbers of the files that are to be fetched or looked at."""
    rates: Rates
    other_region: bool = False
    """Whether the folder lies in another region of AWS than the cluster."""

    def bytes(self, subset: Subset | None = None) -> float:
        """Bytes of the files of a subset, or of all; those of unknown size count as the mean of the others."""
        total, _ = self.plan.bytes
        mean = total / max(1, len(self.plan.files))
        return sum(
            mean if file.size is None else file.size
            for file in self.plan.files
            if subset is None or file.subset == subset
        )

    @property
    def bytes_to_do(self) -> float:
        """Bytes of the files that are to be fetched or looked at."""
        return self.bytes() * len(self.to_do) / max(1, len(self.plan.files))

    @property
    def is_video_level(self) -> bool:
        """Whether records are known to be at the level of videos; else frames are reckoned with, which are more."""
        return self.asked.origin == "mirror" and self.asked.partitions[0][1].startswith("video")

    def frames(self, subset: Subset) -> Span:
        """Give the frames of a subset; a record at the level of videos is one."""
        least, most = VIDEO_BYTES if self.is_video_level else FRAME_BYTES
        return self.bytes(subset) / most, self.bytes(subset) / least


def plan_record_costs(load: RecordLoad, drafts: Mapping[str, Draft], prices: Prices, where: Where) -> RunClusters:
    """Plan what a run on records does and costs. Raises BudgetError as ``run_plan.plan_costs`` does."""
    outlook = Outlook(
        asked=load.asked,
        rates=load.rates,
        work=dict.fromkeys(drafts, _training(load)),
        costs=tuple(_side_costs(load, prices_there(prices, where))),
        stages=_stages(load),
        remarks=tuple(_remarks(load)),
    )
    return settle_costs(outlook, drafts, prices, where)


def _training(load: RecordLoad) -> ClusterWork:
    asked, rates = load.asked, load.rates
    train, validation = load.frames("train"), load.frames("validation")
    passes = [train[end] * asked.epochs + validation[end] * (asked.epochs + EVALUATIONS) for end in (0, 1)]
    slow, fast = rates.train_frames_s
    hours = (passes[0] / (fast * asked.ranks) / 3600, passes[1] / (slow * asked.ranks) / 3600)
    pace = f"{both_text(rates.train_frames_s)} frames a second and worker"
    exact = "their files" if load.plan.bytes[1] else "some of their files"
    kind = "records of the level of videos" if load.is_video_level else "frames"
    return ClusterWork(hours, f"{both_text(train)} {kind} by the sizes of {exact}, {asked.epochs} epochs, {pace}")


def _stages(load: RecordLoad) -> tuple[PlannedStage, ...]:
    if not load.to_do:
        return ()
    why = "fetched from the mirror" if load.asked.origin == "mirror" else "copied" if load.asked.copies else "counted"
    count = len(load.to_do)
    done = {f"to be {why}": count}
    return (PlannedStage(stage="fetch", shards=count, bytes=round(load.bytes_to_do), why=done, unit="file"),)


def _side_costs(load: RecordLoad, prices: Prices) -> Iterator[PlannedCost]:
    asked, size, files = load.asked, load.bytes_to_do, len(load.to_do)
    why = "the sizes of the files" if load.plan.bytes[1] else "the sizes of some of the files"
    if asked.copies and size:
        amount = (size / GIB, size / GIB), "GiB"
        yield cost_of(STORAGE, amount, ("storage_gib_month", prices.storage_gib_month), why)
    written = files * REQUESTS_A_FILE + (size / PIECE_BYTES if asked.copies else 0.0)
    # Each worker reads its share anew in an epoch where it does not fit into its memory.
    read = files * REQUESTS_A_FILE + size / PIECE_BYTES + len(load.plan.files)
    again = read + load.bytes() / PIECE_BYTES * (asked.epochs + EVALUATIONS)
    for name, counts, place, usd in (
        ("requests that write", (written, REPEATS * written), "put_thousand", prices.put_thousand),
        ("requests that read", (read, REPEATS * again), "get_thousand", prices.get_thousand),
    ):
        if counts[1]:
            each = None if usd is None else usd / 1000
            rests = f"{files:,} files to do, {REQUESTS_A_FILE} each and one for 8 MiB; up to {REPEATS:g} times as many"
            yield cost_of(name, (counts, "requests"), (place, each), rests)
    if kind := _traffic_kind(load):
        # What is trained on where it lies is read in every epoch.
        most = 2 * size if asked.copies else load.bytes() * (asked.epochs + EVALUATIONS + 1)
        amount = (max(size, 0.0) / GIB, most / GIB), "GiB"
        price = f"traffic_gib.{kind}", prices.traffic_gib.get(kind)
        yield cost_of(f"traffic from {asked.source}", amount, price, "every file is read once, or more often")


def _traffic_kind(load: RecordLoad) -> str:
    """Name whose price the traffic from the source has; empty where it has none."""
    asked = load.asked
    if asked.origin == "mirror":
        return ""
    if asked.source.startswith("gs://"):
        return "gs"
    if not asked.source.startswith("s3://"):
        return ""
    return "s3" if asked.source_connection else "region" if load.other_region else ""


def _remarks(load: RecordLoad) -> Iterator[str]:
    if load.to_do:
        yield "files are fetched and counted on Airflow's own workers, which are not counted as a cost"
    if load.asked.origin == "mirror":
        yield f"traffic from {load.asked.mirror} is counted as none: into AWS it is free"
