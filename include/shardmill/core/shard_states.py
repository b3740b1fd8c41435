"""Judge what of each shard is new, stale or done, by what the source shows and by what the manifests say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from shardmill.core.layout import shard_name
from shardmill.core.rejects import may_pass
from shardmill.specs.manifest import Manifest, SourceObject, Stage

State = Literal["new", "stale", "done", "unknown"]
Ingest = Literal["reference", "copy"]

STAGES: tuple[Stage, ...] = ("raw", "clips", "features")
STATES: tuple[State, ...] = ("new", "stale", "unknown", "done")
_SHOWN = 5
MOST_TRIES = 3
"""Of one version of a source: what did not pass then is not tried again."""

NEW = "new"
SOURCE_CHANGED = "the source changed"
OTHER_RECIPE = "made by another recipe"
COPY_ASKED = "it is only referenced, a copy is asked for"
CLIPS_CHANGED = "its clips changed"
CLIPS_TO_COME = "its clips are to be made first"
LABELS_OPEN = "its labels are not settled yet"
SAME_SOURCE = "present, made from the same source"
SAME_CLIPS = "its records were made from these very clips"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What the index holds of a shard: its highest revision at a stage."""

    shard: int
    revision: int
    manifest_etag: str
    """As in the listing; while that is so, the row holds."""
    manifest_sha256: str
    source_uri: str
    source_size: int
    """Bytes."""
    source_version: str
    by_reference: bool
    """Whether the shard is used where it lies: it has no parts here."""
    parts: int
    bytes: int
    """Of all parts together."""
    samples_in: int
    videos: int
    clips: int
    seconds: float
    """Of all videos together."""
    rejects: int
    retryable_rejects: int
    """Those whose reason may pass by itself."""
    tries: int
    """Revisions made from this very version of the source, one after the other, this one included."""

    @property
    def source(self) -> SourceObject:
        """What the revision was made from."""
        return SourceObject(uri=self.source_uri, size=self.source_size, version=self.source_version)


def index_row(manifest: Manifest, etag: str, sha256: str, tries: int = 1) -> IndexRow:
    """Sum up a manifest."""
    return IndexRow(
        shard=manifest.shard,
        revision=manifest.revision,
        manifest_etag=etag,
        manifest_sha256=sha256,
        source_uri=manifest.source.uri,
        source_size=manifest.source.size,
        source_version=manifest.source.version,
        by_reference=manifest.stage == "raw" and not manifest.parts and manifest.source.size > 0,
        parts=len(manifest.parts),
        bytes=sum(part.size for part in manifest.parts),
        samples_in=manifest.samples_in,
        videos=len(manifest.videos),
        clips=sum(video.clips for video in manifest.videos),
        seconds=sum((video.seconds for video in manifest.videos), start=0.0),
        rejects=len(manifest.rejects),
        retryable_rejects=sum(map(may_pass, manifest.rejects)),
        tries=tries,
    )


@dataclass(frozen=True, slots=True)
class ShardState:
    """What is to be done for a shard at a stage, and why."""

    state: State
    why: str
    row: IndexRow | None = None
    """The highest revision by this recipe, whatever it was made from; None where there is none."""

    @property
    def retryable_rejects(self) -> int:
        """Rejects of a shard that is done whose reason may pass by itself."""
        return self.row.retryable_rejects if self.row is not None and self.state == "done" else 0


def judge_raw(row: IndexRow | None, source: SourceObject, ingest: Ingest) -> ShardState:
    """Judge a shard at ``raw``."""
    if row is None:
        return ShardState("new", NEW)
    if row.source != source:
        return ShardState("stale", SOURCE_CHANGED, row)
    if ingest == "copy" and row.by_reference:
        return ShardState("stale", COPY_ASKED, row)
    return ShardState("done", SAME_SOURCE, row)


