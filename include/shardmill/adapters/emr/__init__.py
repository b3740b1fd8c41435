"""EMR: join what an earlier try made, or make it; find it by name and tags, never by memory alone."""

from shardmill.adapters.emr.calls import ClusterLostError, EmrError, RefusedError, StepFailedError
from shardmill.adapters.emr.clusters import (
    cluster_deadline,
    cluster_lives,
    cluster_status,
    describe_life,
    end_clusters,
    end_surplus,
    ensure_cluster,
    live_clusters,
    terminate,
)
from shardmill.adapters.emr.machines import newest_image, node_size
from shardmill.adapters.emr.steps import OPEN_STEP, cancel_step, cancel_surplus, ensure_step, step_end, step_status
from shardmill.core.cluster_lives import ALIVE, ENDED, ClusterLife

__all__ = [
    "ALIVE",
    "ENDED",
    "OPEN_STEP",
    "ClusterLife",
    "ClusterLostError",
    "EmrError",
    "RefusedError",
    "StepFailedError",
    "cancel_step",
    "cancel_surplus",
    "cluster_deadline",
    "cluster_lives",
    "cluster_status",
    "describe_life",
    "end_clusters",
    "end_surplus",
    "ensure_cluster",
    "ensure_step",
    "live_clusters",
    "newest_image",
    "node_size",
    "step_end",
    "step_status",
    "terminate",
]
