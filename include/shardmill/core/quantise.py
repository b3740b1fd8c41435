"""Quantisation as YouTube-8M does it: [-2, 2] in 256 steps."""

from __future__ import annotations

import numpy as np

LOWEST = -2.0
HIGHEST = 2.0
STEP = (HIGHEST - LOWEST) / 255
# The published reader's bias: half of a 256th of the range, which is not half a step. Kept, to the digit.
BIAS = (HIGHEST - LOWEST) / 512 + LOWEST


def quantise(values: np.ndarray) -> np.ndarray:
    """Give the uint8 whose dequantised value is nearest; what lies beyond [-2, 2] is clipped."""
    steps = np.rint((np.asarray(values, np.float64) - BIAS) / STEP)
    return np.clip(steps, 0, 255).astype(np.uint8)


def dequantise(quantised: np.ndarray) -> np.ndarray:
    """Give the values that YouTube-8M's reader gives, float32."""
    return (np.asarray(quantised, np.float64) * STEP + BIAS).astype(np.float32)
