"""Decide how an image is baked: from which packages, by which requests, under which names, and what is pruned."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardmill.core.planning import BadRequestError
from shardmill.specs.image import BakeResult
from shardmill.specs.value import short_hash

TAG, CLUSTER, BAKING = "shardmill", "cluster", "bake"
"""The tag of what belongs to us, its value on an image that clusters may start from, and while one is made."""
_PIN = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s\\;]+)(.*)")
_OF_EMR = ("pyspark", "py4j")
_NVIDIA = "NVIDIA"


class BakeFailedError(RuntimeError):
    """The instance did not become an image; the message holds the installer's last lines."""


@dataclass(frozen=True)
class BaseImage:
    """What an image is baked from."""

    image_id: str
    name: str
    architecture: str
    root_device: str
    root_gib: int


def lock_pins(lock: str) -> dict[str, str]:
    """Read a list of packages: version by name, as names are compared (``a-b``, never ``A_b``).

    Raises:
        BadRequestError: one has no hash, EMR brings it itself, or there is none.
    """
    pins: dict[str, str] = {}
    for name, version, rest in _PIN.findall(lock.replace("\\\n", " ")):
        if name.lower() in _OF_EMR:
            raise BadRequestError(f"lock: {name} is EMR's to bring: take it out of the list of packages")
        if "--hash=sha256:" not in rest:
            raise BadRequestError(f"lock: {name}=={version} has no hash: compile the list with --generate-hashes")
        pins[re.sub(r"[-_.]+", "-", name).lower()] = version
    if not pins:
        raise BadRequestError("lock: expected lines such as numpy==1.26.4 --hash=sha256:…, found none")
    return pins


def joined_locks(*locks: str) -> str:
    """Join lists of packages to one."""
    return "\n".join(lock.rstrip("\n") for lock in locks) + "\n"


def sha256(content: str) -> str:
    """Hash a list of packages or a script."""
    return hashlib.sha256(content.encode()).hexdigest()


def recipe_of(*, lock: str, script: str, base_id: str, root_gib: int, gpu: bool) -> str:
    """Hash all that an image is made from: of two bakes with the same, the second is needless."""
    return short_hash(
        {"lock": sha256(lock), "script": sha256(script), "base": base_id, "root_gib": root_gib, "gpu": gpu}
    )


def check_type(instance_type: str, found: Mapping[str, Any], base: BaseImage, root_gib: int) -> bool:
    """Hold an instance type against the base image; say whether it has an NVIDIA GPU.

    Args:
        instance_type: its name.
        found: as DescribeInstanceTypes gives it.
        base: what it is to start from.
        root_gib: size of its root volume.

    Raises:
        BadRequestError: they do not go together.
    """
    architectures = found["ProcessorInfo"]["SupportedArchitectures"]
    if base.architecture not in architectures:
        raise BadRequestError(
            f"base: {base.name or base.image_id} is {base.architecture}, and {instance_type} is "
            f"{', '.join(architectures)}: take another base or instance_type"
        )
    if root_gib < base.root_gib:
        raise BadRequestError(f"root_gib: the base image has {base.root_gib} GiB, found {root_gib}: set as many")
    makers = {gpu.get("Manufacturer", "").upper() for gpu in found.get("GpuInfo", {}).get("Gpus", ())}
    gpu = _NVIDIA in makers
    if gpu and base.architecture != "x86_64":
        raise BadRequestError(f"instance_type: the CUDA libraries of {instance_type} are locked for x86_64 only")
    return gpu


def cluster_tags(result: BakeResult) -> dict[str, str]:
    """Give the tags by which clusters find an image: it was checked from inside and by EMR's rules."""
    return {TAG: CLUSTER, "python": result.python, "gpu": result.gpu[:200] or "not checked"}


def check_result(result: BakeResult, *, pins: Mapping[str, str], instance_id: str) -> None:
    """Take the instance at its word, as far as it goes together with what was asked.

    Raises:
        BakeFailedError: it failed, or it is not of what was to be installed.
    """
    if not result.ok:
        lines = "\n".join(result.lines) or "its log is empty"
        raise BakeFailedError(f"{instance_id} failed at the step '{result.step}'; its last lines:\n{lines}")
    absent = sorted(set(pins) - set(result.packages))
    if absent:
        raise BakeFailedError(f"{instance_id} has not told of {', '.join(absent[:5])}: it worked by another list")
    if "imageio-ffmpeg" in pins and not result.ffmpeg:
        raise BakeFailedError(f"{instance_id} has no ffmpeg, which imageio-ffmpeg should have brought")