def judge_clips(row: IndexRow | None, source: SourceObject, *, elsewhere: bool) -> ShardState:
    """Judge a shard's clips.

    Args:
        elsewhere: another recipe has made clips of the shard.
    """
    if row is None:
        return ShardState("stale", OTHER_RECIPE) if elsewhere else ShardState("new", NEW)
    return ShardState("done", SAME_SOURCE, row) if row.source == source else ShardState("stale", SOURCE_CHANGED, row)


def judge_features(row: IndexRow | None, clips: ShardState, *, known: bool, elsewhere: bool) -> ShardState:
    """Judge a shard's records.

    Args:
        known: the recipe of the records is known: the run's labels are settled.
        elsewhere: another recipe has made records of the shard.
    """
    if clips.row is None or clips.state != "done":
        # Whatever the recipe will be, the records of clips that are not there cannot be.
        made = row is not None or elsewhere or (not known and clips.state == "stale")
        return ShardState("stale" if made else "new", CLIPS_TO_COME, row)
    if not known:
        return ShardState("unknown", LABELS_OPEN)
    if row is None:
        return ShardState("stale", OTHER_RECIPE) if elsewhere else ShardState("new", NEW)
    if row.source_version != clips.row.manifest_sha256:
        return ShardState("stale", CLIPS_CHANGED, row)
    return ShardState("done", SAME_CLIPS, row)


@dataclass(frozen=True)
class ShardStates:
    """The states of a range of shards at every stage."""

    by_stage: Mapping[Stage, Mapping[int, ShardState]]
    """For each stage the shards, ascending."""
    manifests_read: int = 0
    """Manifests that had to be read because the index did not hold them."""
    remarks: tuple[str, ...] = ()
    """Indexes that were found missing or wrong, and were rebuilt."""

    @property
    def shards(self) -> tuple[int, ...]:
        """The numbers, ascending."""
        return tuple(self.by_stage["raw"])

    def todo(self, shard: int) -> dict[str, str]:
        """Give why a shard is to be done, by stage; a stage that is done is not named, one that is unknown is."""
        states = {stage: states[shard] for stage, states in self.by_stage.items()}
        return {stage: state.why for stage, state in states.items() if state.state != "done"}

    def retry_of(self, shard: int) -> int | None:
        """Give the revision of a shard's clips with rejects worth another try; None where there is none (any more)."""
        clips = self.by_stage["clips"][shard]
        if clips.row is None or not clips.retryable_rejects or clips.row.tries >= MOST_TRIES:
            return None
        return clips.row.revision

    def count(self, stage: Stage) -> Counter[State]:
        """Count a stage's shards by state."""
        return Counter(state.state for state in self.by_stage[stage].values())

    def lines(self) -> Iterator[str]:
        """Say it to people: a line for each stage, then what may be tried again, then what was rebuilt."""
        for stage in STAGES:
            yield f"{stage}: {', '.join(self._said(stage)) or 'no shards'}"
        retryable = {shard: state for shard, state in self.by_stage["clips"].items() if state.retryable_rejects}
        if retryable:
            rejects = sum(state.retryable_rejects for state in retryable.values())
            yield f"{_count(rejects, 'reject')} of {_count(len(retryable), 'shard')} may pass on another try: " + (
                _names(list(retryable))
            )
        yield from self.remarks

    def _said(self, stage: Stage) -> Iterator[str]:
        counts = self.count(stage)
        for state in STATES:
            if not counts[state]:
                continue
            of_state = {shard: found for shard, found in self.by_stage[stage].items() if found.state == state}
            text = f"{counts[state]:,} {state}"
            if state == "done":
                yield text
            else:
                reasons = Counter(found.why for found in of_state.values())
                why = "; ".join(why if len(reasons) == 1 else f"{n:,} {why}" for why, n in reasons.most_common())
                yield f"{text} ({_names(list(of_state))}{f': {why}' if why != state else ''})"


def _names(shards: list[int]) -> str:
    return " ".join(map(shard_name, shards[:_SHOWN])) + (" …" if len(shards) > _SHOWN else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
