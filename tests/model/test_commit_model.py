"""Every interleaving of two writers, a changing source and collectors, within the bounds that each test states."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from model.explorer import Explored
from model.explorer import explore as explore_anew
from model.shard_state import Rules

explore = cache(explore_anew)
"""What is explored twice is explored once: nothing of it can change."""
EITHER = ("xy", "xy")
"""Whoever builds a part, it may come out in two ways."""
EACH_ITS_OWN = ("x", "y")

SAFE = {
    "the same bytes every time, a source that changes": (Rules(), 38_589),
    "bytes that differ, parts that end elsewhere": (
        Rules(outcomes=EITHER, source_changes=False, last_revision=0),
        5_797,
    ),
    "a retry of rejects, the same bytes every time": (Rules(retries=(False, True), source_changes=False), 1_748),
    "two retries of rejects, bytes that differ": (
        Rules(retries=(True, True), outcomes=EACH_ITS_OWN, source_changes=False),
        70_064,
    ),
    "parts put whatever is there": (Rules(part_create_only=False, last_revision=0), 7_457),
    "a put of a manifest that arrives late": (Rules(late_requests=True, last_revision=0), 23_538),
}
THOROUGH = {
    "bytes that differ, a source that changes": (Rules(outcomes=EITHER, last_revision=0), 286_165),
    "a retry against a changed source": (Rules(retries=(False, True)), 213_692),
}
UNSAFE = {
    "the manifest is put whatever is there": (Rules(manifest_create_only=False), "a manifest changed"),
    "parts under fixed names": (Rules(content_addresses=False), "the store has"),
    "parts under fixed names, put whatever is there": (
        Rules(content_addresses=False, part_create_only=False),
        "the store has",
    ),
    "a refused manifest is taken for success": (Rules(reads_manifest_back=False), "reports success"),
    "a refused receipt is taken for success": (
        Rules(reads_receipt_back=False, outcomes=EITHER, source_changes=False),
        "does not begin where the part before it ends",
    ),
    "receipts that do not say of which inputs": (Rules(receipt_names_inputs=False), "a mixture of sources"),
    "a collector before there is a manifest": (Rules(collects="any", last_revision=0), "the store has nothing"),
    "a collector above the highest manifest": (Rules(collects="above"), "manifest 1 lists"),
    "a collector that keeps only what the highest lists": (Rules(keeps="highest"), "manifest 0 lists"),
    "who has lost deletes its parts": (
        Rules(loser_deletes=True, outcomes=EITHER, source_changes=False),
        "the store has nothing",
    ),
    "the source is looked at before the highest revision": (
        Rules(source_after_revision=False),
        "goes back to source A",
    ),
}
HAPPENS = {
    "adopts part",
    "builds",
    "commits, without an answer, manifest",
    "finds another's receipt and starts the shard again",
    "finds no receipt",
    "has lost and plans again",
    "is refused manifest",
    "puts, without an answer, receipt",
    "reads its manifest back",
    "a collector deletes",
    "the source changes to B",
}


def _explored(rules: Rules, states: int) -> Explored:
    found = explore(rules)
    print(found)
    assert not found.violation, str(found)
    assert not found.stuck, f"nobody can go on from {found.stuck[0]}"
    assert found.states == states, "the model has changed: look at it again and write down how many states it has"
    return found


@pytest.mark.parametrize("case", SAFE)
def test_the_contract_holds_in_every_state(case: str) -> None:
    _explored(*SAFE[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", THOROUGH)
def test_the_contract_holds_in_every_state_of_a_larger_model(case: str) -> None:
    _explored(*THOROUGH[case])


@pytest.mark.parametrize("case", UNSAFE)
def test_breaking_one_rule_breaks_the_lake(case: str) -> None:
    rules, expected = UNSAFE[case]
    found = explore(rules, reduced=False)
    print(found)
    assert expected in found.violation, str(found)


def test_everything_that_may_go_wrong_goes_wrong_in_the_model() -> None:
    changing = explore(Rules())
    varying = explore(Rules(outcomes=EITHER, source_changes=False, last_revision=0))
    retrying = explore(Rules(retries=(True, True), source_changes=False))
    assert HAPPENS - changing.seen - varying.seen == set()
    assert any(
        len(state.manifests) == 2 and any((w.at, w.revision, w.source) == ("part", 0, "A") for w in state.writers)
        for state in changing.visited
    ), "nobody builds the first revision while the second is there"
    assert any(
        len(state.manifests) == 2 and set(state.manifests[0].parts) < set(state.manifests[1].parts)
        for state in retrying.visited
    ), "no manifest lists an older one's parts"


def test_taking_like_states_for_one_changes_no_verdict() -> None:
    small = Rules(last_revision=0)
    assert not explore(small, reduced=False).violation
    unsafe = replace(small, collects="any")
    assert len(explore(unsafe, reduced=False).trace) == len(explore(unsafe).trace) > 0


def test_a_model_that_grows_beyond_its_limit_is_refused() -> None:
    with pytest.raises(OverflowError, match="more than 100 states"):
        explore(Rules(), most_states=100)
