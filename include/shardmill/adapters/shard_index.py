"""The index of a stage: one row a shard, derived from the manifests, and what a range of shards needs by it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

from shardmill.adapters.stage_manifests import Revisions, list_manifests, read_in_order, read_manifest
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, ObjectInfo, Store
from shardmill.core import layout
from shardmill.core.shard_states import (
    IndexRow,
    Ingest,
    ShardState,
    ShardStates,
    index_row,
    judge_clips,
    judge_features,
    judge_raw,
)
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import SourceObject
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe
from shardmill.specs.value import canonical_json

_DIGEST = "shardmill.rows_sha256"
_ARROW_TYPES = {"int": "int64", "float": "float64", "str": "string", "bool": "bool"}


class WrongIndexError(ValueError):
    """What lies under the index's name cannot be used; the message says why."""


@dataclass(frozen=True)
class Index:
    """The rows of all shards of a stage."""

    rows: Mapping[int, IndexRow]
    """Ascending by shard."""
    manifests_read: int = 0
    rebuilt_because: str = ""
    """Why all manifests were read; empty where the index that lay there was used."""
    written: bool = False
    """Whether the index in the lake was replaced."""
    damaged: Mapping[int, str] = field(default_factory=dict)
    """What is wrong with the manifests that could not be read, by shard; those shards have no row."""


def read_index(store: Store, output: StageOutput, *, afresh: bool = False, keep: bool = True) -> Index:
    """Read the index of a stage; only manifests that it does not hold as they are listed are read.

    What changed is written back, unless another was faster.

    Args:
        afresh: read all manifests, whatever the index holds.
        keep: write what changed back.
    """
    listed = list_manifests(store, output)
    place = store.head(output.table_key("index"))
    before, wrong = _load(store, output, place)
    if afresh:
        before, wrong = {}, "it was asked for"
    kept = {
        shard: row
        for shard, row in before.items()
        if shard in listed
        and _newest(listed[shard]).version == row.manifest_etag
        and row.revision == max(listed[shard])
    }
    reader = _RowReader(store, output, before)
    missing = [revisions for shard, revisions in listed.items() if shard not in kept]
    read = {row.shard: row for row in reader.rows(missing)}
    rows = {shard: row for shard in listed if (row := kept.get(shard) or read.get(shard)) is not None}
    same = place is not None and not wrong and rows == before
    if same or (place is None and not rows):
        return Index(rows, reader.manifests_read, damaged=reader.damaged)
    written = keep and store.swap(output.table_key("index"), _to_parquet(output, rows.values()), place)
    return Index(rows, reader.manifests_read, wrong, written, reader.damaged)


def _newest(revisions: Revisions) -> ObjectInfo:
    return revisions[max(revisions)]


@dataclass
class _RowReader:
    """Makes rows from manifests, and counts those that it reads."""

    store: Store
    output: StageOutput
    before: Mapping[int, IndexRow]
    """Rows as the index held them; those of older revisions spare reading these."""
    manifests_read: int = field(default=0, init=False)
    damaged: dict[int, str] = field(default_factory=dict, init=False)

    def rows(self, shards: Iterable[Revisions]) -> Iterator[IndexRow]:
        by_key = {_newest(revisions).key: revisions for revisions in shards}
        newest = [_newest(revisions) for revisions in by_key.values()]
        for row, read in read_in_order(newest, lambda item: self._row_or_damage(item, by_key[item.key])):
            self.manifests_read += read
            if row is not None:
                yield row

    def _row_or_damage(self, item: ObjectInfo, revisions: Revisions) -> tuple[IndexRow | None, int]:
        """Give a shard's row; one damaged manifest is its shard's matter and no other's."""
        try:
            return self._row(item, revisions)
        except DamagedObjectError as error:
            self.damaged[layout.shard_of_manifest(item.key) or 0] = str(error)
            return None, 1

    def _row(self, item: ObjectInfo, revisions: Revisions) -> tuple[IndexRow, int]:
        """Give a shard's row and the manifests that were read for it."""
        newest = read_manifest(self.store, self.output, item)
        tries, read = 1, 1
        for revision in sorted(revisions, reverse=True)[1:]:
            held = self.before.get(newest.manifest.shard)
            if held and held.revision == revision and held.manifest_etag == revisions[revision].version:
                tries += held.tries if held.source == newest.manifest.source else 0
                break
            read += 1
            if read_manifest(self.store, self.output, revisions[revision]).manifest.source != newest.manifest.source:
                break
            tries += 1
        return index_row(newest.manifest, newest.etag, newest.sha256, tries), read


def _load(store: Store, output: StageOutput, place: ObjectInfo | None) -> tuple[dict[int, IndexRow], str]:
    """Give the rows that the lake holds, or none and why they are no use."""
    if place is None:
        return {}, "it was not there"
    try:
        return _from_parquet(output, store.get(place.key, place.version)), ""
    except ChangedObjectError:
        return {}, "it was replaced while it was read"
    except WrongIndexError as error:
        return {}, str(error)


