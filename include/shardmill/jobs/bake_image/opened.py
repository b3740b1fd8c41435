"""A bake that was planned, and the files of it in the lake."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_sealed
from shardmill.specs.image import BakePlan, BakeResult

SCRIPT, GPU_LOCK = "bake.sh", "requirements-gpu.txt"
LAUNCH = "launch.json"
_BAKES = "/images/bakes/"


@dataclass(frozen=True)
class OpenBake:
    """A bake that was planned, the lake that it is kept in, and EC2."""

    plan: BakePlan
    lake: Store
    ec2: Any

    def key(self, attempt: int, name: str) -> str:
        """Give the key of a file of one attempt."""
        return f"images/bakes/{self.plan.name}/{attempt}/{name}"

    @property
    def lock_key(self) -> str:
        """The key of the list of packages."""
        return f"images/locks/{self.plan.lock_sha256}.txt"

    def result(self, attempt: int) -> BakeResult | None:
        """Read what the instance of an attempt said of itself; None where it said nothing."""
        try:
            return BakeResult.model_validate_json(self.lake.get(self.key(attempt, "result.json")))
        except MissingObjectError:
            return None


def open_bake(plan_uri: str, ec2: Any, settings: StoreSettings | None = None) -> OpenBake:
    """Open a planned bake by the URI of its ``plan.json``."""
    root, _, rest = plan_uri.partition(_BAKES)
    lake = Store(root, settings)
    return OpenBake(read_sealed(lake, f"images/bakes/{rest}", BakePlan), lake, ec2)


def name_of(plan_uri: str) -> str:
    """Read a bake's name from the URI of its ``plan.json``, without asking the lake."""
    return plan_uri.partition(_BAKES)[2].partition("/")[0]


def was_launched(plan_uri: str, settings: StoreSettings | None = None) -> bool:
    """Say whether an instance was ever asked for: that is written down first. Raises StoreError."""
    folder = Store(plan_uri.rpartition("/")[0], settings)
    return any(item.key.endswith(f"/{LAUNCH}") for item in folder.list())


def shipped(name: str) -> str:
    """Read a file that comes with the package for the nodes of clusters."""
    return files("shardmill").joinpath("node_scripts", name).read_text()
