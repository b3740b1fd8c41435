"""Telling people of a run, by Airflow's own notifiers: when it failed, is late, or cost more than planned.

Whom, the form says, section *Notify*; what it leaves empty, three variables of the environment say for all runs.
What is told may hold text of strangers, so no notifier renders it as a template: ``notify`` is called directly.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert

from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.notify import NotifySpec
from shardmill_airflow.channels import CHANNELS, send
from shardmill_airflow.deadlines import WITHIN, RunDeadline, hours_of
from shardmill_airflow.outcomes import FAILURE

if TYPE_CHECKING:
    from airflow.sdk import Param


log = logging.getLogger(__name__)


def variable_of(field: str) -> str:
    """Name the variable of the environment that says whom to tell where a form leaves the field empty."""
    return f"SHARDMILL_{field.upper()}"


def recipients(params: Mapping[str, Any] | None) -> NotifySpec:
    """Read whom to tell, from a form or what a run was triggered with; a wrong field there stops no other channel."""
    asked = {name: value for name, value in (params or {}).items() if name in NotifySpec.model_fields}
    values = {name: value for name, value in asked.items() if value not in (None, "")}
    for name in CHANNELS:
        if name not in values and os.environ.get(variable_of(name)):
            values[name] = os.environ[variable_of(name)]
    try:
        return read_spec(NotifySpec, values)
    except MistakesError as error:
        log.error("not everybody is told: %s", error)
        wrong = {mistake.field for mistake in error.mistakes}
        return read_spec(NotifySpec, {name: value for name, value in values.items() if name not in wrong})


def tell_failure(context: Any) -> None:
    """Tell of a failed run: which tasks failed, and why. Runs in Airflow's DAG processor, once a run."""
    from shardmill.core.notices import failure_notice

    dag, dag_run = context["dag"], context.get("dag_run")
    asked = recipients(_params(context))
    if not any(getattr(asked, name) for name in CHANNELS):
        return
    run_id = dag_run.run_id if dag_run else context.get("run_id", "")
    causes = _causes(context, dag.dag_id, run_id) or {"the run": str(context.get("reason") or "see its tasks")}
    send(asked, failure_notice(dag.dag_id, run_id, causes, run_url(dag.dag_id, run_id)))


def _params(context: Any) -> dict[str, Any]:
    """Give the run's own values over the defaults of its form."""
    defaults = context["dag"].params.dump()
    dag_run = context.get("dag_run")
    return defaults | dict((dag_run.conf if dag_run else None) or {})


def _causes(context: Any, dag_id: str, run_id: str) -> dict[str, str]:
    """Give the message of each failed task, as ``remember_failure`` left it."""
    ti = context.get("ti")
    if ti is None:
        return {}
    found = {}
    try:
        states = ti.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
        for name in [name for name, state in states.items() if state == "failed"]:
            task_id, index = _task_and_index(name, context["dag"].task_ids)
            found[name] = str(ti.xcom_pull(task_ids=task_id, key=FAILURE, map_indexes=index) or "see its log")
    except Exception as error:  # noqa: BLE001  (that the run failed is told all the same)
        log.warning("the causes are not to be read: %s", error)
    return found


def _task_and_index(name: str, task_ids: list[str]) -> tuple[str, int]:
    task_id, _, index = name.rpartition("_")
    return (name, -1) if name in task_ids or not index.isdigit() else (task_id, int(index))


def run_url(dag_id: str, run_id: str) -> str:
    """Give the page of a run in Airflow's UI."""
    from airflow.configuration import conf

    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
    return f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"


async def tell_late(context: Any, default_hours: float = 0.0, defaults: Mapping[str, Any] | None = None) -> None:
    """Tell of a run that is not over in time. Runs in Airflow's triggerer.

    Args:
        defaults: the form's own, section *Notify*: a run by schedule was triggered with nothing.
    """
    from shardmill.core.notices import late_notice

    run = context["dag_run"]
    if run.get("state") not in ("queued", "running"):
        return  # it ended before; Airflow keeps the deadline of a run that failed
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    asked = recipients({**(defaults or {}), **(run.get("conf") or {})})
    if not any(getattr(asked, name) for name in CHANNELS):
        log.warning("%s is late, and nobody is named who is to be told: %s", dag_id, run_id)
        return
    notice = late_notice(dag_id, run_id, hours_of(run.get("conf"), default_hours), run_url(dag_id, run_id))
    await asyncio.to_thread(send, asked, notice)


def watched(form: Mapping[str, Param]) -> dict[str, Any]:
    """Give what a DAG declares so that people are told of its runs.

    Args:
        form: the DAG's; its defaults hold for runs that do not say themselves, such as those by schedule.
    """
    defaults = {name: form[name].value for name in NotifySpec.model_fields if name in form}
    hours = hours_of(defaults, 0.0)
    callback = AsyncCallback(tell_late, {"default_hours": hours, "defaults": defaults})
    alert = DeadlineAlert(reference=RunDeadline(hours), interval=WITHIN, callback=callback, name="late")
    return {"on_failure_callback": tell_failure, "deadline": alert}
