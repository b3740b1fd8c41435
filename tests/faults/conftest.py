from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.checker import Golden
from faults.gcs_fake import GcsFake
from faults.lab import Lab, golden_of
from faults.places import KINDS, Place
from faults.s3_proxy import S3Proxy
from faults.shards import make_shard
from faults.writers import Asked, Writers

from shardmill.adapters.store import StoreSettings
from shardmill.localcloud.cluster_table import ClusterTable
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.refusals import Holdings
from shardmill.localcloud.seed import ACCESS_KEY, client
from shardmill.localcloud.server import REGION, CloudServer

BUCKET = "lake"


@contextmanager
def serving(folder: Path, *buckets: str) -> Iterator[str]:
    """Serve an S3 with empty buckets in this process. Yields its endpoint."""
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    backend.reset()
    holdings = Holdings({}, frozenset(), frozenset())
    server = CloudServer(EmrApi(ClusterTable(clock=lambda: 0.0), lambda: holdings, REGION), folder, 0)
    for bucket in buckets:
        client("s3", server.endpoint).create_bucket(Bucket=bucket)
    yield server.endpoint
    server.close()
    backend.reset()


@pytest.fixture
def local_s3(tmp_path: Path) -> Iterator[str]:
    """The endpoint of an S3 in this process, with an empty bucket ``lake``."""
    with serving(tmp_path / "s3", BUCKET) as endpoint:
        yield endpoint


@pytest.fixture
def s3_proxy(local_s3: str) -> Iterator[S3Proxy]:
    """A fault proxy, without a rule yet, in front of a fresh S3 with a bucket ``lake``."""
    with S3Proxy(local_s3) as proxy:
        yield proxy


@pytest.fixture
def gcs() -> Iterator[GcsFake]:
    """An empty fake of GCS with a bucket ``lake``."""
    with GcsFake(BUCKET) as fake:
        yield fake


@contextmanager
def opened_lab(folder: Path, run_ffmpeg: Callable[..., None], videos: int) -> Iterator[Lab]:
    """Put a lab together."""
    shard, labels = make_shard(folder / "made", run_ffmpeg, videos)
    writers = Writers(folder)
    with serving(folder / "s3", "lake", "source") as endpoint, S3Proxy(endpoint) as proxy:
        yield Lab(proxy, writers, folder, shard, labels)
    writers.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, run_ffmpeg: Callable[..., None]) -> Iterator[Lab]:
    """A fault proxy in front of an S3, a shard of three videos at the source, and a process that forks writers."""
    with opened_lab(tmp_path_factory.mktemp("lab"), run_ffmpeg, 3) as lab:
        yield lab


@pytest.fixture
def long_lab(tmp_path: Path, run_ffmpeg: Callable[..., None]) -> Iterator[Lab]:
    """The same with ten videos."""
    with opened_lab(tmp_path, run_ffmpeg, 10) as lab:
        yield lab


@pytest.fixture(scope="module")
def golden(lab: Lab) -> Golden:
    """What an undisturbed run makes of the shard."""
    experiment = lab.experiment()
    experiment.until_done(Asked("golden"))
    return golden_of(experiment)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty folder on disk, in the local S3, and in a fake of GCS that enforces its preconditions."""
    if request.param == "file":
        return Place(f"file://{tmp_path / 'disk'}", StoreSettings())
    if request.param == "s3":
        endpoint = request.getfixturevalue("local_s3")
        return Place("s3://lake/folder", StoreSettings(endpoint, "us-east-1", ACCESS_KEY, ACCESS_KEY))
    account = request.getfixturevalue("gcs").service_account
    return Place("gs://lake/folder", StoreSettings(google_service_account=account))
