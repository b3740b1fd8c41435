from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from core.service_models import validate

from shardmill.core import bake, bake_requests
from shardmill.core.bake import BakeFailedError, BaseImage
from shardmill.core.planning import BadRequestError
from shardmill.specs.image import BakePlan, BakeResult, ImageSpec

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = files("shardmill").joinpath("node_scripts", "bake.sh").read_text()
GPU_LOCK = files("shardmill").joinpath("node_scripts", "requirements-gpu.txt").read_text()
HASH = f"--hash=sha256:{'0' * 64}"
BASE = BaseImage("ami-00000000000000001", "al2023-ami-x", "x86_64", "/dev/xvda", 8)


def plan(**changes):
    values = {
        "name": "bake-0123456789ab",
        "asked": ImageSpec(),
        "base_id": "ami-0123456789abcdef0",
        "base_name": "al2023-ami-2023.9-kernel-6.1-x86_64",
        "architecture": "x86_64",
        "root_device": "/dev/xvda",
        "gpu": True,
        "lock_sha256": "1" * 64,
        "recipe": "abcdefabcdef",
    }
    return BakePlan(**values | changes)


def instance_type(*architectures, maker=""):
    gpus = {"GpuInfo": {"Gpus": [{"Manufacturer": maker, "Count": 1}]}} if maker else {}
    return {"ProcessorInfo": {"SupportedArchitectures": list(architectures)}} | gpus


def test_the_clusters_own_list_and_the_cuda_libraries_go_in_with_every_hash():
    lock = bake.joined_locks((PROJECT / "requirements-cluster.txt").read_text(), GPU_LOCK)
    pins = bake.lock_pins(lock)
    assert "tensorflow" in pins
    assert "nvidia-cudnn-cu12" in pins
    assert not {"pyspark", "py4j"} & set(pins)


def test_the_cuda_libraries_are_those_of_the_locked_tensorflow():
    version = bake.lock_pins((PROJECT / "requirements-cluster.txt").read_text())["tensorflow"]
    assert f"tensorflow[and-cuda]=={version}" in GPU_LOCK.splitlines()[0]
    assert all(name.startswith("nvidia-") for name in bake.lock_pins(GPU_LOCK))


def test_names_are_compared_as_installers_compare_them():
    assert bake.lock_pins(f"Foo_Bar.baz[extra,other]==1.2 \\\n    {HASH}\n") == {"foo-bar-baz": "1.2"}


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        ("numpy==1.26.4\n", "lock: numpy==1.26.4 has no hash"),
        (f"pyspark==3.5.6 {HASH}\n", "lock: pyspark is EMR's"),
        ("# nothing\n", "lock: expected lines"),
        (f"a==1 \\\n    {HASH}\nb==2 \\\n    # via a\n", "lock: b==2 has no hash"),
    ],
)
def test_a_list_that_cannot_be_installed_is_refused(lock, message):
    with pytest.raises(BadRequestError, match=message):
        bake.lock_pins(lock)


def test_whatever_an_image_is_made_from_changes_its_recipe():
    made = {"lock": "a", "script": "b", "base_id": "c", "root_gib": 30, "gpu": True}
    others = [{"lock": "x"}, {"script": "x"}, {"base_id": "x"}, {"root_gib": 31}, {"gpu": False}]
    recipes = [bake.recipe_of(**made | other) for other in ({}, *others)]
    assert len(set(recipes)) == len(recipes)
    assert bake.recipe_of(**made) == recipes[0]


def test_a_type_with_an_nvidia_gpu_is_told_from_others():
    assert bake.check_type("g4dn.xlarge", instance_type("x86_64", maker="NVIDIA"), BASE, 30)
    assert not bake.check_type("g4ad.xlarge", instance_type("x86_64", maker="AMD"), BASE, 30)
    assert not bake.check_type("m5.xlarge", instance_type("i386", "x86_64"), BASE, 30)


@pytest.mark.parametrize(
    ("found", "gib", "message"),
    [
        (instance_type("arm64"), 30, "base: al2023-ami-x is x86_64, and t is arm64"),
        (instance_type("x86_64"), 7, "root_gib: the base image has 8 GiB"),
    ],
)
def test_a_type_that_cannot_start_from_the_base_is_refused(found, gib, message):
    with pytest.raises(BadRequestError, match=message):
        bake.check_type("t", found, BASE, gib)


def test_values_reach_the_script_as_they_are():
    values = {"LOCK_URL": "http://x/?a=b&c='d' $(e)", "WHEELS_URL": ""}
    text = bake_requests.user_data('#!/bin/bash\nprintf "%s|%s" "$LOCK_URL" "$WHEELS_URL"\n', values)
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "http://x/?a=b&c='d' $(e)|"


def test_the_script_with_long_signed_urls_fits_into_user_data_and_more_does_not():
    url = "https://bucket.s3.amazonaws.com/" + "x" * 2500
    values = {"LOCK_URL": url, "WHEELS_URL": url, "RESULT_URL": url, "GPU": "yes", "MINUTES": "120"}
    assert bake_requests.user_data(SCRIPT, values).startswith("#!/bin/bash\nGPU=yes\n")
    with pytest.raises(BadRequestError, match="user data: EC2 takes 16384 bytes"):
        bake_requests.user_data(SCRIPT, values | {"LOCK_URL": "x" * 16_384})


