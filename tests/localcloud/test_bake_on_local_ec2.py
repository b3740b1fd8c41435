"""An image is baked on the local AWS: EC2's API in front, the script itself in a machine of namespaces behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from localcloud.wheels import lock_of, make_wheel, wheel_name

from shardmill.adapters import baking
from shardmill.adapters.store import Store, StoreSettings
from shardmill.core import bake_requests
from shardmill.core.bake import BakeFailedError
from shardmill.core.bake_pruning import ABANDONED, PruneError
from shardmill.jobs import bake_image
from shardmill.jobs.bake_image import OpenBake
from shardmill.jobs.bake_image.launching import launch
from shardmill.localcloud.launch import LocalCloud, local_cloud
from shardmill.localcloud.seed import BASE_IMAGE_ID, BASE_IMAGE_NAME, IMAGE_ID, client
from shardmill.specs.image import ImageSpec

CLUSTER_PYTHON = Path(sys.prefix).parent / "cluster" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not CLUSTER_PYTHON.exists(), reason=f"no cluster environment: {CLUSTER_PYTHON} is not there"),
    pytest.mark.timeout(300),
]
LAKE = "s3://shardmill-lake"


class Bakery:
    """One local AWS, and an image asked of it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.ec2, self.emr, self.s3 = (client(name, cloud.endpoint) for name in ("ec2", "emr", "s3"))
        self.signing: Any = boto3.client(
            "s3", endpoint_url=cloud.endpoint, config=Config(signature_version="s3v4"), **_credentials()
        )
        self.lake = Store(LAKE, StoreSettings.from_environment(cloud.environment()))

    def put_packages(self, folder: str, **modules: str) -> ImageSpec:
        """Put wheels of one module each, and their list; give what asks for an image of them."""
        wheels = {(name, "1.0"): make_wheel(name, "1.0", module) for name, module in modules.items()}
        for (name, version), wheel in wheels.items():
            self.lake.put(f"{folder}/{wheel_name(name, version)}", wheel)
        self.lake.put(f"{folder}/lock.txt", lock_of(wheels).encode())
        return ImageSpec(
            instance_type="m5.xlarge", lock=f"{LAKE}/{folder}/lock.txt", wheels=f"{LAKE}/{folder}", root_gib=17
        )

    def plan(self, asked: ImageSpec, name: str) -> OpenBake:
        _, uri = bake_image.plan_bake(asked, name, self.ec2, self.lake)
        return bake_image.open_bake(uri, self.ec2, self.lake.settings)

    def build(self, opened: OpenBake) -> str:
        """Launch, wait until the instance is down, read its result; give its id."""
        started = bake_image.start(opened, self.signing)
        bake_image.finish(opened, started.instance_id, started.attempt, self.wait(started.instance_id))
        return started.instance_id

    def wait(self, instance_id: str, seconds: float = 120.0) -> str:
        deadline = time.monotonic() + seconds
        while (state := baking.instance_state(self.ec2, instance_id)[0]) in ("pending", "running", "stopping"):
            assert time.monotonic() < deadline, self.log(instance_id)
            time.sleep(0.2)
        return state

    def log(self, instance_id: str) -> str:
        root = self.cloud.state_dir / "instances" / instance_id / "machine" / "root"
        log = root / "var/lib/shardmill-bake/log"
        return log.read_text() if log.exists() else "no log"

    def alive(self) -> list[str]:
        held = self.ec2.describe_instances()["Reservations"]
        return [one["InstanceId"] for r in held for one in r["Instances"] if one["State"]["Name"] != "terminated"]


def _credentials() -> dict[str, str]:
    return {"region_name": "us-east-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture(scope="module")
def bakery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bakery]:
    with local_cloud(tmp_path_factory.mktemp("bakery") / "state") as cloud:
        yield Bakery(cloud)


def test_an_image_is_baked_once_and_the_second_bake_uses_it(bakery: Bakery) -> None:
    asked = bakery.put_packages("good", tidbit="ANSWER = 42\n", morsel="import tidbit\nassert tidbit.ANSWER == 42\n")
    opened = bakery.plan(asked, "bake-good")
    assert (opened.plan.image_id, opened.plan.base_id) == ("", BASE_IMAGE_ID)
    instance = bakery.build(opened)
    result = opened.result(1)
    assert result is not None
    assert result.packages == {"tidbit": "1.0", "morsel": "1.0"}
    assert result.imported == 2
    assert result.python.startswith("3.11.")
    calls = (bakery.cloud.state_dir / "instances" / instance / "machine" / "calls.jsonl").read_text()
    assert '["systemctl", "disable", "--now", "amazon-ssm-agent"]' in calls
    assert '["dnf", "install", "-y", "python3.11", "python3.11-pip"]' in calls

    image_id = bake_image.make_image(opened)
    assert bake_image.make_image(opened) == image_id  # a retry joins
    assert image_id not in {image["ImageId"] for image in baking.cluster_images(bakery.ec2)}  # not before it is checked
    bake_image.approve(opened, image_id)
    (image,) = bakery.ec2.describe_images(ImageIds=[image_id])["Images"]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert (tags["shardmill"], tags["lock"], tags["base"]) == ("cluster", opened.plan.lock_sha256, BASE_IMAGE_ID)
    assert [one["Ebs"]["VolumeSize"] for one in image["BlockDeviceMappings"]] == [17]
    assert BASE_IMAGE_NAME in image["Description"]

    assert baking.terminate_builders(bakery.ec2, "bake-good") == [instance]
    assert baking.terminate_builders(bakery.ec2, "bake-good") == []
    assert bakery.alive() == []
    again = bakery.plan(asked, "bake-again")
    assert again.plan.image_id == image_id
    bake_image.approve(again, image_id)
    changed = bakery.plan(asked.model_copy(update={"root_gib": 18}), "bake-other")
    assert changed.plan.image_id == ""


