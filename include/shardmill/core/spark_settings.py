"""How Spark is laid out on nodes of a size: executors, their cores and memory, and the driver's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shardmill.core.frames import FRAME_VALUES
from shardmill.core.planning import BadRequestError
from shardmill.core.streams import streams_of
from shardmill.specs.training import TrainSpec

HEAP_MIB = 1024
YARN_SHARE = 0.7
"""Of a node's memory; EMR gives YARN at least 73 % of it."""
MASTER_MIB = 1536
"""For YARN's application master, which takes a container on one of the nodes."""
WORKER_MIB = 3072
"""The least for a worker that trains: a JVM's heap, and TensorFlow beside it."""
DRIVER_SHARE = 0.4
"""Of the master node's memory that the driver's JVM may take: its Python, YARN and HDFS live there too."""
MOST_LABELS = 4096
"""A model's size is reckoned with so many; YouTube-8M has 3,862."""
_MIB = 1024 * 1024
_FLOAT = 4


@dataclass(frozen=True)
class NodeSize:
    """What a node has."""

    cores: int
    memory_mib: int
    gpus: int = 0
    """NVIDIA's."""


@dataclass(frozen=True)
class Nodes:
    """The nodes that carry executors, of which the smallest counts, and the one that carries the driver."""

    size: NodeSize
    count: int
    kind: str
    """Their instance type, for people."""
    master: NodeSize
    master_kind: str


@dataclass(frozen=True)
class SparkLayout:
    """What a step asks of Spark."""

    executors: int
    settings: Mapping[str, str]
    lines: tuple[str, ...] = ()
    """The same for people, with what it follows from."""


def smallest(sizes: Sequence[NodeSize]) -> NodeSize:
    """Give what every one of some nodes has."""
    return NodeSize(
        min(size.cores for size in sizes), min(size.memory_mib for size in sizes), min(size.gpus for size in sizes)
    )


def whole_nodes(node: NodeSize, count: int) -> dict[str, str]:
    """Give the settings by which each of some nodes carries one executor, and it one task at a time.

    A task's work is done by processes beside the JVM, so memory goes there. The container is larger than half of what
    YARN has on a node, which makes it the only one there, and leaves room for the application master.

    Raises:
        BadRequestError: the nodes are too small.
    """
    container = _for_executors(node)
    if container < 2 * HEAP_MIB:
        raise BadRequestError(f"split_type: expected nodes of at least 8 GiB, found {node.memory_mib} MiB")
    return {
        "spark.executor.cores": str(node.cores),
        "spark.task.cpus": str(node.cores),
        "spark.executor.memory": f"{HEAP_MIB}m",
        "spark.executor.memoryOverhead": f"{container - HEAP_MIB}m",
        # Nodes are lost now and then in days of work; Spark would give up at twice as many as there are.
        "spark.yarn.max.executor.failures": str(max(24, 6 * count)),
        "spark.yarn.executor.failuresValidityInterval": "1h",
    }


def splitting_layout(nodes: Nodes) -> SparkLayout:
    """Lay out splitting: a shard at a time on each node, with all that the node has."""
    settings = whole_nodes(nodes.size, nodes.count)
    line = f"{nodes.count} executors, one a node on {nodes.count} × {nodes.kind}: {_executor(settings)}"
    return SparkLayout(nodes.count, settings, (line,))


