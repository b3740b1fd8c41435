"""What runs ask that end with records: each night what is due, and ranges of shards. Forms are made from these."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from shardmill.specs.cluster_run import in_section
from shardmill.specs.value import OptionalUri
from shardmill.specs.video_pipeline import VideoRun


def _check_date(text: str) -> str:
    try:
        if not text or date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValueError(f"expected a date such as 2026-01-31, found {text!r}")


OptionalDate = Annotated[str, AfterValidator(_check_date), Field(examples=["2026-01-31"])]


class WorkersRun(VideoRun):
    """A run that makes records on Airflow's workers, a shard after the other, and no model."""

    where: Literal["workers"] = in_section("Split", "workers")
    """Airflow's workers do it: what has outgrown them goes through video_pipeline."""
    labels: OptionalUri = in_section("Data", "s3://shardmill-source/sample/labels.csv")
    """A CSV of `video_id,label|label`; needed, for a recipe's labels must not depend on which shards are due."""
    min_batches: int = in_section("Data", 16, title="Batches at least", ge=1, le=1000)
    """Batches at least, where there are so many shards: so many tasks can be at work, and so little is repeated."""
    cores: int = in_section("Guards", 2, title="Cores of the workers", ge=1, le=100_000)
    """Cores that the workers have for it together: hours are estimated by them."""
    max_usd: float = in_section("Guards", 0.0, title="USD at most", ge=0, le=1_000_000)
    """USD for requests, traffic and a month of storage, at the most likely; 0 for no limit. Workers are not counted."""
    prices: OptionalUri = in_section("Guards", "", title="Price file")
    """A price file (JSON) of your own; empty for the one that comes with Shardmill."""

    @model_validator(mode="after")
    def _labels_are_known_beforehand(self) -> Self:
        if not self.labels:
            raise ValueError(
                "labels: expected a label table: labels in .info.json are known after the split only, and would be "
                "another recipe each time that shards are added"
            )
        return self


class NightlySpec(WorkersRun):
    """Make the records of all shards that are new, changed, of an older recipe, or have rejects worth another try."""

    pipeline: Literal["nightly_reprocess"] = "nightly_reprocess"
    """Tells this kind of run from the others in its record."""
    retry_rejects: Literal[True] = in_section("Split", True)
    """Rejects that may pass by themselves are always tried again, three times at most."""

    max_shards: int = in_section("Guards", 1000, title="Shards at most", ge=1, le=1_000_000)
    """Shards that a night does at most; the oldest come first, the others wait for the next night."""
    max_hours: float = in_section("Guards", 8.0, title="Hours at most", gt=0, le=168)
    """Hours that the night's shards may take on `cores`, as estimated at the slowest rate that is likely."""
    missing_ok: int = in_section("Guards", 0, title="Shards that may be missing", ge=0, le=1_000_000)
    """Training may follow when all shards of the range but at most so many are fresh."""


class BackfillSpec(WorkersRun):
    """Make the records of a range of shards, of those that are not done yet."""

    pipeline: Literal["backfill_shards"] = "backfill_shards"
    """Tells this kind of run from the others in its record."""
    first_date: OptionalDate = in_section("Data", "")
    """To go by dates: the date that shard 000000 falls on, in UTC; each shard falls on one date."""
    shards_per_date: int = in_section("Data", 100, ge=1, le=1_000_000)
    """Shards that fall on a date: the first date has 000000 to 000099, the next one 000100 to 000199, and so on."""
    date: OptionalDate = in_section("Data", "")
    """Only the shards of the range that fall on this date; Airflow's backfill by date fills it in."""
    preview: bool = in_section("What", True, title="Preview (nothing is done)")
    """Only say what would be done: shards, bytes, hours, USD. Nothing runs; switch it off to begin."""
    canary: bool = in_section("Guards", True, title="Canary first")
    """Do the first shard alone and hold its time, rejects and USD against the plan before the others begin."""
    canary_factor: float = in_section("Guards", 3.0, title="Canary: time and USD (times)", ge=1, le=1000)
    """How many times the most likely time (and a minute) and USD the canary may take."""
    canary_reject_share: float = in_section("Guards", 0.1, title="Canary: rejects (share)", ge=0, le=1)
    """Share of the canary's videos that may be refused."""

    @model_validator(mode="after")
    def _dates_have_a_beginning(self) -> Self:
        if self.date and not self.first_date:
            raise ValueError(
                f"first_date: expected the date that shard 000000 falls on, for only the shards of {self.date} are "
                "asked for"
            )
        return self
