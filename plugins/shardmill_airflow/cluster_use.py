"""What the tasks share that use a run's cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException

from shardmill_airflow.connections import client, store_settings
from shardmill_airflow.links import PLACE, ConsoleLink, LogsLink, history_url, place_of
from shardmill_airflow.outcomes import Patience, failure
from shardmill_airflow.reaping import with_run_tags
from shardmill_airflow.run_clusters import cluster_name, cluster_spec, executors, folder_of, note_request, run_of
from shardmill_airflow.triggers import TIMED_OUT, EmrWait

if TYPE_CHECKING:
    from shardmill.core.cluster_lives import ClusterLife
    from shardmill.stages import OpenRun
    from shardmill_airflow.run_clusters import Work

COMING_UP = ["STARTING", "BOOTSTRAPPING"]
COMING_UP_SECONDS = 45 * 60
READ_ATTEMPTS = 8
"""Of a call that changes nothing, or may be sent twice; botocore makes the pauses between them longer and longer."""
_RUN_STARTED_BEFORE = timedelta(minutes=10)
Event = dict[str, Any]
"""What a trigger says: state, why, and what it ended as made a second time."""


@dataclass(frozen=True)
class Term:
    """How long a cluster that is made may live, and since which clearing of the run that holds."""

    deadline: datetime | None
    """That of an earlier cluster in whose place it is; None for one of its own."""
    cleared_after: int
    """Tries that the task which creates the cluster had had when it was last cleared."""


class ClusterTask(BaseOperator):
    """What the tasks share that use a run's cluster for some work: they can bring it up, and bring it up again."""

    template_fields: Sequence[str] = ("spec_uri", "work")
    operator_extra_links: Collection[BaseOperatorLink] = (ConsoleLink(), LogsLink())

    def __init__(self, *, spec_uri: Any, work: Work = "train", **kwargs: Any) -> None:
        patience: dict[str, Any] = {
            "retries": 6,
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=15),
            "retry_policy": Patience(),
        }
        super().__init__(**patience | kwargs)
        self.spec_uri, self.work = spec_uri, work
        self.killed = False
        self._undo: Callable[[], None] | None = None

    @property
    def cluster(self) -> str:
        """The name of the run's cluster for this work."""
        return cluster_name(folder_of(self.spec_uri), self.work)

    def bring_up(self, context: Any, opened: OpenRun, term: Term, then: str) -> None:
        """Create the cluster, or join the one that is there, and wait for it without a worker.

        Args:
            term: of the cluster, where it is made.
            then: the method that goes on, with ``cluster_id``, ``started`` and ``event``.
        """
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.code_archive import ship_scripts
        from shardmill.adapters.crash_points import pass_point
        from shardmill.adapters.images import check_image_for
        from shardmill.core.cluster_lives import CLEARED_AFTER
        from shardmill.core.emr_request import cluster_request
        from shardmill.core.requested_nodes import requested_types
        from shardmill.specs.cluster import has_gpus

        run, emr, ec2 = opened.run, client("emr", attempts=READ_ATTEMPTS), client("ec2")
        image_id = run.on_cluster.image_id or clusters.newest_image(ec2, gpus=has_gpus(run.on_cluster.core_type))
        executors(run, self.work, ec2)  # what cannot be asked of these nodes is told before they cost
        ship_scripts(opened.lake)  # the nodes fetch them when they boot
        spec = cluster_spec(run, self.work, image_id, emr.meta.region_name, term.deadline)
        request = with_run_tags(cluster_request(spec), context, {CLEARED_AFTER: str(term.cleared_after)})
        types, volume = requested_types(request), request["EbsRootVolumeSize"]
        check_image_for(ec2, image_id, spec.release_label, types, volume, opened.lake)
        note_request(opened, self.work)
        pass_point("cluster_wanted", run.run)
        cluster_id, created = clusters.ensure_cluster(emr, client("emr", attempts=1), request)
        pass_point("cluster_asked", run.run)
        self.hold(lambda: clusters.terminate(emr, [cluster_id]))
        self.record(context, emr, cluster_id, request["LogUri"])
        pass_point("cluster_recorded", run.run)
        self.log.info("%s cluster %s (%s)", "created" if created else "joined", cluster_id, request["Name"])
        surplus = self.end_surplus(emr)
        self.hand_over()
        now = time.time()
        self.defer(
            trigger=EmrWait(
                cluster_id,
                while_in=COMING_UP,
                give_up=now + COMING_UP_SECONDS,
                watched={"name": request["Name"], "log_uri": request["LogUri"]},
            ),
            method_name=then,
            kwargs={"cluster_id": cluster_id, "started": now, "surplus": surplus},
        )

    def end_surplus(self, emr: Any) -> list[str]:
        """End what was made a second time beside the run's cluster: it costs, and nobody works on it."""
        from shardmill.adapters.emr import end_surplus

        if surplus := end_surplus(emr, self.cluster):
            self.log.warning("ending %s: made a second time", ", ".join(surplus))
        return list(surplus)

    def check_up(self, cluster_id: str, event: Event | None) -> None:
        """Take the cluster's state for what it is: only WAITING and RUNNING are up."""
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.crash_points import pass_point
        from shardmill.core.failures import explain, of_cluster

        state = (event or {}).get("state", "unknown")
        if state == TIMED_OUT:
            clusters.terminate(client("emr", attempts=READ_ATTEMPTS), [cluster_id])
            diagnosis = of_cluster("INSTANCE_FLEET_TIMEOUT", "")
            minutes = COMING_UP_SECONDS // 60
            told = explain(f"cluster {cluster_id} was not up after {minutes} minutes, and is ended", diagnosis)
            raise failure(clusters.ClusterLostError, told, diagnosis)
        if state not in ("WAITING", "RUNNING"):
            raise self.lost(cluster_id)
        self.log.info("cluster %s is %s", cluster_id, state)
        pass_point("cluster_up", run_of(self.spec_uri))

    def lost(self, cluster_id: str) -> Exception:
        """Make the error that says why a cluster is not up any more."""
        from shardmill.adapters import emr as clusters
        from shardmill.core.failures import explain

        emr = client("emr", attempts=READ_ATTEMPTS)
        life = clusters.describe_life(emr, cluster_id)
        if others := [other for other in clusters.live_clusters(emr, self.cluster) if other != cluster_id]:
            return clusters.ClusterLostError(f"{life.words}: {others[0]} is the run's cluster, the next try joins it")
        lines = _bootstrap_lines(life)
        return failure(clusters.ClusterLostError, explain(life.words, life.diagnosis, lines), life.diagnosis)

    def lives(self, opened: OpenRun) -> list[ClusterLife]:
        """Tell of all clusters that the run had for this work."""
        from shardmill.adapters.emr import cluster_lives

        since = datetime.fromisoformat(opened.run.started) - _RUN_STARTED_BEFORE
        return cluster_lives(client("emr", attempts=READ_ATTEMPTS), self.cluster, since)

    def record(self, context: Any, emr: Any, cluster_id: str, log_uri: str) -> None:
        """Note the cluster's id and where to look at it, before anything waits."""
        context["ti"].xcom_push("cluster_id", cluster_id)
        context["ti"].xcom_push(PLACE, place_of(emr, cluster_id, log_uri, history_url()))

    def hold(self, undo: Callable[[], None]) -> None:
        """Remember how to undo what was made; where the task was killed meanwhile, undo it now."""
        self._undo = undo
        if self.killed:
            undo()
            raise AirflowFailException("the task was killed: what it had made is being ended")

    def hand_over(self) -> None:
        """Leave it to the trigger from now on: Airflow may still send a signal to a process that has deferred."""
        self._undo = None

    def on_kill(self) -> None:
        """Undo what this process made or joined. It is called within a signal handler: no connection is looked up."""
        self.killed = True
        if self._undo:
            self._undo()


def told_surplus(surplus: list[str]) -> str:
    """Say in a summary what was made twice and ended."""
    return f"; ended as made a second time: {', '.join(dict.fromkeys(surplus))}" if surplus else ""


def _bootstrap_lines(life: ClusterLife) -> str:
    from shardmill.adapters.step_output import read_bootstrap_lines
    from shardmill.adapters.store import StoreError

    if life.code != "BOOTSTRAP_FAILURE":
        return ""
    try:
        return read_bootstrap_lines(life.log_uri, life.id, store_settings())
    except StoreError as error:
        return f"(its logs are not to be read: {error})"
