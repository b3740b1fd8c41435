"""What a garbage collection asks. The trigger form is made from this class."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from shardmill.specs.value import Spec, Uri


def _in(section: str, default: Any, **bounds: Any) -> Any:
    return Field(default, json_schema_extra={"section": section}, **bounds)


class GarbageSpec(Spec):
    """Delete what nothing refers to; without `delete` only say what would go."""

    lake: Uri = _in("Where", "s3://shardmill-lake")
    """Folder that holds everything runs make."""
    dataset: str = _in("Where", "", pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$")
    """Name of the data set in the lake; empty for all."""

    older_than_hours: float = _in("What", 24.0, ge=1, le=8760)
    """Unfinished uploads go when they are older, recipes when nothing was written to them for so long."""
    keep_recipes: int = _in("What", 0, ge=0, le=1000)
    """Of clips and of features the newest so many recipes stay, and those that a run refers to; 0 keeps all."""
    recipes: str = _in("What", "", pattern=r"^([0-9a-f]{12}( [0-9a-f]{12})*)?$")
    """Hashes of recipes that are to go too, separated by spaces, unless a run refers to them."""

    delete: bool = _in("Really", False)
    """Delete; otherwise nothing is touched, and the log says what would go."""

    @property
    def named_recipes(self) -> frozenset[str]:
        return frozenset(self.recipes.split())
