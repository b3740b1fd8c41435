"""Ship this package to the cluster: one zip and one entry script, named by their content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import shardmill
from shardmill.adapters.store import Store

_NOT_FOR_THE_CLUSTER = ("laptop", "localcloud", "templates")
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


def _package_zip() -> bytes:
    root = Path(shardmill.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if relative.parts[0] not in _NOT_FOR_THE_CLUSTER:
                archive.writestr(zipfile.ZipInfo(f"shardmill/{relative.as_posix()}", _LONG_AGO), path.read_bytes())
    return buffer.getvalue()
