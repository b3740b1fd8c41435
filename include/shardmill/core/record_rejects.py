"""When refused records are too many to go on."""

from __future__ import annotations

from shardmill.core.rejects import TooManyRejectsError
from shardmill.specs.record_rejects import RejectTally

_SHOWN = 3


def check_record_rejects(tally: RejectTally, records: int, limit: float) -> None:
    """Refuse to go on when too many records were refused.

    Args:
        records: used and refused ones together.
        limit: the largest share of them that may be refused, 0 to 1.

    Raises:
        TooManyRejectsError: with the counts and the first reasons.
    """
    if tally.count > limit * records:
        first = "; ".join(
            f"{reject.file} at offset {reject.offset}: {reject.reason}" for reject in tally.rejects[:_SHOWN]
        )
        raise TooManyRejectsError(
            f"{tally.count} of {records} records cannot be used, more than the allowed share of {limit:g}: "
            f"fetch these files again, or make them anew. First: {first}"
        )
