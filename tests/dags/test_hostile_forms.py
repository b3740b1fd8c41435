"""No text in any field of any form reaches a shell, a template or an option: it is refused, or carried as data."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dags.form_lab import HOSTILE, forms

from shardmill.adapters.code_archive import ship_code
from shardmill.adapters.run_folder import run_name
from shardmill.core.bake_requests import launch_request, links_page, user_data
from shardmill.core.emr_request import cluster_request, spark_step
from shardmill.specs.cluster_run import ClusterRun
from shardmill.specs.image import BakePlan, ImageSpec
from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.run import RunSpec
from shardmill.specs.spark_conf import parse_spark_conf
from shardmill.specs.train_on_records import TrainOnRecordsSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE = datetime.now(UTC) + timedelta(hours=6)
HARMLESS = re.compile(r"[A-Za-z0-9._:/=+,@%~ -]*")
"""Without what a shell, a template or a URL of credentials is made of; a space only parts words in names."""


class Ec2:
    """Knows every instance type: 8 cores, 32 GiB, and a GPU where the type's name says so."""

    def describe_instance_types(self, InstanceTypes: list[str]) -> dict[str, Any]:  # noqa: N803
        gpus = [{"Manufacturer": "NVIDIA", "Count": 1}] if InstanceTypes[0].startswith(("g4dn", "g5", "g6")) else []
        return {
            "InstanceTypes": [
                {"VCpuInfo": {"DefaultVCpus": 8}, "MemoryInfo": {"SizeInMiB": 32768}, "GpuInfo": {"Gpus": gpus}}
            ]
        }


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(PROJECT / "plugins"))
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(PROJECT / "dags")).dags
    patch.undo()


@pytest.fixture(scope="module")
def taken(dags):
    """What the forms take of all that is hostile: DAG, field, text, spec."""
    found = []
    for dag_id, spec in forms(dags).items():
        for name in dags[dag_id].params:
            for text in HOSTILE:
                try:
                    found.append((dag_id, name, text, read_spec(spec, {name: text})))
                except MistakesError as error:
                    assert any(mistake.field == name for mistake in error.mistakes), (dag_id, name, text)
    return found


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, str):
        yield value


def as_pipeline(asked: ClusterRun) -> VideoPipelineSpec | TrainOnRecordsSpec:
    """Give what a run on a cluster asks as one of the kinds that have a record of their own."""
    if isinstance(asked, VideoPipelineSpec | TrainOnRecordsSpec):
        return asked
    shared = set(VideoPipelineSpec.model_fields) & set(type(asked).model_fields)
    return VideoPipelineSpec(**{name: getattr(asked, name) for name in shared})


def requests_of(asked: VideoPipelineSpec | TrainOnRecordsSpec, code: tuple[str, str]) -> list[dict[str, Any]]:
    """Write what EMR would be asked for by a run: clusters and steps."""
    from shardmill_airflow.reaping import with_run_tags
    from shardmill_airflow.run_clusters import cluster_spec, executors

    run = RunSpec(run=run_name("dag.manual__1"), started="2026-11-22T00:00:00+00:00", asked=asked)
    context = {"dag_run": SimpleNamespace(dag_id="dag", run_id="manual__1")}
    found = []
    for work, job in (("train", "train"), ("split", "split_on_cluster")):
        if work == "split" and not isinstance(asked, VideoPipelineSpec):
            continue
        image = asked.image_id or "ami-0123456789abcdef0"
        found.append(with_run_tags(cluster_request(cluster_spec(run, work, image, "us-east-1", DEADLINE)), context))
        workers, settings = executors(run, work, Ec2())
        arguments = (job, f"{run.folder}/spec.json")
        found.append(
            spark_step(
                f"{job} {run.run}", code=code, arguments=arguments, workers=workers, settings=settings, seconds=60
            )
        )
    return found


def test_much_is_refused_and_what_is_taken_is_kept_as_it_is(taken):
    assert len(taken) > 50
    for dag_id, name, _, asked in taken:
        assert type(asked).model_validate_json(asked.model_dump_json()) == asked, (dag_id, name)
        if isinstance(asked, ClusterRun):
            run = RunSpec(run="r", started="2026-11-22T00:00:00+00:00", asked=as_pipeline(asked))
            assert RunSpec.from_json(run.to_json()) == run, (dag_id, name)


def test_nothing_hostile_stands_in_a_request_for_a_cluster_or_in_a_step(taken, lake):
    names = [uri.removeprefix(lake.uri) for uri in ship_code(lake)]
    looked = 0
    for dag_id, name, text, asked in taken:
        if not isinstance(asked, ClusterRun):
            continue
        pipeline = as_pipeline(asked)
        code = (f"{pipeline.lake}{names[0]}", f"{pipeline.lake}{names[1]}")
        looked += 1
        for request in requests_of(pipeline, code):
            for leaf in leaves(request):
                assert HARMLESS.fullmatch(leaf), (dag_id, name, text, leaf)
                assert len(leaf) < 2000
    assert looked > 40


