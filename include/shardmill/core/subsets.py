"""Which videos are for training and which for validation: decided by the video's id alone, so they never overlap."""

from __future__ import annotations

import hashlib
from typing import Literal


def subset_of(video_id: str, validation_share: float) -> Literal["train", "validation"]:
    """Choose a video's subset by the hash of its id.

    The same on every machine and in every run; a video stays where it was when the share grows or the data set does.

    Args:
        validation_share: share of the videos for validation, from 0 to 1.
    """
    digest = hashlib.sha256(video_id.encode("utf-8", errors="surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if place < validation_share else "train"
