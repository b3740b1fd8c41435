"""Shards are cut while they are read: what was read wrong is noticed at the end, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.in_process import InProcess

from shardmill.adapters.lake import commit, file_sha256, latest_revision, put_part
from shardmill.adapters.shard_stream import ShardStream
from shardmill.adapters.store import DamagedObjectError, Store, read_sealed
from shardmill.jobs.split import Splitting, split_shard
from shardmill.specs.manifest import Manifest, Part, Receipt, SourceObject
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=32, height=16, preset="ultrafast", max_part_clips=1)
"""A video a part."""


@pytest.fixture(scope="module")
def videos(run_ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Six videos of one clip, no two alike."""
    folder, made = tmp_path_factory.mktemp("videos"), []
    for number in range(6):
        path = folder / f"{number}.avi"
        picture = f"testsrc2=s=64x32:r=5:d=1,hue=h={number * 50}"
        run_ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "rawvideo", "-pix_fmt", "yuv420p", path)
        made.append(path.read_bytes())
    return made


@pytest.fixture(scope="module")
def shard(videos: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in zip("abcdef", videos, strict=True):
            info = tarfile.TarInfo(f"{name}.avi")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def ingest(lake: Store, folder: Path, content: bytes) -> None:
    path = folder / "raw.tar"
    path.write_bytes(content)
    sha256 = file_sha256(path)
    part = Part(name=f"raw/yt/000003/r000/yt-{sha256[:12]}.tar", size=len(content), sha256=sha256, samples=1)
    put_part(lake, part, path)
    source = SourceObject(uri="file:///elsewhere/yt-000003.tar", size=part.size, version="v0")
    commit(lake, Manifest(stage="raw", dataset="yt", shard=3, revision=0, source=source, samples_in=1, parts=(part,)))


def split(lake: Store, **how: object) -> None:
    split_shard(lake, "yt", 3, RECIPE, Splitting(workers=1, open_cutter=InProcess, **how))


def clips_in(lake: Store) -> dict[str, bytes]:
    """The manifest and the parts that it lists."""
    revision = latest_revision(lake, "clips", "yt", RECIPE.hash, 3)
    assert revision is not None
    return {name: lake.get(name) for name in (revision.key, *(part.name for part in revision.manifest.parts))}


@pytest.fixture(scope="module")
def undisturbed(shard: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    lake = Store(f"file://{folder / 'lake'}", create=True)
    ingest(lake, folder, shard)
    split(lake)
    return clips_in(lake)


class Reading:
    """What is read of the shard, read by read: a number is the offset of a flipped byte, None flips none."""

    def __init__(self, *flips: int | None, noticed: bool) -> None:
        self.flips, self.noticed = list(flips), noticed
        self.reads = 0

    def __call__(self, real: Callable[[ShardStream], Iterator[bytes]]) -> Callable[[ShardStream], Iterator[bytes]]:
        def chunks(stream: ShardStream) -> Iterator[bytes]:
            flip = self.flips.pop(0) if self.flips else None
            self.reads += 1
            content = bytearray(b"".join(real(stream)))
            if flip is not None:
                content[flip] ^= 0x40
            for start in range(0, len(content), 1000):
                yield bytes(content[start : start + 1000])
            if flip is not None and self.noticed:
                raise DamagedObjectError("the bytes are not those of the hash")

        return chunks


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Reading]:
    def install(*flips: int | None, noticed: bool = True) -> Reading:
        reading = Reading(*flips, noticed=noticed)
        monkeypatch.setattr(ShardStream, "chunks", reading(ShardStream.chunks))
        return reading

    return install


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_behind(videos: int) -> Callable[[str], None]:
    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        if sum("clips" in line for line in lines) == videos:
            raise KilledError

    return progress


def test_what_was_read_wrong_is_read_again_and_its_parts_are_not_gone_on_with(
    lake, tmp_path, shard, videos, undisturbed, reading
):
    ingest(lake, tmp_path, shard)
    told: list[str] = []
    done = reading(512 + len(videos[0]) // 2)  # in the pictures of the first video
    split(lake, progress=told.append)
    assert done.reads == 2
    assert [line for line in told if "read again" in line] == ["read again: the bytes are not those of the hash"]
    assert clips_in(lake) == undisturbed


def test_a_retry_that_reads_other_bytes_than_the_try_before_begins_anew(
    lake, tmp_path, shard, videos, undisturbed, reading
):
    ingest(lake, tmp_path, shard)
    reading(512 + len(videos[0]) // 2, noticed=False)  # it is killed before
    with pytest.raises(KilledError):
        split(lake, progress=killed_behind(5))
    left = {item.key for item in lake.list("clips")}
    assert len(left) == 8, "four parts and their receipts, the first made of a wrong byte"
    told: list[str] = []
    split(lake, progress=told.append)
    assert told[0].startswith("4 parts are there")
    assert sum("clips," in line for line in told) == 6
    assert clips_in(lake) == undisturbed


def test_a_retry_that_reads_the_same_bytes_goes_on(lake, tmp_path, shard, undisturbed):
    ingest(lake, tmp_path, shard)
    with pytest.raises(KilledError):
        split(lake, progress=killed_behind(5))
    told: list[str] = []
    split(lake, progress=told.append)
    assert sum("clips," in line for line in told) == 2
    assert clips_in(lake) == undisturbed


def test_a_shard_that_is_never_read_right_fails_and_leaves_no_receipt(lake, tmp_path, shard, videos, reading):
    ingest(lake, tmp_path, shard)
    done = reading(*[512 + len(videos[0]) // 2] * 3)
    with pytest.raises(DamagedObjectError):
        split(lake)
    assert done.reads == 3
    assert latest_revision(lake, "clips", "yt", RECIPE.hash, 3) is None
    assert not [item.key for item in lake.list("clips") if item.key.endswith(".json")]


def test_a_receipt_holds_what_the_source_was_before_the_next_sample(lake, tmp_path, shard):
    ingest(lake, tmp_path, shard)
    split(lake)
    receipts = [read_sealed(lake, item.key, Receipt) for item in lake.list("clips") if "receipt" in item.key]
    assert len(receipts) == 6
    for receipt in receipts:
        before = shard[: receipt.source_offset]
        assert receipt.source_sha256 == hashlib.sha256(before).hexdigest()
    assert max(receipt.source_offset for receipt in receipts) == len(shard)


def test_receipts_whose_beginning_is_gone_are_not_gone_on_with(lake, tmp_path, shard, undisturbed):
    ingest(lake, tmp_path, shard)
    with pytest.raises(KilledError):
        split(lake, progress=killed_behind(5))
    _, second, *_ = sorted(item.key for item in lake.list("clips") if item.key.endswith(".receipt.json"))
    found = read_sealed(lake, second, Receipt)
    assert found.behind
    lake.put(second, found.model_copy(update={"behind": "of another part"}).to_json())
    told: list[str] = []
    split(lake, progress=told.append)
    assert sum("clips," in line for line in told) == 5, "all but the first"
    assert clips_in(lake) == undisturbed
