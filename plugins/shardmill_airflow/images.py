"""The baking of machine images as tasks: plan, an instance that makes itself, an image of it, its end."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, get_current_context

from shardmill_airflow.cluster_tasks import SETTLE_SECONDS
from shardmill_airflow.connections import access, client
from shardmill_airflow.forms import read_form
from shardmill_airflow.image_wait import TIMED_OUT, Ec2Wait
from shardmill_airflow.linked import task
from shardmill_airflow.links import leave_links
from shardmill_airflow.outcomes import failing_for_good, summarise, summarised
from shardmill_airflow.triggers import Pause

if TYPE_CHECKING:
    from shardmill.jobs.bake_image import OpenBake

log = logging.getLogger(__name__)
IMAGE_SECONDS = 2 * 3600
"""A snapshot of some gibibytes takes minutes."""
END_SECONDS = 1200
SLACK_SECONDS = 900
"""Behind the instance's own deadline, which it is given to keep first."""


def bake_name(context: Any, lake: str) -> str:
    """Name what a run bakes: every try of every task finds it by this name.

    Two installations in one account may have runs of the same id, in lakes of their own: so the lake is part of it.
    """
    from shardmill.specs.value import short_hash

    dag_run = context["dag_run"]
    return f"bake-{short_hash([dag_run.dag_id, dag_run.run_id, lake])}"


def open_bake(plan_uri: str) -> OpenBake:
    """Open what the plan of a run froze."""
    from shardmill.jobs import bake_image

    return bake_image.open_bake(plan_uri, client("ec2"), access().lake)


