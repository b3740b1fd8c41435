"""The stages of a run, each done for some of its shards: what Airflow's tasks and the command line both call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shardmill.stages.errors import hopeless_errors, unfit_errors
from shardmill.stages.opened import OpenRun, open_run
from shardmill.stages.outcomes import Say
from shardmill.stages.record_stages import fetch, find
from shardmill.stages.video_stages import features, ingest, label, select, split
from shardmill.stages.whole_shards import through

VIDEO_STAGES: Mapping[str, Callable[[OpenRun, Sequence[int], Say], str]] = {
    "ingest": ingest,
    "split": split,
    "label": label,
    "features": features,
    "select": select,
}
"""Those of the video pipeline, in order."""
RECORD_STAGES: Mapping[str, Callable[[OpenRun, Sequence[int], Say], str]] = {"fetch": fetch, "find": find}
"""Those of training on records, in order."""
STAGES = {**VIDEO_STAGES, **RECORD_STAGES, "through": through}

__all__ = [
    "RECORD_STAGES",
    "STAGES",
    "VIDEO_STAGES",
    "OpenRun",
    "Say",
    "features",
    "fetch",
    "find",
    "hopeless_errors",
    "ingest",
    "label",
    "open_run",
    "select",
    "split",
    "through",
    "unfit_errors",
]
