"""What every run asks that trains on a cluster of its own: how it trains, where, and within which limits."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from shardmill.specs.cluster import (
    Applications,
    AwsName,
    InstanceType,
    KmsKey,
    OptionalAwsName,
    Owner,
    SpotStrategy,
    SpotTimeoutAction,
    SpotTypes,
    check_spot_types,
)
from shardmill.specs.notify import NotifySpec
from shardmill.specs.spark_conf import SparkConf
from shardmill.specs.training import TrainSpec
from shardmill.specs.value import SECTIONS, LakeUri, Name, OptionalUri, Spec, in_section

__all__ = ["ClusterRun", "in_section", "section_of", "section_place"]

NODES = {"groups": "instance groups", "fleets": "instance fleets"}
SPOT_TIMEOUT_ACTIONS = {"SWITCH_TO_ON_DEMAND": "take nodes on demand", "TERMINATE_CLUSTER": "give up the cluster"}
SPOT_STRATEGIES = {
    "price-capacity-optimized": "cheap and unlikely to be taken away",
    "capacity-optimized": "least likely to be taken away",
    "capacity-optimized-prioritized": "in the order of the types, as far as capacity allows",
    "diversified": "spread over all types",
    "lowest-price": "cheapest",
}


def section_of(spec: type[Spec], name: str) -> str:
    """Tell in which section of the trigger form a field stands: what training is asked has one of its own."""
    extra = spec.model_fields[name].json_schema_extra
    section = extra.get("section") if isinstance(extra, dict) else None
    return str(section or ("Train" if name in TrainSpec.model_fields else "Other"))


def section_place(section: str) -> int:
    """Give the place of a section among those of the form, from 0."""
    return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)


class LakeRun(NotifySpec):
    """A run that works in a lake, on a data set of it."""

    source_connection: str = in_section("Data", "", pattern=r"^[a-zA-Z0-9_.-]{0,200}$", examples=["partner_s3"])
    """Airflow connection that reaches the source's bucket, S3-compatible or GCS; empty for that of the lake."""
    dataset: Name = in_section("What", "sample", title="Data set")
    """Name of the data set in the lake."""
    lake: LakeUri = in_section("Data", "s3://shardmill-lake")
    """Folder that holds everything the run makes."""


class ClusterRun(LakeRun, TrainSpec):
    """A run that trains and evaluates on a cluster of its own, with what it works on still left open."""

    release_label: str = in_section(
        "Where", "emr-7.13.0", title="EMR release", pattern=r"^emr-[a-z0-9.-]{3,30}$", examples=["emr-7.13.0"]
    )
    """Release of EMR, as AWS names it."""
    image_id: str = in_section(
        "Where", "", title="Machine image (AMI)", pattern=r"^(ami-[0-9a-f]{8,17})?$", examples=["ami-0123456789abcdef0"]
    )
    """Custom machine image; empty for the newest own image tagged `shardmill=cluster`."""
    master_type: InstanceType = in_section("Where", "m5.xlarge", title="Master node type")
    """Instance type of the master node."""
    core_type: InstanceType = in_section("Where", "g4dn.xlarge", title="Core node type")
    """Instance type of the core nodes."""
    core_count: int = in_section("Where", 2, title="Core nodes", ge=1, le=100)
    """Number of core nodes."""
    nodes: Literal["groups", "fleets"] = in_section("Where", "groups", title="Groups or fleets", names=NODES)
    """Nodes as instance groups, or as instance fleets, whose spot nodes may be of several types."""
    spot_count: int = in_section("Where", 0, title="Spot nodes", ge=0, le=100)
    """Spot nodes that train beside the core nodes. Master and core nodes are always on demand."""
    spot_types: SpotTypes = in_section("Where", "", title="Spot node types", examples=["g4dn.xlarge,g5.xlarge"])
    """Instance types of the spot nodes that train, at most 5 with a comma between; empty for that of the core nodes."""
    spot_timeout_minutes: int = in_section("Where", 20, title="Wait for spot nodes (minutes)", ge=5, le=1440)
    """With fleets: how long to wait for spot nodes."""
    spot_timeout_action: SpotTimeoutAction = in_section(
        "Where", "SWITCH_TO_ON_DEMAND", title="Without spot nodes", names=SPOT_TIMEOUT_ACTIONS
    )
    """With fleets: what to do then, take nodes on demand or give up the cluster."""
    spot_strategy: SpotStrategy = in_section(
        "Where", "price-capacity-optimized", title="Choice of spot nodes", names=SPOT_STRATEGIES
    )
    """With fleets: which spot types to take."""
    spark_conf: SparkConf = in_section(
        "Where", "", title="Spark settings (training)", examples=["spark.executor.memory=8g; spark.locality.wait=0s"]
    )
    """Spark settings instead of the derived ones where it trains: `spark.executor.memory=8g; spark.locality.wait=0`."""
    applications: Applications = in_section(
        "Where", "Spark", title="EMR applications", examples=["Spark", "Spark,Hadoop"]
    )
    """What EMR installs, a comma between names; Spark must be among them."""
    root_volume_gib: int = in_section("Where", 40, title="Root volume (GiB)", ge=15, le=1000)
    """Root volume of each node in GiB."""
    subnet_id: str = in_section(
        "Where", "", title="Subnet", pattern=r"^(subnet-[0-9a-f]{8,17})?$", examples=["subnet-0123456789abcdef0"]
    )
    """Subnet of the nodes; empty for the account's default."""
    service_role: AwsName = in_section("Where", "EMR_DefaultRole", title="Role of EMR")
    """IAM role of EMR."""
    instance_profile: AwsName = in_section(
        "Where", "EMR_EC2_DefaultRole", title="Role of the nodes", examples=["EMR_EC2_DefaultRole"]
    )
    """IAM instance profile of the nodes."""
    security_configuration: OptionalAwsName = in_section("Where", "")
    """Name of an EMR security configuration (encryption, IMDSv2), made once for the account; empty for none."""
    log_kms_key: KmsKey = in_section("Where", "", title="KMS key of the logs")
    """ARN of a KMS key that encrypts the clusters' logs; empty for the bucket's own encryption."""

    idle_minutes: int = in_section("Guards", 15, title="End when idle for (minutes)", ge=1, le=10080)
    """The cluster ends itself when it was idle for so long."""
    max_hours: float = in_section("Guards", 6.0, title="Hours at most", gt=0, le=168)
    """Hours from the making of the cluster until its steps are cancelled and it is ended."""
    max_usd: float = in_section("Guards", 0.0, title="USD at most", ge=0, le=1_000_000)
    """Refuse a run that could cost more USD: clusters until `max_hours`, requests, traffic, storage; 0 for no limit."""
    prices: OptionalUri = in_section("Guards", "", title="Price file", examples=["s3://my-lake/prices.json"])
    """A price file (JSON) of your own; empty for the one that comes with Shardmill."""
    owner: Owner = in_section("Guards", "shardmill")
    """Who answers for what the clusters cost: a tag of theirs."""
    dry_run: bool = in_section("What", False, title="Dry run (plan only)")
    """Plan only: say what would be done and what it may cost, and stop."""

    @model_validator(mode="after")
    def _spot_nodes_fit(self) -> Self:
        check_spot_types(self.nodes, self.core_type, self.spot_types)
        return self

    @property
    def training(self) -> TrainSpec:
        return TrainSpec(**{name: getattr(self, name) for name in TrainSpec.model_fields})
