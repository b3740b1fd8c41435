"""Wait for EMR without holding a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from shardmill_airflow.connections import client

POLL_SECONDS = 5.0


class EmrWait(BaseTrigger):
    """Look at a cluster, or at one of its steps, until its state is none of those waited out.

    The first look comes after one interval: an event that arrives while the scheduler still files the deferral
    away fails a good task.
    """

    def __init__(
        self, cluster_id: str, while_in: list[str], step_id: str | None = None, poll_seconds: float = POLL_SECONDS
    ) -> None:
        super().__init__()
        self.cluster_id, self.step_id = cluster_id, step_id
        self.while_in, self.poll_seconds = list(while_in), poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__name__}", {
            "cluster_id": self.cluster_id,
            "while_in": self.while_in,
            "step_id": self.step_id,
            "poll_seconds": self.poll_seconds,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        emr = await asyncio.to_thread(client, "emr")
        while True:
            await asyncio.sleep(self.poll_seconds)
            state, why = await asyncio.to_thread(self._look, emr)
            if state not in self.while_in:
                yield TriggerEvent({"state": state, "why": why})
                return

    def _look(self, emr: Any) -> tuple[str, str]:
        from shardmill.adapters.emr import cluster_status, step_status

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
