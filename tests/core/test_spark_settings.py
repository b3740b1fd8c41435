from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.planning import BadRequestError
from shardmill.core.spark_settings import (
    Nodes,
    NodeSize,
    overridden,
    smallest,
    splitting_layout,
    training_layout,
    weight_bytes,
    whole_nodes,
)
from shardmill.specs.spark_conf import parse_spark_conf
from shardmill.specs.training import TrainSpec

MASTER = NodeSize(4, 16384)
G4 = NodeSize(4, 16384, 1)
G4_12X = NodeSize(48, 196608, 4)
M5_2X = NodeSize(8, 32768)
YARN_MIB = {16384: 12288, 32768: 24576, 65536: 57344, 196608: 188416, 393216: 385024}
"""What YARN has on a node, as EMR documents it for m5; 196608 by the rule of the others."""


def nodes(size: NodeSize, count: int, master: NodeSize = MASTER) -> Nodes:
    return Nodes(size, count, "c.x", master, "m.x")


def mebibytes(settings: dict, *names: str) -> int:
    return sum(int(settings[name].removesuffix("m")) for name in names)


def of_an_executor(settings: dict) -> int:
    return mebibytes(settings, "spark.executor.memory", "spark.executor.memoryOverhead")


@pytest.mark.parametrize("memory_mib", [16384, 32768, 65536, 393216])
def test_a_node_carries_one_executor_and_the_application_master_and_no_second_executor(memory_mib):
    settings = whole_nodes(NodeSize(8, memory_mib), 3)
    assert of_an_executor(settings) + 1024 <= YARN_MIB[memory_mib]
    assert 2 * of_an_executor(settings) > YARN_MIB[memory_mib]
    assert settings["spark.executor.cores"] == settings["spark.task.cpus"] == "8"


def test_a_node_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 8 GiB, found 4096 MiB"):
        whole_nodes(NodeSize(2, 4096), 1)


def test_splitting_says_what_it_asks_for():
    layout = splitting_layout(nodes(M5_2X, 3))
    assert layout.executors == 3
    assert layout.lines == ("3 executors, one a node on 3 × c.x: 8 cores, 1024 MiB of heap and 20377 MiB beside it",)


