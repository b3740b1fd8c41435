"""Who is told of a run, and when. Part of every trigger form; no secret stands here, only names of connections."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from shardmill.specs.value import Spec, in_section

MOST_ADDRESSES = 20
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

Topic = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]{0,20}:sns:[a-z0-9-]{1,32}:\d{12}:[A-Za-z0-9_-]{1,256})?$",
        examples=["arn:aws:sns:us-east-1:123456789012:shardmill"],
    ),
]
Channel = Annotated[
    str, Field(pattern=r"^(#?[a-z0-9][a-z0-9._-]{0,79}|[CDG][A-Z0-9]{6,20})?$", examples=["#ml-nightly", "C0123456789"])
]
ConnectionId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,200}$", examples=["slack_api_default"])]


def split_addresses(text: str) -> tuple[str, ...]:
    """Read addresses with commas between them."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _check_addresses(text: str) -> str:
    found = split_addresses(text)
    if wrong := [item for item in found if _ADDRESS.fullmatch(item) is None or ".." in item]:
        raise ValueError(f"expected addresses such as ann@example.com, a comma between them, found {wrong[0]!r}")
    if len(found) > MOST_ADDRESSES:
        raise ValueError(f"expected at most {MOST_ADDRESSES} addresses, found {len(found)}")
    return ",".join(found)


Addresses = Annotated[str, AfterValidator(_check_addresses)]


class NotifySpec(Spec):
    """Who is told when a run failed, is late, or costs more than was planned."""

    notify_sns: Topic = in_section("Notify", "", title="SNS topic (ARN)")
    """Topic that is told, by the connection `aws_default`; empty for none."""
    notify_slack: Channel = in_section("Notify", "", title="Slack channel")
    """Channel that is told; empty for none."""
    notify_slack_connection: ConnectionId = in_section("Notify", "slack_api_default", title="Slack connection")
    """Airflow connection of type Slack API, which holds the token."""
    notify_email: Addresses = in_section("Notify", "", title="E-mail", examples=["ann@example.com,bob@example.com"])
    """Addresses that are told, a comma between them; empty for none."""
    notify_email_connection: ConnectionId = in_section(
        "Notify", "smtp_default", title="E-mail connection", examples=["smtp_default"]
    )
    """Airflow connection of type SMTP, which holds server, sender and password."""
    notify_after_hours: float = in_section("Notify", 0.0, title="Late after (hours)", ge=0, le=168)
    """Tell when the run is not over so many hours after it was queued; it goes on. 0 for never."""
