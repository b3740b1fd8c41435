"""Kills at any time, sleepers that come back, full disks; and what a kill late in a shard costs."""

from __future__ import annotations

import random
import time
from dataclasses import replace

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


@pytest.mark.parametrize("moments", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_split_killed_at_any_moment_leaves_what_an_undisturbed_one_leaves_and_repeats_at_most_a_part(
    long_lab, moments
):
    """The parts hold a video each; the sandboxes are those of production, and die with their worker."""
    generator = random.Random(20 + moments)
    undisturbed = long_lab.experiment()
    undisturbed.run(Asked("ingest", stages=("ingest",)))
    started = time.monotonic()
    assert [end.error for end in undisturbed.run(Asked("split", stages=("split",), sandboxed=True))] == [""]
    whole, kills = time.monotonic() - started, 0
    while kills < moments:
        experiment = long_lab.experiment()
        experiment.run(Asked("ingest", stages=("ingest",)))
        moment = generator.uniform(0.1, whole)
        [killed] = experiment.run(Asked("killed", stages=("split",), sandboxed=True, kill_after=moment))
        if killed.error != "killed":
            whole = moment  # it was done before, on a machine that has less to do now
            continue
        kills += 1
        [ended] = experiment.run(Asked("again", stages=("split",), sandboxed=True))
        assert ended.error == ""
        entries = long_lab.proxy.history.entries(kind="part", method="PUT")
        puts = [entry.key for entry in entries if "/clips/" in entry.key and experiment.name in entry.key]
        assert len(puts) - len(set(puts)) <= 1, moment
        assert _parts(experiment) == _parts(undisturbed), moment
        found = experiment.found()
        assert (found.scratch, found.open_uploads) == ([], []), moment


def _parts(experiment):
    return {
        item.key.partition("/clips/")[2]: experiment.lake.get(item.key)
        for item in experiment.lake.list("clips")
        if item.key.endswith(".tar")
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_any_time_leaves_what_an_undisturbed_run_leaves(lab, golden, seed):
    generator = random.Random(seed)
    experiment, within, kills = lab.experiment(), 0.5, 0
    while kills < 3:
        moment = generator.uniform(0.02, within)
        [end] = experiment.run(Asked(f"killed {kills}", kill_after=moment))
        if end.error == "killed":
            kills += 1
            continue
        # The machine was done before the blow fell: the next ones fall earlier, on a shard that is whole to do.
        within = moment
        assert end.error == ""
        assert not experiment.violations(golden)
        experiment = lab.experiment()
    experiment.until_done(Asked("last"))
    assert not experiment.violations(golden)


@pytest.mark.parametrize(
    ("point", "noise"),
    [
        ("part_put:4", False),
        ("receipt_put:2", False),
        ("manifest_built:1", False),
        ("manifest_built:2", True),
        ("part_built:8", True),
        ("manifest_built:3", True),
    ],
)
def test_a_writer_that_slept_while_another_finished_does_no_harm_when_it_wakes(lab, golden, point, noise):
    experiment = lab.experiment()
    experiment.run(Asked("sleeper", pause_at=point, noise=noise), Asked("awake", noise=noise))
    assert [end.error for end in experiment.ended] == ["", ""]
    stages = {stage: parts for stage, parts in golden.parts.items() if not noise or stage != "features"}
    assert not experiment.violations(replace(golden, parts=stages))
    assert len(experiment.manifests()) == 3


@pytest.mark.parametrize("stage", ["ingest", "split"])
def test_a_full_disk_commits_nothing_and_the_next_try_succeeds(lab, golden, stage):
    experiment = lab.experiment()
    stages = ("ingest", "split", "features")
    experiment.run(*[Asked("before", stages=stages[: stages.index(stage)])] if stage != "ingest" else [])
    before = set(experiment.manifests())
    [full] = experiment.run(Asked("full", stages=(stage,), scratch_bytes=20_480))
    if full.error.startswith("PermissionError"):
        pytest.skip(full.error)
    assert "No space left on device" in full.error or "Errno 28" in full.error, full.error
    assert set(experiment.manifests()) == before
    experiment.until_done(Asked("roomy"))
    assert not experiment.violations(golden)
