"""Where things lie in the lake: keys below its root, made from checked names only."""

from __future__ import annotations

import re

from shardmill.specs.manifest import Stage

_SHARD_NAME = re.compile(r"(?:^|-)(\d{6})\.tar$")
_SHARD_OF_MANIFEST = re.compile(r"(?:^|/)_manifests/(\d{6})/r\d{3,}\.json$")
_MANIFEST_NAME = re.compile(r"(?:^|/)r(\d{3,})\.json$")


def shard_number(file_name: str) -> int | None:
    """Give the number in a name such as ``yt8m-lo-000205.tar``; None where there is none."""
    match = _SHARD_NAME.search(file_name)
    return int(match[1]) if match else None


def shard_name(shard: int) -> str:
    """Write a shard's number as it appears in names, six digits."""
    return f"{shard:06d}"


def stage_folder(stage: Stage, dataset: str, recipe_hash: str) -> str:
    """Give the folder of a stage's output; raw shards have no recipe."""
    return "/".join(part for part in (stage, dataset, recipe_hash) if part)


def part_folder(folder: str, shard: int, revision: int) -> str:
    """Give the folder of the parts that are built for a revision of a shard."""
    return f"{folder}/{shard_name(shard)}/r{revision:03d}"


def receipt_key(folder: str, number: int, inputs: str, subset: str = "") -> str:
    """Give the key of the receipt of a part in the part folder ``folder``."""
    return f"{folder}/{subset or 'part'}-{number:06d}-{inputs}.receipt.json"


def is_receipt(key: str) -> bool:
    """Say whether a key names a receipt."""
    return key.endswith(".receipt.json")


def shard_of_manifest(key: str) -> int | None:
    """Read the shard's number from a manifest's key; None where the key is no manifest's."""
    match = _SHARD_OF_MANIFEST.search(key)
    return int(match[1]) if match else None


def manifests_folder(folder: str, shard: int | None = None) -> str:
    """Give the folder of the manifests of a stage, or of one shard of it."""
    return f"{folder}/_manifests" if shard is None else f"{folder}/_manifests/{shard_name(shard)}"


def manifest_key(folder: str, shard: int, revision: int) -> str:
    """Give the key of a manifest."""
    return f"{manifests_folder(folder, shard)}/r{revision:03d}.json"


def revision_of(key: str) -> int | None:
    """Read the revision from a manifest's key; None where the key is no manifest's."""
    match = _MANIFEST_NAME.search(key)
    return int(match[1]) if match else None
