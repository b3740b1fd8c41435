"""What features are made of: a video's picture of each second, and its sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Footage:
    """A video, a frame a second."""

    frames: np.ndarray
    """uint8 [seconds, height, width, 3]."""
    sound: tuple[np.ndarray, ...]
    """The samples of each second, float32, 16 kHz mono; fewer than 16,000 at a clip's end, none where it is silent."""
    seconds: float
    """Length of the clips together."""
