"""Plan 3,000 shards of 3 stages, over a made listing and made manifests: seconds, peak memory, what was read.

Each plan is a process of its own, and each prints a line of JSON: the first one finds no index, the second one finds
all done, the third one finds that ten shards changed at the source, the fourth one that these were made anew.

    python scripts/bench_plan.py /tmp/bench            # a lake on disk
    python scripts/bench_plan.py /tmp/bench --s3       # the local AWS, in a process of its own
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from shardmill.adapters.shard_index import Asked, survey_shards
from shardmill.adapters.store import ObjectInfo, Store
from shardmill.core import layout
from shardmill.core.shard_states import STAGES
from shardmill.core.stage_output import StageOutput
from shardmill.specs.manifest import Manifest, SourceObject, Stage, Video
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe
from shardmill.specs.value import short_hash

SHARDS = 3000
CHANGED = 10
VIDEOS = 10
CLIPS = 20
SPLIT = SplitRecipe()
FEATURES = FeatureRecipe(split=SPLIT, extractor="frame_statistics", labels=short_hash("labels"))
ASKED = Asked("bench", SPLIT, FEATURES)


class CountingStore(Store):
    """Counts what is read and listed."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, create=True)
        self.counts: Counter[str] = Counter()

    def get(self, key: str, version: str = "") -> bytes:
        self.counts["manifests" if "/_manifests/" in key else "tables"] += 1
        return super().get(key, version)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.counts["listings"] += 1
        return super().list(prefix)

    def folders(self, prefix: str = "") -> Sequence[str]:
        self.counts["listings"] += 1
        return super().folders(prefix)


def list_source(uri: str) -> dict[int, SourceObject]:
    """List the made source."""
    source = Store(uri)
    found = {layout.shard_number(item.key): item for item in source.list()}
    return {
        shard: SourceObject(uri=source.uri_of(item.key), size=item.size, version=item.version)
        for shard, item in found.items()
        if shard is not None
    }


def put_all(uri: str, contents: Mapping[str, bytes]) -> None:
    """Write many small objects."""
    store = Store(uri, create=True)
    if store.folder is None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: store.put(*item), contents.items()))
        return
    for key, content in contents.items():
        path = store.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _manifest(stage: Stage, shard: int, source: SourceObject, revision: int = 0) -> Manifest:
    recipe = {"raw": None, "clips": SPLIT, "features": FEATURES}[stage]
    spans = tuple(range(512, 512 + 50_000 * CLIPS, 50_000))
    return Manifest(
        stage=stage,
        dataset=ASKED.dataset,
        shard=shard,
        revision=revision,
        recipe_hash=recipe.hash if recipe else "",
        recipe=recipe.model_dump() if recipe else {},
        source=source,
        samples_in=0 if stage == "raw" else VIDEOS,
        parts=(),
        videos=()
        if stage == "raw"
        else tuple(
            Video(key=f"video-{shard:06d}-{number}", clips=CLIPS, seconds=2.0 * CLIPS, offsets=spans, sizes=spans)
            for number in range(VIDEOS)
        ),
    )


def manifests_of(found: Mapping[int, SourceObject], lake: str, revision: int = 0) -> dict[str, bytes]:
    """Make the manifests of shards that are done at every stage."""
    contents: dict[str, bytes] = {}
    for shard, source in found.items():
        made_from = source
        for stage in STAGES:
            made = _manifest(stage, shard, made_from, revision)
            key = layout.manifest_key(StageOutput(made.stage, made.dataset, made.recipe_hash).folder, shard, revision)
            contents[key] = made.to_json()
            if stage == "clips":
                sha256 = hashlib.sha256(contents[key]).hexdigest()
                made_from = SourceObject(uri=f"{lake}/{key}", size=len(contents[key]), version=sha256)
    return contents


def peak_megabytes() -> float:
    """Give the most memory that this process has had, as Linux counts it for this program alone."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(lake_uri: str, source_uri: str) -> dict[str, object]:
    """Plan once, and tell what it took."""
    before, started, cpu = peak_megabytes(), time.monotonic(), time.process_time()
    lake = CountingStore(lake_uri)
    states = survey_shards(lake, ASKED, list_source(source_uri))
    return {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round(peak_megabytes()),
        "growth_mb": round(peak_megabytes() - before),
        "manifests_read": lake.counts["manifests"],
        "tables_read": lake.counts["tables"],
        "listings": lake.counts["listings"] + 1,
        "states": {stage: dict(states.count(stage)) for stage in states.by_stage},
    }


def _plan_afresh(name: str, lake: str, source: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--measure", lake, source]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = {"plan": name, **json.loads(found)}
    print(json.dumps(result), flush=True)
    return result


def bench(lake: str, source: str, shards: int) -> list[dict[str, object]]:
    """Make a source and a lake, and plan four times."""
    put_all(source, {f"bench-{shard:06d}.tar": b"%d" % shard for shard in range(shards)})
    found = list_source(source)
    put_all(lake, manifests_of(found, lake))
    results = [_plan_afresh("no index", lake, source), _plan_afresh("all done", lake, source)]
    put_all(source, {f"bench-{shard:06d}.tar": b"changed %d" % shard for shard in range(min(CHANGED, shards))})
    results.append(_plan_afresh("ten shards changed at the source", lake, source))
    changed = {shard: source for shard, source in list_source(source).items() if shard < CHANGED}
    put_all(lake, manifests_of(changed, lake, revision=1))
    return [*results, _plan_afresh("ten shards were made anew", lake, source)]


@contextmanager
def local_aws(folder: Path) -> Iterator[tuple[str, str]]:
    """Start the local AWS in a process of its own. Gives the URIs of a lake and of a source."""
    code = (
        "import sys, pathlib, time\n"
        "from shardmill.localcloud.cluster_table import ClusterTable\n"
        "from shardmill.localcloud.emr_api import EmrApi\n"
        "from shardmill.localcloud.seed import seed\n"
        "from shardmill.localcloud.server import REGION, CloudServer, account_holdings\n"
        "api = EmrApi(ClusterTable(clock=time.time), account_holdings, REGION)\n"
        "server = CloudServer(api, pathlib.Path(sys.argv[1]), 0)\n"
        "seed(server.endpoint)\n"
        "print(server.endpoint, flush=True)\n"
        "sys.stdin.read()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None and server.stdin is not None  # noqa: S101
    try:
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }
        yield "s3://shardmill-lake", "s3://shardmill-source/bench"
    finally:
        server.stdin.close()
        server.wait(timeout=30)


def main() -> None:
    """Fill a folder and plan, or measure one plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="an empty folder")
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--s3", action="store_true", help="plan on the local AWS")
    parser.add_argument("--measure", nargs=2, metavar=("LAKE", "SOURCE"), help="plan once on what is there")
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(*asked.measure)))
    elif asked.folder is None:
        parser.error("expected a folder")
    elif asked.s3:
        with local_aws(asked.folder) as (lake, source):
            bench(lake, source, asked.shards)
    else:
        folder = asked.folder.resolve()
        bench(f"file://{folder}/lake", f"file://{folder}/source", asked.shards)


if __name__ == "__main__":
    main()
