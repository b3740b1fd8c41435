"""Describe frames without a trained model: colours on a grid, edges on a grid, a histogram of brightness."""

from __future__ import annotations

import numpy as np

COLOUR_CELLS = 8
EDGE_CELLS = 4
HISTOGRAM_BINS = 16
EDGE_SCALES = (1, 4)
"""Edges are differences to the neighbour at these distances in pixels."""
VALUES = COLOUR_CELLS**2 * 3 + len(EDGE_SCALES) * 2 * EDGE_CELLS**2 + HISTOGRAM_BINS
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The groups have 192, 64 and 16 values: these weights let each matter in a random projection.
_COLOUR_WEIGHT = 1.0
_EDGE_WEIGHT = 6.0
_HISTOGRAM_WEIGHT = 2.0


def _cell_means(picture: np.ndarray, cells: int) -> np.ndarray:
    """Average [height, width, …] over a grid; gives [cells, cells, …]. Each side has at least ``cells`` pixels."""
    for axis in (0, 1):
        starts = np.arange(cells) * picture.shape[axis] // cells
        counts = np.diff(np.append(starts, picture.shape[axis]))
        shape = [1] * picture.ndim
        shape[axis] = cells
        picture = np.add.reduceat(picture, starts, axis=axis) / counts.reshape(shape).astype(np.float32)
    return picture


def describe_frame(frame: np.ndarray) -> np.ndarray:
    """Describe one frame.

    Args:
        frame: uint8 [height, width, 3], at least 16 × 16.

    Returns:
        float32 [272], mostly from -1 to 1.
    """
    picture = frame.astype(np.float32) / 255.0
    light = picture @ _LUMA
    colours = _cell_means(picture, COLOUR_CELLS) * 2.0 - 1.0
    edges = [
        _cell_means(
            np.abs(light[step:] - light[:-step]) if axis == 0 else np.abs(light[:, step:] - light[:, :-step]), 4
        )
        for step in EDGE_SCALES
        for axis in (0, 1)
    ]
    counts, _ = np.histogram(light, bins=HISTOGRAM_BINS, range=(0.0, 1.0 + 1e-6))
    histogram = np.sqrt(counts / light.size) - 0.25
    return np.concatenate(
        [
            colours.ravel() * _COLOUR_WEIGHT,
            np.concatenate([edge.ravel() for edge in edges]) * _EDGE_WEIGHT,
            histogram * _HISTOGRAM_WEIGHT,
        ]
    ).astype(np.float32)


def describe_frames(frames: np.ndarray) -> np.ndarray:
    """Describe each frame of uint8 [frames, height, width, 3]; gives float32 [frames, 272]."""
    if not len(frames):
        return np.zeros((0, VALUES), np.float32)
    return np.stack([describe_frame(frame) for frame in frames])
