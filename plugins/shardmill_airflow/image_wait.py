"""Wait for an instance or an image of EC2 without holding a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from shardmill_airflow.connections import client

log = logging.getLogger(__name__)
FIRST_LOOK_SECONDS = 5.0
SLOWEST_LOOK_SECONDS = 20.0
BLIND_SECONDS = 900.0
TIMED_OUT = "TIMED_OUT"


class Ec2Wait(BaseTrigger):
    """Look at an instance or an image until its state is none of those waited out.

    The first look comes after an interval: an event that arrives while the scheduler still files the deferral
    away fails a good task. An API that does not answer is borne for a while. Nothing is ended where a person decides
    that the task is over: the run's teardown finds the instance by its tags.
    """

    def __init__(self, kind: Literal["instance", "image"], name: str, while_in: list[str], give_up: float) -> None:
        """``give_up`` is the time (seconds since the epoch) at which the event says TIMED_OUT."""
        super().__init__()
        self.kind, self.name = kind, name
        self.while_in, self.give_up = list(while_in), give_up

    def serialize(self) -> tuple[str, dict[str, Any]]:
        values = {"kind": self.kind, "name": self.name, "while_in": self.while_in, "give_up": self.give_up}
        return f"{type(self).__module__}.{type(self).__name__}", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        started = seen = time.time()
        while True:
            await asyncio.sleep(min(SLOWEST_LOOK_SECONDS, FIRST_LOOK_SECONDS + (time.time() - started) / 60))
            try:
                state, why = await asyncio.to_thread(self._look)
                seen = time.time()
            except (BotoCoreError, ClientError) as error:
                if time.time() - seen > BLIND_SECONDS:
                    raise
                log.warning("EC2 did not answer, looking again: %s", error)
                continue
            if state not in self.while_in:
                yield TriggerEvent({"state": state, "why": why})
                return
            if time.time() > self.give_up:
                yield TriggerEvent({"state": TIMED_OUT, "why": f"it was still {state}"})
                return

    def _look(self) -> tuple[str, str]:
        from shardmill.adapters.baking import image_state, instance_state

        look = {"instance": instance_state, "image": image_state}[self.kind]
        return look(client("ec2"), self.name)
