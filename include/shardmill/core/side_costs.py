"""Estimate what a run is charged for beside its clusters: what is stored, asked of the store, read from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from shardmill.core.estimates import Load
from shardmill.specs.prices import Prices, Span
from shardmill.specs.run import PlannedCost
from shardmill.specs.video_pipeline import VideoRun

STORAGE = "storage, a month"
GIB = 1024**3
_USUAL_AREA = 256 * 128
"""Pixels of a clip that ``Rates.clip_kb_s`` is said of."""
PIECE_BYTES = 8 * 1024 * 1024
"""Objects go up and come down in pieces of so much."""
_REQUESTS_A_SHARD = 14
"""That write or list, and as many that read, beside the pieces of large objects: counted on a run of small shards."""
REPEATS = 3.0
"""Requests are counted up to so many times: further parts, tasks that fail, reports, several readers of an object."""


def side_costs(load: Load[VideoRun], prices: Prices) -> tuple[PlannedCost, ...]:
    """Give all of them; what has no price is named, and counted nowhere."""
    return (*_storage(load, prices), *_requests(load, prices), *_traffic(load, prices))


def _read(load: Load[VideoRun]) -> int:
    """Bytes that are read at the source, once: by ingest where it copies, else by split."""
    return load.bytes("raw" if load.asked.ingest == "copy" else "clips")


def _written(load: Load[VideoRun]) -> tuple[Span, str]:
    """Bytes that the stages write, and what that rests on."""
    asked, rates = load.asked, load.rates
    copied = load.bytes("raw") if asked.ingest == "copy" else 0
    clips, records = load.seconds(load.to_do("clips")), load.seconds(load.to_do("features"))
    made = [row.bytes / row.seconds for row in load.measured if row.bytes]
    usual = [1000 * pace * asked.width * asked.height / _USUAL_AREA for pace in rates.clip_kb_s]
    pace = (min(made), max(made)) if made else (usual[0], usual[1])
    least, most = (copied + clips[end] * pace[end] + records[end] * rates.record_kb_s[end] * 1000 for end in (0, 1))
    why = load.mbit_s[1]
    return (least, most), why if made else f"{why}; {pace[0] / 1000:.3g} to {pace[1] / 1000:.3g} kB of clips a second"


def _storage(load: Load[VideoRun], prices: Prices) -> Iterator[PlannedCost]:
    (least, most), why = _written(load)
    if most:
        place = "storage_gib_month", prices.storage_gib_month
        yield cost_of(STORAGE, ((least / GIB, most / GIB), "GiB"), place, why)


def _requests(load: Load[VideoRun], prices: Prices) -> Iterator[PlannedCost]:
    shards = sum(1 for planned in load.shards if planned.todo)
    if not shards:
        return
    (least, most), _ = _written(load)
    read, fixed = _read(load), shards * _REQUESTS_A_SHARD
    puts = (fixed + least / PIECE_BYTES, REPEATS * (fixed + most / PIECE_BYTES))
    # Clips are read once more where records are made of them.
    gets = (fixed + (read + least) / PIECE_BYTES, REPEATS * (fixed + (read + most) / PIECE_BYTES))
    why = f"{_REQUESTS_A_SHARD} a shard and one for 8 MiB; up to {REPEATS:g} times as many"
    for name, counts, place, usd in (
        ("requests that write", puts, "put_thousand", prices.put_thousand),
        ("requests that read", gets, "get_thousand", prices.get_thousand),
    ):
        yield cost_of(name, (counts, "requests"), (place, None if usd is None else usd / 1000), why)


def _traffic(load: Load[VideoRun], prices: Prices) -> Iterator[PlannedCost]:
    kind, size = _traffic_kind(load), _read(load) / GIB
    if kind and size:
        place = f"traffic_gib.{kind}", prices.traffic_gib.get(kind)
        why = "every shard is read once, or twice where a task fails"
        yield cost_of(f"traffic from {load.asked.source}", ((size, 2 * size), "GiB"), place, why)


def _traffic_kind(load: Load[VideoRun]) -> str:
    """Name whose price the traffic from the source has; empty where it has none."""
    if load.asked.source.startswith("gs://"):
        return "gs"
    if not load.asked.source.startswith("s3://"):
        return ""
    return "s3" if load.asked.source_connection else "region" if load.other_region else ""


def cost_of(what: str, amount: tuple[Span, str], price: tuple[str, float | None], rests_on: str) -> PlannedCost:
    """Put a price to an amount; what has none is named.

    Args:
        amount: the least and the most, and the unit.
        price: its place in the price file, and USD for one of the unit; None where it is missing.
    """
    (span, unit), (place, each) = amount, price
    usd = None if each is None else (span[0] * each, span[1] * each)
    unknown = () if each is not None else (place,)
    return PlannedCost(what=what, amount=span, unit=unit, usd=usd, unknown=unknown, rests_on=rests_on)
