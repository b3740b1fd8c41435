"""The stages of the video pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from shardmill.stages.opened import OpenRun
from shardmill.stages.outcomes import Say, each, say_it, tell
from shardmill.stages.record_stages import records_line
from shardmill.stages.shard_work import describing, ingesting, splitting


def ingest(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Take shards into the lake, by reference or as verified copies; what is present and equal is skipped."""
    outcomes = each(shards, ingesting(opened), say)
    return tell("copied" if opened.run.video.ingest == "copy" else "took in", outcomes, say)


def split(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Cut every video of some shards into exact clips; what was cut by this recipe is skipped.

    Where the run asks for it (`fused`), their records are made on the way, out of the decoding that proves the clips.
    """
    return tell("split", each(shards, splitting(opened, say), say), say)


def label(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Settle the run's labels and their vocabulary; stop where no video has one."""
    from shardmill.jobs.label import label_run

    labels = label_run(opened.lake, opened.run, shards, opened.settings_of(opened.run.video.labels))
    some = ", ".join(labels.vocabulary[:20]) + (", …" if len(labels.vocabulary) > 20 else "")
    return say_it(f"{labels.labelled} of {labels.videos} videos have labels: {some}", say)


def features(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Make YouTube-8M records of some shards; what was made by this recipe is skipped."""
    return tell("made records of", each(shards, describing(opened, opened.labels.digest, say), say), say)


def select(opened: OpenRun, shards: Sequence[int], say: Say) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    from shardmill.jobs.select_records import select_records

    return records_line(select_records(opened.lake, opened.run, shards, opened.labels), say)