def test_a_field_adds_no_option_to_spark_submit(taken):
    code = ("s3://shardmill-lake/code/x.zip", "s3://shardmill-lake/code/x.py")

    def options(asked: Any) -> list[tuple[list[str], int, set[str]]]:
        found = []
        for request in requests_of(as_pipeline(asked), code):
            words = request.get("HadoopJarStep", {}).get("Args", [])
            keys = {after.partition("=")[0] for word, after in pairwise(words) if word == "--conf"}
            plain = [word for word in words if word.startswith("-") and word != "--conf"]
            found.append((plain, len(words) - 2 * len(keys), keys))
        return found

    for dag_id, name, text, asked in taken:
        if isinstance(asked, ClusterRun):
            before, after = options(type(asked)()), options(asked)
            own = set(parse_spark_conf(text)) if name.endswith("spark_conf") else set()
            assert [one[:2] for one in after] == [one[:2] for one in before], (dag_id, name, text)
            for one, other in zip(after, before, strict=True):
                assert one[2] <= other[2] | own, (dag_id, name, text)


def test_a_text_that_spark_options_are_made_of_is_never_taken_with_marks_of_a_shell():
    for text in HOSTILE:
        try:
            settings = parse_spark_conf(text)
        except ValueError:
            continue
        for key, value in settings.items():
            assert re.fullmatch(r"spark\.[A-Za-z.]+", key) and re.fullmatch(r"[A-Za-z0-9._:,/%+=-]+", value), text


def test_no_template_of_any_task_names_what_a_form_holds(dags):
    for dag in dags.values():
        for task in dag.tasks:
            assert "Bash" not in task.task_type and "SSH" not in task.task_type, task.task_id
            for field in task.template_fields:
                for text in leaves(getattr(task, field, None)):
                    if re.search(r"\{\{|\{%", text):
                        assert re.fullmatch(r"\{\{ ti\.xcom_pull\([^()]*\) \}\}", text), (task.task_id, text)
                        assert not re.search(r"params|dag_run|conf|var|conn|macros", text), (task.task_id, text)


@pytest.mark.parametrize("text", [text for text in HOSTILE if "{" in text])
def test_what_a_template_brings_from_another_task_is_not_rendered_again(dags, text):
    import jinja2

    looked = 0
    for dag in dags.values():
        for task in dag.tasks:
            for field in task.template_fields:
                value = getattr(task, field, None)
                if isinstance(value, str) and "{{" in value:
                    ti = SimpleNamespace(xcom_pull=lambda **_: text)
                    assert task.render_template(value, {"ti": ti}, jinja2.Environment(autoescape=False)) == text  # noqa: S701
                    looked += 1
    assert dags and looked >= 0


def test_what_an_instance_runs_at_boot_takes_any_value_as_a_word(tmp_path):
    """The shell itself says what it makes of each value; one that was run would leave a file."""
    for number, text in enumerate(text for text in HOSTILE if "\x00" not in text and len(text) < 1000):
        told = tmp_path / str(number)
        script = user_data(f'#!/bin/bash\nprintf %s "$LOCK_URL" > {told}\n', {"LOCK_URL": text, "GPU": "no"})
        subprocess.run(["bash", "-c", script.partition("\n")[2]], cwd=tmp_path, check=True, timeout=20)
        assert told.read_bytes().decode() == text
    assert not [path for path in tmp_path.iterdir() if not path.name.isdigit()]


def test_nothing_hostile_stands_in_the_launch_of_an_instance(taken):
    looked = 0
    for dag_id, name, text, asked in taken:
        if isinstance(asked, ImageSpec):
            plan = BakePlan(
                name="bake-0123456789ab",
                asked=asked,
                base_id="ami-0123456789abcdef0",
                base_name="al2023",
                architecture="x86_64",
                root_device="/dev/xvda",
                gpu=False,
                lock_sha256="0" * 64,
                recipe="0123456789ab",
            )
            for leaf in leaves(launch_request(plan, "", 1, DEADLINE.isoformat(timespec="seconds"))):
                assert HARMLESS.fullmatch(leaf), (dag_id, name, text, leaf)
            looked += 1
    assert looked


def test_a_wheels_name_stays_text_in_the_page_of_links():
    for text in HOSTILE[:-2]:
        page = links_page({text: f"https://bucket/{text}"})
        assert page.count("<a ") == page.count("</a>") == 1
        assert "<script" not in page


def test_the_id_of_a_run_becomes_a_plain_name_and_no_two_become_one():
    names = {run_name(f"dag.{text}") for text in HOSTILE}
    assert len(names) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name) for name in names)


def test_hostile_values_of_other_kinds_are_refused_by_the_field(dags):
    odd = ([], {}, ["x"], {"$ref": "x"}, None, 10**400, -1, True, float("nan"))
    for dag_id, spec in forms(dags).items():
        for name in dags[dag_id].params:
            for value in odd:
                try:
                    asked = read_spec(spec, {name: value})
                except MistakesError as error:
                    assert name in {mistake.field for mistake in error.mistakes}, (dag_id, name, value)
                else:
                    found = getattr(asked, name)
                    assert isinstance(found, str | int | float | bool), (dag_id, name, value)
                    assert json.loads(json.dumps(found, allow_nan=False)) == found
