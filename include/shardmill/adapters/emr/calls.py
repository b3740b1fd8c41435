"""Calls that make something: sent once, for a second one would make a second thing; then looked for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from shardmill.core import failures
from shardmill.core.failures import Diagnosis

PAUSES = (2.0, 4.0, 8.0)
"""Seconds before a call is sent again that AWS did not take in because it was asked too often."""
_REFUSED = ("ValidationException", "InvalidRequestException", "AccessDeniedException")


class RefusedError(ValueError):
    """AWS refused what was asked; trying again does not help."""


class EmrError(RuntimeError):
    """Something failed that another try may mend."""

    def __init__(self, message: str, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


class ClusterLostError(EmrError):
    """The cluster ended before its work was done."""


class StepFailedError(EmrError):
    """A step did not complete; the message holds its last lines."""


def send_once(call: Callable[[], str], what: str) -> tuple[str, Exception | None]:
    """Send a call whose client never sends twice.

    Where AWS says that it is asked too often, nothing was made: it is sent again, a few times.

    Returns:
        The id of what was made, and no error; or an empty id and the error after which nobody knows.

    Raises:
        RefusedError: AWS refused it.
    """
    for pause in (*PAUSES, None):
        try:
            return call(), None
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code in _REFUSED:
                told = failures.explain(f"EMR refused {what}: {message}", failures.of_call(code, message))
                raise RefusedError(told) from error
            if code not in failures.THROTTLED or pause is None:
                return "", error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - it only spreads the calls
        except ParamValidationError as error:  # it was not sent
            raise RefusedError(f"{what} is not what EMR takes: {error}") from error
        except BotoCoreError as error:  # no answer: it may have taken effect
            return "", error
    raise AssertionError("unreachable")