def training_layout(training: TrainSpec, nodes: Nodes, labels: int = MOST_LABELS) -> SparkLayout:
    """Lay out training: an executor a worker, which runs one task at a time; several on a node where they fit.

    Args:
        labels: of the model.

    Raises:
        BadRequestError: the workers do not fit the nodes, or their weights the master node; names the field.
    """
    cores, container = _of_a_worker(training.ranks, nodes)
    heap = max(HEAP_MIB, container // 4)  # it keeps the records; TensorFlow works beside it
    weights = weight_bytes(training, labels)
    # After an epoch the driver holds the weights of every worker at once; pickling and framing take the rest.
    results = max(1024, -(-2 * training.ranks * weights // _MIB))
    driver = results + HEAP_MIB
    if driver > nodes.master.memory_mib * DRIVER_SHARE:
        raise BadRequestError(
            f"master_type: for the weights of {training.ranks} workers, {weights / 1e6:.1f} MB each, the driver "
            f"needs {driver} MiB, and of the {nodes.master.memory_mib} MiB of {nodes.master_kind} it may take "
            f"{DRIVER_SHARE:.0%}: take a larger one, or fewer workers or units"
        )
    settings = {
        "spark.executor.cores": str(cores),
        "spark.task.cpus": str(cores),
        "spark.executor.memory": f"{heap}m",
        "spark.executor.memoryOverhead": f"{container - heap}m",
        "spark.driver.memory": f"{driver}m",
        "spark.driver.maxResultSize": f"{results}m",
    }
    gpu = ", a GPU" if nodes.size.gpus else ""
    lines = (
        f"{training.ranks} executors, at most {_share(training.ranks, nodes.count)} a node on {nodes.count} × "
        f"{nodes.kind}: {_executor(settings)}{gpu}",
        f"driver on {nodes.master_kind}: {driver} MiB, results of up to {results} MiB "
        f"({training.ranks} workers' weights of {weights / 1e6:.1f} MB at {labels} labels)",
    )
    return SparkLayout(training.ranks, settings, lines)


def overridden(layout: SparkLayout, settings: Mapping[str, str], field: str) -> SparkLayout:
    """Let settings that someone asked for take the place of derived ones.

    Raises:
        BadRequestError: naming ``field``, where they do not go together.
    """
    if not settings:
        return layout
    merged = {**layout.settings, **settings}
    count = merged.pop("spark.executor.instances", str(layout.executors))
    numbers = {"spark.executor.instances": count}
    numbers |= {name: merged.get(name, "1") for name in ("spark.executor.cores", "spark.task.cpus")}
    for name, value in numbers.items():
        if not value.isdecimal() or not 1 <= int(value) <= 10_000:
            raise BadRequestError(f"{field}: {name}: expected a number from 1 to 10000, found {value}")
    if int(numbers["spark.task.cpus"]) > int(numbers["spark.executor.cores"]):
        raise BadRequestError(
            f"{field}: a task takes spark.task.cpus = {numbers['spark.task.cpus']} cores, an executor has "
            f"spark.executor.cores = {numbers['spark.executor.cores']}: set both"
        )
    told = ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
    return replace(
        layout, executors=int(count), settings=merged, lines=(*layout.lines, f"asked for in {field}: {told}")
    )


def weight_bytes(training: TrainSpec, labels: int = MOST_LABELS) -> int:
    """Give the size of the model's weights as float32, in bytes; a user's own model is taken for a two-stream one."""
    dense = training.dense_units
    if training.model == "video_level_dense":
        layers = ((FRAME_VALUES, dense), (dense, dense), (dense, 2 * dense))
        parameters = sum((width + 3) * units for width, units in layers)  # bias, and scale and offset of the norm
        return (parameters + (2 * dense + 1) * labels) * _FLOAT
    streams = streams_of(training) or streams_of(training.model_copy(update={"model": "two_stream_bilstm"}))
    parameters = sum(2 * 4 * stream.units * (stream.width + stream.units + 1) for stream in streams)
    hidden = 2 * sum(stream.units for stream in streams)
    parameters += (hidden + 1) * dense + (dense + 1) * labels
    return parameters * _FLOAT


def _of_a_worker(workers: int, nodes: Nodes) -> tuple[int, int]:
    """Give the cores and the MiB of a worker's executor."""
    size, each = nodes.size, _share(workers, nodes.count)
    if size.gpus and each > size.gpus:
        raise BadRequestError(
            f"workers: a worker takes a GPU, and {nodes.count} × {nodes.kind} have {nodes.count * size.gpus}, found "
            f"{workers} workers: lower it, raise core_count, or take larger nodes"
        )
    # With GPUs YARN counts cores, and the application master takes one.
    cores = (size.cores - 1 if size.gpus else size.cores) // each
    if cores < 1:
        raise BadRequestError(
            f"workers: {each} of {workers} share a node of {size.cores} cores ({nodes.count} × {nodes.kind}), and each "
            "takes one: lower it, raise core_count, or take larger nodes"
        )
    container = _for_executors(size) // each
    if container < WORKER_MIB:
        raise BadRequestError(
            f"workers: {each} of {workers} share a node of {size.memory_mib} MiB ({nodes.count} × {nodes.kind}): "
            f"{container} MiB for each, expected {WORKER_MIB} or more: lower it, raise core_count, or take larger nodes"
        )
    return cores, container


def _for_executors(node: NodeSize) -> int:
    return int(node.memory_mib * YARN_SHARE) - MASTER_MIB


def _share(workers: int, nodes: int) -> int:
    return -(-workers // nodes)


def _executor(settings: Mapping[str, str]) -> str:
    cores, heap, beside = (settings[f"spark.executor.{name}"] for name in ("cores", "memory", "memoryOverhead"))
    return f"{cores} cores, {heap.removesuffix('m')} MiB of heap and {beside.removesuffix('m')} MiB beside it"
