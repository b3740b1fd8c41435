"""Walk a run, a model or a dataset back by hashes: model → features → clips → raw → source; name what is broken."""

from __future__ import annotations

from shardmill.adapters.store import Store, StoreSettings
from shardmill.core.lineage import Finding, Verified, parse_target
from shardmill.jobs.verify.ledger import Ledger, Verifying
from shardmill.jobs.verify.runs import verify_run
from shardmill.jobs.verify.shards import Walk

__all__ = ["Finding", "Verified", "Verifying", "verify"]


def verify(
    uri: str, dataset: str = "", settings: StoreSettings | None = None, how: Verifying | None = None
) -> Verified:
    """Walk back from a run, a model or a dataset.

    Without ``deep``, all manifests are read, their seals, hashes and counts compared, and every part is looked up with
    its size. Objects that nothing refers to are told and break nothing, nor does a source that changed since. Receipts
    are left out: nobody reads them once their revision is committed.

    Args:
        uri: of a run's folder, of its ``spec.json`` or ``model/model.json``, or of a dataset's folder at a stage.
        dataset: name of a dataset, of which all stages are walked; ``uri`` is the lake then.
        settings: how the lake is reached.

    Raises:
        BadRequestError: the URI names none of these.
        StoreError: the lake cannot be reached or read.
    """
    target = parse_target(uri, dataset)
    walk = Walk(Store(target.lake, settings), how or Verifying())
    ledger = Ledger(walk.lake, walk.progress)
    if target.run:
        verify_run(walk, ledger, target.run, needs_model=target.model)
    else:
        walk.datasets(ledger, target.folders)
    return ledger.close()
