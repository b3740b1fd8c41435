"""The tasks that bake an image, run as scheduler, worker and triggerer would, against the local AWS."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dags.operator_lab import Ti, airflow_for, fire
from localcloud.test_bake_on_local_ec2 import Bakery

from shardmill.core.bake import BakeFailedError
from shardmill.jobs import bake_image
from shardmill.localcloud.launch import local_cloud

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bakery]:
    patch = pytest.MonkeyPatch()
    with (
        local_cloud(tmp_path_factory.mktemp("cloud")) as cloud,
        airflow_for(cloud, tmp_path_factory.mktemp("airflow"), patch),
    ):
        yield Bakery(cloud)
    patch.undo()


class Run:
    """A run of the DAG, task by task."""

    def __init__(self, bakery: Bakery, run_id: str) -> None:
        from shardmill_airflow.images import bake_name

        self.bakery = bakery
        self.dag_run = SimpleNamespace(dag_id="bake_gpu_ami", run_id=run_id)
        self.name = bake_name({"dag_run": self.dag_run}, bakery.lake.uri)
        self.uri = ""
        self.lines: list[str] = []
        self.waited: list[str] = []
        """The triggers that its tasks deferred to."""

    def plan(self, folder: str, **modules: str) -> str:
        asked = self.bakery.put_packages(folder, **modules)
        _, self.uri = bake_image.plan_bake(asked, self.name, self.bakery.ec2, self.bakery.lake)
        return self.uri

    def task(self, operator: Any) -> Any:
        """Run one try of a task, through its deferrals; give what it returns."""
        from airflow.sdk.exceptions import TaskDeferred

        ti = Ti(operator)
        method, arguments = operator.execute, {}
        while True:
            try:
                returned = method(context={"ti": ti, "dag_run": self.dag_run}, **arguments)
            except TaskDeferred as deferred:
                self.waited.append(type(deferred.trigger).__name__)
                arguments = dict(deferred.kwargs or {}) | {"event": fire(deferred.trigger)}
                method = getattr(operator, deferred.method_name)
            else:
                self.lines.append(ti.xcoms["summary"]["line"])
                return returned

    def build(self, uri: str) -> str:
        from shardmill_airflow.images import BuildOnInstance

        return str(self.task(BuildOnInstance(task_id="build", plan_uri=uri)))

    def make_image(self, uri: str) -> str:
        from shardmill_airflow.images import MakeImage

        return str(self.task(MakeImage(task_id="make_image", plan_uri=uri)))

    def end(self) -> None:
        from shardmill_airflow.images import EndBuilder

        self.task(EndBuilder(task_id="end_instance", plan_uri=self.uri or None))


def test_the_second_run_uses_the_image_of_the_first(bakery: Bakery) -> None:
    first, second = Run(bakery, "first"), Run(bakery, "second")
    uri = first.plan("two", tidbit="X = 1\n")
    instance = first.build(uri)
    image = first.make_image(uri)
    assert first.make_image(uri) == image  # cleared, it joins
    first.end()
    first.end()
    assert first.lines[0] == f"{instance} has 1 packages; GPU: none there to check"
    assert first.lines[-2:] == [f"terminated {instance}", "nothing to do: no instance of this run is there"]
    assert bakery.alive() == []

    uri = second.plan("two", tidbit="X = 1\n")
    assert second.build(uri) == image
    assert second.make_image(uri) == image
    second.end()
    assert second.lines[0] == f"nothing to do: {image} is there"
    assert len(bakery.ec2.describe_instances()["Reservations"]) == 1


def test_a_failing_install_fails_the_task_with_the_installers_last_lines_and_leaves_no_instance(bakery: Bakery) -> None:
    run = Run(bakery, "failing")
    uri = run.plan("failing", crumb="raise ImportError('not on this processor')\n")
    with pytest.raises(BakeFailedError, match="crumb: import crumb: ImportError: not on this processor"):
        run.build(uri)
    assert bakery.alive() == []
    with pytest.raises(BakeFailedError, match="clear the task before"):
        run.make_image(uri)
    run.end()


def test_the_teardown_ends_an_instance_that_still_works(bakery: Bakery) -> None:
    run = Run(bakery, "marked")
    uri = run.plan("marked", tidbit="X = 2\n")
    started = bake_image.start(bake_image.open_bake(uri, bakery.ec2, bakery.lake.settings), bakery.signing)
    assert bakery.alive() == [started.instance_id]
    run.end()
    assert run.lines == [f"terminated {started.instance_id}"]
    assert bakery.alive() == []


def test_two_lakes_in_one_account_with_equal_run_ids_share_nothing(bakery: Bakery) -> None:
    from shardmill_airflow.images import bake_name

    context = {"dag_run": SimpleNamespace(dag_id="bake_gpu_ami", run_id="manual__1")}
    names = {bake_name(context, lake) for lake in ("s3://one/lake", "s3://two/lake")}
    assert len(names) == 2
    run = Run(bakery, "manual__1")
    assert (
        bake_image.name_of(run.plan("lakes", tidbit="X = 3\n"))
        == run.name
        == bake_name({"dag_run": run.dag_run}, "s3://shardmill-lake")
    )


def test_the_teardown_waits_only_where_an_instance_was_asked_for_or_nobody_can_tell(
    bakery: Bakery, monkeypatch
) -> None:
    from shardmill.adapters.store import StoreError

    run = Run(bakery, "calm")
    run.end()
    run.plan("calm", tidbit="X = 4\n")
    run.end()
    assert run.lines == ["nothing to do: nothing was planned", "nothing to do: no instance of this run is there"]
    assert run.waited == []
    opened = bake_image.open_bake(run.uri, bakery.ec2, bakery.lake.settings)
    opened.lake.put(opened.key(1, "launch.json"), b"{}")  # its sender was killed before the request went out, or behind
    run.end()
    assert run.waited == ["Pause"]

    def unreachable(*_: Any) -> bool:
        raise StoreError("no answer")

    monkeypatch.setattr(bake_image, "was_launched", unreachable)
    run.end()
    assert run.waited == ["Pause", "Pause"]


def test_what_cannot_be_baked_fails_before_anything_is_launched(bakery: Bakery) -> None:
    from shardmill.adapters.emr import RefusedError

    asked = bakery.put_packages("refused", tidbit="X = 1\n")
    for change, message in {
        "base": "base: no available image",
        "instance_type": "instance_type: ",
        "lock": "lock: .* is not there",
    }.items():
        value = {"base": "al2-nothing-*", "instance_type": "m5.huge", "lock": "s3://shardmill-lake/no.txt"}[change]
        with pytest.raises((RefusedError, ValueError), match=message):
            bake_image.plan_bake(asked.model_copy(update={change: value}), "bake-x", bakery.ec2, bakery.lake)
    assert bakery.alive() == []


def test_a_wait_looks_first_after_an_interval_bears_silence_and_says_when_time_is_up(monkeypatch) -> None:
    from botocore.exceptions import EndpointConnectionError

    from shardmill_airflow import image_wait

    states: list[Any] = [EndpointConnectionError(endpoint_url="http://127.0.0.1"), ("running", ""), ("stopped", "why")]
    wait = image_wait.Ec2Wait("instance", "i-1", ["running"], 2e9)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        assert slept or len(states) == 3
        slept.append(seconds)

    def look(self) -> tuple[str, str]:
        found = states.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(image_wait.asyncio, "sleep", sleep)
    monkeypatch.setattr(image_wait.Ec2Wait, "_look", look)
    assert asyncio.run(anext(wait.run())).payload == {"state": "stopped", "why": "why"}
    assert len(slept) == 3
    states[:] = [("running", "")]
    late = image_wait.Ec2Wait("instance", "i-1", ["running"], 1.0)
    assert asyncio.run(anext(late.run())).payload == {"state": "TIMED_OUT", "why": "it was still running"}
    name, values = late.serialize()
    assert name == "shardmill_airflow.image_wait.Ec2Wait"
    assert image_wait.Ec2Wait(**values).serialize() == late.serialize()


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("dag")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(Path(__file__).resolve().parents[2] / "dags" / "bake_gpu_ami.py"))
    assert bag.import_errors == {}
    yield bag.dags["bake_gpu_ami"]
    patch.undo()


def test_the_instance_is_torn_down_even_where_the_task_that_launched_it_failed(dag: Any) -> None:
    end = dag.get_task("end_instance")
    assert end.is_teardown
    assert {name for name in end.upstream_task_ids if dag.get_task(name).is_setup} == {"plan", "build"}
    assert end.on_failure_fail_dagrun
    assert end.retries >= 10
    assert end.retry_exponential_backoff > 1


def test_no_image_is_pruned_before_the_new_one_is_approved(dag: Any) -> None:
    assert dag.get_task("make_image").upstream_task_ids == {"plan", "build"}
    assert "make_image" in dag.get_task("prune").upstream_task_ids


def test_the_form_says_what_each_field_is_and_its_defaults_are_a_valid_request(dag: Any) -> None:
    from shardmill.specs.image import ImageSpec
    from shardmill_airflow.forms import read_form

    assert read_form(ImageSpec, dag.params.dump(), {}) == ImageSpec()
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema.get("section"), name


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"base": "ami-1; shutdown"}, "base: "),
        ({"instance_type": "{{ var.value.x }}"}, "instance_type: "),
        ({"keep": 0}, "keep: "),
        ({"max_hours": 0}, "max_hours: "),
        ({"lock": "http://169.254.169.254/x"}, "lock: .*expected s3://"),
        ({"image": "x"}, "unknown field image"),
    ],
)
def test_each_wrong_field_is_named(dag: Any, conf: dict[str, Any], message: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.specs.image import ImageSpec
    from shardmill_airflow.forms import read_form

    with pytest.raises(AirflowFailException, match=message):
        read_form(ImageSpec, dag.params.dump() | conf, conf)
