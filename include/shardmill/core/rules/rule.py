"""What a rule is: when workers exchange what, and what they take from the sum.

Workers exchange by one all-reduce: each contributes a vector, all receive the same sum. A worker that has no batch left
in its epoch goes on contributing, with 0 examples, until no worker has one; so shares of unequal length neither lose a
record nor leave a worker waiting. Rules without a common moment (asynchronous ones) will be a second kind beside this
one, whose workers exchange with a holder of the weights instead of one another.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class Shared(Enum):
    """What workers contribute."""

    STATE = "state"
    """Weights and the optimizer's moments, float32 [3 × parameters], after steps of one's own."""
    GRADIENT = "gradient"
    """The gradient of one batch, float32 [parameters]; the step is taken with the sum."""


class Rule(Protocol):
    """How workers combine what they learned; pure, the same on every worker."""

    @property
    def name(self) -> str:
        """The rule in words, for people."""
        ...

    @property
    def shares(self) -> Shared: ...

    @property
    def keeps_own(self) -> bool:
        """Whether workers go on with what is their own, and take the sum only when training ends."""
        ...

    def is_due(self, steps: int, more: bool) -> bool:
        """Tell whether to exchange now.

        Args:
            steps: batches since the last exchange.
            more: whether this worker has another batch in this epoch; all exchange when they have none.
        """
        ...

    def contribute(self, own: Vector, examples: int) -> Vector:
        """Give a worker's part of the sum, as a new vector; ``examples`` were seen since the last exchange."""
        ...

    def take(self, total: Vector, examples: int) -> Vector:
        """Make of the sum what every worker goes on with; ``examples`` is the sum of theirs, above 0."""
        ...
