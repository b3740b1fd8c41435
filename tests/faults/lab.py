"""A shard, a lake behind the fault proxy, writers, and the checker, put together for one experiment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from faults.checker import Golden, Lake, Write, violations
from faults.s3_history import Entry
from faults.s3_proxy import S3Proxy
from faults.writers import Asked, Ended, Writers

from shardmill.adapters.scratch import scratch_folder
from shardmill.adapters.store import Store, StoreSettings
from shardmill.localcloud.seed import ACCESS_KEY, client
from shardmill.specs.manifest import Manifest

MOST_TRIES = 12
BUCKET, SOURCES = "lake", "source"
_numbers = itertools.count()


@dataclass
class Lab:
    """Where experiments are made; each has a lake of its own in the same bucket."""

    proxy: S3Proxy
    writers: Writers
    folder: Path
    shard: Path
    labels: Mapping[str, Sequence[str]]
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.s3 = client("s3", self.proxy.upstream)
        self.direct = StoreSettings(self.proxy.upstream, "us-east-1", ACCESS_KEY, ACCESS_KEY)
        self.put_source(self.shard.read_bytes())

    def put_source(self, content: bytes) -> None:
        """Put the shard at the source, and plan with what is there now."""
        store = Store(f"s3://{SOURCES}", self.direct)
        store.put(self.shard.name, content)
        found = store.head(self.shard.name)
        assert found is not None
        self.source = {"uri": store.uri_of(found.key), "size": found.size, "version": found.version}

    def experiment(self) -> Experiment:
        """Start with an empty lake."""
        self.proxy.clear()
        name = f"e{next(_numbers):05d}"
        scratch = self.folder / name
        scratch.mkdir()
        return Experiment(self, name, scratch)


@dataclass
class Experiment:
    """One lake, and the writers that worked on it."""

    lab: Lab
    name: str
    scratch: Path
    ended: list[Ended] = field(default_factory=list)

    @property
    def lake(self) -> Store:
        """The lake, not through the proxy."""
        return Store(f"s3://{BUCKET}/{self.name}", self.lab.direct)

    def run(self, *asked: Asked) -> list[Ended]:
        """Run writers at the same time, through the proxy."""
        place = {
            "settings": {
                "endpoint_url": self.lab.proxy.endpoint,
                "region": "us-east-1",
                "access_key_id": ACCESS_KEY,
                "secret_access_key": ACCESS_KEY,
                "timeout_seconds": 1.0,
                "patience_seconds": 6.0,
            },
            "lake": f"s3://{BUCKET}/{self.name}",
            "source": self.lab.source,
            "labels": self.lab.labels,
            "scratch": str(self.scratch),
        }
        ended = self.lab.writers.run(place, *asked)
        self.ended += ended
        return ended

    def until_done(self, *asked: Asked) -> int:
        """Run writers, those that failed again without a crash, as Airflow retries tasks. Returns the tries."""
        for tries in range(1, MOST_TRIES + 1):
            failed = {end.name for end in self.run(*asked) if end.error}
            asked = tuple(replace(each, crash_at="") for each in asked if each.name in failed)
            if not asked:
                return tries
        raise AssertionError(f"not done after {MOST_TRIES} tries: {[end.error for end in self.ended]}")

    def found(self) -> Lake:
        """Collect what the checker looks at, after the sweep that the next writer on this machine would begin with."""
        with scratch_folder("sweep-", self.scratch):
            pass
        lake = self.lake
        objects = {item.key: lake.get(item.key) for item in lake.list()}
        uploads = self.lab.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.name}/").get("Uploads", [])
        return Lake(
            objects=objects,
            writes=[self._write(entry) for entry in self.lab.proxy.history.entries() if self._took_effect(entry)],
            claims=[end.committed for end in self.ended if not end.error],
            open_uploads=[upload["Key"] for upload in uploads],
            scratch=[path.name for path in self.scratch.iterdir()],
        )

    def _took_effect(self, entry: Entry) -> bool:
        mine = entry.bucket == BUCKET and entry.key.startswith(f"{self.name}/")
        return mine and entry.method in ("PUT", "DELETE") and 200 <= entry.upstream_status < 300

    def _write(self, entry: Entry) -> Write:
        return Write(entry.number, entry.method, entry.key.removeprefix(f"{self.name}/"), entry.sha256)

    def violations(self, golden: Golden) -> list[str]:
        """Ask the checker."""
        return violations(self.found(), golden)

    def manifests(self) -> dict[str, Manifest]:
        """Give the manifests by key."""
        lake = self.lake
        return {item.key: Manifest.from_json(lake.get(item.key)) for item in lake.list() if "_manifests/" in item.key}


def golden_of(experiment: Experiment) -> Golden:
    """Say what an undisturbed run made; the bytes of features may differ from machine to machine, not here."""
    manifests = experiment.manifests().values()
    parts = {manifest.stage: tuple(part.sha256 for part in manifest.parts) for manifest in manifests}
    return Golden(frozenset(experiment.lab.labels), parts)
