"""Which operations of AWS the code calls, read from its syntax: clients have no types, but operations odd names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

PREFIXES = {
    "emr": "elasticmapreduce",
    "ec2": "ec2",
    "iam": "iam",
    "sts": "sts",
    "service-quotas": "servicequotas",
    "s3": "s3",
}
"""How IAM calls the services that the code asks."""
OTHERWISE = {
    "s3:AbortMultipartUpload": "s3:AbortMultipartUpload",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListParts": "s3:ListMultipartUploadParts",
}
"""Where the action is not called as the operation is."""


def operations() -> dict[str, str]:
    """Give the IAM action of each operation, by the name of its method in boto3."""
    session = botocore.session.get_session()
    found: dict[str, str] = {}
    for service, prefix in PREFIXES.items():
        for operation in session.get_service_model(service).operation_names:
            action = f"{prefix}:{operation}"
            found.setdefault(xform_name(operation), OTHERWISE.get(action, action))
    return found


def called(folder: Path, known: dict[str, str]) -> dict[str, str]:
    """Find the actions that the modules below a folder need; each with a place where it is called.

    A method counts where it is taken from something (``emr.describe_cluster``, called or passed on), and where its
    name stands as a text (``get_paginator("list_clusters")``).
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for name, line in _names(ast.parse(path.read_text())):
            if name in known:
                found.setdefault(known[name], f"{path.relative_to(folder.parent)}:{line}")
    return found


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno
