"""EC2's instances behind moto's API: user data runs, shutdowns count, tokens and names are held to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from localcloud.conftest import Served
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from shardmill.localcloud.ec2_account import USER_DATA_BYTES
from shardmill.localcloud.ec2_agent import Ec2Agent
from shardmill.localcloud.seed import BASE_IMAGE_ID, BASE_IMAGE_NAME, IMAGE_ID, client, local_ec2, seed
from shardmill.localcloud.server import REGION


class Yard:
    """A served EC2 with its agent, which the test ticks."""

    def __init__(self, served: Served, folder: Path) -> None:
        endpoint = served.server.endpoint
        self.ec2: Any = client("ec2", endpoint)
        environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_SECRET_ACCESS_KEY": "secret", "SHARDMILL_LOCAL_CLOUD": "mark"}
        self.agent = Ec2Agent(local_ec2(), folder, environment=environment)
        self.folder = folder

    def launch(self, script: str, **changes: Any) -> str:
        request = {"ImageId": BASE_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "UserData": script} | changes
        found: str = self.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        return found

    def describe(self, instance_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][
            0
        ]
        return found

    def state(self, instance_id: str) -> str:
        return str(self.describe(instance_id)["State"]["Name"])

    def tick_until(self, look: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            self.agent.tick()
            time.sleep(0.05)

    def file(self, instance_id: str, name: str) -> Path:
        return self.folder / instance_id / name


@pytest.fixture
def yard(serve: Callable[[], Served], tmp_path: Path) -> Iterator[Yard]:
    backends = ec2_backends[DEFAULT_ACCOUNT_ID], iam_backends[DEFAULT_ACCOUNT_ID]
    for backend in backends:
        backend.reset()
    served = serve()
    seed(served.server.endpoint)
    made = Yard(served, tmp_path / "instances")
    yield made
    made.agent.close()
    for backend in backends:
        backend.reset()


def test_user_data_runs_once_without_credentials_and_its_shutdown_stops_the_instance(yard: Yard) -> None:
    instance = yard.launch("#!/bin/sh\nenv\ncat /proc/1/environ 2>/dev/null\nshutdown -h now\n")
    yard.tick_until(lambda: yard.state(instance) == "stopped", "the stop")
    told = yard.file(instance, "stdout").read_text()
    assert "HOME=/root" in told
    assert "secret" not in told
    assert yard.describe(instance)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert yard.file(instance, "machine/root").is_dir()  # a stopped instance keeps its disk
    yard.ec2.start_instances(InstanceIds=[instance])
    yard.agent.tick()
    assert yard.state(instance) == "running"


def test_an_instance_that_is_to_terminate_by_itself_does_and_loses_its_disk(yard: Yard) -> None:
    instance = yard.launch("#!/bin/sh\nshutdown -h now\n", InstanceInitiatedShutdownBehavior="terminate")
    yard.tick_until(lambda: yard.state(instance) == "terminated", "the end")
    yard.tick_until(lambda: not yard.file(instance, "machine/root").exists(), "the end of its disk")


def test_a_script_that_ends_leaves_its_instance_running(yard: Yard) -> None:
    instance = yard.launch("#!/bin/sh\necho done\n")
    yard.tick_until(lambda: instance in yard.agent._ended, "the end of the script")
    assert yard.state(instance) == "running"


@pytest.mark.parametrize("end", ["terminate_instances", "stop_instances"])
def test_who_ends_an_instance_from_outside_ends_its_processes(yard: Yard, end: str) -> None:
    instance = yard.launch("#!/bin/sh\ntouch /tmp/up\nexec sleep 300\n")
    yard.tick_until(yard.file(instance, "machine/root/tmp/up").exists, "its script")
    process = yard.agent._machines[instance]._process
    assert process is not None
    getattr(yard.ec2, end)(InstanceIds=[instance])
    yard.tick_until(lambda: instance not in yard.agent._machines, "the end of its machine")
    assert process.poll() is not None


def test_what_is_no_script_is_not_run_and_no_user_data_makes_no_machine(yard: Yard) -> None:
    strange = yard.launch("#cloud-config\nruncmd: [ls]\n")
    plain = yard.ec2.run_instances(ImageId=BASE_IMAGE_ID, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    yard.agent.tick()
    assert yard.agent._machines == {}
    assert (yard.state(strange), yard.state(plain)) == ("running", "running")


def test_a_client_token_launches_once_and_takes_the_same_request_only(yard: Yard) -> None:
    first = yard.launch("#!/bin/sh\n", ClientToken="t-1")
    assert yard.launch("#!/bin/sh\n", ClientToken="t-1") == first
    assert yard.launch("#!/bin/sh\n", ClientToken="t-2") != first
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        yard.launch("#!/bin/sh\nexit 1\n", ClientToken="t-1")


def test_what_ec2_refuses_is_refused(yard: Yard) -> None:
    with pytest.raises(ClientError, match=r"InvalidAMIID\.NotFound"):
        yard.launch("#!/bin/sh\n", ImageId="ami-0123456789abcdef0")
    with pytest.raises(ClientError, match=f"limited to {USER_DATA_BYTES} bytes"):
        yard.launch("#!/bin/sh\n" + "#" * USER_DATA_BYTES)


def test_an_image_is_as_large_as_its_instance_and_its_name_is_used_once(yard: Yard) -> None:
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 33, "DeleteOnTermination": True}}
    instance = yard.launch("#!/bin/sh\n", BlockDeviceMappings=[mapping])
    image_id = yard.ec2.create_image(InstanceId=instance, Name="mine", Description="d")["ImageId"]
    (image,) = yard.ec2.describe_images(ImageIds=[image_id])["Images"]
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 33
    assert (image["RootDeviceType"], image["VirtualizationType"], image["State"]) == ("ebs", "hvm", "available")
    assert (image["RootDeviceName"], image["Architecture"]) == ("/dev/xvda", "x86_64")
    with pytest.raises(ClientError, match=r"InvalidAMIName\.Duplicate"):
        yard.ec2.create_image(InstanceId=instance, Name="mine")


def test_the_account_has_a_cluster_image_and_one_of_amazons_to_bake_from(yard: Yard) -> None:
    own = yard.ec2.describe_images(Owners=["self"])["Images"]
    amazons = yard.ec2.describe_images(Owners=["amazon"])["Images"]
    assert [image["ImageId"] for image in own] == [IMAGE_ID]
    assert [(image["ImageId"], image["Name"]) for image in amazons] == [(BASE_IMAGE_ID, BASE_IMAGE_NAME)]
    assert local_ec2() is ec2_backends[DEFAULT_ACCOUNT_ID][REGION]
