from __future__ import annotations

from dataclasses import replace

import pytest

from shardmill.localcloud import emr_state as states
from shardmill.localcloud.emr_state import Cluster, Failure, Outcome, Reason, Step

REQUEST = {"Name": "c", "Instances": {}}
FAILED = Outcome("FAILED", Failure("why", "ValueError: bad"))


def step(number: int, on_failure: str = "CONTINUE") -> Step:
    return Step(f"s-{number}", f"step {number}", "command-runner.jar", (), float(number), on_failure=on_failure)


def cluster(*steps: Step, keeps_alive: bool = True, idle: int | None = None) -> Cluster:
    new = Cluster("j-1", REQUEST, 0.0, steps, keeps_alive=keeps_alive, idle_timeout=idle)
    return states.ready(states.bootstrapping(new), 10.0)


def state_of(known: Cluster, step_id: str) -> str:
    found = known.step(step_id)
    assert found is not None
    return found.state


def run_first(known: Cluster, now: float = 11.0) -> Cluster:
    return states.step_started(known, states.startable(known)[0].id, now)


def test_a_cluster_starts_bootstraps_and_waits() -> None:
    new = Cluster("j-1", REQUEST, 0.0, keeps_alive=True)
    assert new.state == "STARTING"
    assert states.bootstrapping(new).state == "BOOTSTRAPPING"
    up = states.ready(states.bootstrapping(new), 5.0)
    assert (up.state, up.ready, up.idle_since) == ("WAITING", 5.0, 5.0)


def test_steps_that_were_queued_before_run_one_after_the_other() -> None:
    up = cluster(step(1), step(2))
    assert up.state == "RUNNING"
    assert [s.id for s in states.startable(up)] == ["s-1"]
    running = run_first(up)
    assert states.startable(running) == ()
    after = states.step_ended(running, "s-1", Outcome("COMPLETED"), 12.0)
    assert [s.id for s in states.startable(after)] == ["s-2"]


def test_as_many_steps_start_as_the_concurrency_allows() -> None:
    up = replace(cluster(step(1), step(2), step(3)), concurrency=2)
    assert [s.id for s in states.startable(up)] == ["s-1", "s-2"]


def test_a_cluster_that_does_not_stay_ends_behind_its_last_step() -> None:
    running = run_first(cluster(step(1), keeps_alive=False))
    after = states.step_ended(running, "s-1", Outcome("COMPLETED"), 12.0)
    assert after.reason == Reason("ALL_STEPS_COMPLETED", "Steps completed")
    assert states.terminated(after, 13.0).state == "TERMINATED"


def test_an_idle_cluster_ends_itself_not_a_second_too_early() -> None:
    up = cluster(idle=60)
    assert states.advance(up, 69.9).state == "WAITING"
    ended = states.advance(up, 70.0)
    assert ended.state == "TERMINATING"
    assert "idle for 60 seconds" in ended.reason.message
    assert states.terminated(ended, 71.0).state == "TERMINATED"


def test_a_running_step_is_not_idleness() -> None:
    running = run_first(cluster(step(1), idle=60))
    assert states.advance(running, 10_000.0).state == "RUNNING"
    after = states.step_ended(running, "s-1", Outcome("COMPLETED"), 10_000.0)
    assert states.advance(after, 10_059.0).state == "WAITING"
    assert states.advance(after, 10_060.0).state == "TERMINATING"


@pytest.mark.parametrize(
    ("action", "cluster_state", "next_state"),
    [("CONTINUE", "RUNNING", "PENDING"), ("CANCEL_AND_WAIT", "WAITING", "CANCELLED")],
)
def test_a_failed_step_does_what_it_asks_for(action: str, cluster_state: str, next_state: str) -> None:
    after = states.step_ended(run_first(cluster(step(1, action), step(2))), "s-1", FAILED, 12.0)
    assert (after.state, state_of(after, "s-2")) == (cluster_state, next_state)


def test_a_failed_step_may_end_the_cluster_with_errors() -> None:
    after = states.step_ended(run_first(cluster(step(1, "TERMINATE_CLUSTER"), step(2))), "s-1", FAILED, 12.0)
    assert (after.state, after.reason.code, state_of(after, "s-2")) == ("TERMINATING", "STEP_FAILURE", "CANCELLED")
    assert states.terminated(after, 13.0).state == "TERMINATED_WITH_ERRORS"


def test_a_waiting_step_is_cancelled_at_once_and_a_running_one_when_it_is_gone() -> None:
    running = run_first(cluster(step(1), step(2)))
    running, refusal = states.cancel_step(running, "s-2", 12.0)
    assert (refusal, state_of(running, "s-2")) == ("", "CANCELLED")
    running, refusal = states.cancel_step(running, "s-1", 12.0)
    assert (refusal, state_of(running, "s-1")) == ("", "CANCEL_PENDING")
    after = states.step_ended(running, "s-1", Outcome("INTERRUPTED"), 13.0)
    assert (state_of(after, "s-1"), after.state) == ("CANCELLED", "WAITING")
    assert "can not be cancelled" in states.cancel_step(after, "s-1", 14.0)[1]
    assert "not found" in states.cancel_step(after, "s-9", 14.0)[1]


def test_a_step_that_completed_while_it_was_being_cancelled_is_completed() -> None:
    running, _ = states.cancel_step(run_first(cluster(step(1))), "s-1", 12.0)
    assert state_of(states.step_ended(running, "s-1", Outcome("COMPLETED"), 13.0), "s-1") == "COMPLETED"


def test_the_end_of_a_cluster_cancels_what_waits_and_interrupts_what_runs() -> None:
    asked = Reason("USER_REQUEST", "Terminated by user request")
    ending = states.terminating(run_first(cluster(step(1), step(2))), asked, 12.0)
    assert (state_of(ending, "s-1"), state_of(ending, "s-2")) == ("RUNNING", "CANCELLED")
    ended = states.terminated(states.step_ended(ending, "s-1", Outcome("INTERRUPTED"), 13.0), 14.0)
    assert (ended.state, ended.ended, state_of(ended, "s-1")) == ("TERMINATED", 14.0, "INTERRUPTED")


def test_the_first_reason_stays() -> None:
    ending = states.terminating(cluster(), Reason("BOOTSTRAP_FAILURE", "no Spark"), 12.0)
    again = states.terminating(ending, Reason("USER_REQUEST", ""), 13.0)
    assert again.reason.code == "BOOTSTRAP_FAILURE"
    assert states.terminated(again, 14.0).state == "TERMINATED_WITH_ERRORS"
