"""Plan a run: freeze what was asked and the listing of its source, before anything is spent."""

from shardmill.jobs.plan.done import done_line
from shardmill.jobs.plan.fresh import find_announced, find_fresh, keep_announced
from shardmill.jobs.plan.listing import list_source
from shardmill.jobs.plan.planning import Planned, look, plan_run, run_name

__all__ = [
    "Planned",
    "done_line",
    "find_announced",
    "find_fresh",
    "keep_announced",
    "list_source",
    "look",
    "plan_run",
    "run_name",
]
