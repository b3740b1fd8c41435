"""What a garbage collection asks. The trigger form is made from this class."""

from __future__ import annotations

from shardmill.specs.notify import NotifySpec
from shardmill.specs.value import LakeUri, in_section


class GarbageSpec(NotifySpec):
    """Delete what nothing refers to; without `delete` only say what would go."""

    lake: LakeUri = in_section("Where", "s3://shardmill-lake")
    """Folder that holds everything runs make."""
    dataset: str = in_section("Where", "", pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$", examples=["sample"])
    """Name of the data set in the lake; empty for all."""

    older_than_hours: float = in_section("What", 24.0, title="Older than (hours)", ge=1, le=8760)
    """Unfinished uploads go when they are older, recipes when nothing was written to them for so long."""
    keep_recipes: int = in_section("What", 0, ge=0, le=1000)
    """Of clips and of features the newest so many recipes stay, and those that a run refers to; 0 keeps all."""
    recipes: str = in_section(
        "What", "", pattern=r"^([0-9a-f]{12}( [0-9a-f]{12})*)?$", examples=["0123456789ab", "0123456789ab ba9876543210"]
    )
    """Hashes of recipes that are to go too, separated by spaces, unless a run refers to them."""

    delete: bool = in_section("Guards", False, title="Delete for good")
    """Delete; otherwise nothing is touched, and the log says what would go."""

    @property
    def named_recipes(self) -> frozenset[str]:
        return frozenset(self.recipes.split())
