"""Operators for EMR clusters that never outlive their run, and for the steps on them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from shardmill_airflow.connections import client
from shardmill_airflow.outcomes import SUMMARY, failing_for_good, summarised
from shardmill_airflow.run_clusters import cluster_name, cluster_spec, executors, lasting_failure, run_of, why_none
from shardmill_airflow.tasks import open_run
from shardmill_airflow.triggers import TIMED_OUT, EmrWait

if TYPE_CHECKING:
    from shardmill_airflow.run_clusters import Work

COMING_UP = ["STARTING", "BOOTSTRAPPING"]
COMING_UP_SECONDS = 45 * 60
SLACK = timedelta(minutes=15)
"""The trigger says when time is up; the deferral's own time-out, which would cancel nothing, comes behind it."""


class CreateCluster(BaseOperator):
    """Bring up the run's cluster for some work, or join the one that an earlier try brought up."""

    template_fields = ("spec_uri", "work")

    def __init__(self, *, spec_uri: Any, work: Work = "train", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec_uri, self.work = spec_uri, work
        self.cluster_id = ""

    def execute(self, context: Any) -> None:
        from shardmill.adapters import emr as clusters
        from shardmill.core.emr_request import cluster_request

        opened = open_run(self.spec_uri)
        if why := why_none(opened, self.work):
            with summarised() as lines:
                lines.append(f"nothing to do: {why}, no cluster is made")
                self.log.info("%s", lines[-1])
            return
        run, emr, ec2 = opened.run, client("emr"), client("ec2")
        with failing_for_good():
            image_id = run.asked.image_id or clusters.newest_image(ec2)
            clusters.check_image(ec2, image_id)
            executors(run, self.work, ec2)  # what cannot be asked of these nodes is told before they cost
            request = cluster_request(cluster_spec(run, self.work, image_id, emr.meta.region_name))
            self.cluster_id, created = clusters.ensure_cluster(emr, client("emr", attempts=1), request)
        self.log.info("%s cluster %s (%s)", "created" if created else "joined", self.cluster_id, request["Name"])
        self.defer(
            trigger=EmrWait(self.cluster_id, while_in=COMING_UP, give_up=time.time() + COMING_UP_SECONDS),
            method_name="come_up",
            kwargs={"cluster_id": self.cluster_id, "started": time.time()},
        )

    def come_up(self, context: Any, cluster_id: str, started: float, event: dict[str, str] | None = None) -> str:
        """Take the cluster's state for what it is: only WAITING and RUNNING are up."""
        from shardmill.adapters.emr import ClusterLostError

        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        if state not in ("WAITING", "RUNNING"):
            raise ClusterLostError(f"cluster {cluster_id} is {state}: {why}")
        context["ti"].xcom_push(SUMMARY, {"line": f"{cluster_id} is up", "seconds": round(time.time() - started, 1)})
        self.log.info("cluster %s is %s", cluster_id, state)
        return cluster_id

    def on_kill(self) -> None:
        if self.cluster_id:
            client("emr").terminate_job_flows(JobFlowIds=[self.cluster_id])


class RunJob(BaseOperator):
    """Run a job of this package as a step on the run's cluster, or join the step of an earlier try."""

    template_fields = ("spec_uri", "job", "work")

    def __init__(self, *, spec_uri: Any, job: str, result: str, work: Work = "train", **kwargs: Any) -> None:
        """``result`` is the file in the run's folder that the job commits last."""
        # The deadline of the cluster ends the wait, and cancels; Airflow's own time-out, which cannot, comes later.
        super().__init__(**{"execution_timeout": timedelta(days=8)} | kwargs)
        self.spec_uri, self.job, self.result, self.work = spec_uri, job, result, work
        self.step: tuple[str, str] | None = None

    def execute(self, context: Any) -> None:
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.code_archive import ship_code
        from shardmill.core.emr_request import spark_step

        opened = open_run(self.spec_uri)
        lake, run = opened.lake, opened.run
        if lake.head(f"runs/{run.run}/{self.result}"):
            with summarised() as lines:
                lines.append(f"nothing to do: {run.folder}/{self.result} is there")
                self.log.info("%s", lines[-1])
            return
        emr = client("emr")
        name = cluster_name(run.run, self.work)
        alive = clusters.live_clusters(emr, name)
        if not alive:
            raise clusters.ClusterLostError(f"no live cluster {name}: clear the task that creates it")
        deadline = clusters.cluster_deadline(emr, alive[0])
        with failing_for_good():
            workers, settings = executors(run, self.work, client("ec2"))
            step = spark_step(
                f"{self.job} {run.run}",
                code=ship_code(lake),
                arguments=(self.job, self.spec_uri),
                workers=workers,
                settings=settings,
            )
            step_id, added = clusters.ensure_step(emr, client("emr", attempts=1), alive[0], step)
        self.step = alive[0], step_id
        self.log.info("%s step %s on %s", "added" if added else "joined", step_id, alive[0])
        self.defer(
            trigger=EmrWait(
                alive[0],
                while_in=list(clusters.OPEN_STEP),
                give_up=deadline.timestamp(),
                step_id=step_id,
            ),
            method_name="end",
            kwargs={"step": [alive[0], step_id], "started": time.time()},
            timeout=max(deadline - datetime.now(UTC), timedelta(0)) + SLACK,
        )

    def end(self, context: Any, step: list[str], started: float, event: dict[str, str] | None = None) -> None:
        """Fail with the step's own last lines, unless it completed; a step whose time is up is cancelled."""
        from shardmill.adapters.emr import StepFailedError, cancel_step

        cluster_id, step_id = step
        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        if state == TIMED_OUT:
            cancel_step(client("emr"), cluster_id, step_id)
            raise AirflowFailException(f"max_hours: step {step_id} ({self.job}) was cancelled at the deadline: {why}")
        if state == "CANCELLED":
            raise AirflowFailException(f"step {step_id} ({self.job}) was cancelled")
        if state != "COMPLETED":
            message = f"step {step_id} ({self.job}) is {state}: {why}"
            if lasting_failure(open_run(self.spec_uri), self.work):
                raise AirflowFailException(message)
            raise StepFailedError(message)
        seconds = round(time.time() - started, 1)
        context["ti"].xcom_push(SUMMARY, {"line": f"{self.job} completed", "seconds": seconds})
        self.log.info("step %s completed in %s s", step_id, seconds)

    def on_kill(self) -> None:
        from shardmill.adapters.emr import cancel_step

        if self.step:
            cancel_step(client("emr"), *self.step)


class DeleteCluster(BaseOperator):
    """End every live cluster of the run for some work, found by name whatever became of the tasks before.

    It waits until they are gone, asks nothing but EMR, and tries for hours: a teardown that gives up leaves a cluster
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
        self._end(context, [])

    def look_again(self, context: Any, ended: list[str], event: dict[str, str] | None = None) -> None:
        """Take nothing for granted: list once more, end what is left."""
        self._end(context, ended)

    def _end(self, context: Any, ended: list[str]) -> None:
        from shardmill.adapters import emr as clusters

        left = clusters.end_clusters(client("emr"), cluster_name(run_of(self.spec_uri), self.work))
        if left:
            self.log.info("ending %s", ", ".join(left))
            self.defer(
                trigger=EmrWait(left[0], while_in=[*clusters.ALIVE, "TERMINATING"], give_up=time.time() + 1200),
                method_name="look_again",
                kwargs={"ended": sorted({*ended, *left})},
            )
        line = f"ended {', '.join(ended)}" if ended else "nothing to do: no cluster of this run is alive"
        context["ti"].xcom_push(SUMMARY, {"line": line, "seconds": None})
        self.log.info("%s", line)