def _digest(rows: Iterable[IndexRow]) -> str:
    return hashlib.sha256(canonical_json([list(asdict(row).values()) for row in rows])).hexdigest()


def _to_parquet(output: StageOutput, rows: Iterable[IndexRow]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    ordered = list(rows)
    schema = pa.schema(
        [(column.name, _ARROW_TYPES[str(column.type)]) for column in fields(IndexRow)],
        metadata={**output.facts("index"), _DIGEST: _digest(ordered)},
    )
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([asdict(row) for row in ordered], schema), sink)
    return sink.getvalue()


def _from_parquet(output: StageOutput, content: bytes) -> dict[int, IndexRow]:
    """Read the rows back. Raises WrongIndexError."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
        facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
        rows = [IndexRow(**values) for values in table.to_pylist()]
        digest = _digest(rows)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise WrongIndexError(f"it cannot be read: {str(error).partition(chr(10))[0]}") from error
    if why := output.why_foreign("index", facts):
        raise WrongIndexError(why)
    if facts.get(_DIGEST) != digest:
        raise WrongIndexError("its rows are not those that were written")
    return {row.shard: row for row in rows}


@dataclass(frozen=True)
class Asked:
    """What a run asks of its shards."""

    dataset: str
    split: SplitRecipe
    features: FeatureRecipe | None = None
    """None while the run's labels, and so the recipe, are not settled."""
    ingest: Ingest = "reference"


def survey_shards(
    lake: Store,
    asked: Asked,
    found: Mapping[int, SourceObject],
    wanted: Sequence[int] | None = None,
    *,
    keep: bool = True,
) -> ShardStates:
    """Judge shards at every stage: a listing and an index for each, and the changed manifests.

    Args:
        found: the shards at the source.
        wanted: which of them; None for all.
        keep: write indexes back that changed.

    Raises:
        DamagedObjectError: the manifest of one of them is damaged.
    """
    numbers = sorted(found if wanted is None else wanted)
    recipe = asked.features
    raw = _Survey(lake, StageOutput("raw", asked.dataset), numbers, keep=keep)
    clips = _Survey(lake, StageOutput("clips", asked.dataset, asked.split.hash), numbers, keep=keep)
    features = (
        _Survey(lake, StageOutput("features", asked.dataset, recipe.hash), numbers, keep=keep) if recipe else None
    )
    surveys = [survey for survey in (raw, clips, features) if survey is not None]
    of_raw, of_clips, of_features = dict[int, ShardState](), dict[int, ShardState](), dict[int, ShardState]()
    for shard in numbers:
        of_raw[shard] = judge_raw(raw.row(shard), found[shard], asked.ingest)
        of_clips[shard] = judge_clips(clips.row(shard), found[shard], elsewhere=shard in clips.elsewhere)
        of_features[shard] = judge_features(
            features.row(shard) if features else None,
            of_clips[shard],
            known=features is not None,
            elsewhere=features is not None and shard in features.elsewhere,
        )
    return ShardStates(
        {"raw": of_raw, "clips": of_clips, "features": of_features},
        sum(survey.index.manifests_read for survey in surveys),
        tuple(remark for survey in surveys for remark in survey.remarks()),
    )


class _Survey:
    """A stage's index, and the shards that only other recipes have made."""

    def __init__(self, lake: Store, output: StageOutput, wanted: Sequence[int], *, keep: bool) -> None:
        self.output = output
        self.index = read_index(lake, output, keep=keep)
        if wrong := [self.index.damaged[shard] for shard in wanted if shard in self.index.damaged]:
            raise DamagedObjectError(f"{wrong[0]}; docs/reliability.md says how to mend it")
        missing = {shard for shard in wanted if shard not in self.index.rows}
        self.elsewhere = frozenset(_made_elsewhere(lake, output, missing)) if output.recipe_hash else frozenset()

    def row(self, shard: int) -> IndexRow | None:
        return self.index.rows.get(shard)

    def remarks(self) -> Iterator[str]:
        yield from (f"not asked for, but damaged: {why}" for why in self.index.damaged.values())
        if self.index.rebuilt_because and self.index.rows:
            yield (
                f"the index of {self.output.folder} was rebuilt from {self.index.manifests_read} manifests: "
                f"{self.index.rebuilt_because}"
            )


def _made_elsewhere(lake: Store, output: StageOutput, missing: set[int]) -> set[int]:
    """Find which shards other recipes have made, by the names of their manifests' folders alone."""
    found: set[int] = set()
    siblings = f"{output.stage}/{output.dataset}"
    for recipe_hash in lake.folders(siblings) if missing else ():
        if recipe_hash == output.recipe_hash or found >= missing:
            continue
        names = lake.folders(layout.manifests_folder(f"{siblings}/{recipe_hash}"))
        found |= missing & {int(name) for name in names if name.isdigit()}
    return found
