"""What a run costs and how fast it goes, as data that the user may replace."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shardmill.specs.value import Spec

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _check_ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] < pair[0]:
        raise ValueError(f"expected the least and the most, found {pair[0]:g} and {pair[1]:g}")
    return pair


Span = Annotated[tuple[float, float], AfterValidator(_check_ascending)]
"""The least and the most of something that is not known exactly."""
_PositiveSpan = Annotated[tuple[_Positive, _Positive], AfterValidator(_check_ascending)]


class Rates(Spec):
    """What a run comes to and how fast it goes, where no manifest tells: the least and the most that is likely.

    docs/costs.md says of each where it comes from. They make ranges, never a limit by themselves; who knows better
    numbers of their own data and nodes writes them into a price file.
    """

    source_mbit_s: _PositiveSpan = (0.4, 6.0)
    """Megabits of a shard that are a second of its videos."""
    clip_kb_s: _PositiveSpan = (8.0, 60.0)
    """Kilobytes of clips that come of a second of video, at 256 × 128; other sizes by their area."""
    record_kb_s: _PositiveSpan = (1.15, 1.4)
    """Kilobytes of a record for a second of video."""
    frames_share: _PositiveSpan = (0.1, 1.0)
    """Share of a video's seconds that become frames of its record, of which there are 300 at most."""
    split_core_seconds_mb: _PositiveSpan = (0.1, 2.0)
    """Seconds that a core works at a megabyte of source to cut it."""
    describe_core_seconds_mb: _PositiveSpan = (0.02, 1.0)
    """Seconds that a core works at a megabyte of source to make its records, by `frame_statistics`, once it is cut."""
    train_frames_s: _PositiveSpan = (400.0, 200_000.0)
    """Frames that a worker trains on in a second."""
    cluster_start_hours: _PositiveSpan = (0.1, 0.4)
    """Hours that a cluster is paid for before its first step and behind its last one."""


class Prices(Spec):
    """Prices in USD, without taxes and discounts, of one region. What is not listed is not known."""

    region: str
    """AWS region that they hold for."""
    as_of: str
    """Day or month in which they were looked up."""
    source: str
    """Where they come from; shown beside every sum."""
    instance_hour: dict[str, Usd]
    """An hour of an instance, on demand, by type."""
    emr_hour: dict[str, Usd]
    """EMR's fee for an hour of an instance, by type."""
    spot_hour: dict[str, Usd] = Field(default_factory=dict)
    """An hour of a spot instance as one expects it, by type; at most it costs what `instance_hour` says."""
    volume_gib_month: Usd | None = None
    """A gibibyte of a node's volumes for a month of 730 hours; None where it is not known."""
    storage_gib_month: Usd | None = None
    """A gibibyte in the lake's bucket for a month; None where it is not known."""
    put_thousand: Usd | None = None
    """A thousand requests that write or list (PUT, POST, LIST); None where it is not known."""
    get_thousand: Usd | None = None
    """A thousand requests that read (GET, HEAD); None where it is not known."""
    traffic_gib: dict[str, Usd] = Field(default_factory=dict)
    """A gibibyte read from elsewhere, as the source's cloud charges for it: `gs` for gs://, `s3` for s3:// by a
    connection of its own, `region` for s3:// in another region of AWS."""
    rates: Rates = Field(default_factory=Rates)
    """What a run comes to and how fast it goes, where no manifest tells."""
