"""How a run reaches its lake and its source, and where it may."""

from __future__ import annotations

from dataclasses import dataclass, field

from shardmill.adapters.roots import Roots
from shardmill.adapters.store import StoreSettings


@dataclass(frozen=True)
class Access:
    """What an entry point (a task, the command line) gives a job."""

    lake: StoreSettings | None = None
    """None for what the environment says."""
    source: StoreSettings | None = None
    """None for that of the lake."""
    roots: Roots = field(default_factory=Roots.from_environment)

    @property
    def source_settings(self) -> StoreSettings | None:
        """How the source is reached."""
        return self.source or self.lake

    def settings_of(self, uri: str, source: str) -> StoreSettings | None:
        """Tell how labels or weights are reached: as the source where they lie in its bucket, else as the lake."""
        return self.source_settings if _bucket(uri) == _bucket(source) else self.lake


def _bucket(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition("://")
    return scheme, "" if scheme == "file" else rest.partition("/")[0]
