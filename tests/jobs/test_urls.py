from __future__ import annotations

import io
import json
import shutil
import urllib.request
from collections.abc import Iterator

import av
import pytest
import webdataset

from shardmill.adapters import lake as commits
from shardmill.adapters.catalogue import refresh_catalogue
from shardmill.adapters.sample_files import encode_scene
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings
from shardmill.adapters.tar import Clip, PartFile
from shardmill.core.sample_scenes import Scene
from shardmill.core.stage_output import StageOutput
from shardmill.jobs.urls import list_urls
from shardmill.specs.manifest import Draft, Manifest, SourceObject, Video
from shardmill.specs.recipes import SplitRecipe

SPLIT = SplitRecipe()
CLIPS = StageOutput("clips", "x", SPLIT.hash)
MP4 = {number: encode_scene(Scene(number, ("sunrise", "rising"), seconds=2.0)) for number in (0, 1)}


def write_part(writer: commits.ShardWriter, path, videos: dict[str, tuple[int, ...]]) -> list[Video]:
    """Publish a part with clips of these numbers."""
    file = PartFile(path, max_bytes=10**9, max_clips=1000)
    for key, numbers in videos.items():
        for number in numbers:
            file.write(key, Clip(number, MP4[number % 2], b'{"streams": []}', json.dumps({"title": key}).encode()))
    places = file.close()
    described = [
        Video(
            key=key,
            clips=len(numbers),
            seconds=2.0 * max(numbers) + 2,
            part=len(list(writer.parts())),
            offsets=tuple(place.offset for place in places[key]),
            sizes=tuple(place.size for place in places[key]),
            gaps=tuple(sorted(set(range(max(numbers))) - set(numbers))),
        )
        for key, numbers in videos.items()
    ]
    writer.publish(commits.NewPart(path, file.clips, 0, described))
    path.unlink()
    return described


def split_by_hand(lake: Store, folder, shard: int, *parts: dict[str, tuple[int, ...]]) -> None:
    source = SourceObject(uri=f"s3://b/x-{shard:06d}.tar", size=1, version="v")
    draft = Draft(
        stage="clips",
        dataset="x",
        shard=shard,
        revision=0,
        recipe_hash=SPLIT.hash,
        recipe=SPLIT.model_dump(),
        source=source,
    )
    writer = commits.ShardWriter(lake, draft, f"x-clips-{shard:06d}", ".tar")
    videos = [video for part in parts for video in write_part(writer, folder / "part.tar", part)]
    made = {"samples_in": len(videos), "parts": tuple(writer.parts()), "videos": tuple(videos)}
    commits.commit(lake, Manifest(**draft.model_dump(), **made))


def fill(lake: Store, folder) -> Store:
    """Two shards; the first has two parts, and a long video whose span 1 held no frame."""
    split_by_hand(lake, folder, 0, {"cat": (0, 1), "dog": (0, 2)}, {"owl": (0,)})
    split_by_hand(lake, folder, 1, {"emu": (0, 1)})
    return lake


KEYS = ["cat/000000", "cat/000001", "dog/000000", "dog/000002", "owl/000000", "emu/000000", "emu/000001"]


@pytest.fixture
def clips(lake, tmp_path):
    return fill(lake, tmp_path)


@pytest.fixture
def bucket(tmp_path):
    """A lake in a bucket of the local AWS."""
    from moto.s3.models import s3_backends

    from shardmill.localcloud.cluster_table import ClusterTable
    from shardmill.localcloud.emr_api import EmrApi
    from shardmill.localcloud.seed import ACCESS_KEY, client
    from shardmill.localcloud.server import REGION, CloudServer, account_holdings

    api = EmrApi(ClusterTable(clock=lambda: 0.0), account_holdings, REGION)
    server = CloudServer(api, tmp_path / "s3", 0)
    client("s3", server.endpoint).create_bucket(Bucket="shardmill-lake")
    settings = StoreSettings(
        endpoint_url=server.endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=ACCESS_KEY
    )
    yield Store("s3://shardmill-lake/below", settings)
    server.close()
    s3_backends["123456789012"]["aws"].reset()


def test_plain_webdataset_reads_the_clips(clips):
    urls = list(list_urls(clips, "x", SPLIT.hash))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == KEYS
    assert [json.loads(sample["info.json"])["title"] for sample in samples[:3]] == ["cat", "cat", "dog"]
    with av.open(io.BytesIO(samples[1]["mp4"])) as container:
        assert sum(frame.is_corrupt for frame in container.decode(video=0)) == 0
        assert float(container.duration / av.time_base) == pytest.approx(2.0, abs=0.1)


