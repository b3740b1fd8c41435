"""Read single clips out of parts, by the places that manifests keep."""

from __future__ import annotations

from shardmill.adapters.store import Store
from shardmill.specs.manifest import Manifest, Video


def read_clip(store: Store, manifest: Manifest, video: Video, number: int) -> bytes | None:
    """Read one clip of a video with one ranged request; None where the manifest keeps no places.

    What is read is not checked against the part's hash, which is of the whole part: good enough to be looked at.

    Args:
        number: which of the video's clips, from 0.

    Raises:
        StoreError: the part is not there, or ends too early.
    """
    if not 0 <= number < min(len(video.offsets), len(video.sizes)):
        return None
    return store.get_range(manifest.parts[video.part].name, video.offsets[number], video.sizes[number])
