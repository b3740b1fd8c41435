"""Ship this package to the cluster: one zip, one entry script and what nodes run at boot, named by their content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import shardmill
from shardmill.adapters.store import Store

_NOT_FOR_THE_CLUSTER = ("laptop", "localcloud", "templates")
EVENT_LOGS = "spark-events"
"""Folder of a lake for the event logs of all its clusters: a history server reads one folder."""
_NODE_SCRIPTS = Path(shardmill.__file__).parent / "node_scripts"
_AT_BOOT = ("deadline.sh", "gpu_cgroups.sh")
_ENTRY = b"""\
import sys

from shardmill.cli import main

sys.exit(main())
"""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def ship_code(lake: Store) -> tuple[str, str]:
    """Put the package's zip and its entry script into the lake; give their URIs."""
    package = _package_zip()
    folder = f"code/{hashlib.sha256(package + _ENTRY).hexdigest()[:12]}"
    names = f"{folder}/shardmill.zip", f"{folder}/shardmill_job.py"
    for name, content in zip(names, (package, _ENTRY), strict=True):
        lake.put_new(name, content)
    return lake.uri_of(names[0]), lake.uri_of(names[1])


def script_uris(lake_uri: str) -> Mapping[str, str]:
    """Give where each script for nodes lies in a lake, by its name; ``ship_scripts`` puts them there."""
    return {name: f"{lake_uri}/{key}" for name, (key, _) in _scripts().items()}


def ship_scripts(lake: Store) -> Mapping[str, str]:
    """Put what nodes run at boot into the lake; give the URIs by name.

    The folder of Spark's event logs is made too: Spark refuses to start where it is missing, and S3 has no empty ones.
    """
    scripts = _scripts()
    lake.put_new(f"{EVENT_LOGS}/.keep", b"")
    for key, content in scripts.values():
        lake.put_new(key, content)
    return {name: lake.uri_of(key) for name, (key, _) in scripts.items()}


def _scripts() -> dict[str, tuple[str, bytes]]:
    found = {name: (_NODE_SCRIPTS / name).read_bytes() for name in _AT_BOOT}
    return {
        name: (f"code/{hashlib.sha256(content).hexdigest()[:12]}/{name}", content) for name, content in found.items()
    }


def _package_zip() -> bytes:
    root = Path(shardmill.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if relative.parts[0] not in _NOT_FOR_THE_CLUSTER:
                archive.writestr(zipfile.ZipInfo(f"shardmill/{relative.as_posix()}", _LONG_AGO), path.read_bytes())
    return buffer.getvalue()
