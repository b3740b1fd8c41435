"""The rows of the catalogue: one for each clip or record that a manifest lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardmill.specs.manifest import Manifest, Subset, Video

NO_CLIP = -1
"""Stands where a row is of a record: it is of a whole video."""


class WrongManifestError(ValueError):
    """A manifest's numbers do not agree with one another."""


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """A clip (an mp4 in a tar) or a record (a TFRecord entry with its frame)."""

    shard: int
    revision: int
    manifest_etag: str
    video: str
    clip: int
    """Its number; -1 for a record."""
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    subset: Subset
    part: str
    """Key below the lake."""
    offset: int
    """Bytes before it in the part."""
    size: int
    """Bytes."""


def catalogue_rows(manifest: Manifest, etag: str) -> Iterator[CatalogueRow]:
    """Yield the rows of a manifest, video by video. Raises WrongManifestError."""
    for video in manifest.videos:
        numbers = clip_numbers(video) if manifest.stage == "clips" else (NO_CLIP,)
        if not len(numbers) == len(video.offsets) == len(video.sizes) or video.part >= len(manifest.parts):
            raise WrongManifestError(
                f"{manifest.stage} of shard {manifest.shard:06d}, revision {manifest.revision}, video {video.key}: "
                f"expected {len(numbers)} places in one of {len(manifest.parts)} parts, "
                f"found {len(video.offsets)} offsets and {len(video.sizes)} sizes in part {video.part}"
            )
        for number, offset, size in zip(numbers, video.offsets, video.sizes, strict=True):
            start, end = _span(manifest, video, number)
            yield CatalogueRow(
                shard=manifest.shard,
                revision=manifest.revision,
                manifest_etag=etag,
                video=video.key,
                clip=number,
                start_seconds=start,
                end_seconds=end,
                labels=video.labels,
                subset=video.subset,
                part=manifest.parts[video.part].name,
                offset=offset,
                size=size,
            )


def clip_numbers(video: Video) -> tuple[int, ...]:
    """Give the numbers of a video's clips, ascending: all but those of spans without a frame."""
    gaps = set(video.gaps)
    return tuple(number for number in range(video.clips + len(gaps)) if number not in gaps)


def _span(manifest: Manifest, video: Video, number: int) -> tuple[float, float]:
    if number == NO_CLIP:
        return 0.0, video.seconds
    clip_seconds = float(manifest.recipe["clip_seconds"])
    start, end = number * clip_seconds, (number + 1) * clip_seconds
    is_last = number == video.clips + len(video.gaps) - 1
    return start, max(start, min(end, video.seconds)) if is_last else end
