"""A checker that cannot fail proves nothing: with each protection removed it finds something."""

from __future__ import annotations

import pytest
from faults.checker import Golden
from faults.s3_rules import Nth, Rule
from faults.writers import Asked

PROTECTED = ""


def without_features(golden: Golden) -> Golden:
    """Features of writers that round differently may be either's."""
    return Golden(golden.samples, {stage: parts for stage, parts in golden.parts.items() if stage != "features"})


@pytest.mark.parametrize("removed", [PROTECTED, "create_only", "content_address", "read_back", "order"])
def test_writers_at_the_same_time_need(lab, golden, removed):
    experiment = lab.experiment()
    # One sleeps between its first part of features and the receipt; the others begin then, and come first.
    sleeper = Asked("sleeper", sabotage=removed, noise=True, pause_at="part_put:7")
    others = [Asked(f"writer {number}", sabotage=removed, noise=True, after_pause=True) for number in range(3)]
    experiment.run(sleeper, *others)
    assert not any(end.error.startswith("TimeoutError") for end in experiment.ended)
    assert bool(experiment.violations(without_features(golden))) == bool(removed)


@pytest.mark.parametrize("removed", [PROTECTED, "etag"])
def test_a_source_that_changes_while_it_is_read_needs(lab, removed):
    """The copy is made of one version, or of none; without the condition it is half of each."""
    before = lab.shard.read_bytes()
    after = bytes(byte ^ 0xFF for byte in before)
    lab.put_source(before)
    lab.source["version"] = lab.source["version"] if not removed else '"0123456789abcdef0123456789abcdef-7"'
    experiment = lab.experiment()
    # The first piece is there, then the source is replaced, then another try goes on.
    experiment.run(Asked("first", stages=("ingest",), sabotage=removed, crash_at="receipt_put:1"))
    planned = dict(lab.source)
    lab.put_source(after)
    lab.source = planned
    [ended] = experiment.run(Asked("second", stages=("ingest",), sabotage=removed))
    lab.put_source(before)
    if not removed:
        assert ended.error.startswith("ChangedObjectError") and "trigger a new run" in ended.error
        assert experiment.manifests() == {}
    else:
        [manifest] = experiment.manifests().values()
        copied = b"".join(experiment.lake.get(part.name) for part in manifest.parts)
        assert copied not in (before, after)


def test_a_lost_answer_to_the_commit_is_a_success_and_not_a_lost_race(lab, golden):
    experiment = lab.experiment()
    lab.proxy.add(Rule("reset_after", Nth(1), method="PUT", kind="manifest"))
    [ended] = experiment.run(Asked("writer"))
    assert ended.error == ""
    assert not experiment.violations(golden)
    answers = [entry.status for entry in lab.proxy.history.entries(kind="manifest", method="PUT")]
    assert 412 in answers, "the client's own retry was refused"
