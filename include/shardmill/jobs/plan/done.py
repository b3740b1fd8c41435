"""Count what became of the shards of a run."""

from __future__ import annotations

from shardmill.adapters.run_folder import load
from shardmill.adapters.shard_index import read_index
from shardmill.adapters.store import Store
from shardmill.core.stage_output import StageOutput
from shardmill.specs.run import RunPlan, RunSpec


def done_line(lake: Store, run: RunSpec) -> str:
    """Say how many of the run's shards have records, and what is in them; by the index, which is brought up to date.

    Only what was made of the planned version of the source counts, and of rejects that are tried again what came of it.
    """
    asked, plan = run.video, load(lake, run.run, "plan.json", RunPlan)
    if not plan.numbers:
        return "no shard was due"
    clips = read_index(lake, StageOutput("clips", asked.dataset, asked.split_recipe.hash)).rows
    records = read_index(lake, StageOutput("features", asked.dataset, asked.feature_recipe(plan.labels).hash)).rows
    cut = [
        row
        for planned in plan.shards
        if (row := clips.get(planned.shard)) and row.source == planned.source and planned.is_retried_by(row.revision)
    ]
    of_clips = {row.shard: row.manifest_sha256 for row in cut}
    made = [row for shard, row in records.items() if row.source_version == of_clips.get(shard)]
    return (
        f"{len(made):,} of {len(plan.numbers):,} shards have records: {sum(row.videos for row in made):,} videos, "
        f"{sum(row.clips for row in cut):,} clips, {sum(row.rejects for row in (*cut, *made)):,} rejects"
    )
