"""What is asked of EMR."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from shardmill.specs.value import OptionalUri, Spec, Uri

InstanceType = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}\.[a-z0-9-]{2,16}$", examples=["m5.xlarge", "g4dn.xlarge", "g6.xlarge"])
]
AwsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{1,128}$", examples=["EMR_DefaultRole"])]
OptionalAwsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{0,128}$", examples=["shardmill"])]
Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@+-]{1,64}$", examples=["shardmill", "ann@example.com"])]
KmsKey = Annotated[
    str,
    Field(
        pattern=r"^(arn:aws[a-z-]{0,20}:kms:[a-z0-9-]{1,32}:\d{12}:(key|alias)/[A-Za-z0-9/_-]{1,200})?$",
        examples=["arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"],
    ),
]
SpotStrategy = Literal[
    "price-capacity-optimized", "capacity-optimized", "capacity-optimized-prioritized", "diversified", "lowest-price"
]
SpotTimeoutAction = Literal["SWITCH_TO_ON_DEMAND", "TERMINATE_CLUSTER"]

MOST_SPOT_TYPES = 5
_TYPE = re.compile(r"[a-z][a-z0-9-]{0,15}\.[a-z0-9-]{2,16}")
_APPLICATION = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,40}")
_GPU_FAMILY = re.compile(r"(g|gr|p)\d.*")
_OTHER_GPUS = ("g4ad",)
"""Their GPUs are AMD's: neither EMR's GPU support nor TensorFlow's usual build knows them."""


def has_gpus(instance_type: str) -> bool:
    """Say whether an instance type is of a family with NVIDIA's GPUs, by its name."""
    family = instance_type.partition(".")[0]
    return _GPU_FAMILY.fullmatch(family) is not None and family not in _OTHER_GPUS


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _check_types(text: str) -> str:
    types = _items(text)
    if wrong := [name for name in types if _TYPE.fullmatch(name) is None]:
        raise ValueError(f"expected instance types such as g4dn.xlarge, g5.xlarge, found {wrong[0]!r}")
    if len(types) > MOST_SPOT_TYPES or len(set(types)) < len(types):
        raise ValueError(f"expected at most {MOST_SPOT_TYPES} instance types, each once, found {len(types)}")
    return ",".join(types)


def _check_applications(text: str) -> str:
    names = _items(text)
    if wrong := [name for name in names if _APPLICATION.fullmatch(name) is None]:
        raise ValueError(f"expected names of EMR's applications such as Spark, Hadoop, found {wrong[0]!r}")
    if "Spark" not in names:
        raise ValueError(f"expected Spark among them, found {text!r}")
    return ",".join(names)


SpotTypes = Annotated[str, AfterValidator(_check_types)]
Applications = Annotated[str, AfterValidator(_check_applications)]


def check_spot_types(nodes: str, core_type: str, spot_types: str) -> None:
    """Refuse spot types that cannot stand beside the core nodes. Raises ValueError that names the field."""
    types = _items(spot_types)
    if nodes == "groups" and len(types) > 1:
        raise ValueError("spot_types: an instance group has one type: name one, or take nodes=fleets")
    for name in types:
        if has_gpus(name) != has_gpus(core_type):
            raise ValueError(
                f"spot_types: {name} and core_type {core_type}: either all of them have GPUs or none, for YARN is told "
                "about GPUs for the whole cluster"
            )


class BootstrapAction(Spec):
    """A script that every node runs before Spark starts; the cluster ends where it fails."""

    name: str = Field(pattern=r"^[A-Za-z0-9 ._-]{1,64}$")
    path: Uri
    """Where the script lies."""
    arguments: tuple[str, ...] = ()


