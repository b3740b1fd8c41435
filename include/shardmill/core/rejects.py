"""When refused inputs are too many to go on."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.specs.manifest import Manifest, Reject

_SHOWN = 3
RETRYABLE_REASONS = frozenset({"time_out", "out_of_memory", "killed", "source_error"})
"""Classes of reasons that may pass by themselves."""


class TooManyRejectsError(RuntimeError):
    """More of a shard's samples were refused than the run allows."""

    refused: tuple[int, int] = 0, 0
    """How many, and of how many; zeros where that is not told."""


class RejectsMayPassError(RuntimeError):
    """More were refused than the run allows, but another try may refuse fewer."""

    refused: tuple[int, int] = 0, 0
    """As above."""


class ReconcileError(RuntimeError):
    """What came out of a shard is not what came in."""


def check_reconciled(manifest: Manifest) -> None:
    """Refuse a manifest that does not account for every sample. Raises ReconcileError."""
    if manifest.samples_in != len(manifest.videos) + len(manifest.rejects):
        raise ReconcileError(
            f"{manifest.source.uri}: {manifest.samples_in} samples came in, {len(manifest.videos)} were published and "
            f"{len(manifest.rejects)} refused: what this shard was made from is not what its manifest says"
        )


def may_pass(reject: Reject) -> bool:
    """Say whether another try of a refused input may succeed."""
    return reject.reason in RETRYABLE_REASONS


def check_rejects(rejects: Sequence[Reject], samples: int, limit: float, shard: int) -> None:
    """Refuse to publish a shard of which too much was refused.

    Args:
        samples: published and refused ones together.
        limit: the largest share of them that may be refused, 0 to 1.

    Raises:
        TooManyRejectsError: with the counts and the first reasons.
        RejectsMayPassError: the same, where those that cannot pass by themselves are not too many.
    """
    if len(rejects) > limit * samples:
        final = [reject for reject in rejects if not may_pass(reject)]
        kind = TooManyRejectsError if len(final) > limit * samples else RejectsMayPassError
        first = "; ".join(f"{reject.key}: {reject.reason}: {reject.message}" for reject in rejects[:_SHOWN])
        error = kind(
            f"shard {shard:06d}: {len(rejects)} of {samples} samples were refused, more than the "
            f"allowed share of {limit:g}; nothing was published. First: {first}"
        )
        error.refused = len(rejects), samples
        raise error
