"""Where runs may read and write: only below folders that the operator names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from shardmill.adapters.store.settings import disk_folder
from shardmill.core.planning import BadRequestError

SOURCES = "SHARDMILL_SOURCE_ROOTS"
LAKES = "SHARDMILL_LAKE_ROOTS"


@dataclass(frozen=True)
class Roots:
    """Folders with their scheme, e.g. ``s3://bucket/folder`` or ``file:///data``; ``s3://`` alone is every bucket."""

    sources: tuple[str, ...] = ()
    """Below them lie sources, labels, weights and projections."""
    lakes: tuple[str, ...] = ()

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Roots:
        """Read the folders, separated by spaces, from two variables."""
        return Roots(tuple(environment.get(SOURCES, "").split()), tuple(environment.get(LAKES, "").split()))

    def check_source(self, field: str, uri: str) -> None:
        """Refuse a URI that is below no root of sources. Raises BadRequestError."""
        _check(field, uri, self.sources, SOURCES)

    def check_lake(self, field: str, uri: str) -> None:
        """Refuse a URI that is below no root of lakes. Raises BadRequestError."""
        _check(field, uri, self.lakes, LAKES)


def _check(field: str, uri: str, roots: tuple[str, ...], variable: str) -> None:
    if not any(_is_below(uri, root) for root in roots):
        allowed = ", ".join(roots) or "none is set"
        raise BadRequestError(
            f"{field}: {uri} lies below none of the folders that this installation may use ({allowed}): "
            f"ask its operator to add it to {variable}"
        )


def _is_below(uri: str, root: str) -> bool:
    folder, allowed = disk_folder(uri), disk_folder(root)
    if folder is not None or allowed is not None:
        # Links are followed first: what counts is where the bytes lie.
        return folder is not None and allowed is not None and folder.resolve().is_relative_to(allowed.resolve())
    if root.endswith("://"):
        return uri.startswith(root)
    return uri == root.rstrip("/") or uri.startswith(root.rstrip("/") + "/")
