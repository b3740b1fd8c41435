"""One step on the local cluster: fetch, translate, run, keep the logs, say how it ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from shardmill.adapters.process import start_child, terminate_tree
from shardmill.adapters.store import Store, StoreError, StoreSettings, split_uri
from shardmill.localcloud.emr_state import Cluster, Failure, Outcome, Step
from shardmill.localcloud.event_log import EventLog
from shardmill.localcloud.fault_state import Fault
from shardmill.localcloud.spark_standalone import JVM_OPTIONS, SparkSettings, spark_environment
from shardmill.localcloud.step_logs import LogFolder
from shardmill.localcloud.step_stand_in import stand_in_command, stand_in_writes
from shardmill.localcloud.submit_arguments import RefusedStepError
from shardmill.localcloud.telling_lines import telling_lines
from shardmill.localcloud.translate import EVENTS, LocalNodes, Submission, translate_step

_RUNNER = "command-runner.jar"
_PUBLISH_SECONDS = 4.0
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class StepPlace:
    """Where a step runs."""

    cluster_folder: Path
    nodes: LocalNodes
    spark: SparkSettings
    environment: Mapping[str, str]
    """What every process of the cluster gets: endpoint, credentials, mark."""
    store: StoreSettings
    logs: LogFolder


class StepRun:
    """A step from its start to its outcome; ``poll`` moves it on. To be polled by one long-lived thread."""

    def __init__(
        self, cluster: Cluster, step: Step, place: StepPlace, pool: Executor, stand_in: Fault | None = None
    ) -> None:
        """``stand_in`` is the fault by which something else runs in place of the job."""
        self._cluster = cluster
        self._step = step
        self._place = place
        self._pool = pool
        self._stand_in = stand_in
        self._writing: Future[None] | None = None
        self._events: EventLog | None = None
        self._folder = place.cluster_folder / "steps" / step.id
        self._folder.mkdir(parents=True)
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._outcome: Outcome | None = None
        self._publishing: Future[None] | None = None
        self._published = time.monotonic()
        self._say(f"step {step.id} {step.name!r}: {step.jar} {' '.join(step.arguments)}")
        self._preparing: Future[Submission] | None = pool.submit(self._prepare)

    def stop(self) -> None:
        """End the step's processes, or keep them from being started."""
        if not self._stopped:
            self._stopped = True
            self._say("the step is being ended")
            if self._process is not None:
                terminate_tree(self._process.pid, grace_seconds=1.0)

    def poll(self) -> Outcome | None:
        """Move on; give the outcome once the logs are where they belong."""
        if self._outcome is None:
            self._outcome = self._advance()
            if self._outcome is not None:
                self._say(f"the step ended: {self._outcome.state}")
                self._publishing = self._pool.submit(self._publish, self._publishing, everything=True)
            elif time.monotonic() - self._published > _PUBLISH_SECONDS:
                self._published = time.monotonic()
                self._publishing = self._pool.submit(self._publish, self._publishing)
            return None
        if self._publishing is not None and not self._publishing.done():
            return None
        if self._publishing is not None:
            self._publishing.result()
        return self._outcome

    def _advance(self) -> Outcome | None:
        if self._preparing is not None:
            if not self._preparing.done():
                return None
            preparing, self._preparing = self._preparing, None
            try:
                submission = preparing.result()
            except (RefusedStepError, StoreError, OSError) as error:
                self._say(f"refused: {error}")
                (self._folder / "stderr").write_text(f"{error}\n")
                return self._failed("The step was refused.", str(error), "stderr")
            if self._stopped:
                return Outcome("INTERRUPTED")
            self._process = self._start(submission)
        return None if self._process is None else self._look_at(self._process)

    def _look_at(self, process: subprocess.Popen[bytes]) -> Outcome | None:
        if self._writing is not None:
            return self._complete()
        status = process.poll()
        if status is None:
            return None
        terminate_tree(process.pid, grace_seconds=0.2)  # whatever the job started and left
        if self._stopped:
            return Outcome("INTERRUPTED")
        if status == 0:
            return self._complete()
        status = 128 - status if status < 0 else status  # as a shell has it: 137 for SIGKILL
        message = telling_lines(self._tail("stdout"), self._tail("stderr"))
        return self._failed(f"Unknown Error. Exit status {status}.", message, "stdout")

    def _complete(self) -> Outcome | None:
        if self._stand_in is None or not self._stand_in.writes:
            return Outcome("COMPLETED")
        if self._writing is None:
            self._writing = self._pool.submit(self._write, self._stand_in)
        if not self._writing.done():
            return None
        try:
            self._writing.result()
        except (StoreError, ValueError) as error:
            return self._failed("Unknown Error. Exit status 1.", f"no_spark, writes: {error}", "stdout")
        return Outcome("COMPLETED")

    def _write(self, fault: Fault) -> None:
        for uri, text in stand_in_writes(fault, self._cluster, self._step).items():
            folder, name = split_uri(uri)
            new = Store(folder, self._place.store).put_new(name, text.encode())
            self._say(f"put {uri}" if new else f"{uri} was there already")

    def _failed(self, reason: str, message: str, log: str) -> Outcome:
        return Outcome("FAILED", Failure(reason, message, self._place.logs.step_log(self._step.id, log)))

    def _prepare(self) -> Submission:
        if self._step.jar != _RUNNER:
            raise RefusedStepError(
                f"the local cluster runs spark-submit only: expected the jar {_RUNNER}, found {self._step.jar}"
            )
        configurations = self._cluster.request.get("Configurations", ())
        submission = translate_step(self._step.arguments, configurations, self._place.nodes, self._folder)
        for note in submission.notes:
            self._say(note)
        if self._stand_in is not None:
            self._say(f"a fault was asked for, the job does not run: {self._stand_in.kind}")
            return submission
        for uri, path in submission.downloads.items():
            self._fetch(uri, path)
        if submission.event_log:
            (self._folder / EVENTS).mkdir()
            self._events = EventLog(submission.event_log, self._folder / EVENTS, self._place.store)
        return submission

    def _fetch(self, uri: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder, name = split_uri("s3://" + uri.partition("://")[2])
        with path.open("wb") as sink:
            for chunk in Store(folder, self._place.store).stream(name):
                sink.write(chunk)
        self._say(f"fetched {uri} ({path.stat().st_size} bytes)")

    def _start(self, submission: Submission) -> subprocess.Popen[bytes]:
        work = self._folder / "work"
        work.mkdir()
        spark = self._place.spark
        environment = {
            **spark_environment(spark, self._place.cluster_folder),
            **submission.exports,
            **self._place.environment,
            "SPARK_SUBMIT_OPTS": f"{JVM_OPTIONS} -Djava.io.tmpdir={self._place.cluster_folder / 'tmp'}",
            "EMR_CLUSTER_ID": self._cluster.id,
            "EMR_STEP_ID": self._step.id,
        }
        job = (str(spark.spark_home / "bin" / "spark-submit"), *submission.argv)
        program = job if self._stand_in is None else stand_in_command(self._stand_in)
        argv = [*submission.timeout, *program]
        self._say(f"runs {' '.join(argv)}")
        with (self._folder / "stdout").open("wb") as out, (self._folder / "stderr").open("wb") as err:
            return start_child(
                argv,
                stdout=out,
                stderr=err,
                cwd=work,
                env=environment,
            )

    def _publish(self, before: Future[None] | None, *, everything: bool = False) -> None:
        if before is not None:
            before.result()
        self._place.logs.publish_step(self._step.id, self._folder)
        if self._events is not None:
            self._events.publish(ended=everything)
        if everything and self._stand_in is None:
            self._place.logs.publish_executors(self._place.cluster_folder / "work")

    def _say(self, text: str) -> None:
        with (self._folder / "controller").open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} INFO {text}\n")

    def _tail(self, name: str) -> str:
        path = self._folder / name
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")
