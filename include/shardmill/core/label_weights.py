"""Label weights: how much a rare label's positives count in the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST = 100.0
"""A label that hardly ever occurs would drown the others."""


def balanced_weights(positives: npt.NDArray[np.integer], records: int) -> npt.NDArray[np.float32]:
    """Weigh a label's positives so that they count as much as its negatives (King and Zeng 2001, sec. 4.2).

    Args:
        positives: records that have each label, [labels].
        records: of all.

    Returns:
        negatives ÷ positives of each label, from 1 to 100; 1 for a label that never occurs. float32 [labels].
    """
    found = np.asarray(positives, np.float64)
    ratio = np.divide(records - found, found, out=np.ones_like(found), where=found > 0)
    return np.clip(ratio, 1.0, MOST).astype(np.float32)
