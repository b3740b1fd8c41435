"""What is told to people who do not sit before Airflow: a failed run, a late one, one that cost more than planned."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from shardmill.specs.run import RunClusters
from shardmill.specs.spent import RunSpent

LONGEST_SUBJECT = 100
"""Characters; SNS takes no more, and only of ASCII."""
LONGEST_LINE = 700
MOST_LINES = 12


@dataclass(frozen=True)
class Notice:
    """A subject, lines below it, and where to look. Lines may hold text of strangers: it is data to all channels."""

    subject: str
    lines: tuple[str, ...] = ()
    url: str = ""
    """The run's page in Airflow."""

    @property
    def short_subject(self) -> str:
        """The subject as a header may hold it: one line of ASCII, not endless."""
        plain = "".join(one if one.isascii() and one.isprintable() else "?" for one in self.subject)
        return plain if len(plain) <= LONGEST_SUBJECT else f"{plain[: LONGEST_SUBJECT - 3]}..."

    @property
    def text(self) -> str:
        """All of it as plain text."""
        left = len(self.lines) - MOST_LINES
        shown = [_fit(line) for line in self.lines[:MOST_LINES]] + ([f"… and {left} more"] if left > 0 else [])
        return "\n".join(filter(None, (_fit(self.subject), *shown, self.url)))

    @property
    def html(self) -> str:
        """All of it as a piece of HTML in which nothing but line ends is HTML."""
        return html.escape(self.text).replace("\n", "<br>\n")

    @property
    def slack(self) -> str:
        """All of it as Slack takes it: no text of strangers calls a channel or hides a link."""
        return self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fit(line: str) -> str:
    plain = "".join(one if one.isprintable() else " " for one in line)
    return plain if len(plain) <= LONGEST_LINE else f"{plain[: LONGEST_LINE - 1]}…"


def failure_notice(dag_id: str, run_id: str, causes: Mapping[str, str], url: str = "") -> Notice:
    """Tell of a failed run.

    Args:
        causes: the message of each failed task, its first line first.
    """
    lines = [f"{task}: {cause.strip().partition(chr(10))[0]}" for task, cause in causes.items()]
    more = [
        f"    {line}" for cause in causes.values() for line in cause.strip().splitlines()[1:MOST_LINES] if line.strip()
    ]
    return Notice(f"{dag_id} failed: {run_id}", (*lines, *(more if len(causes) == 1 else ())), url)


def late_notice(dag_id: str, run_id: str, hours: float, url: str = "") -> Notice:
    """Tell of a run that is not over in time."""
    return Notice(
        f"{dag_id} is late: {run_id}", (f"it is not over {hours:g} hours after it was queued; it goes on",), url
    )


def spending_notice(run: str, planned: RunClusters, spent: RunSpent, url: str = "") -> Notice | None:
    """Tell of a run whose clusters came to more than was expected at most; None where they did not.

    Where nothing was known of the work, the plan is what they cost at their deadline.
    """
    known = [cluster.usd for cluster in planned.clusters]
    expected = [span[1] for span in known if span is not None]
    plan = (
        sum(expected)
        if len(expected) == len(known)
        else sum(cluster.usd_an_hour * planned.max_hours for cluster in planned.clusters)
    )
    if not spent.clusters or spent.usd <= plan * 1.005 + 0.005:
        return None
    lines = [f"its clusters came to {spent.usd:.2f} USD; the plan was {plan:.2f} USD at most"]
    lines += [f"{one.work}: {one.id}, {one.hours:.2f} hours, {one.usd:.2f} USD, {one.state}" for one in spent.clusters]
    lines += [f"{one.id} has not ended: it goes on to cost" for one in spent.alive]
    return Notice(f"{run} cost more than planned: {spent.usd:.2f} USD", tuple(lines), url)
