"""Rebuild what is derived from manifests: indexes and catalogues."""

from __future__ import annotations

from collections.abc import Iterator

from shardmill.adapters.catalogue import refresh_catalogue
from shardmill.adapters.shard_index import read_index
from shardmill.adapters.store import Store
from shardmill.core.stage_output import StageOutput


def outputs(lake: Store, dataset: str) -> Iterator[StageOutput]:
    """Find all that a data set has in the lake: its raw shards, and clips and records by recipe."""
    if lake.folders(StageOutput("raw", dataset).folder):
        yield StageOutput("raw", dataset)
    for stage in ("clips", "features"):
        for recipe_hash in lake.folders(f"{stage}/{dataset}"):
            yield StageOutput("clips" if stage == "clips" else "features", dataset, recipe_hash)


def refresh(lake: Store, output: StageOutput, *, afresh: bool = False) -> Iterator[str]:
    """Bring index and catalogue to what the manifests say; say in lines what was done."""
    index = read_index(lake, output, afresh=afresh)
    key = output.table_key("index")
    yield _line(key, f"{len(index.rows)} shards", index.manifests_read, index.rebuilt_because, index.written)
    if output.stage != "raw":
        made = refresh_catalogue(lake, output, afresh=afresh)
        counts = f"{made.rows} rows of {made.shards} shards"
        yield _line(output.table_key("catalogue"), counts, made.manifests_read, made.rebuilt_because, made.written)


def rebuild(lake: Store, dataset: str) -> Iterator[str]:
    """Make all indexes and catalogues of a data set anew from its manifests; say in lines what was done."""
    for output in outputs(lake, dataset):
        yield from refresh(lake, output, afresh=True)


def _line(key: str, counts: str, manifests: int, because: str, written: bool) -> str:
    done = "written" if written else "left as it is"
    return f"{key}: {counts}, {manifests} manifests read, {done}{f' ({because})' if because else ''}"
