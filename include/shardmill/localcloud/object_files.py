"""S3's content on disk: whole objects only, however the process ends.

A bucket is a folder: ``bucket.json``; ``content/<random>`` holds the bytes of one object; ``objects/<sha256 of the
key>.json`` is its record, names its content, and commits it by a rename. What no record names is removed at start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_LOG = logging.getLogger(__name__)
_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class ObjectRecord:
    """What S3 knows of an object besides its bytes."""

    key: str
    content: str
    """Name of the file that holds the bytes."""
    size: int
    etag: str
    modified: float
    storage_class: str = "STANDARD"
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    upload: str = ""
    """Id of the multipart upload that made it; a repeated completion of it is answered alike."""
    encryption: str = ""
    redirect: str = ""
    checksum: dict[str, Any] = field(default_factory=dict)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + _TEMPORARY)
    temporary.write_text(text)
    temporary.replace(path)


class BucketFiles:
    """The folder of one bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._content = folder / "content"
        self._objects = folder / "objects"

    def create(self, about: dict[str, Any]) -> None:
        """Make the folder; the bucket exists once ``bucket.json`` does."""
        self._content.mkdir(parents=True, exist_ok=True)
        self._objects.mkdir(exist_ok=True)
        _write(self.folder / "bucket.json", json.dumps(about))

    def about(self) -> dict[str, Any]:
        """Give what was noted when the bucket was made."""
        found: dict[str, Any] = json.loads((self.folder / "bucket.json").read_text())
        return found

    def delete(self) -> None:
        """Remove the bucket."""
        (self.folder / "bucket.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def content_path(self, name: str) -> Path:
        """Give the file that holds an object's bytes."""
        return self._content / name

    def add_content(self, source: BinaryIO) -> str:
        """Copy bytes into a new file; give its name."""
        name = secrets.token_hex(16)
        path = self.content_path(name)
        try:
            with path.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1024 * 1024)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return name

    def drop_content(self, name: str) -> None:
        """Remove the bytes of an object that is gone or was replaced."""
        self.content_path(name).unlink(missing_ok=True)

    def _record_path(self, key: str) -> Path:
        return self._objects / f"{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}.json"

    def commit(self, record: ObjectRecord) -> None:
        """Make an object of content that is already there; from here on it exists, or is the new one."""
        _write(self._record_path(record.key), json.dumps(asdict(record)))

    def remove(self, key: str) -> None:
        """Remove an object's record; from here on it is gone."""
        self._record_path(key).unlink(missing_ok=True)

    def load(self) -> Iterator[ObjectRecord]:
        """Read the records; leave out, and remove, what a crash left behind."""
        kept = set()
        for path in sorted(self._objects.iterdir()):
            if path.suffix == _TEMPORARY:
                path.unlink()
                continue
            record = ObjectRecord(**json.loads(path.read_text()))
            content = self.content_path(record.content)
            if not content.exists() or content.stat().st_size != record.size:
                # Only a crash of the whole machine does this: files are renamed, not synced.
                _LOG.warning("dropped key=%s: its content is not whole", record.key)
                path.unlink()
                continue
            kept.add(record.content)
            yield record
        for entry in os.scandir(self._content):
            if entry.name not in kept:
                Path(entry.path).unlink()


def list_buckets(root: Path) -> Iterator[BucketFiles]:
    """Find the buckets below a folder; a folder without ``bucket.json`` is no bucket (yet, or any more)."""
    for folder in sorted(root.iterdir()):
        if (folder / "bucket.json").exists():
            yield BucketFiles(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
