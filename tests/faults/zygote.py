"""A process that has imported everything and forks a child for each writer: a writer then starts in milliseconds.

Reads one JSON line for each writer from its standard input: where the lake and the source are, what to do, what to
leave out (see ``SABOTAGES``), at which point to crash. Answers one JSON line when the writer has ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av  # noqa: F401  (imported here, once, for all children)
import imageio_ffmpeg  # noqa: F401
import webdataset  # noqa: F401
from faults.in_process import InProcess

from shardmill.adapters import clip_reading, crash_points, extractors, tar  # noqa: F401
from shardmill.adapters import lake as commits
from shardmill.adapters.shard_stream import ShardStream
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import Store, StoreSettings, reading
from shardmill.core.labels import LabelTable
from shardmill.jobs import features, ingest, split
from shardmill.jobs.features import describing
from shardmill.jobs.split.cutting import SLOT
from shardmill.specs.manifest import SourceObject
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe

PIECE_BYTES = 40_000
SPLIT = SplitRecipe(preset="ultrafast", crf=40, width=32, height=16, max_part_clips=1)


def feature_recipe(labels: LabelTable) -> FeatureRecipe:
    """Give a recipe that puts each record into a part of its own."""
    return FeatureRecipe(
        split=SPLIT, extractor="frame_statistics", labels=labels.digest, max_part_records=1, validation_share=0.5
    )


def _put_anyway(store: Store, key: str, content: bytes | Path) -> bool:
    store.put(key, content.read_bytes() if isinstance(content, Path) else content)
    return True


def _without_create_only() -> None:
    Store.put_new = _put_anyway  # type: ignore[method-assign]


def _without_content_address() -> None:
    """Name parts by their number alone; the last writer of a number has its bytes there."""
    init = commits.Part.__init__

    def named_by_number(part: Any, **values: Any) -> None:
        stem, _, suffix = values["name"].rpartition("-")
        init(part, **{**values, "name": f"{stem}.{suffix.partition('.')[2]}"})

    commits.Part.__init__ = named_by_number  # type: ignore[method-assign]
    commits.put_part = lambda store, part, path: _put_anyway(store, part.name, path)


def _without_read_back() -> None:
    """Take a refusal for success."""
    commits.put_once = lambda store, key, value: store.put_new(key, value.to_json())


def _without_etag() -> None:
    """Read whatever version there is."""
    reading._options = lambda start, end, version: {"range": (start, end)}  # type: ignore[assignment]
    SourceReader.check_unchanged = lambda reader: None  # type: ignore[method-assign]
    ShardStream.settle = lambda stream, sha256: None  # type: ignore[method-assign]


def _without_receipts() -> None:
    """Never go on with what an earlier try left."""
    commits.ShardWriter._find = lambda writer, number, subset: None  # type: ignore[method-assign]


def _without_order() -> None:
    """Commit first, and put the parts then."""
    put_part, late = commits.put_part, list[Any]()
    put_once = commits.put_once

    def kept(store: Store, part: Any, path: Path) -> None:
        late.append((store, part, path.read_bytes()))

    def early(store: Store, key: str, value: Any) -> None:
        put_once(store, key, value)
        if isinstance(value, commits.Manifest):
            for place, part, content in late:
                file = Path(tempfile.mkdtemp()) / "late"
                file.write_bytes(content)
                put_part(place, part, file)
                shutil.rmtree(file.parent)
            late.clear()

    commits.put_part, commits.put_once = kept, early


SABOTAGES = {
    "create_only": _without_create_only,
    "content_address": _without_content_address,
    "read_back": _without_read_back,
    "etag": _without_etag,
    "receipts": _without_receipts,
    "order": _without_order,
}
"""Removes one protection of the protocol from this process."""


def add_noise() -> None:
    """Let features differ from process to process, as on machines that round differently."""
    finish = describing._finish

    def noisy(clips: Any, footage: Any, extract: Any) -> Any:
        described = finish(clips, footage, extract)
        rgb = described.rgb.copy()
        rgb[0, 0] = os.getpid() % 256
        object.__setattr__(described, "rgb", rgb)
        return described

    describing._finish = noisy


_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000


def pause_at(place: str, seconds: float, paused: Path, others: int) -> None:
    """Sleep at a point, as a process does whose machine is suspended, and go on as if nothing had been.

    Those that wait for it, so many others, see the file ``paused``, and it sleeps until they have ended.
    """
    pass_point = commits.pass_point

    def sleepy(name: str) -> None:
        pass_point(name)
        if f"{name}:{crash_points._passed[name]}" == place:
            paused.touch()
            if others:
                wait_for(lambda: len(list(paused.parent.glob(f"{paused.name}.*"))) == others)
            else:
                time.sleep(seconds)

    commits.pass_point = sleepy


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for other writers.

    Raises:
        TimeoutError: They never came so far.
    """
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing came of the others within {seconds:.0f} s")
        time.sleep(0.02)