def test_a_failing_install_leaves_no_instance_and_shows_the_installers_last_lines(bakery: Bakery) -> None:
    asked = bakery.put_packages("bad", crumb="X = 1\n")
    bakery.lake.put("bad/crumb-1.0-py3-none-any.whl", make_wheel("crumb", "1.0", "X = 2\n"))  # not of that hash
    opened = bakery.plan(asked, "bake-bad")
    with pytest.raises(BakeFailedError, match=r"(?s)failed at the step 'packages'.*DO NOT MATCH THE HASHES"):
        bakery.build(opened)
    assert bakery.alive() == []


def test_a_type_with_a_gpu_gets_the_driver_and_no_gpu_is_made_up_where_there_is_none(
    bakery: Bakery,
) -> None:
    asked = bakery.put_packages("gpu", kernel_tidbit="X = 1\n").model_copy(update={"instance_type": "g4dn.xlarge"})
    opened = bakery.plan(asked, "bake-gpu")
    assert opened.plan.gpu
    instance = bakery.build(opened)
    calls = (bakery.cloud.state_dir / "instances" / instance / "machine" / "calls.jsonl").read_text()
    assert '["dnf", "module", "enable", "-y", "nvidia-driver:580-open"]' in calls
    assert '["modprobe", "nvidia"]' in calls
    result = opened.result(1)
    assert result is not None
    assert result.gpu == ""
    baking.terminate_builders(bakery.ec2, "bake-gpu")


@pytest.mark.slow  # test_image_tasks shows the same through the task itself
def test_a_package_that_cannot_be_imported_fails_the_bake(bakery: Bakery) -> None:
    asked = bakery.put_packages("broken", shard="raise OSError('libcuda is missing')\n")
    with pytest.raises(BakeFailedError, match=r"shard: import shard: OSError: libcuda is missing"):
        bakery.build(bakery.plan(asked, "bake-broken"))
    assert bakery.alive() == []


def test_a_retry_joins_the_instance_of_the_first_try_and_a_failed_one_makes_another(bakery: Bakery) -> None:
    opened = bakery.plan(bakery.put_packages("retry", nibble="X = 1\n"), "bake-retry")
    first = bake_image.start(opened, bakery.signing)
    joined = bake_image.start(opened, bakery.signing)
    assert (joined.instance_id, joined.attempt) == (first.instance_id, 1)
    bakery.ec2.terminate_instances(InstanceIds=[first.instance_id])
    with pytest.raises(BakeFailedError, match="has told nothing"):
        bake_image.finish(opened, first.instance_id, 1, "terminated")
    second = bake_image.start(opened, bakery.signing)
    assert (second.instance_id != first.instance_id, second.attempt) == (True, 2)
    baking.terminate_builders(bakery.ec2, "bake-retry")
    assert bakery.alive() == []


def test_a_launch_whose_answer_was_lost_launches_one_instance(bakery: Bakery) -> None:
    opened = bakery.plan(bakery.put_packages("lost", scrap="X = 1\n"), "bake-lost")
    first = bake_image.start(opened, bakery.signing)
    again = launch(opened, 1, bakery.signing)  # as a try that does not see the instance yet
    assert again.instance_id == first.instance_id
    baking.terminate_builders(bakery.ec2, "bake-lost")


