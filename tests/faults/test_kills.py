"""A kill late in a shard costs at most the part that was being made, counted by the proxy."""

from __future__ import annotations

import pytest
from faults.writers import Asked

PROTECTED = ""


@pytest.mark.parametrize("removed", [PROTECTED, "receipts"])
def test_a_kill_at_ninety_percent_redoes_at_most_one_part_thanks_to(long_lab, removed):
    experiment = long_lab.experiment()
    assert [end.error for end in experiment.run(Asked("first", stages=("ingest",)))] == [""]
    [killed] = experiment.run(Asked("killed", stages=("split",), crash_at="part_put:9"))
    assert killed.error == "killed"
    [ended] = experiment.run(Asked("again", stages=("split",), sabotage=removed))
    assert ended.error == ""
    puts = [entry.key for entry in long_lab.proxy.history.entries(kind="part", method="PUT") if "/clips/" in entry.key]
    again = len(puts) - len(set(puts))
    videos = [line for line in ended.cut if "clips" in line]
    assert len(set(puts)) == 10
    assert (again <= 1 and len(videos) <= 2) == (not removed), (again, videos)


@pytest.mark.parametrize("stage", ["ingest", "features"])
def test_a_kill_near_the_end_of_any_stage_redoes_at_most_one_part(long_lab, stage):
    experiment = long_lab.experiment()
    stages = ("ingest", "split", "features")
    for before in stages[: stages.index(stage)]:
        experiment.run(Asked(before, stages=(before,)))
    folder = {"ingest": "/raw/", "features": "/features/"}[stage]
    parts = {"ingest": -(-long_lab.shard.stat().st_size // 40_000), "features": 10}[stage]
    [killed] = experiment.run(Asked("killed", stages=(stage,), crash_at=f"part_put:{parts - 1}"))
    [ended] = experiment.run(Asked("again", stages=(stage,)))
    assert (killed.error, ended.error) == ("killed", "")
    entries = long_lab.proxy.history.entries(kind="part", method="PUT")
    puts = [entry.key for entry in entries if folder in entry.key and experiment.name in entry.key]
    assert len(puts) - len(set(puts)) <= 1
    assert len(set(puts)) == parts