class ClusterSpec(Spec):
    """An ephemeral EMR Spark cluster."""

    name: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,200}$")
    """Deterministic, so that a retry finds the cluster of its first try."""
    run: str
    """The run that the cluster works for; a tag."""
    folder: str = Field("", max_length=256)
    """URI of the run's folder, by which runs of one name in several lakes are told apart; a tag."""
    work: Literal["train", "split"] = "train"
    """What the cluster does for the run; a tag."""
    owner: Owner = "shardmill"
    """Who answers for its cost; a tag."""
    release_label: str = Field("emr-7.13.0", pattern=r"^emr-[a-z0-9.-]{3,30}$")
    """EMR release."""
    applications: Applications = "Spark"
    """What EMR installs, a comma between names."""
    image_id: str = Field(pattern=r"^ami-[0-9a-f]{8,17}$")
    """The custom machine image."""
    nodes: Literal["groups", "fleets"] = "groups"
    """Instance groups, or instance fleets."""
    master_type: InstanceType = "m5.xlarge"
    """Instance type of the master node."""
    core_type: InstanceType = "g4dn.xlarge"
    """Instance type of the core nodes."""
    core_count: int = Field(2, ge=1, le=100)
    """Number of core nodes."""
    spot_count: int = Field(0, ge=0, le=100)
    """Number of task nodes on the spot market."""
    spot_types: SpotTypes = ""
    """Instance types of the spot nodes, a comma between them; empty for that of the core nodes."""
    spot_timeout_minutes: int = Field(20, ge=5, le=1440)
    """A fleet waits so long for spot nodes."""
    spot_timeout_action: SpotTimeoutAction = "SWITCH_TO_ON_DEMAND"
    """What a fleet does then."""
    spot_strategy: SpotStrategy = "price-capacity-optimized"
    """Which of the spot types a fleet takes."""
    root_volume_gib: int = Field(40, ge=15, le=1000)
    """Size of each node's root volume in GiB; at least the image's."""
    idle_minutes: int = Field(15, ge=1, le=10080)
    """The cluster ends itself when it was idle for so long."""
    log_uri: Uri
    """Where EMR puts its logs."""
    event_logs: OptionalUri = ""
    """Folder, which is there, of Spark's event logs; empty for HDFS, as EMR has it."""
    log_kms_key: KmsKey = ""
    """KMS key that encrypts the logs; empty for the bucket's own encryption."""
    security_configuration: OptionalAwsName = ""
    """Name of an EMR security configuration (encryption, IMDSv2); empty for none."""
    service_role: AwsName = "EMR_DefaultRole"
    """IAM role of EMR."""
    instance_profile: AwsName = "EMR_EC2_DefaultRole"
    """IAM instance profile of the nodes."""
    subnet_id: str = Field("", pattern=r"^(subnet-[0-9a-f]{8,17})?$")
    """Subnet of the nodes; empty for the account's default."""
    python: str = Field("/usr/bin/python3.11", pattern=r"^/[A-Za-z0-9_./-]{1,200}$")
    """Python of driver and executors on the nodes."""
    region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    """AWS region; the jobs on the nodes reach the lake in it."""
    bootstrap: tuple[BootstrapAction, ...] = Field((), max_length=16)
    """What every node runs before Spark starts, in this order."""
    deadline: str
    """When the cluster must be gone, ISO 8601 in UTC; a tag."""

    @model_validator(mode="after")
    def _spot_nodes_fit(self) -> Self:
        check_spot_types(self.nodes, self.core_type, self.spot_types)
        if self.schedules_gpus and re.match(r"emr-[1-6]\.", self.release_label):
            raise ValueError(
                f"release_label: {self.core_type} has GPUs, and GPUs on YARN are set up as EMR 7 takes them, found "
                f"{self.release_label}"
            )
        return self

    @property
    def schedules_gpus(self) -> bool:
        """Whether YARN hands out GPUs: to the work that uses them, on nodes that have them."""
        return self.work == "train" and has_gpus(self.core_type)

    @property
    def task_types(self) -> tuple[str, ...]:
        """Instance types of the spot nodes."""
        return _items(self.spot_types) or (self.core_type,)

    @property
    def application_names(self) -> tuple[str, ...]:
        """What EMR installs."""
        return _items(self.applications)