def make_images(bakery: Bakery, name: str, *kinds: str) -> list[str]:
    """Make images of an instance as bakes do, with a tag ``shardmill`` of each kind; give their ids."""
    instance = bakery.ec2.run_instances(ImageId=BASE_IMAGE_ID, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    images = []
    for number, kind in enumerate(kinds):
        if number:
            time.sleep(1.1)  # they are told apart by the second of their making
        tags = [{"Key": "shardmill", "Value": kind}, {"Key": "recipe", "Value": str(number)}]
        specified = [
            {"ResourceType": "image", "Tags": tags},
            {"ResourceType": "snapshot", "Tags": [{"Key": "shardmill", "Value": "bake"}]},
        ]
        made = bakery.ec2.create_image(InstanceId=instance, Name=f"{name}{number}", TagSpecifications=specified)
        images.append(made["ImageId"])
    bakery.ec2.terminate_instances(InstanceIds=[instance])
    return images


def snapshot_of(bakery: Bakery, image_id: str) -> str:
    (image,) = bakery.ec2.describe_images(ImageIds=[image_id])["Images"]
    return str(image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def snapshots(bakery: Bakery) -> set[str]:
    return {one["SnapshotId"] for one in bakery.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_only_baked_images_beyond_those_to_keep_are_removed_with_their_snapshots(bakery: Bakery) -> None:
    asked = bakery.put_packages("prune", bite="X = 1\n").model_copy(update={"keep": 1})
    opened = bakery.plan(asked, "bake-prune")
    images = make_images(bakery, "prune", "cluster", "cluster", "cluster")
    middle = snapshot_of(bakery, images[1])
    gone = bake_image.prune(opened, images[0], bakery.emr)
    assert images[1] in gone
    left = {image["ImageId"] for image in baking.cluster_images(bakery.ec2)}
    assert left == {images[0], images[2], IMAGE_ID}  # in use, the newest, and not baked here
    assert middle not in snapshots(bakery)
    assert bake_image.prune(opened, images[0], bakery.emr) == []


class NoDeletions:
    """EC2 that deletes no snapshot."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2

    def __getattr__(self, name: str) -> Any:
        return self._ec2.__getattribute__(name)

    def delete_snapshot(self, **_: str) -> None:
        raise ClientError({"Error": {"Code": "InternalError", "Message": "not today"}}, "DeleteSnapshot")


def test_what_failed_bakes_and_failed_deletions_left_is_removed_by_a_later_run(bakery: Bakery) -> None:
    opened = bakery.plan(bakery.put_packages("later", bite="X = 3\n"), "bake-later")
    (unapproved,) = make_images(bakery, "later", "bake")
    snapshot = snapshot_of(bakery, unapproved)
    assert bake_image.prune(opened, IMAGE_ID, bakery.emr) == []  # its bake may still be at work
    late = datetime.now(UTC) + ABANDONED + timedelta(minutes=1)
    refusing = replace(opened, ec2=NoDeletions(bakery.ec2))
    with pytest.raises(PruneError, match=f"{snapshot}: .*not today"):
        bake_image.prune(refusing, IMAGE_ID, bakery.emr, late)
    assert unapproved not in {image["ImageId"] for image in baking.all_images(bakery.ec2)}
    assert snapshot in snapshots(bakery)
    assert bake_image.prune(opened, IMAGE_ID, bakery.emr, late) == [snapshot]
    assert snapshot not in snapshots(bakery)


def test_an_image_on_snapshots_without_our_tag_stays_and_is_named(bakery: Bakery) -> None:
    asked = bakery.put_packages("untagged", bite="X = 6\n").model_copy(update={"keep": 1})
    opened = bakery.plan(asked, "bake-untagged")
    (image,) = make_images(bakery, "untagged", "bake")
    snapshot = snapshot_of(bakery, image)
    bakery.ec2.delete_tags(Resources=[snapshot], Tags=[{"Key": "shardmill"}])
    late = datetime.now(UTC) + ABANDONED + timedelta(minutes=1)
    with pytest.raises(PruneError, match=f"{image}: baked before snapshots were tagged: remove it and its .* by hand"):
        bake_image.prune(opened, IMAGE_ID, bakery.emr, late)
    assert image in {one["ImageId"] for one in baking.all_images(bakery.ec2)}
    assert snapshot in snapshots(bakery)
    bakery.ec2.deregister_image(ImageId=image)
    bakery.ec2.delete_snapshot(SnapshotId=snapshot)


def test_the_snapshots_of_a_baked_image_carry_its_tags(bakery: Bakery) -> None:
    opened = bakery.plan(bakery.put_packages("tagged", bite="X = 4\n"), "bake-tagged")
    instance = bakery.ec2.run_instances(ImageId=BASE_IMAGE_ID, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    image = baking.make_image(bakery.ec2, bake_requests.image_request(opened.plan, instance, 1))
    bakery.ec2.terminate_instances(InstanceIds=[instance])
    assert snapshot_of(bakery, image) in {one["SnapshotId"] for one in baking.baked_snapshots(bakery.ec2)}


def test_two_lakes_that_bake_the_same_at_once_have_an_image_each_and_vouch_for_their_own(bakery: Bakery) -> None:
    asked = bakery.put_packages("twice", bite="X = 5\n")
    plans = [bakery.plan(asked, name) for name in ("bake-here", "bake-there")]
    assert plans[0].plan.recipe == plans[1].plan.recipe
    images = []
    for opened in plans:
        instance = bakery.ec2.run_instances(ImageId=BASE_IMAGE_ID, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        images.append(baking.make_image(bakery.ec2, bake_requests.image_request(opened.plan, instance, 1)))
        bakery.ec2.terminate_instances(InstanceIds=[instance])
    assert images[0] != images[1]