def mount_scratch(folder: str, size: int) -> None:
    """Put a small tmpfs over the scratch folder, seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | (0 if os.geteuid() == 0 else _CLONE_NEWUSER)):
        raise PermissionError(ctypes.get_errno(), "no mount namespace to be had here")
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE: what we mount stays here
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={size}".encode()):
        raise PermissionError(ctypes.get_errno(), "no tmpfs to be had here")


def write(asked: dict[str, Any]) -> dict[str, Any]:
    """Take one shard through the stages that are asked for."""
    settings = StoreSettings(**asked["settings"])
    lake = Store(asked["lake"], settings, create=True)
    source = SourceObject(**asked["source"])
    labels = LabelTable.from_rows(asked["labels"])
    dataset, shard = "faults", 7
    cut: list[str] = []
    claims: dict[str, str] = {}

    def claim(stage: str, recipe_hash: str, revision: int) -> None:
        claims[stage] = f"{recipe_hash}:{revision}"

    if "ingest" in asked["stages"]:
        copying = ingest.Copying(settings, asked.get("piece_bytes", PIECE_BYTES))
        done: Any = ingest.ingest_shard(lake, dataset, (shard, source), asked.get("ingest", "copy"), copying)
        claim("raw", "", done.revision)
    if "split" in asked["stages"]:
        cutter = SLOT if asked.get("sandboxed") else InProcess
        how = split.Splitting(settings=settings, workers=1, progress=cut.append, open_cutter=cutter)
        done = split.split_shard(lake, dataset, shard, SPLIT, how)
        claim("clips", SPLIT.hash, done.revision)
    if "features" in asked["stages"]:
        recipe = feature_recipe(labels)
        done = features.featurize_shard(lake, (dataset, shard), recipe, labels, features.Featurizing(workers=1))
        claim("features", recipe.hash, done.revision)
    return {"claims": claims, "cut": cut, "points": dict(crash_points._passed)}


def _child(asked: dict[str, Any], answer: Path) -> None:
    """Be one writer. Never returns."""
    committed: dict[str, str] = {}
    commit = commits.commit

    def told(store: Store, manifest: Any) -> Any:
        revision = commit(store, manifest)
        committed[revision.key] = revision.sha256
        return revision

    commits.commit = told
    try:
        os.environ.update(asked.get("environment", {}))
        tempfile.tempdir = asked["scratch"]
        if size := asked.get("scratch_bytes"):
            mount_scratch(asked["scratch"], size)
        if seconds := asked.get("kill_after"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process at once, whatever it is doing
            signal.setitimer(signal.ITIMER_REAL, seconds)
        if place := asked.get("pause_at"):
            pause_at(place, asked["pause_seconds"], Path(asked["paused"]), asked["others"])
        if asked.get("after_pause"):
            wait_for(Path(asked["paused"]).exists)
        if protection := asked.get("sabotage"):
            SABOTAGES[protection]()
        if asked.get("noise"):
            add_noise()
        found = write(asked) | {"error": "", "committed": committed}
    except BaseException as error:  # noqa: BLE001  (told to the test, which decides)
        found = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(), "committed": committed}
    answer.write_text(json.dumps(found))
    if asked.get("after_pause"):
        Path(f"{asked['paused']}.{asked['name']}").touch()
    os._exit(0)


def main() -> None:
    """Serve until the input ends."""
    running: dict[int, tuple[str, Path]] = {}
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("wait"):
            while running:
                pid, status = os.wait()
                name, answer = running.pop(pid)
                found = json.loads(answer.read_text()) if answer.exists() else {"error": "killed", "committed": {}}
                answer.unlink(missing_ok=True)
                print(json.dumps({"name": name, "status": os.waitstatus_to_exitcode(status), **found}), flush=True)
            print(json.dumps({"idle": True}), flush=True)
            continue
        answer = Path(asked["answer"])
        pid = os.fork()
        if pid == 0:
            _child(asked, answer)
        running[pid] = (asked["name"], answer)


if __name__ == "__main__":
    main()
