"""A cluster without Spark, for tests of what stands around one: up at once, a few bytes of memory. Only by a fault."""

from __future__ import annotations

from pathlib import Path


class NoSpark:
    """Takes the place of a ``StandaloneCluster``; there are no workers to lose."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = "spark://nowhere:0"

    def start(self) -> None:
        """Make the folders that steps expect."""
        for name in ("home", "tmp", "conf", "scratch"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def poll(self) -> bool:
        """It is up."""
        return True

    def keep(self) -> None:
        """Nothing can be gone."""

    def lose_worker(self) -> None:
        """There is none: whatever replaced it would look the same."""

    def stop(self) -> None:
        """Nothing runs."""
