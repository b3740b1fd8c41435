"""EMR's rules for a custom image, written from its Management Guide ("Using a custom AMI to provide more flexibility").

Nothing here is shared with what the local AWS refuses: a check that shares code with what it checks proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from shardmill.core.planning import BadRequestError
from shardmill.specs.image import BrokenRule, ImageFacts, ImageVerdict

AL2, AL2023 = "Amazon Linux 2", "Amazon Linux 2023"
_RELEASE = re.compile(r"emr-(?:spark-)?(\d+)\.(\d+)(?:\.\d+)?")
_SYSTEMS = {
    # The first that matches. Words of Amazon's names: al2023-ami-…, amzn2-ami-…, amzn-ami-… (2018.03).
    AL2023: re.compile(r"al2023|amazon linux 2023|amzn2023", re.IGNORECASE),
    AL2: re.compile(r"amzn2-|amazon linux 2(?!\d)|\bal2\b", re.IGNORECASE),
    "Amazon Linux 1": re.compile(r"amzn-ami|amazon linux (ami )?201\d", re.IGNORECASE),
    "another system": re.compile(r"ubuntu|debian|rhel|red hat|suse|centos|rocky|almalinux|bottlerocket", re.IGNORECASE),
}
_ARCHITECTURES = ("x86_64", "arm64")
_SMALLEST_GIB, _SMALLEST_OLD_GIB = 15, 10
_NODE_TAG = "aws:elasticmapreduce:"
_BAKE = "bake one (the DAG bake_gpu_ami), or name another image_id"


def check_image(facts: ImageFacts, release_label: str, architectures: Mapping[str, str]) -> ImageVerdict:
    """Hold what lasts of an image against EMR's rules.

    Args:
        facts: what EC2 says of it.
        release_label: such as ``emr-7.13.0``.
        architectures: of each instance type that is to start from it; all the same one.

    Raises:
        BadRequestError: the release is none, or older than what is known here, or the types' architectures differ.
    """
    wanted = sorted(set(architectures.values()))
    if len(wanted) != 1:
        found = ", ".join(f"{name} is {found}" for name, found in sorted(architectures.items()))
        raise BadRequestError(f"core_type: one image serves one architecture, but {found}: take types of one")
    system, note = _told_system(facts)
    broken = [*_machine_rules(facts), *_system_rules(facts, release_label, system)]
    if facts.architecture in _ARCHITECTURES and facts.architecture != wanted[0]:
        types = ", ".join(sorted(architectures))
        broken.append(
            BrokenRule(
                rule="architecture",
                found=f"expected {wanted[0]} for {types}, found {facts.architecture}",
                mend="take an image of that architecture, or other instance types",
            )
        )
    notes = [note] if note else []
    if "recipe" not in facts.tags:
        notes.append(
            "from outside nobody sees whether the SSM agent is disabled and whether there are users named hadoop, "
            "hdfs, yarn or spark: bake_gpu_ami looks from inside"
        )
    return ImageVerdict(
        image_id=facts.image_id,
        release_label=release_label,
        architecture=wanted[0],
        broken=tuple(broken),
        notes=tuple(notes),
    )


def root_volume_rules(facts: ImageFacts, release_label: str, root_volume_gib: int) -> list[BrokenRule]:
    """Hold the root volume that a cluster asks for against the release's least and the image's own."""
    smallest = _SMALLEST_GIB if _release(release_label) >= (6, 10) else _SMALLEST_OLD_GIB
    needs = {f"release {release_label}": smallest, f"the root volume of {facts.image_id}": facts.root_gib or 0}
    return [
        BrokenRule(
            rule="root volume",
            found=f"root_volume_gib is {root_volume_gib}, and {what} needs {gib} GiB",
            mend=f"set root_volume_gib to {gib} at least",
        )
        for what, gib in needs.items()
        if root_volume_gib < gib
    ]


def system_of_release(release_label: str) -> str:
    """Give the Amazon Linux that a release's images must be made from. Raises BadRequestError."""
    release = _release(release_label)
    if release >= (7, 0):
        return AL2023
    if release >= (5, 30):
        return AL2
    raise BadRequestError(f"release_label: {release_label} needs Amazon Linux 1, of which there is none any more")


def _release(label: str) -> tuple[int, int]:
    match = _RELEASE.fullmatch(label)
    if match is None:
        raise BadRequestError(f"release_label: expected a label such as emr-7.13.0, found {label!r}")
    return int(match[1]), int(match[2])


def _told_system(facts: ImageFacts) -> tuple[str, str]:
    """Read from tags and names which system an image is made from: the system, and a note where nothing tells."""
    if facts.platform:
        return facts.platform, ""
    for text in (facts.tags.get("os", ""), facts.source_name, facts.name, facts.description):
        for system, pattern in _SYSTEMS.items():
            if pattern.search(text):
                return system, ""
    return "", (
        f"neither a tag nor a name says which system {facts.image_id} is made from: "
        "tag it os=al2023 where you know that it is Amazon Linux 2023"
    )


def _system_rules(facts: ImageFacts, release_label: str, system: str) -> Iterator[BrokenRule]:
    wanted = system_of_release(release_label)
    if system and system != wanted:
        yield BrokenRule(
            rule="operating system",
            found=f"{release_label} starts from {wanted} only, found {system} ({facts.name or facts.image_id})",
            mend=_BAKE,
        )


def _machine_rules(facts: ImageFacts) -> Iterator[BrokenRule]:
    if facts.state != "available":
        yield BrokenRule(rule="available", found=f"expected available, found {facts.state}", mend=f"wait, or {_BAKE}")
    if facts.architecture not in _ARCHITECTURES:
        yield BrokenRule(rule="64 bit", found=f"expected x86_64 or arm64, found {facts.architecture}", mend=_BAKE)
    if facts.virtualization != "hvm":
        yield BrokenRule(rule="virtualization", found=f"expected hvm, found {facts.virtualization}", mend=_BAKE)
    if facts.root_device_type != "ebs":
        yield BrokenRule(rule="EBS-backed", found=f"expected ebs, found {facts.root_device_type}", mend=_BAKE)
    if len(facts.volumes) != 1:
        devices = ", ".join(volume.device for volume in facts.volumes) or "none"
        yield BrokenRule(
            rule="one EBS volume",
            found=f"expected the root volume alone, found {devices}",
            mend="make the image from an instance with one volume",
        )
    if nodes := sorted(name for name in facts.tags if name.startswith(_NODE_TAG)):
        yield BrokenRule(
            rule="not of an EMR node",
            found=f"it carries {nodes[0]}: it was made from a node of a cluster",
            mend="EMR's nodes cannot start from such an image: " + _BAKE,
        )
