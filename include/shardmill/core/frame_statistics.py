"""Describe frames without a trained model: colours on a grid, edges on a grid, a histogram of brightness."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

COLOUR_CELLS = 8
EDGE_CELLS = 4
HISTOGRAM_BINS = 16
EDGE_SCALES = (1, 4)
"""Edges are differences to the neighbour at these distances in pixels."""
VALUES = 3 + COLOUR_CELLS**2 * 3 + len(EDGE_SCALES) * 2 * EDGE_CELLS**2 + HISTOGRAM_BINS
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A random projection mixes all values: these weights keep the 3 of the mean colour from being lost among the 192 of
# the cells, and the edges from being lost behind both.
_MEAN_WEIGHT = 8.0
_CELL_WEIGHT = 1.5
_EDGE_WEIGHT = 4.0
_HISTOGRAM_WEIGHT = 1.5


def _cell_means(picture: np.ndarray, cells: int) -> np.ndarray:
    """Average [height, width, …] over a grid; gives [cells, cells, …]. Each side has at least ``cells`` pixels."""
    for axis in (0, 1):
        starts, counts = _cells(picture.shape[axis], cells)
        shape = [1] * picture.ndim
        shape[axis] = cells
        picture = np.add.reduceat(picture, starts, axis=axis) / counts.reshape(shape)
    return picture


@lru_cache(64)
def _cells(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Share a side of so many pixels out: where each cell begins, and how many pixels it has."""
    starts = np.arange(cells) * length // cells
    return starts, np.diff(np.append(starts, length)).astype(np.float32)


def describe_frame(frame: np.ndarray) -> np.ndarray:
    """Describe one frame.

    Args:
        frame: uint8 [height, width, 3], at least 16 × 16.

    Returns:
        float32 [275], mostly from -2 to 2.
    """
    picture = frame.astype(np.float32) / 255.0
    light = picture @ _LUMA
    cells = _cell_means(picture, COLOUR_CELLS)
    mean = cells.mean(axis=(0, 1))
    edges = np.stack([_cell_means(difference, EDGE_CELLS) for difference in _differences(light)])
    # As `np.histogram` counts, at a fifth of its price.
    bins = (light * np.float32(HISTOGRAM_BINS / (1.0 + 1e-6))).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=HISTOGRAM_BINS)
    return np.concatenate(
        [
            (mean - 0.5) * _MEAN_WEIGHT,
            (cells - mean).ravel() * _CELL_WEIGHT,
            (np.sqrt(edges).ravel() - 0.2) * _EDGE_WEIGHT,
            (np.sqrt(counts / light.size) - 0.2) * _HISTOGRAM_WEIGHT,
        ]
    ).astype(np.float32)


def _differences(light: np.ndarray) -> list[np.ndarray]:
    """Give how much the light changes over each distance, downwards and to the right."""
    downwards = [np.abs(light[step:] - light[:-step]) for step in EDGE_SCALES]
    return downwards + [np.abs(light[:, step:] - light[:, :-step]) for step in EDGE_SCALES]


def describe_frames(frames: np.ndarray) -> np.ndarray:
    """Describe each frame of uint8 [frames, height, width, 3]; gives float32 [frames, 275]."""
    if not len(frames):
        return np.zeros((0, VALUES), np.float32)
    return np.stack([describe_frame(frame) for frame in frames])
