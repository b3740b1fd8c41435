"""The clusters of the account, shared by the API's threads and the agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from shardmill.localcloud.emr_state import Cluster


class ClusterTable:
    """The clusters of the account; one change at a time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._clusters: dict[str, Cluster] = {}
        self._lock = threading.RLock()

    def all(self) -> list[Cluster]:
        """List the clusters, the newest first."""
        with self._lock:
            return sorted(self._clusters.values(), key=lambda cluster: cluster.created, reverse=True)

    def find(self, cluster_id: str) -> Cluster | None:
        """Give a cluster as it is now."""
        with self._lock:
            return self._clusters.get(cluster_id)

    def add(self, cluster: Cluster) -> None:
        """Take in a new cluster."""
        with self._lock:
            self._clusters[cluster.id] = cluster

    def change(self, cluster_id: str, change: Callable[[Cluster], Cluster]) -> Cluster:
        """Replace a cluster by what ``change`` makes of it; nothing changes where it raises."""
        with self._lock:
            changed = change(self._clusters[cluster_id])
            self._clusters[cluster_id] = changed
            return changed