@pytest.mark.parametrize(
    ("size", "count", "workers"),
    [(G4, 2, 2), (G4, 3, 2), (G4_12X, 2, 8), (G4_12X, 2, 5), (M5_2X, 2, 4), (M5_2X, 1, 6), (NodeSize(4, 16384), 2, 2)],
)
def test_workers_fit_their_nodes_with_the_application_master_and_have_one_task_each(size, count, workers):
    layout = training_layout(TrainSpec(workers=workers), nodes(size, count))
    a_node = -(-workers // count)
    cores = int(layout.settings["spark.executor.cores"])
    assert layout.executors == workers
    assert layout.settings["spark.task.cpus"] == layout.settings["spark.executor.cores"]
    assert a_node * cores + (1 if size.gpus else 0) <= size.cores
    assert a_node * of_an_executor(layout.settings) + 1024 <= YARN_MIB[size.memory_mib]
    assert mebibytes(layout.settings, "spark.executor.memory") >= 1024


@given(
    st.builds(NodeSize, st.integers(1, 192), st.integers(2048, 2**21), st.integers(0, 16)),
    st.integers(1, 100),
    st.integers(1, 256),
)
def test_whatever_is_not_refused_fits(size, count, workers):
    try:
        settings = training_layout(TrainSpec(workers=workers), nodes(size, count, NodeSize(8, 32768))).settings
    except BadRequestError as error:
        assert str(error).startswith(("workers: ", "master_type: "))
        return
    a_node = -(-workers // count)
    assert a_node <= size.gpus or not size.gpus
    assert a_node * int(settings["spark.executor.cores"]) <= size.cores - (1 if size.gpus else 0)
    assert a_node * of_an_executor(settings) + 1536 <= 0.7 * size.memory_mib
    assert of_an_executor(settings) >= 3072


@pytest.mark.parametrize(
    ("size", "count", "workers", "message"),
    [
        (G4, 2, 3, "workers: a worker takes a GPU, and 2 × c.x have 2, found 3 workers"),
        (M5_2X, 1, 9, "workers: 9 of 9 share a node of 8 cores"),
        (M5_2X, 1, 8, "workers: 8 of 8 share a node of 32768 MiB .* 2675 MiB for each, expected 3072"),
        (NodeSize(1, 16384, 1), 1, 1, "workers: 1 of 1 share a node of 1 cores"),
        (NodeSize(2, 4096), 1, 1, "workers: 1 of 1 share a node of 4096 MiB"),
    ],
)
def test_workers_that_do_not_fit_are_refused_by_field(size, count, workers, message):
    with pytest.raises(BadRequestError, match=message):
        training_layout(TrainSpec(workers=workers), nodes(size, count))


def test_the_driver_has_room_for_the_weights_of_all_workers_and_results_may_be_so_large():
    large = TrainSpec(workers=16, rgb_units=1024, audio_units=256, dense_units=1024)
    layout = training_layout(large, nodes(G4, 16, NodeSize(16, 65536)))
    sizes = [
        int(layout.settings[name].removesuffix("m")) for name in ("spark.driver.maxResultSize", "spark.driver.memory")
    ]
    assert sizes[0] * 2**20 > 16 * weight_bytes(large)
    assert sizes[1] > sizes[0]
    small = training_layout(TrainSpec(), nodes(G4, 2)).settings
    assert (small["spark.driver.maxResultSize"], small["spark.driver.memory"]) == ("1024m", "2048m")


def test_weights_that_a_master_node_cannot_hold_are_refused_by_field():
    large = TrainSpec(workers=64, rgb_units=2048, audio_units=512)
    with pytest.raises(BadRequestError, match=r"master_type: for the weights of 64 workers, .* MB each, the driver"):
        training_layout(large, nodes(G4, 64))


def test_the_layout_of_training_is_told_with_what_it_follows_from():
    assert training_layout(TrainSpec(), nodes(G4, 2), labels=10).lines == (
        "2 executors, at most 1 a node on 2 × c.x: 3 cores, 2483 MiB of heap and 7449 MiB beside it, a GPU",
        "driver on m.x: 2048 MiB, results of up to 1024 MiB (2 workers' weights of 1.2 MB at 10 labels)",
    )


def test_each_derived_setting_gives_way_to_what_is_asked_for():
    layout = training_layout(TrainSpec(), nodes(G4, 2))
    for name in layout.settings:
        asked = {name: "1"} | ({"spark.task.cpus": "1"} if name == "spark.executor.cores" else {})
        found = overridden(layout, asked, "spark_conf")
        assert found.settings[name] == "1"
        assert found.lines == (*layout.lines, f"asked for in spark_conf: {', '.join(f'{one}=1' for one in asked)}")
    assert overridden(layout, {}, "spark_conf") == layout


def test_the_number_of_executors_gives_way_too():
    found = overridden(training_layout(TrainSpec(), nodes(G4, 2)), {"spark.executor.instances": "5"}, "spark_conf")
    assert found.executors == 5
    assert "spark.executor.instances" not in found.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spark.executor.instances": "0"}, "spark_conf: spark.executor.instances: expected a number"),
        ({"spark.executor.cores": "two"}, "spark_conf: spark.executor.cores: expected a number"),
        ({"spark.executor.cores": "2"}, r"spark_conf: a task takes spark\.task\.cpus = 3 cores"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_field(settings, message):
    with pytest.raises(BadRequestError, match=message):
        overridden(training_layout(TrainSpec(), nodes(G4, 2)), settings, "spark_conf")


def test_of_several_types_the_smallest_of_each_counts():
    assert smallest([NodeSize(4, 9000, 1), NodeSize(8, 8000, 4)]) == NodeSize(4, 8000, 1)


def test_settings_are_read_as_people_write_them():
    assert parse_spark_conf("") == {}
    assert parse_spark_conf(" spark.task.cpus = 1 ;spark.memory.C=x=y\n\nspark.locality.wait=0s;") == {
        "spark.task.cpus": "1",
        "spark.memory.C": "x=y",
        "spark.locality.wait": "0s",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spark.a", "expected spark.name=value"),
        ("spark.a=", "expected spark.name=value"),
        ("hive.a=1", "expected spark.name=value"),
        ("--jars=x", "expected spark.name=value"),
        ("spark.a=1\x00", "expected spark.name=value"),
        ("spark.a=1\rspark.master=local", "expected spark.name=value"),
        ("spark.a b=1", "expected spark.name=value"),
        ("spark.executor.memory=$(id)", "a value of letters, digits"),
        ("spark.locality.wait=0s --jars x", "a value of letters, digits"),
        ("spark.task.cpus=1;spark.task.cpus=2", "spark.task.cpus is given twice"),
        ("spark.master=local", "spark.master cannot be set here: it is YARN"),
        ("spark.submit.deployMode=cluster", "spark.submit.deployMode cannot be set here"),
        ("spark.dynamicAllocation.enabled=true", "cannot be set here: a job needs all of its executors"),
        ("spark.jars=s3://theirs/x.jar", "spark.jars cannot be set here: only spark.broadcast.blockSize, "),
        ("spark.executor.extraJavaOptions=-javaagent:x", "spark.executor.extraJavaOptions cannot be set here"),
        ("spark.plugins=X", "spark.plugins cannot be set here"),
    ],
)
def test_what_is_no_setting_or_not_the_forms_to_set_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_spark_conf(text)
