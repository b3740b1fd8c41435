"""The channels by which people are told, by Airflow's own notifiers; one that hangs keeps nothing from the others."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from shardmill.specs.notify import NotifySpec, split_addresses
from shardmill_airflow.connections import AWS_CONNECTION

if TYPE_CHECKING:
    from shardmill.core.notices import Notice
    from shardmill.specs.value import Spec

log = logging.getLogger(__name__)
CHANNELS = ("notify_sns", "notify_slack", "notify_email")
PACKAGES = {
    "notify_sns": ("airflow.providers.amazon.aws.notifications.sns", "apache-airflow-providers-amazon"),
    "notify_slack": ("airflow.providers.slack.notifications.slack", "apache-airflow-providers-slack"),
    "notify_email": ("airflow.providers.smtp.notifications.smtp", "apache-airflow-providers-smtp"),
}
"""Module and package of each channel's notifier."""
LIMIT_SECONDS = 20.0
"""For all channels together: Airflow ends the DAG processor's process, and what it was telling, after 50."""


def check_channels(asked: Spec) -> None:
    """Refuse a channel whose notifier is not installed. Raises AirflowFailException that names the field."""
    for name in CHANNELS:
        if getattr(asked, name, ""):
            _notifier_class(name)


def _notifier_class(channel: str) -> Any:
    import importlib

    module, package = PACKAGES[channel]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AirflowFailException(
            f"{channel}: its notifier is not installed here ({error}): install {package}, or leave the field empty"
        ) from error


def _sns(asked: NotifySpec, notice: Notice) -> Any:
    from botocore.config import Config

    arn = asked.notify_sns
    module = _notifier_class("notify_sns")
    notifier = module.SnsNotifier(
        aws_conn_id=AWS_CONNECTION,
        region_name=arn.split(":")[3],
        target_arn=arn,
        subject=notice.short_subject,
        message=notice.text,
    )
    # The notifier takes no timeouts; its hook is made once, and may be given. Two tries fit into the limit.
    short = Config(connect_timeout=4, read_timeout=5, retries={"total_max_attempts": 2})
    notifier.hook = module.SnsHook(aws_conn_id=AWS_CONNECTION, region_name=notifier.region_name, config=short)
    return notifier


def _slack(asked: NotifySpec, notice: Notice) -> Any:
    return _notifier_class("notify_slack").SlackNotifier(
        slack_conn_id=asked.notify_slack_connection,
        channel=asked.notify_slack,
        text=notice.slack,
        username="Shardmill",
        timeout=int(LIMIT_SECONDS / 2),
        unfurl_links=False,
        unfurl_media=False,
    )


def _email(asked: NotifySpec, notice: Notice) -> Any:
    return _notifier_class("notify_email").SmtpNotifier(
        smtp_conn_id=asked.notify_email_connection,
        to=list(split_addresses(asked.notify_email)),
        subject=notice.short_subject,
        html_content=notice.html,
    )


NOTIFIERS: Mapping[str, Callable[[NotifySpec, Notice], Any]] = {
    "notify_sns": _sns,
    "notify_slack": _slack,
    "notify_email": _email,
}


@dataclass
class _Telling:
    """A channel that is being told, in a thread that nobody has to wait for."""

    name: str
    notifier: Any
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def begin(self) -> None:
        # Airflow keeps in the context by which way connections are read.
        work = contextvars.copy_context().run
        threading.Thread(target=work, args=(self._tell,), name=self.name, daemon=True).start()

    def _tell(self) -> None:
        try:
            self.notifier.notify({})
        except Exception as error:  # noqa: BLE001  (whatever a channel answers: the others are told)
            self.error = error
        self.over.set()


def send(asked: NotifySpec, notice: Notice) -> tuple[str, ...]:
    """Tell everybody who is named, all at once, for `LIMIT_SECONDS` at most.

    A channel that fails or does not answer is logged, and disturbs neither the others nor the run.

    Returns:
        The channels that took it.
    """
    begun = list(_begun(asked, notice))
    until = time.monotonic() + LIMIT_SECONDS
    return tuple(one.name for one in begun if _took_it(one, until, notice))


def _begun(asked: NotifySpec, notice: Notice) -> Iterator[_Telling]:
    for name, notifier in NOTIFIERS.items():
        if not getattr(asked, name):
            continue
        try:
            telling = _Telling(name, notifier(asked, notice))
            telling.begin()
        except Exception as error:  # noqa: BLE001  (a notifier that cannot be made: the others are told)
            log.error("%s was not told: %s: %s", name, type(error).__name__, error)
        else:
            yield telling


def _took_it(one: _Telling, until: float, notice: Notice) -> bool:
    if not one.over.wait(max(0.0, until - time.monotonic())):
        log.error("%s was not told: no answer in %.0f s", one.name, LIMIT_SECONDS)
        return False
    if one.error is not None:
        log.error("%s was not told: %s: %s", one.name, type(one.error).__name__, one.error)
        return False
    log.info("%s was told: %s", one.name, notice.short_subject)
    return True
