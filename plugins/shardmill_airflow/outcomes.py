"""What a task leaves behind for the report and the UI: a line, its seconds, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy, get_current_context
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from shardmill.adapters.emr import EmrError
    from shardmill.core.failures import Diagnosis

SUMMARY = "summary"
FAILURE = "failure"
FIRST_BACK_OFF = timedelta(seconds=30)
LONGEST_BACK_OFF = timedelta(minutes=15)
TRIES_OF_A_JOB = 2


def remember_failure(context: Any) -> None:
    """Keep the message of a failed task, so that the report can name the cause."""
    error = context.get("exception")
    if error is not None:
        text = str(error)
        # The cause and what to do stand at the top, the last lines of logs below.
        context["ti"].xcom_push(FAILURE, text if len(text) <= 4000 else f"{text[:1500]}\n…\n{text[-2500:]}")


@contextmanager
def summarised() -> Iterator[list[str]]:
    """Collect lines about what a task did; the last one and the seconds stay with the task."""
    lines: list[str] = []
    started = time.monotonic()
    yield lines
    seconds = round(time.monotonic() - started, 1)
    line = lines[-1] if lines else "done"
    summarise(get_current_context(), line, seconds)


def summarise(context: Any, line: str, seconds: float | None) -> None:
    """Leave a line with the task."""
    context["ti"].xcom_push(SUMMARY, {"line": line, "seconds": seconds})


@contextmanager
def failing_for_good(*more: type[Exception]) -> Iterator[None]:
    """Fail at once, without another try, where the request or the data is what is wrong.

    What AWS answers to a call is told as cause and remedy.

    Args:
        more: errors of this kind that only one stage knows.
    """
    from botocore.exceptions import ClientError

    from shardmill.adapters.emr import EmrError, RefusedError
    from shardmill.core.costs import BudgetError
    from shardmill.core.failures import explain, of_call
    from shardmill.core.planning import BadRequestError

    hopeless: tuple[type[Exception], ...] = (BadRequestError, BudgetError, RefusedError, *more)
    try:
        yield
    except hopeless as error:
        raise AirflowFailException(str(error)) from error
    except ClientError as error:
        told = error.response.get("Error", {})
        diagnosis = of_call(told.get("Code", ""), told.get("Message", ""))
        raise failure(EmrError, explain(str(error), diagnosis), diagnosis) from error


def failure(kind: type[EmrError], message: str, diagnosis: Diagnosis) -> Exception:
    """Make the error that a task fails by: for good, or by one that ``Patience`` knows what to do about."""
    return AirflowFailException(message) if diagnosis.policy == "fail" else kind(message, diagnosis)


class Patience(RetryPolicy):
    """Try again by what is likely to be the cause.

    What may change by itself (capacity, quota, throttling) is tried later and later; what the job itself did is
    tried once more only, for each try costs as much as the first; a lost cluster is tried again at the task's pace.
    """

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        diagnosis: Diagnosis | None = getattr(exception, "diagnosis", None)
        if diagnosis is None:
            return RetryDecision.default()
        retries = context["ti"].task.retries if context else max_tries
        attempt = attempt_of(try_number, max_tries, retries)
        if diagnosis.ours and attempt >= TRIES_OF_A_JOB:
            return RetryDecision.fail(f"it failed {attempt} times: {diagnosis.cause or 'see its last lines'}")
        if diagnosis.policy == "back_off":
            delay = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2 ** min(attempt - 1, 10))
            return RetryDecision.retry(delay, diagnosis.cause)
        return RetryDecision.retry(reason=diagnosis.cause or "it may have been an accident")

    def serialize(self) -> dict[str, Any]:
        return {}


def attempt_of(try_number: int, max_tries: int, retries: int) -> int:
    """Count a task's tries since it first ran or was last cleared, from 1; Airflow itself counts over all of them."""
    return max(1, try_number - cleared_after(max_tries, retries))


def cleared_after(max_tries: int, retries: int) -> int:
    """Count the tries that a task had had when it was last cleared; 0 where it never was.

    It is the same for all tries from one clearing to the next.
    """
    return max(0, max_tries - retries)
