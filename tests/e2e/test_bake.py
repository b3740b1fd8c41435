"""The DAG that bakes images, on the whole stack."""

from __future__ import annotations

import time

import boto3
import pytest
from localcloud.wheels import lock_of, make_wheel, wheel_name

from shardmill.laptop.rest import ENDED

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
BAKE = "bake_gpu_ami"
PATIENCE_SECONDS = 300


class Bakery:
    """Runs of the DAG on a running stack."""

    def __init__(self, laptop) -> None:
        self.laptop = laptop
        self.ec2 = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=laptop.address.aws_endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def run(self, run_id: str, module: str) -> str:
        """Bake an image of one module; give the run's state."""
        lake, folder = self.laptop.lake(), f"wheels/{run_id.partition('-')[0]}"
        wheel = make_wheel("tidbit", "1.0", module)
        lake.put(f"{folder}/{wheel_name('tidbit', '1.0')}", wheel)
        lake.put(f"{folder}/lock.txt", lock_of({("tidbit", "1.0"): wheel}).encode())
        uri = lake.uri_of(folder)
        conf = {"instance_type": "m5.xlarge", "lock": f"{uri}/lock.txt", "wheels": uri}
        self.laptop.api.trigger(BAKE, conf, run_id)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (state := self.laptop.api.run_state(BAKE, run_id)) not in ENDED:
            assert time.monotonic() < give_up, self.tasks(run_id)
            time.sleep(0.5)
        return state

    def tasks(self, run_id: str):
        return {task.name: task for task in self.laptop.api.task_states(BAKE, run_id)}

    def log(self, run_id: str, task: str) -> str:
        return "\n".join(self.laptop.api.log_lines(BAKE, run_id, self.tasks(run_id)[task]))

    def logs(self, run_id: str) -> str:
        """Give what the tasks say that failed."""
        return "\n".join(self.log(run_id, name) for name, task in self.tasks(run_id).items() if task.state == "failed")

    def instances(self) -> list[str]:
        held = self.ec2.describe_instances()["Reservations"]
        return [one["State"]["Name"] for reservation in held for one in reservation["Instances"]]

    def images(self) -> set[str]:
        tagged = [{"Name": "tag-key", "Values": ["recipe"]}]
        return {image["ImageId"] for image in self.ec2.describe_images(Owners=["self"], Filters=tagged)["Images"]}


def test_an_image_is_baked_once_and_the_second_run_uses_it(laptop):
    bakery = Bakery(laptop)
    assert bakery.run("good-1", "X = 1\n") == "success", bakery.logs("good-1")
    (image,) = bakery.images()
    assert image in bakery.log("good-1", "make_image")
    assert bakery.run("good-2", "X = 1\n") == "success", bakery.logs("good-2")
    assert bakery.images() == {image}
    assert f"nothing to do: {image}" in bakery.log("good-2", "plan")
    assert bakery.instances() == ["terminated"]


def test_a_failing_install_fails_the_run_with_its_last_lines_and_leaves_no_instance(laptop):
    bakery = Bakery(laptop)
    before = bakery.images()
    assert bakery.run("bad-1", "raise OSError('libcuda.so is missing')\n") == "failed"
    tasks = bakery.tasks("bad-1")
    assert (tasks["build"].state, tasks["end_instance"].state) == ("failed", "success")
    assert "OSError: libcuda.so is missing" in bakery.log("bad-1", "build")
    assert set(bakery.instances()) == {"terminated"}
    assert bakery.images() == before
