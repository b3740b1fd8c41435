"""What a recipe made of a data set at a stage: its folder, and what the tables derived from it say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shardmill.core import layout
from shardmill.specs.manifest import Manifest, Stage

Table = Literal["index", "catalogue"]

FORMAT = "1"
"""Raised by hand when the columns of a derived table change."""
_FACT = "shardmill."


@dataclass(frozen=True)
class StageOutput:
    """The output of one recipe at one stage."""

    stage: Stage
    dataset: str
    recipe_hash: str = ""
    """Empty for raw shards."""

    @property
    def folder(self) -> str:
        """Key of the folder."""
        return layout.stage_folder(self.stage, self.dataset, self.recipe_hash)

    def table_key(self, table: Table) -> str:
        """Give the key of a derived table."""
        return f"{self.folder}/_{table}.parquet"

    def facts(self, table: Table) -> dict[str, str]:
        """Give what a derived table holds beside its rows."""
        facts = {
            "table": table,
            "stage": self.stage,
            "dataset": self.dataset,
            "recipe_hash": self.recipe_hash,
            "format": FORMAT,
        }
        return {_FACT + name: value for name, value in facts.items()}

    def why_foreign(self, table: Table, found: Mapping[str, str]) -> str:
        """Say in words which fact of a derived table is not as expected; empty where all are."""
        for name, expected in self.facts(table).items():
            if found.get(name) != expected:
                is_what = found.get(name) or "not said"
                return f"its {name.removeprefix(_FACT)} is {is_what}, expected {expected or 'none'}"
        return ""

    def holds(self, manifest: Manifest, shard: int, revision: int) -> bool:
        """Say whether a manifest is the one of this shard and revision here."""
        found = (manifest.stage, manifest.dataset, manifest.recipe_hash, manifest.shard, manifest.revision)
        return found == (self.stage, self.dataset, self.recipe_hash, shard, revision)
