from __future__ import annotations

import asyncio
import time

import pytest
from botocore.exceptions import EndpointConnectionError

from shardmill.adapters import emr as clusters
from shardmill.adapters import step_output
from shardmill_airflow import beside


@pytest.fixture
def triggers(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    from shardmill_airflow import triggers

    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(beside, "OUTPUT_SECONDS", 0.01)
    monkeypatch.setattr(beside, "SURPLUS_SECONDS", 0.01)
    monkeypatch.setattr(beside, "store_settings", lambda: None)
    return triggers


class Emr:
    """An EMR whose cluster goes through these states, one a look; an exception is raised."""

    def __init__(self, *states):
        self.states = list(states)
        self.looks = 0

    def describe_step(self, ClusterId, StepId):  # noqa: N803
        state = self._next()
        failed = {"FailureDetails": {"Reason": "Exit status 1"}} if state == "FAILED" else {}
        return {"Step": {"Status": {"State": state, "Timeline": {}, **failed}}}

    def describe_cluster(self, ClusterId):  # noqa: N803 - boto3's name
        return {"Cluster": {"Status": {"State": self._next(), "StateChangeReason": {"Code": "C", "Message": "M"}}}}

    def _next(self):
        self.looks += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


def first_event(triggers, monkeypatch, emr, **changes):
    monkeypatch.setattr(triggers, "client", lambda service: emr)
    monkeypatch.setattr(beside, "client", lambda service: emr)
    values = {"cluster_id": "j-1", "while_in": ["STARTING"], "give_up": time.time() + 60}
    wait = triggers.EmrWait(**(values | changes))
    return asyncio.run(anext(wait.run())).payload


def test_a_cluster_that_comes_up_ends_the_wait(triggers, monkeypatch):
    emr = Emr("STARTING", "STARTING", "WAITING")
    assert first_event(triggers, monkeypatch, emr) == {"state": "WAITING", "why": "C: M"}
    assert emr.looks == 3


def test_the_first_look_comes_after_an_interval(triggers, monkeypatch):
    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.3)
    started = time.monotonic()
    first_event(triggers, monkeypatch, Emr("WAITING"))
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("load", "seconds"), [(0.1, 5.0), (2.0, 5.0), (10.0, 25.0), (500.0, 60.0)])
def test_an_overloaded_machine_gets_more_time_before_the_first_look(triggers, monkeypatch, load, seconds):
    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 5.0)
    monkeypatch.setattr(triggers.os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(triggers.os, "cpu_count", lambda: 2)
    assert triggers.first_look_seconds() == seconds


def test_an_api_that_does_not_answer_for_a_while_is_borne(triggers, monkeypatch):
    lost = EndpointConnectionError(endpoint_url="http://127.0.0.1")
    assert first_event(triggers, monkeypatch, Emr(lost, lost, "WAITING"))["state"] == "WAITING"


def test_an_api_that_stays_silent_ends_the_wait(triggers, monkeypatch):
    monkeypatch.setattr(triggers, "BLIND_SECONDS", 0.05)
    with pytest.raises(EndpointConnectionError):
        first_event(triggers, monkeypatch, Emr(EndpointConnectionError(endpoint_url="http://127.0.0.1")))


def test_a_wait_whose_time_is_up_says_so(triggers, monkeypatch):
    found = first_event(triggers, monkeypatch, Emr("STARTING"), give_up=time.time() + 0.05)
    assert found == {"state": "TIMED_OUT", "why": "it was still STARTING"}


def test_a_wait_survives_being_stored(triggers):
    wait = triggers.EmrWait("j-1", ["PENDING"], 12.5, "s-1", {"name": "shardmill-r1", "log_uri": "s3://l/logs"})
    name, values = wait.serialize()
    assert name == "shardmill_airflow.triggers.EmrWait"
    assert triggers.EmrWait(**values).serialize() == wait.serialize()


class Output:
    """The output of a step, in the pieces that each look finds; an exception is raised."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def look(self, *, last=False):
        found = self.looks.pop(0) if self.looks else []
        if isinstance(found, Exception):
            raise found
        return found


STEP = {"step_id": "s-1", "while_in": ["PENDING", "RUNNING"], "watched": {"log_uri": "s3://l/logs"}}


def shown(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("shardmill_airflow")]


def test_what_the_step_writes_is_shown_while_it_runs_and_its_end_too(triggers, monkeypatch, caplog):
    caplog.set_level("INFO")
    output = Output(["one"], [], ["two"])
    monkeypatch.setattr(beside, "_open_output", lambda *named: output)
    emr = Emr(*["RUNNING"] * 8, "COMPLETED")
    assert first_event(triggers, monkeypatch, emr, **STEP)["state"] == "COMPLETED"
    assert shown(caplog) == ["one", "two"]


def test_the_last_lines_of_a_step_are_shown_though_it_ended_between_two_looks(triggers, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(beside, "OUTPUT_SECONDS", 60.0)
    monkeypatch.setattr(beside, "_open_output", lambda *named: Output(["the last word"]))
    first_event(triggers, monkeypatch, Emr("COMPLETED"), **STEP)
    assert shown(caplog) == ["the last word"]


def test_a_store_that_does_not_answer_hinders_no_wait(triggers, monkeypatch, caplog):
    caplog.set_level("INFO")
    output = Output(*[step_output.StoreError("no answer")] * 2, ["there"])
    monkeypatch.setattr(beside, "_open_output", lambda *named: output)
    first_event(triggers, monkeypatch, Emr(*["RUNNING"] * 8, "COMPLETED"), **STEP)
    assert shown(caplog)[0] == "the step's output is not to be read now: no answer"
    assert shown(caplog)[-1] == "there"


def test_a_store_that_hangs_neither_slows_the_looks_nor_keeps_the_end(triggers, monkeypatch):
    monkeypatch.setattr(triggers, "LAST_LINES_SECONDS", 0.05)
    monkeypatch.setattr(beside, "_look", lambda output, last: time.sleep(1.0))
    monkeypatch.setattr(beside, "_open_output", lambda *named: Output())
    started = time.monotonic()
    emr = Emr(*["RUNNING"] * 10, "COMPLETED")

    async def wait():
        monkeypatch.setattr(triggers, "client", lambda service: emr)
        one = triggers.EmrWait("j-1", give_up=time.time() + 60, **STEP)
        await anext(one.run())
        return time.monotonic() - started

    assert asyncio.run(wait()) < 0.9


def test_a_failed_step_is_told_once_its_logs_are_there_but_not_for_ever_later(triggers, monkeypatch):
    monkeypatch.setattr(beside, "LATE_LOGS_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(beside, "_open_output", lambda *named: Output())
    monkeypatch.setattr(beside, "_end_and_settings", lambda *named: (1.0, None))
    answers = [False, False, True]
    monkeypatch.setattr(beside, "_logs_are_there", lambda *named: answers.pop(0))
    assert first_event(triggers, monkeypatch, Emr("FAILED"), **STEP) == {"state": "FAILED", "why": "Exit status 1"}
    assert answers == []
    monkeypatch.setattr(beside, "_logs_are_there", lambda *named: False)
    monkeypatch.setattr(beside, "LATE_LOGS_SECONDS", 0.05)
    assert first_event(triggers, monkeypatch, Emr("FAILED"), **STEP)["state"] == "FAILED"


def test_a_surplus_that_turns_up_while_waiting_is_ended_and_told(triggers, monkeypatch, caplog):
    found = [(), ("j-2",), ("j-2",)]
    monkeypatch.setattr(clusters, "end_surplus", lambda emr, name: found.pop(0) if found else ())
    emr = Emr(*["STARTING"] * 8, "WAITING")
    event = first_event(triggers, monkeypatch, emr, watched={"name": "shardmill-r1"})
    assert event["surplus"] == ["j-2"]
    assert [line for line in shown(caplog) if "ending j-2" in line] == [
        "ending j-2: it was made a second time by a request whose sender was killed"
    ]


def test_a_surplus_is_looked_for_once_more_when_the_cluster_is_up(triggers, monkeypatch):
    monkeypatch.setattr(beside, "SURPLUS_SECONDS", 60.0)
    monkeypatch.setattr(clusters, "end_surplus", lambda emr, name: ("j-2",))
    event = first_event(triggers, monkeypatch, Emr("WAITING"), watched={"name": "shardmill-r1"})
    assert event["surplus"] == ["j-2"]


def test_a_listing_that_fails_hinders_no_wait(triggers, monkeypatch):
    def fail(emr, name):
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

    monkeypatch.setattr(clusters, "end_surplus", fail)
    event = first_event(triggers, monkeypatch, Emr("STARTING", "WAITING"), watched={"name": "shardmill-r1"})
    assert event == {"state": "WAITING", "why": "C: M"}


class Ended:
    """Notes what is cancelled and ended."""

    def __init__(self):
        self.done = []

    def cancel_steps(self, StepIds, **more):  # noqa: N803
        self.done += StepIds

    def set_termination_protection(self, **more):
        pass

    def terminate_job_flows(self, JobFlowIds):  # noqa: N803
        self.done += JobFlowIds


@pytest.mark.parametrize(
    ("state", "step", "done"),
    [
        ("failed", "s-1", ["s-1"]),
        ("success", "s-1", ["s-1"]),
        ("failed", None, ["j-1"]),
        ("success", None, []),  # the tasks behind want the cluster
        ("deferred", "s-1", []),  # another triggerer took over
        (None, "s-1", []),  # cleared: the next try joins the step
        ("running", None, []),
    ],
)
def test_what_is_waited_for_is_ended_only_when_a_person_said_that_the_task_is_over(
    triggers, monkeypatch, state, step, done
):
    emr = Ended()
    monkeypatch.setattr(triggers, "client", lambda service: emr)
    wait = triggers.EmrWait("j-1", ["RUNNING"], time.time() + 60, step)
    monkeypatch.setattr(wait, "_state_of_task", lambda: state)
    asyncio.run(wait.on_kill())
    assert emr.done == done


@pytest.mark.parametrize(("message", "called"), [("__airflow_user_action__", True), (None, False)])
def test_airflow_calls_on_kill_for_a_persons_deed_and_not_when_the_triggerer_stops(
    triggers, monkeypatch, message, called
):
    """The very code of the triggerer runs the wait: what it promises holds in this version."""
    from airflow.jobs import triggerer_job_runner as airflow_triggerer

    if message:
        assert message == airflow_triggerer._USER_ACTION_CANCEL_MSG
    kills = []

    class Noted(triggers.EmrWait):
        async def on_kill(self):
            kills.append(self.step_id)

    async def run():
        monkeypatch.setattr(triggers, "client", lambda service: Emr("RUNNING"))
        monkeypatch.setattr(beside, "_open_output", lambda *named: Output())
        runner = airflow_triggerer.TriggerRunner()
        runner.triggers[1] = {"task": None, "is_watcher": False, "name": "wait", "events": 0}
        wait = Noted("j-1", give_up=time.time() + 60, **STEP)
        task = asyncio.create_task(runner.run_trigger(1, wait))
        await asyncio.sleep(0.5)
        task.cancel(message) if message else task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [other for other in asyncio.all_tasks() if other is not asyncio.current_task()]

    assert asyncio.run(run()) == []
    assert kills == (["s-1"] if called else [])