def signing_client() -> Any:
    """Give a client of S3 whose signed URLs hold in every region."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    from shardmill_airflow.connections import AWS_CONNECTION

    return AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type="s3", config=Config(signature_version="s3v4")).conn


@task
def plan(params: dict[str, Any] | None = None, dag_run: Any = None) -> str:
    """Check what was asked, find an image that is there already, and write down what is baked otherwise."""
    from shardmill.adapters.store import Store
    from shardmill.jobs import bake_image
    from shardmill.specs.image import ImageSpec

    asked = read_form(ImageSpec, params or {}, dag_run.conf)
    with summarised() as lines, failing_for_good():
        reached = access()
        bake_image.check_asked(asked, reached.roots)
        lake = Store(asked.lake, reached.lake)
        name = bake_name(get_current_context(), asked.lake)
        planned, uri = bake_image.plan_bake(asked, name, client("ec2"), lake)
        leave_links(get_current_context()["ti"], lake.settings, folder=f"{asked.lake}/images/")
        lines.append(
            f"nothing to do: {planned.image_id} ({planned.image_name}) is made of the same packages and base"
            if planned.image_id
            else f"bakes {planned.image_name} from {planned.base_name or planned.base_id}"
        )
        log.info("%s", lines[-1])
    return uri


class BuildOnInstance(BaseOperator):
    """Launch an instance that makes itself into what clusters start from, or join that of an earlier try."""

    template_fields = ("plan_uri",)

    def __init__(self, *, plan_uri: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_uri = plan_uri

    def execute(self, context: Any) -> str | None:
        from shardmill.jobs import bake_image

        opened = open_bake(self.plan_uri)
        if opened.plan.image_id:
            summarise(context, f"nothing to do: {opened.plan.image_id} is there", None)
            return opened.plan.image_id
        with failing_for_good():
            started = bake_image.start(opened, signing_client())
        self.log.info("%s", started.line)
        self._wait(started.instance_id, started.attempt, started.gone_by)
        return None

    def _wait(self, instance_id: str, attempt: int, gone_by: float) -> None:
        self.defer(
            trigger=Ec2Wait("instance", instance_id, ["pending", "running", "stopping"], gone_by + SLACK_SECONDS),
            method_name="ended",
            kwargs={"instance_id": instance_id, "attempt": attempt, "started": time.time()},
            timeout=timedelta(seconds=max(0.0, gone_by - time.time()) + 2 * SLACK_SECONDS),
        )

    def ended(
        self, context: Any, instance_id: str, attempt: int, started: float, event: dict[str, str] | None = None
    ) -> str:
        """Read what the instance said of itself before it went down; one that failed is terminated at once."""
        from shardmill.jobs import bake_image

        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        result = bake_image.finish(open_bake(self.plan_uri), instance_id, attempt, f"{state} {why}".strip())
        line = f"{instance_id} has {len(result.packages)} packages; GPU: {result.gpu or 'none there to check'}"
        summarise(context, line, round(time.time() - started, 1))
        self.log.info("%s; python %s, %s", line, result.python, result.ffmpeg or "no ffmpeg")
        return instance_id


class MakeImage(BaseOperator):
    """Make an image of the stopped instance, wait for it, check it by EMR's rules, and let clusters find it."""

    template_fields = ("plan_uri",)

    def __init__(self, *, plan_uri: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_uri = plan_uri

    def execute(self, context: Any) -> str:
        from shardmill.jobs import bake_image

        opened = open_bake(self.plan_uri)
        if opened.plan.image_id:
            return self._checked(context, opened.plan.image_id)
        with failing_for_good():
            image_id = bake_image.make_image(opened)
        self.log.info("making %s (%s)", image_id, opened.plan.image_name)
        self.defer(
            trigger=Ec2Wait("image", image_id, ["pending"], time.time() + IMAGE_SECONDS),
            method_name="made",
            kwargs={"image_id": image_id},
            timeout=timedelta(seconds=IMAGE_SECONDS + SLACK_SECONDS),
        )
        raise AssertionError("unreachable: defer raises")

    def made(self, context: Any, image_id: str, event: dict[str, str] | None = None) -> str:
        """Take the image's state for what it is: only an available one is checked and tagged."""
        state, why = (event or {}).get("state", "unknown"), (event or {}).get("why", "")
        if state != "available":
            raise RuntimeError(f"image {image_id} is {state}: {why}")
        return self._checked(context, image_id)

    def _checked(self, context: Any, image_id: str) -> str:
        from shardmill.jobs import bake_image

        with failing_for_good():
            notes = bake_image.approve(open_bake(self.plan_uri), image_id)
        for note in notes:
            self.log.info("not told from outside: %s", note)
        summarise(context, f"{image_id} is available and within EMR's rules", None)
        self.log.info("clusters start from %s", image_id)
        return image_id


@task
def prune(plan_uri: str, image_id: str) -> list[str]:
    """Deregister old images that were baked here, with their snapshots, and what failed bakes left of both."""
    from shardmill.jobs import bake_image

    with summarised() as lines, failing_for_good():
        gone = bake_image.prune(open_bake(plan_uri), image_id, client("emr"))
        lines.append(f"removed {', '.join(gone)}" if gone else "nothing to prune")
        log.info("%s", lines[-1])
    return gone


class EndBuilder(BaseOperator):
    """Terminate every instance of this bake, found by tag whatever became of the tasks before, and wait for the end.

    It needs nothing but EC2, and tries for hours: a teardown that gives up leaves an instance that costs money.
    """

    template_fields = ("plan_uri",)

    def __init__(self, *, plan_uri: Any, **kwargs: Any) -> None:
        patience: dict[str, Any] = {
            "retries": 10,
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=15),
        }
        super().__init__(**patience | kwargs)
        self.plan_uri = plan_uri

    def execute(self, context: Any) -> None:
        if not self.plan_uri:
            summarise(context, "nothing to do: nothing was planned", None)
            return
        self._end(context, [], settled=False)

    def look_again(self, context: Any, ended: list[str], event: dict[str, str] | None = None) -> None:
        """Take nothing for granted: list once more, end what is left."""
        if (event or {}).get("state") == TIMED_OUT:
            self.log.warning("still there after %s s: %s", END_SECONDS, ", ".join(ended))
        self._end(context, ended, settled=True)

    def _end(self, context: Any, ended: list[str], *, settled: bool) -> None:
        from shardmill.adapters import baking
        from shardmill.jobs import bake_image

        left = baking.terminate_builders(client("ec2"), bake_image.name_of(self.plan_uri))
        if left:
            self.log.info("terminating %s", ", ".join(left))
            waiting = ["pending", "running", "stopping", "stopped", "shutting-down"]
            self.defer(
                trigger=Ec2Wait("instance", left[0], waiting, time.time() + END_SECONDS),
                method_name="look_again",
                kwargs={"ended": sorted({*ended, *left})},
            )
        if not settled and self._may_come():
            self.defer(trigger=Pause(SETTLE_SECONDS), method_name="look_again", kwargs={"ended": []})
        line = f"terminated {', '.join(ended)}" if ended else "nothing to do: no instance of this run is there"
        summarise(context, line, None)
        self.log.info("%s", line)

    def _may_come(self) -> bool:
        """Say whether an instance may be on its way whose sender was just killed; so it may where nobody can tell."""
        from shardmill.adapters.store import StoreError
        from shardmill.jobs import bake_image

        try:
            return bake_image.was_launched(self.plan_uri, access().lake)
        except StoreError as error:
            self.log.info("whether an instance was asked for is not to be read, so it may be: %s", error)
            return True
