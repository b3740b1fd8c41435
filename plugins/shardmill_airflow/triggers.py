"""Wait for EMR without holding a worker."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from shardmill_airflow.beside import await_late_logs, follow_output, watch_for_surplus
from shardmill_airflow.connections import client

if TYPE_CHECKING:
    from shardmill_airflow.beside import Watched

log = logging.getLogger(__name__)
FIRST_LOOK_SECONDS = 5.0
"""On a machine that is not overloaded."""
LONGEST_FIRST_LOOK_SECONDS = 60.0
SLOWEST_LOOK_SECONDS = 30.0
BLIND_SECONDS = 900.0
LAST_LINES_SECONDS = 15.0
"""The end of the output and the last look for a surplus have so long; the wait ends then without them."""
TIMED_OUT = "TIMED_OUT"
OVER = ("failed", "success", "skipped", "upstream_failed", "removed")
"""States of a task that will not run again by itself."""


class EmrWait(BaseTrigger):
    """Look at a cluster, or at one of its steps, until its state is none of those waited out.

    The first look comes after an interval: an event that arrives while the scheduler still files the deferral
    away fails a good task, and on an overloaded machine that takes it longer. Looks become rarer as the wait grows.
    An API that does not answer is borne for a while.

    Beside that it shows the step's output, and ends what a killed sender's request made a second time. Neither holds
    the looks up, and no fault of theirs ends the wait.
    """

    def __init__(
        self,
        cluster_id: str,
        while_in: list[str],
        give_up: float,
        step_id: str | None = None,
        watched: Watched | None = None,
    ) -> None:
        """``give_up`` is the time (seconds since the epoch) at which the event says TIMED_OUT."""
        super().__init__()
        self.cluster_id, self.step_id = cluster_id, step_id
        self.while_in, self.give_up = list(while_in), give_up
        self.watched: Watched = watched or {}
        self._emr: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "cluster_id": self.cluster_id,
            "while_in": self.while_in,
            "give_up": self.give_up,
            "step_id": self.step_id,
            "watched": dict(self.watched),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        ended = asyncio.Event()
        surplus: list[str] = []
        beside = [asyncio.create_task(watch_for_surplus(self.cluster_id, self.watched, surplus, ended))]
        if self.step_id:
            beside.append(asyncio.create_task(follow_output(self.cluster_id, self.step_id, self.watched, ended)))
        try:
            state, why = await self._wait()
            if self.step_id and state == "FAILED":
                await await_late_logs(self.cluster_id, self.step_id, self.watched)
            ended.set()
            await asyncio.wait(beside, timeout=LAST_LINES_SECONDS)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        yield TriggerEvent({"state": state, "why": why} | ({"surplus": surplus} if surplus else {}))

    async def _wait(self) -> tuple[str, str]:
        started = seen = time.time()
        await asyncio.sleep(first_look_seconds() - FIRST_LOOK_SECONDS)
        while True:
            now = time.time()
            await asyncio.sleep(min(SLOWEST_LOOK_SECONDS, FIRST_LOOK_SECONDS + (now - started) / 60))
            try:
                state, why = await asyncio.to_thread(self._look)
                seen = time.time()
            except (BotoCoreError, ClientError) as error:
                self._emr = None
                if time.time() - seen > BLIND_SECONDS:
                    raise
                log.warning("EMR did not answer, looking again: %s", error)
                continue
            if state not in self.while_in:
                return state, why
            if time.time() > self.give_up:
                return TIMED_OUT, f"it was still {state}"

    def _look(self) -> tuple[str, str]:
        from shardmill.adapters.emr import cluster_status, step_status

        self._emr = self._emr or client("emr")
        if self.step_id:
            return step_status(self._emr, self.cluster_id, self.step_id)
        return cluster_status(self._emr, self.cluster_id)

    async def on_kill(self) -> None:
        """Cancel what was waited for, where a person decided that the task is over.

        Airflow calls this, too, when another triggerer takes over a wait from one that was too busy to say that it
        lives; and a task that was cleared joins what it finds. In both cases all goes on.
        """
        state = await asyncio.to_thread(self._state_of_task)
        if state not in OVER:
            log.info("the task is %s: what it waits for goes on", state or "to run again")
            return
        if self.step_id:
            log.info("the task is %s: cancelling step %s", state, self.step_id)
            await asyncio.to_thread(self._cancel_step)
        elif state != "success":  # who calls a cluster good that comes up wants it for the tasks behind
            log.info("the task is %s: ending cluster %s", state, self.cluster_id)
            await asyncio.to_thread(self._end_cluster)

    def _state_of_task(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti = self.task_instance
        if ti is None:
            return None
        mapped = ti.map_index is not None and ti.map_index >= 0
        found = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index if mapped else None
        )
        state = found.get(ti.run_id, {}).get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id)
        return str(state) if state else None

    def _cancel_step(self) -> None:
        from shardmill.adapters.emr import cancel_step

        cancel_step(client("emr"), self.cluster_id, str(self.step_id))

    def _end_cluster(self) -> None:
        from shardmill.adapters.emr import terminate

        terminate(client("emr"), [self.cluster_id])


def first_look_seconds() -> float:
    """Give the time before the first look: as many times longer as there is more to do than this machine can.

    The scheduler often runs beside the triggerer. With ten processes waiting for two cores its loop was seen to take
    more than ten seconds, in place of one.
    """
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(max(FIRST_LOOK_SECONDS, FIRST_LOOK_SECONDS * waiting), LONGEST_FIRST_LOOK_SECONDS)


class Pause(BaseTrigger):
    """Wait for some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.seconds)
        yield TriggerEvent({"state": "DONE", "why": ""})
