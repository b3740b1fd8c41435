"""Split a tar as the pipeline does, and look at what came of it. Run as a program it splits, and no more."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from odd.rows import Becomes, Refused

import shardmill
from shardmill.adapters.lake import latest_revision
from shardmill.adapters.store import Store
from shardmill.adapters.tar import VideoClips, read_clips
from shardmill.jobs.ingest import ingest_shard
from shardmill.jobs.split import Outcome, Splitting, split_shard
from shardmill.specs.manifest import Manifest, SourceObject
from shardmill.specs.recipes import SplitRecipe

DATASET, SHARD = "odd", 7
RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")
HAS_TIME_LIMIT = "video_seconds" in {field.name for field in fields(Splitting)}
_GIGABYTE = 1024**3


def tar_of(files: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Place:
    """Folders of one split."""

    folder: Path

    @property
    def tar(self) -> Path:
        return self.folder / "source" / f"{DATASET}-{SHARD:06d}.tar"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @cached_property
    def lake(self) -> Store:
        return Store(f"file://{self.folder / 'lake'}", create=True)

    def ingest(self, content: bytes) -> None:
        """Lay the tar down at the source, and take it into the lake."""
        self.tar.parent.mkdir(parents=True)
        self.scratch.mkdir()
        self.tar.write_bytes(content)
        (info,) = Store(f"file://{self.tar.parent}").list()
        source = SourceObject(uri=f"file://{self.tar}", size=info.size, version=info.version)
        ingest_shard(self.lake, DATASET, (SHARD, source), "copy")

    def split(self, **how: Any) -> Outcome:
        asked = Splitting(**({"scratch": self.scratch, "workers": 2} | how))
        return split_shard(self.lake, DATASET, SHARD, RECIPE, asked)

    def manifest(self) -> Manifest | None:
        revision = latest_revision(self.lake, "clips", DATASET, RECIPE.hash, SHARD)
        return revision.manifest if revision else None

    def processes(self) -> list[str]:
        """Give the command lines of processes that still work here."""
        folder = os.fsencode(self.folder)
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found += [path.read_bytes()] if path.parent.name != str(os.getpid()) else []
        return [line.replace(b"\0", b" ").decode(errors="replace") for line in found if folder in line]

    def result(self) -> Result:
        manifest = self.manifest()
        assert manifest is not None, "nothing was published"
        return Result(manifest, {video.key: video for video in read_clips(self.lake, manifest)}, self)


@dataclass(frozen=True)
class Result:
    """What was published of a shard."""

    manifest: Manifest
    clips: Mapping[str, VideoClips]
    place: Place

    def fates(self, key: str) -> list[Becomes | Refused]:
        """Tell what became of each sample of a key."""
        videos = [
            Becomes(video.clips, video.frames, "audio" in kinds_in(self.clips[key].clips[0]))
            for video in self.manifest.videos
            if video.key == key
        ]
        return [*videos, *(Refused(reject.reason) for reject in self.manifest.rejects if reject.key == key)]

    def words(self, key: str) -> str:
        """Tell why a sample was refused."""
        return "; ".join(f"{it.message} {it.detail}" for it in self.manifest.rejects if it.key == key)


def kinds_in(clip: bytes) -> list[str]:
    import av

    with av.open(io.BytesIO(clip)) as container:
        return [stream.type for stream in container.streams]


def run_program(place: Place, *, memory_gigabytes: int = 0, before: Sequence[str] = ()) -> subprocess.CompletedProcess:
    """Split in a process of its own.

    Args:
        memory_gigabytes: its address space ends there; 0 for no end.
        before: a program that runs it, and that one's arguments.
    """

    def limit() -> None:
        if memory_gigabytes:
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (memory_gigabytes * _GIGABYTE, hard))

    command = [*before, sys.executable, __file__, str(place.folder)]
    paths = [str(Path(__file__).parent.parent), str(Path(shardmill.__file__).parent.parent)]
    temporary = place.folder / "tmp"
    temporary.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary)}
    options = {"env": environment, "cwd": place.folder, "preexec_fn": limit, "timeout": 120}
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


if __name__ == "__main__":
    print(json.dumps(Place(Path(sys.argv[1])).split().__dict__))
