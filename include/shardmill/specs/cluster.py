"""What is asked of EMR."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shardmill.specs.value import Spec, Uri

InstanceType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}\.[a-z0-9-]{2,16}$")]
AwsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{1,128}$")]


class ClusterSpec(Spec):
    """An ephemeral EMR Spark cluster."""

    name: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,200}$")
    """Deterministic, so that a retry finds the cluster of its first try."""
    run: str
    """The run that the cluster works for; a tag."""
    work: Literal["train", "split"] = "train"
    """What the cluster does for the run; a tag."""
    release_label: str = Field("emr-7.13.0", pattern=r"^emr-[a-z0-9.-]{3,30}$")
    """EMR release."""
    image_id: str = Field(pattern=r"^ami-[0-9a-f]{8,17}$")
    """The custom machine image."""
    master_type: InstanceType = "m5.xlarge"
    """Instance type of the master node."""
    core_type: InstanceType = "g4dn.xlarge"
    """Instance type of the core nodes."""
    core_count: int = Field(2, ge=1, le=100)
    """Number of core nodes."""
    root_volume_gib: int = Field(40, ge=15, le=1000)
    """Size of each node's root volume in GiB; at least the image's."""
    idle_minutes: int = Field(15, ge=1, le=10080)
    """The cluster ends itself when it was idle for so long."""
    log_uri: Uri
    """Where EMR puts its logs."""
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
    deadline: str
    """When the cluster must be gone, ISO 8601 in UTC; a tag."""
