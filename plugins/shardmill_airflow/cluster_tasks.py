"""Tasks that bring up a run's cluster, and that end it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from shardmill_airflow.cluster_use import READ_ATTEMPTS, ClusterTask, Event, Term, told_surplus
from shardmill_airflow.connections import client, store_settings
from shardmill_airflow.outcomes import attempt_of, cleared_after, failing_for_good, summarise
from shardmill_airflow.run_clusters import asked_since, cluster_name, folder_of, run_of, why_none
from shardmill_airflow.tasks import open_run
from shardmill_airflow.triggers import EmrWait, Pause

if TYPE_CHECKING:
    from shardmill.stages import OpenRun
    from shardmill_airflow.run_clusters import Work

SETTLE_SECONDS = 15.0
"""A request whose sender was killed takes effect within so long."""
CLOCKS_APART = 300.0
"""Seconds between a worker's clock and that of the lake, at most."""


class CreateCluster(ClusterTask):
    """Bring up the run's cluster for some work, or join the one that an earlier try brought up."""

    def execute(self, context: Any) -> None:
        opened = open_run(self.spec_uri)
        if why := why_none(opened, self.work):
            line = f"nothing to do: {why}, no cluster is made"
            self.log.info("%s", line)
            summarise(context, line, None)
            return
        with failing_for_good():
            self.bring_up(context, opened, self._term(context["ti"], opened), "come_up")

    def _term(self, ti: Any, opened: OpenRun) -> Term:
        """Give the deadline that an earlier try set; whoever clears the task gives its cluster the full time again.

        What was made before the last clearing tells nothing, even where the first try behind it made no cluster.
        """
        from shardmill.core.cluster_lives import SHORTEST_LIFE, agreed_deadline

        retries = self.retries or 0
        cleared = cleared_after(ti.max_tries, retries)
        if attempt_of(ti.try_number, ti.max_tries, retries) == 1:
            return Term(None, cleared)
        lives = self.lives(opened)
        deadline = agreed_deadline([life for life in lives if life.cleared_after == cleared])
        if deadline and deadline - datetime.now(UTC) < SHORTEST_LIFE and not any(life.alive for life in lives):
            raise AirflowFailException(f"max_hours: the cluster did not come up before its deadline {deadline}")
        return Term(deadline, cleared)

    def come_up(
        self, context: Any, cluster_id: str, started: float, surplus: list[str], event: Event | None = None
    ) -> str:
        """Go on where the cluster is up, or fail with the reason and what to do."""
        with failing_for_good():
            self.check_up(cluster_id, event)
        line = f"{cluster_id} is up{told_surplus([*surplus, *(event or {}).get('surplus', ())])}"
        summarise(context, line, round(time.time() - started, 1))
        return cluster_id


class DeleteCluster(BaseOperator):
    """End every live cluster of the run for some work, found by name and by tags whatever became of the tasks before.

    It waits until they are gone, needs nothing but EMR, and tries for hours: a teardown that gives up leaves a cluster
    that costs money.
    """

    template_fields = ("spec_uri", "work")

    def __init__(self, *, spec_uri: Any, work: Work = "train", **kwargs: Any) -> None:
        patience: dict[str, Any] = {
            "retries": 10,
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=15),
        }
        super().__init__(**patience | kwargs)
        self.spec_uri, self.work = spec_uri, work

    def execute(self, context: Any) -> None:
        self._end(context, [], settled=False)

    def look_again(self, context: Any, ended: list[str], event: Event | None = None) -> None:
        """Take nothing for granted: list once more, end what is left."""
        self._end(context, ended, settled=True)

    def _end(self, context: Any, ended: list[str], *, settled: bool) -> None:
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.crash_points import pass_point

        run = run_of(self.spec_uri)
        pass_point("end_seen" if settled else "end_wanted", run)
        folder = folder_of(self.spec_uri)
        name, tags = cluster_name(folder, self.work), {"shardmill": "run", "folder": folder, "work": self.work}
        left = clusters.end_clusters(client("emr", attempts=READ_ATTEMPTS), name, tags)
        if left:
            pass_point("end_asked", run)
            self.log.info("ending %s", ", ".join(left))
            self.defer(
                trigger=EmrWait(left[0], while_in=[*clusters.ALIVE, "TERMINATING"], give_up=time.time() + 1200),
                method_name="look_again",
                kwargs={"ended": sorted({*ended, *left})},
            )
        if not settled and self._may_come():
            self.defer(trigger=Pause(SETTLE_SECONDS), method_name="look_again", kwargs={"ended": []})
        line = f"ended {', '.join(ended)}" if ended else "nothing to do: no cluster of this run is alive"
        summarise(context, line, None)
        self.log.info("%s", line)

    def _may_come(self) -> bool:
        """Say whether a cluster may be on its way whose sender was just killed; so it may where nobody can tell."""
        from shardmill.adapters.store import StoreError

        try:
            return asked_since(self.spec_uri, self.work, time.time() - SETTLE_SECONDS - CLOCKS_APART, store_settings())
        except StoreError as error:
            self.log.info("whether a cluster was asked for is not to be read, so it may be: %s", error)
            return True
