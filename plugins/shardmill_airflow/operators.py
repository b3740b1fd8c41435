"""Operators for an EMR cluster that never outlives its run, and for the steps on it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from shardmill_airflow.connections import client
from shardmill_airflow.outcomes import failing_for_good, summarised
from shardmill_airflow.tasks import open_run
from shardmill_airflow.triggers import EmrWait

if TYPE_CHECKING:
    from shardmill.adapters.store import Store
    from shardmill.specs.cluster import ClusterSpec
    from shardmill.specs.run import RunSpec

COMING_UP = ["STARTING", "BOOTSTRAPPING"]
OPEN_STEP = ["PENDING", "CANCEL_PENDING", "RUNNING"]
GOING_DOWN_SECONDS = 5.0


def cluster_name(run: RunSpec) -> str:
    """Name a run's cluster; every try of every task of the run finds it by this name."""
    return f"shardmill-{run.run}"


def cluster_spec(run: RunSpec, image_id: str, region: str) -> ClusterSpec:
    """Make the spec of a run's cluster."""
    from shardmill.specs.cluster import ClusterSpec

    asked = run.asked
    shared = set(ClusterSpec.model_fields) & set(type(asked).model_fields)
    deadline = datetime.fromisoformat(run.started) + timedelta(hours=asked.max_hours)
    values: dict[str, Any] = {name: getattr(asked, name) for name in shared}
    values |= {
        "name": cluster_name(run),
        "run": run.run,
        "image_id": image_id,
        "region": region,
        "log_uri": f"{run.folder}/logs",
        "deadline": deadline.isoformat(timespec="seconds"),
    }
    return ClusterSpec(**values)


def is_finished(lake: Store, run: RunSpec) -> bool:
    """Say whether the run's model is trained and evaluated, so that no cluster is needed."""
    return all(lake.head(f"runs/{run.run}/{name}") for name in ("model/model.json", "metrics.json"))


class CreateCluster(BaseOperator):
    """Bring up the run's cluster, or join the one that an earlier try brought up."""

    template_fields = ("spec_uri",)

    def __init__(self, *, spec_uri: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec_uri = spec_uri
        self.cluster_id = ""

    def execute(self, context: Any) -> None:
        from shardmill.adapters import emr as clusters
        from shardmill.core.emr_request import cluster_request

        opened = open_run(self.spec_uri)
        lake, run = opened.lake, opened.run
        if is_finished(lake, run):
            with summarised() as lines:
                lines.append("nothing to do: the model is trained and evaluated, no cluster is made")
                self.log.info("%s", lines[-1])
            return
        emr, ec2 = client("emr"), client("ec2")
        with failing_for_good():
            image_id = run.asked.image_id or clusters.newest_image(ec2)
            clusters.check_image(ec2, image_id)
            request = cluster_request(cluster_spec(run, image_id, emr.meta.region_name))
            self.cluster_id, created = clusters.ensure_cluster(emr, client("emr", attempts=1), request)
        self.log.info("%s cluster %s (%s)", "created" if created else "joined", self.cluster_id, request["Name"])
        self.defer(
            trigger=EmrWait(self.cluster_id, while_in=COMING_UP),
            method_name="come_up",
            kwargs={"cluster_id": self.cluster_id, "started": time.time()},
            timeout=timedelta(minutes=45),
        )

    def come_up(self, context: Any, cluster_id: str, started: float, event: dict[str, str] | None = None) -> str:
        """Take the cluster's state for what it is: only WAITING and RUNNING are up."""
        from shardmill.adapters.emr import ClusterLostError

        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        if state not in ("WAITING", "RUNNING"):
            raise ClusterLostError(f"cluster {cluster_id} is {state}: {why}")
        context["ti"].xcom_push("summary", {"line": f"{cluster_id} is up", "seconds": round(time.time() - started, 1)})
        self.log.info("cluster %s is %s", cluster_id, state)
        return cluster_id

    def on_kill(self) -> None:
        if self.cluster_id:
            client("emr").terminate_job_flows(JobFlowIds=[self.cluster_id])


class RunJob(BaseOperator):
    """Run a job of this package as a step on the run's cluster, or join the step of an earlier try."""

    template_fields = ("spec_uri", "job")

    def __init__(self, *, spec_uri: Any, job: str, result: str, **kwargs: Any) -> None:
        """``result`` is the file in the run's folder that the job commits last."""
        super().__init__(**kwargs)
        self.spec_uri, self.job, self.result = spec_uri, job, result
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
        alive = clusters.live_clusters(emr, cluster_name(run))
        if not alive:
            raise clusters.ClusterLostError(f"no live cluster {cluster_name(run)}: clear create_cluster to make one")
        step = spark_step(
            f"{self.job} {run.run}",
            code=ship_code(lake),
            arguments=(self.job, self.spec_uri),
            workers=run.asked.workers,
        )
        with failing_for_good():
            step_id, added = clusters.ensure_step(emr, client("emr", attempts=1), alive[0], step)
        self.step = alive[0], step_id
        self.log.info("%s step %s on %s", "added" if added else "joined", step_id, alive[0])
        self.defer(
            trigger=EmrWait(alive[0], while_in=OPEN_STEP, step_id=step_id),
            method_name="end",
            kwargs={"step_id": step_id, "started": time.time()},
            timeout=timedelta(hours=run.asked.max_hours),
        )

    def end(self, context: Any, step_id: str, started: float, event: dict[str, str] | None = None) -> None:
        """Fail with the step's own last lines, unless it completed."""
        from shardmill.adapters.emr import StepFailedError

        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        if state == "CANCELLED":
            raise AirflowFailException(f"step {step_id} ({self.job}) was cancelled")
        if state != "COMPLETED":
            raise StepFailedError(f"step {step_id} ({self.job}) is {state}: {why}")
        seconds = round(time.time() - started, 1)
        context["ti"].xcom_push("summary", {"line": f"{self.job} completed", "seconds": seconds})
        self.log.info("step %s completed in %s s", step_id, seconds)

    def on_kill(self) -> None:
        from shardmill.adapters.emr import cancel_step

        if self.step:
            cancel_step(client("emr"), *self.step)


class DeleteCluster(BaseOperator):
    """End every live cluster of the run, found by name whatever became of the tasks before; wait until it is gone."""

    template_fields = ("spec_uri",)

    def __init__(self, *, spec_uri: Any, patience: timedelta = timedelta(minutes=20), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec_uri, self.patience = spec_uri, patience

    def execute(self, context: Any) -> None:
        from shardmill.adapters import emr as clusters

        run = open_run(self.spec_uri).run
        emr = client("emr")
        with summarised() as lines:
            ended = clusters.end_clusters(emr, cluster_name(run))
            lines.append(f"ended {', '.join(ended)}" if ended else "nothing to do: no cluster of this run is alive")
            self.log.info("%s", lines[-1])
            give_up = time.monotonic() + self.patience.total_seconds()
            for cluster_id in ended:
                while clusters.cluster_status(emr, cluster_id)[0] not in clusters.ENDED:
                    if time.monotonic() > give_up:
                        raise TimeoutError(
                            f"cluster {cluster_id} did not end within {self.patience}: look at it by hand"
                        )
                    time.sleep(GOING_DOWN_SECONDS)
                self.log.info("cluster %s is gone", cluster_id)