def test_the_script_is_clean_to_shellcheck(tmp_path):
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is not in this environment")
    script = tmp_path / "user-data"
    values = {"LOCK_URL": "x", "WHEELS_URL": "", "RESULT_URL": "x", "GPU": "no", "MINUTES": "1"}
    for text in (SCRIPT, bake_requests.user_data(SCRIPT, values)):
        script.write_text(text)
        done = subprocess.run([program, "--shell=bash", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_python_in_the_script_is_what_pythons_3_9_and_3_11_read():
    import ast

    parts = re.findall(r"<<'END'\n(.*?)\nEND", SCRIPT, re.DOTALL)
    assert len(parts) == 3
    for part in parts:
        ast.parse(part, feature_version=(3, 9))


def test_a_launch_has_a_token_tags_a_hard_end_and_a_disk_that_stays():
    request = bake_requests.launch_request(plan(), "#!/bin/bash\n", 2, "2026-11-21T20:00:00+00:00")
    assert request["ClientToken"] == "shardmill-bake-0123456789ab-2"
    assert len(request["ClientToken"]) <= 64
    assert request["InstanceInitiatedShutdownBehavior"] == "stop"
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert [one["DeviceName"] for one in request["BlockDeviceMappings"]] == ["/dev/xvda"]
    assert {one["ResourceType"] for one in request["TagSpecifications"]} == {"instance", "volume"}
    assert bake_requests.deadline_of(request) == "2026-11-21T20:00:00+00:00"
    assert not {"SubnetId", "IamInstanceProfile", "KeyName"} & set(request)
    placed = plan(asked=ImageSpec(subnet_id="subnet-0123456789", instance_profile="builder"))
    request = bake_requests.launch_request(placed, "", 1, "2026-11-21T20:00:00+00:00")
    assert (request["SubnetId"], request["IamInstanceProfile"]) == ("subnet-0123456789", {"Name": "builder"})


@pytest.mark.parametrize("operation", ["RunInstances", "CreateImage"])
def test_the_requests_are_what_ec2s_model_takes(operation):
    request = {
        "RunInstances": bake_requests.launch_request(plan(), "x", 1, "2026-11-21T20:00:00+00:00"),
        "CreateImage": bake_requests.image_request(plan(), "i-0123456789abcdef0", 1),
    }[operation]
    assert validate(operation, request, "ec2") == ""


def test_no_cluster_finds_an_image_before_it_is_approved():
    request = bake_requests.image_request(plan(), "i-1", 3)
    tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
    assert tags["shardmill"] != "cluster"
    assert (tags["lock"], tags["base"], tags["attempt"]) == ("1" * 64, "ami-0123456789abcdef0", "3")
    assert "al2023" in request["Description"]
    approved = bake.cluster_tags(BakeResult(ok=True, step="clean", python="3.11.9"))
    assert approved == {"shardmill": "cluster", "python": "3.11.9", "gpu": "not checked"}


def test_snapshots_carry_the_tag_by_which_they_are_found_again_and_may_be_deleted():
    request = bake_requests.image_request(plan(), "i-1", 3)
    tags = {one["ResourceType"]: one["Tags"] for one in request["TagSpecifications"]}
    assert set(tags) == {"image", "snapshot"}
    assert {"Key": "shardmill", "Value": "bake"} in tags["snapshot"]
    assert {"Key": "bake", "Value": "bake-0123456789ab"} in tags["snapshot"]


def test_two_bakes_of_one_recipe_make_images_of_different_names():
    names = {plan(name=name).image_name for name in ("bake-0123456789ab", "bake-ba9876543210")}
    assert names == {"shardmill-cluster-abcdefabcdef-0123456789ab", "shardmill-cluster-abcdefabcdef-ba9876543210"}


def test_an_instance_that_failed_is_told_with_its_last_lines():
    result = BakeResult(ok=False, step="packages", lines=("Collecting x", "ERROR: no such version"))
    with pytest.raises(BakeFailedError, match=r"(?s)i-1 failed at the step 'packages'.*ERROR: no such version"):
        bake.check_result(result, pins={"x": "1"}, instance_id="i-1")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"packages": {"av": "1"}}, "has not told of imageio-ffmpeg"),
        ({"packages": {"imageio-ffmpeg": "1"}}, "has no ffmpeg"),
    ],
)
def test_an_instance_that_worked_by_another_list_is_not_believed(result, message):
    with pytest.raises(BakeFailedError, match=message):
        bake.check_result(BakeResult(ok=True, step="clean", **result), pins={"imageio-ffmpeg": "1"}, instance_id="i-1")


def test_a_page_of_links_names_every_wheel_as_it_is():
    page = bake_requests.links_page({"a-1-py3-none-any.whl": "http://x/a-1-py3-none-any.whl?s=1&t=2"})
    assert '<a href="http://x/a-1-py3-none-any.whl?s=1&amp;t=2">a-1-py3-none-any.whl</a>' in page
