"""Say what a run would do, and rebuild what is derived from manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shardmill.adapters.catalogue import refresh_catalogue
from shardmill.adapters.shard_index import Asked, read_index, survey_shards
from shardmill.adapters.store import Store
from shardmill.core import planning
from shardmill.core.shard_states import ShardStates
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import SourceObject
from shardmill.specs.recipes import FeatureRecipe
from shardmill.specs.video_pipeline import VideoPipelineSpec


def survey(
    lake: Store, asked: VideoPipelineSpec, found: Mapping[int, SourceObject], features: FeatureRecipe | None = None
) -> ShardStates:
    """Judge the shards of a run that is thought of.

    Args:
        found: the shards at the source.
        features: the recipe of the records, where the labels are settled.

    Raises:
        BadRequestError: a shard of the range is absent.
    """
    chosen = planning.choose_shards(asked.shards, found, asked.source)
    return survey_shards(lake, Asked(asked.dataset, asked.split_recipe, features, asked.ingest), chosen)


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
