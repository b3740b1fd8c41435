"""Look at the files that a run trained on, in the lake or where they lie."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.adapters.store import MissingObjectError, Store, StoreError, split_uri
from shardmill.jobs.verify.ledger import Chain, Ledger
from shardmill.jobs.verify.shards import Walk
from shardmill.specs.records import RecordPart, RecordSet


def verify_files(walk: Walk, ledger: Ledger, records: RecordSet, chain: Chain) -> None:
    """See that every file is there, and, where a verification is deep, that its bytes are those that were counted."""
    folders: dict[str, list[RecordPart]] = {}
    for part in (*records.train, *records.validation):
        folders.setdefault(split_uri(part.uri)[0], []).append(part)

    def look(own: Ledger, folder: str) -> None:
        _verify_folder(walk, own, (folder, folders[folder]), chain)

    walk.each(ledger, sorted(folders), look)


def _verify_folder(walk: Walk, ledger: Ledger, found: tuple[str, Sequence[RecordPart]], chain: Chain) -> None:
    folder, parts = found
    in_lake = f"{folder}/".startswith(f"{walk.lake.uri}/")
    try:
        store = Store(folder, walk.lake.settings if in_lake else walk.how.source_settings)
        sizes = {item.key: item.size for item in store.files()}
    except MissingObjectError:
        sizes = {}
    except StoreError as error:
        ledger.find_at("source_unseen", folder, str(error), chain)
        return
    there = Ledger(store, walk.progress) if sizes else ledger
    for part in parts:
        walk.progress.count(1, 0)
        name = split_uri(part.uri)[1]
        if name not in sizes:
            ledger.find_at("missing", part.uri, "expected a file of records, found nothing", chain)
        elif walk.how.deep:
            there.hash_object(name, part.sha256, chain)
    if there is not ledger:
        ledger.join(there)
