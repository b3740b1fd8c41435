"""What a task leaves behind for the report and the UI: a line, its seconds, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

SUMMARY = "summary"
FAILURE = "failure"


def remember_failure(context: Any) -> None:
    """Keep the message of a failed task, so that the report can name the cause."""
    error = context.get("exception")
    if error is not None:
        context["ti"].xcom_push(FAILURE, str(error)[-4000:])


@contextmanager
def summarised() -> Iterator[list[str]]:
    """Collect lines about what a task did; the last one and the seconds stay with the task."""
    lines: list[str] = []
    started = time.monotonic()
    yield lines
    seconds = round(time.monotonic() - started, 1)
    line = lines[-1] if lines else "done"
    get_current_context()["ti"].xcom_push(SUMMARY, {"line": line, "seconds": seconds})


@contextmanager
def failing_for_good(*more: type[Exception]) -> Iterator[None]:
    """Fail at once, without another try, where the request or the data is what is wrong.

    Args:
        more: errors of this kind that only one stage knows.
    """
    from shardmill.adapters.emr import RefusedError
    from shardmill.core.planning import BadRequestError

    hopeless: tuple[type[Exception], ...] = (BadRequestError, RefusedError, *more)
    try:
        yield
    except hopeless as error:
        raise AirflowFailException(str(error)) from error
