"""The label table that a run settled on, in its folder."""

from __future__ import annotations

import json

from shardmill.adapters import run_folder
from shardmill.adapters.store import Store
from shardmill.core.labels import LabelTable
from shardmill.specs.run import RunSpec
from shardmill.specs.value import canonical_json

TABLE = "label_table.json"


def label_table(lake: Store, run: RunSpec) -> LabelTable:
    """Read the label table that the run settled on."""
    return LabelTable.from_rows(json.loads(lake.get(run_folder.run_key(run.run, TABLE))))


def settle_table(lake: Store, run: RunSpec, table: LabelTable) -> bool:
    """Freeze a table unless the run settled on one before. Returns whether the frozen one is this."""
    lake.put_new(run_folder.run_key(run.run, TABLE), canonical_json(table.rows))
    return label_table(lake, run).digest == table.digest
