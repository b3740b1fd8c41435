"""Tasks that run a job as a step on a run's cluster."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from shardmill_airflow.cluster_use import READ_ATTEMPTS, ClusterTask, Event, Term, told_surplus
from shardmill_airflow.connections import client, store_settings
from shardmill_airflow.links import ConsoleLink, HistoryLink, LogsLink
from shardmill_airflow.outcomes import failing_for_good, failure, summarise
from shardmill_airflow.run_clusters import executors, lasting_failure, run_of
from shardmill_airflow.tasks import open_run
from shardmill_airflow.triggers import TIMED_OUT, EmrWait

if TYPE_CHECKING:
    from shardmill.core.cluster_lives import ClusterLife
    from shardmill.stages import OpenRun
    from shardmill_airflow.run_clusters import Work

SLACK = timedelta(minutes=15)
"""The trigger says when time is up; the deferral's own time-out, which would cancel nothing, comes behind it."""


class RunJob(ClusterTask):
    """Run a job of this package as a step on the run's cluster, or join the step of an earlier try.

    Where the cluster is gone, another one is brought up in its place: until the same deadline, and a few times only.
    """

    template_fields = ("spec_uri", "job", "work")
    operator_extra_links = (ConsoleLink(), LogsLink(), HistoryLink())

    def __init__(self, *, spec_uri: Any, job: str, result: str, work: Work = "train", **kwargs: Any) -> None:
        """``result`` is the file in the run's folder that the job commits last."""
        # The deadline of the cluster ends the wait, and cancels; Airflow's own time-out, which cannot, comes later.
        super().__init__(spec_uri=spec_uri, work=work, **{"execution_timeout": timedelta(days=8)} | kwargs)
        self.job, self.result = job, result

    def execute(self, context: Any) -> None:
        from shardmill.adapters.emr import live_clusters
        from shardmill.core.cluster_lives import last_made, why_no_other

        opened = open_run(self.spec_uri)
        if opened.lake.head(f"runs/{opened.run.run}/{self.result}"):
            line = f"nothing to do: {opened.run.folder}/{self.result} is there"
            self.log.info("%s", line)
            summarise(context, line, None)
            return
        with failing_for_good():
            if live_clusters(client("emr", attempts=READ_ATTEMPTS), self.cluster):
                self._begin(context, opened, [])
                return
            lives = self.lives(opened)
            why, last = why_no_other(lives, datetime.now(UTC)), last_made(lives)
            if why or last is None:
                raise AirflowFailException(f"no live cluster {self.cluster}: {why}")
            self.log.warning("%s: another one is brought up", last.words)
            self.bring_up(context, opened, Term(last.deadline, last.cleared_after), "go_on")

    def go_on(
        self, context: Any, cluster_id: str, started: float, surplus: list[str], event: Event | None = None
    ) -> None:
        """Add the step once the cluster is up that was brought up in place of a lost one."""
        with failing_for_good():
            self.check_up(cluster_id, event)
            self.log.info("it took %.0f s to bring up %s", time.time() - started, cluster_id)
            self._begin(context, open_run(self.spec_uri), [*surplus, *(event or {}).get("surplus", ())])

    def _begin(self, context: Any, opened: OpenRun, surplus: list[str]) -> None:
        """Add the step to the oldest live cluster, or join it there, and wait for it without a worker."""
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.crash_points import pass_point

        emr = client("emr", attempts=READ_ATTEMPTS)
        ended = self.end_surplus(emr)
        alive = clusters.live_clusters(emr, self.cluster)
        if not alive:
            raise clusters.ClusterLostError(f"cluster {self.cluster} ended just now: the next try looks for another")
        life = clusters.describe_life(emr, alive[0])
        if life.deadline is None:
            raise AirflowFailException(f"cluster {life.id} lost its tag deadline: put it back, or end the cluster")
        self.record(context, emr, life.id, life.log_uri)
        step = self._step(opened, life.deadline)
        pass_point("step_wanted", opened.run.run)
        try:
            step_id, added = clusters.ensure_step(emr, client("emr", attempts=1), life.id, step)
        except clusters.RefusedError as error:
            if clusters.describe_life(emr, life.id).alive:
                raise
            raise self.lost(life.id) from error  # it died just now: no fault of the step's
        pass_point("step_asked", opened.run.run)
        self.hold(lambda: clusters.cancel_step(emr, life.id, step_id))
        context["ti"].xcom_push("step_id", step_id)
        pass_point("step_recorded", opened.run.run)
        self.log.info("%s step %s on %s", "added" if added else "joined", step_id, life.id)
        self.hand_over()
        self._defer_to_step(life, step_id, step["Name"], [*surplus, *ended])

    def _step(self, opened: OpenRun, deadline: datetime) -> dict[str, Any]:
        from shardmill.adapters.code_archive import ship_code
        from shardmill.core.emr_request import seconds_left, spark_step

        workers, settings = executors(opened.run, self.work, client("ec2"))
        return spark_step(
            f"{self.job} {opened.run.run}",
            code=ship_code(opened.lake),
            arguments=(self.job, self.spec_uri),
            workers=workers,
            settings=settings,
            seconds=seconds_left(deadline, datetime.now(UTC)),
        )

    def _defer_to_step(self, life: ClusterLife, step_id: str, step_name: str, surplus: list[str]) -> None:
        from shardmill.adapters.emr import OPEN_STEP

        deadline = life.deadline or datetime.now(UTC)
        self.defer(
            trigger=EmrWait(
                life.id,
                while_in=list(OPEN_STEP),
                give_up=deadline.timestamp(),
                step_id=step_id,
                watched={"name": self.cluster, "step_name": step_name, "log_uri": life.log_uri},
            ),
            method_name="end",
            kwargs={"step": [life.id, step_id], "started": time.time(), "surplus": surplus},
            timeout=max(deadline - datetime.now(UTC), timedelta(0)) + SLACK,
        )

    def end(
        self, context: Any, step: list[str], started: float, surplus: list[str], event: Event | None = None
    ) -> None:
        """Say how the step ended: where it did not complete, why, what to do, and the last lines of its logs."""
        from shardmill.adapters.crash_points import pass_point

        pass_point("step_ended", run_of(self.spec_uri))
        told = event or {}
        if told.get("state") != "COMPLETED":
            with failing_for_good():
                raise self._ended_badly(step[0], step[1], told.get("state", "unknown"), told.get("why", ""))
        seconds = round(time.time() - started, 1)
        summarise(context, f"{self.job} completed{told_surplus([*surplus, *told.get('surplus', ())])}", seconds)
        self.log.info("step %s completed in %s s", step[1], seconds)

    def _ended_badly(self, cluster_id: str, step_id: str, state: str, why: str) -> Exception:
        from shardmill.adapters import emr as clusters

        emr = client("emr", attempts=READ_ATTEMPTS)
        alive = clusters.describe_life(emr, cluster_id).alive
        if state == TIMED_OUT:
            if alive:
                clusters.cancel_step(emr, cluster_id, step_id)
            return AirflowFailException(f"max_hours: step {step_id} ({self.job}) was cancelled at the deadline: {why}")
        if not alive:
            return self.lost(cluster_id)
        if state == "CANCELLED":
            return AirflowFailException(f"step {step_id} ({self.job}) was cancelled by someone")
        return self._failed(cluster_id, step_id, state, why)

    def _failed(self, cluster_id: str, step_id: str, state: str, why: str) -> Exception:
        """Translate the failure of the job itself."""
        from shardmill.adapters import emr as clusters
        from shardmill.adapters.step_output import read_last_lines
        from shardmill.adapters.store import StoreError
        from shardmill.core.failures import explain, of_step

        log_uri = clusters.describe_life(client("emr"), cluster_id).log_uri
        try:
            lines = read_last_lines(log_uri, cluster_id, step_id, store_settings())
        except StoreError as error:
            lines = f"(its logs are not to be read: {error})"
        diagnosis = of_step(why, lines)
        what, _, rest = why.partition("\n")
        message = explain(
            f"step {step_id} ({self.job}) is {state}: {what}",
            diagnosis,
            "\n".join(part for part in (lines, rest) if part),
        )
        if lasting_failure(open_run(self.spec_uri), self.work):
            return AirflowFailException(message)
        return failure(clusters.StepFailedError, message, diagnosis)
