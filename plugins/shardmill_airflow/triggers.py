"""Wait for EMR without holding a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from shardmill_airflow.connections import client

log = logging.getLogger(__name__)
FIRST_LOOK_SECONDS = 5.0
SLOWEST_LOOK_SECONDS = 30.0
BLIND_SECONDS = 900.0
TIMED_OUT = "TIMED_OUT"


class EmrWait(BaseTrigger):
    """Look at a cluster, or at one of its steps, until its state is none of those waited out.

    The first look comes after an interval: an event that arrives while the scheduler still files the deferral
    away fails a good task. Looks become rarer as the wait grows. An API that does not answer is borne for a while.
    """

    def __init__(self, cluster_id: str, while_in: list[str], give_up: float, step_id: str | None = None) -> None:
        """``give_up`` is the time (seconds since the epoch) at which the event says TIMED_OUT."""
        super().__init__()
        self.cluster_id, self.step_id = cluster_id, step_id
        self.while_in, self.give_up = list(while_in), give_up

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "cluster_id": self.cluster_id,
            "while_in": self.while_in,
            "give_up": self.give_up,
            "step_id": self.step_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        started = seen = time.time()
        while True:
            now = time.time()
            await asyncio.sleep(min(SLOWEST_LOOK_SECONDS, FIRST_LOOK_SECONDS + (now - started) / 60))
            try:
                state, why = await asyncio.to_thread(self._look)
                seen = time.time()
            except (BotoCoreError, ClientError) as error:
                if time.time() - seen > BLIND_SECONDS:
                    raise
                log.warning("EMR did not answer, looking again: %s", error)
                continue
            if state not in self.while_in:
                yield TriggerEvent({"state": state, "why": why})
                return
            if time.time() > self.give_up:
                yield TriggerEvent({"state": TIMED_OUT, "why": f"it was still {state}"})
                return

    def _look(self) -> tuple[str, str]:
        from shardmill.adapters.emr import cluster_status, step_status

        emr = client("emr")
        if self.step_id:
            return step_status(emr, self.cluster_id, self.step_id)
        return cluster_status(emr, self.cluster_id)

    async def on_kill(self) -> None:
        """Cancel what was waited for: the task was marked or cleared by a person."""
        from shardmill.adapters.emr import cancel_step

        emr = await asyncio.to_thread(client, "emr")
        if self.step_id:
            await asyncio.to_thread(cancel_step, emr, self.cluster_id, self.step_id)
        else:
            await asyncio.to_thread(emr.terminate_job_flows, JobFlowIds=[self.cluster_id])
