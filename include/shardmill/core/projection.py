"""Bring a frame's description of any length to the 1024 values of a record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

RECORD_VALUES = 1024


class ProjectionError(ValueError):
    """A projection does not fit; the message says what was expected."""


@dataclass(frozen=True, eq=False)
class Projection:
    """An affine map to 1024 values."""

    components: np.ndarray
    """float32 [values, 1024]."""
    mean: np.ndarray
    """float32 [values]; taken off before."""

    def __call__(self, descriptions: np.ndarray) -> np.ndarray:
        """Project float [frames, values]; gives float32 [frames, 1024]."""
        return ((descriptions - self.mean) @ self.components).astype(np.float32)


def seeded_projection(values: int, seed: int, gain: float) -> Projection:
    """Make a random projection that keeps distances, up to ``gain`` and chance.

    Its signs come from SHAKE-256, so that a seed means the same matrix with every release of numpy.
    """
    size = values * RECORD_VALUES
    bits = np.frombuffer(hashlib.shake_256(f"projection {seed} {values}".encode()).digest(size // 8), np.uint8)
    signs = np.unpackbits(bits).astype(np.float32).reshape(values, RECORD_VALUES) * 2.0 - 1.0
    return Projection(signs * np.float32(gain / np.sqrt(values)), np.zeros(values, np.float32))


def given_projection(components: np.ndarray, mean: np.ndarray, values: int) -> Projection:
    """Check and take a projection that was fitted elsewhere, e.g. by PCA.

    Raises:
        ProjectionError: where its shape does not fit descriptions of so many values, or it holds no numbers.
    """
    if components.shape != (values, RECORD_VALUES) or mean.shape != (values,):
        raise ProjectionError(
            f"projection: expected components [{values}, {RECORD_VALUES}] and mean [{values}], "
            f"found {list(components.shape)} and {list(mean.shape)}"
        )
    if components.dtype.kind != "f" or mean.dtype.kind != "f" or not np.isfinite(components).all():
        raise ProjectionError("projection: expected components and mean as finite floating-point numbers")
    return Projection(components.astype(np.float32), mean.astype(np.float32))
