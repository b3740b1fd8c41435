"""What goes on beside a wait for EMR: the step's output is shown, and a surplus is ended. Neither may disturb it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, TypedDict

from shardmill_airflow.connections import client, store_settings

if TYPE_CHECKING:
    from shardmill.adapters.step_output import StepOutput
    from shardmill.adapters.store import StoreSettings

log = logging.getLogger(__name__)
SURPLUS_SECONDS = 30.0
OUTPUT_SECONDS = 5.0
SLOWEST_OUTPUT_SECONDS = 20.0
LATE_LOGS_SECONDS = 300.0
"""EMR sends the last of a step's logs within a few minutes."""
LATE_LOGS_LOOK_SECONDS = 10.0
CLOCKS_APART = 30.0
"""Seconds between the clocks of S3 and EMR, at most."""


class Watched(TypedDict, total=False):
    """What a wait looks after beside its state; what is not named is not looked after."""

    name: str
    """Of the cluster: of several that are alive by this name one is to be left."""
    step_name: str
    log_uri: str
    """Where EMR puts the cluster's logs."""


async def watch_for_surplus(cluster_id: str, watched: Watched, surplus: list[str], ended: asyncio.Event) -> None:
    """End second clusters and steps of the same name, now and then and once more at the end; note their ids."""
    emr: Any = None
    while watched.get("name"):
        last = await _interval(ended, SURPLUS_SECONDS)
        try:
            emr = emr or await asyncio.to_thread(client, "emr")
            for found in await asyncio.to_thread(_end_surplus, emr, cluster_id, watched):
                if found not in surplus:
                    surplus.append(found)
                    log.warning("ending %s: it was made a second time by a request whose sender was killed", found)
        except Exception as error:  # noqa: BLE001  (the wait goes on; the next look, the teardown or the reaper does it)
            log.warning("could not look for a surplus, looking again: %s", error)
            emr = None
        if last:
            return


def _end_surplus(emr: Any, cluster_id: str, watched: Watched) -> list[str]:
    from shardmill.adapters.emr import cancel_surplus, end_surplus

    found = list(end_surplus(emr, watched["name"]))
    if watched.get("step_name") and cluster_id not in found:
        found += cancel_surplus(emr, cluster_id, watched["step_name"])
    return found


async def follow_output(cluster_id: str, step_id: str, watched: Watched, ended: asyncio.Event) -> None:
    """Show what the step writes in the task's log, until it has ended and its last lines are there."""
    if not watched.get("log_uri"):
        return
    started = time.monotonic()
    output: StepOutput | None = None
    while True:
        pace = min(SLOWEST_OUTPUT_SECONDS, OUTPUT_SECONDS + (time.monotonic() - started) / 60)
        last = await _interval(ended, pace)
        try:
            if output is None:
                output = await asyncio.to_thread(_open_output, cluster_id, step_id, watched["log_uri"])
            for line in await asyncio.to_thread(_look, output, last):
                log.info("%s", line)
        except Exception as error:  # noqa: BLE001  (the wait goes on, whatever becomes of the logs)
            log.info("the step's output is not to be read now: %s", error)
        if last:
            return


def _open_output(cluster_id: str, step_id: str, log_uri: str) -> StepOutput:
    from shardmill.adapters.step_output import StepOutput

    return StepOutput(log_uri, cluster_id, step_id, store_settings())


def _look(output: StepOutput, last: bool) -> list[str]:
    return output.look(last=last)


async def await_late_logs(cluster_id: str, step_id: str, watched: Watched) -> None:
    """Wait until EMR sent the logs of a failed step, which name the cause, but not for long."""
    if not watched.get("log_uri"):
        return
    until = time.monotonic() + LATE_LOGS_SECONDS
    try:
        end, settings = await asyncio.to_thread(_end_and_settings, cluster_id, step_id)
        while end and not await asyncio.to_thread(_logs_are_there, cluster_id, step_id, watched, end, settings):
            if time.monotonic() > until:
                log.info("the logs of the failed step are not all there yet: what is there is shown")
                return
            await asyncio.sleep(LATE_LOGS_LOOK_SECONDS)
    except Exception as error:  # noqa: BLE001  (that the step failed is known, and is told)
        log.info("the logs of the failed step are not to be read now: %s", error)


def _end_and_settings(cluster_id: str, step_id: str) -> tuple[float | None, StoreSettings]:
    from shardmill.adapters.emr import step_end

    return step_end(client("emr"), cluster_id, step_id), store_settings()


def _logs_are_there(cluster_id: str, step_id: str, watched: Watched, end: float, settings: StoreSettings) -> bool:
    from shardmill.adapters.step_output import logs_since

    return logs_since(watched["log_uri"], cluster_id, step_id, end - CLOCKS_APART, settings)


async def _interval(ended: asyncio.Event, seconds: float) -> bool:
    """Let an interval pass; say whether the wait ended in it."""
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    return True