class ClipDataset:
    """What PyTorch calls an iterable data set: each worker takes every n-th URL."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls

    def __iter__(self, worker: int = 0, workers: int = 1) -> Iterator[tuple[str, bytes]]:
        for sample in webdataset.WebDataset(self.urls[worker::workers], shardshuffle=False):
            yield sample["__key__"], sample["mp4"]


def test_the_workers_of_a_loader_share_the_clips_without_loss_or_double(clips):
    data = ClipDataset(list(list_urls(clips, "x", SPLIT.hash)))
    workers = [[key for key, _ in data.__iter__(worker, 2)] for worker in range(2)]
    assert all(workers)
    assert sorted(workers[0] + workers[1]) == sorted(KEYS)


def test_the_catalogue_gives_the_bytes_that_webdataset_gives(clips):
    import pandas

    refresh_catalogue(clips, CLIPS)
    table = pandas.read_parquet(clips.folder / CLIPS.table_key("catalogue"))
    samples = webdataset.WebDataset(list(list_urls(clips, "x", SPLIT.hash)), shardshuffle=False)
    by_webdataset = {sample["__key__"]: sample["mp4"] for sample in samples}
    by_catalogue = {}
    for row in table.itertuples():
        with (clips.folder / row.part).open("rb") as file:
            file.seek(row.offset)
            by_catalogue[f"{row.video}/{row.clip:06d}"] = file.read(row.size)
    assert by_catalogue == by_webdataset
    dog = table[(table["video"] == "dog") & (table["clip"] == 2)].iloc[0]
    assert (dog.start_seconds, dog.end_seconds) == (4.0, 6.0)


def test_only_the_asked_shards_are_listed_in_the_asked_order(clips):
    urls = list(list_urls(clips, "x", SPLIT.hash, [1, 0]))
    assert ["000001/r000/" in url for url in urls] == [True, False, False]


def test_a_part_that_no_manifest_lists_has_no_url(clips, tmp_path):
    clips.put_new(f"{CLIPS.folder}/000000/r000/x-clips-000000-000009-litter.tar", b"litter")
    assert len(list(list_urls(clips, "x", SPLIT.hash))) == 3


def test_the_parts_of_the_highest_revision_are_listed(clips):
    newest = commits.latest_revision(clips, "clips", "x", SPLIT.hash, 0).manifest
    commits.commit(clips, newest.model_copy(update={"revision": 1, "parts": newest.parts[:1], "videos": ()}))
    assert len(list(list_urls(clips, "x", SPLIT.hash, [0]))) == 1


def test_a_shard_without_clips_is_named(clips):
    with pytest.raises(MissingObjectError, match="no clips of 1 of 2 shards: 000007"):
        list(list_urls(clips, "x", SPLIT.hash, [0, 7]))


def test_of_a_bucket_the_uris_are_given_or_urls_that_anybody_may_read(bucket, tmp_path):
    fill(bucket, tmp_path)
    uris = list(list_urls(bucket, "x", SPLIT.hash))
    assert all(uri.startswith("s3://shardmill-lake/below/clips/x/") for uri in uris)
    signed = list(list_urls(bucket, "x", SPLIT.hash, hours=2))
    for uri, url in zip(uris, signed, strict=True):
        assert "X-Amz-Expires=7200" in url
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            assert answer.read() == bucket.get(uri.removeprefix(bucket.uri + "/"))


def test_a_catalogue_in_a_bucket_is_read_by_its_end_and_brought_here_whole_only_to_be_changed(
    bucket, tmp_path, monkeypatch
):
    fill(bucket, tmp_path)
    assert refresh_catalogue(bucket, CLIPS).rows == 7
    streamed: list[str] = []
    stream = Store.stream

    def counted(store, key, version="", **span):
        streamed.append(key)
        return stream(store, key, version, **span)

    monkeypatch.setattr(Store, "stream", counted)
    assert refresh_catalogue(bucket, CLIPS).manifests_read == 0
    assert streamed == []
    split_by_hand(bucket, tmp_path, 2, {"fox": (0,)})
    found = refresh_catalogue(bucket, CLIPS)
    assert (found.rows, found.manifests_read, found.written, streamed) == (8, 1, True, [CLIPS.table_key("catalogue")])


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads URLs by curl, and there is none")
def test_plain_webdataset_reads_signed_urls_of_a_bucket(bucket, tmp_path):
    fill(bucket, tmp_path)
    signed = list(list_urls(bucket, "x", SPLIT.hash, hours=1))
    assert [sample["__key__"] for sample in webdataset.WebDataset(signed, shardshuffle=False)] == KEYS
