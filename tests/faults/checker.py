"""The invariants of the lake, checked offline over what is stored at the end and the history of every request.

None lost, none doubled, equal bytes, whole at every instant, immutable, nothing left open.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardmill.core import layout
from shardmill.specs.manifest import Manifest


@dataclass(frozen=True)
class Golden:
    """What an undisturbed run made of the same shard."""

    samples: frozenset[str]
    """Keys of the samples in the shard."""
    parts: Mapping[str, tuple[str, ...]]
    """SHA-256 of the parts of each stage, in order; stages whose bytes may differ are not named."""


@dataclass(frozen=True)
class Write:
    """A request that changed an object, as the history has it."""

    number: int
    method: str
    key: str
    sha256: str


@dataclass(frozen=True)
class Lake:
    """What is to be checked."""

    objects: Mapping[str, bytes]
    """All that is stored at the end, by key below the lake."""
    writes: Sequence[Write]
    """The requests that took effect, in order."""
    claims: Sequence[Mapping[str, str]]
    """What each writer that ended well said it had committed: SHA-256 by key of the manifest."""
    open_uploads: Sequence[str]
    scratch: Sequence[str]
    """Names of what lies in the scratch folders."""


def violations(lake: Lake, golden: Golden) -> list[str]:
    """List what is wrong; empty where all invariants hold."""
    manifests = {key: content for key, content in lake.objects.items() if layout.shard_of_manifest(key) is not None}
    found = [f"left open: {name}" for name in lake.open_uploads]
    found += [f"left in scratch: {name}" for name in lake.scratch]
    found += _changed(lake.writes)
    for key, content in sorted(manifests.items()):
        found += _of_manifest(key, Manifest.from_json(content), lake, golden)
    found += _revisions(manifests)
    for claim in lake.claims:
        for key, sha256 in claim.items():
            if key not in manifests:
                found.append(f"a writer said that it committed {key}, which is not there")
            elif hashlib.sha256(manifests[key]).hexdigest() != sha256:
                found.append(f"a writer said that it committed another {key} than is there")
    return found


def _changed(writes: Iterable[Write]) -> list[str]:
    """Find what was overwritten or deleted: nothing in a lake ever is, while nobody collects garbage."""
    seen: dict[str, str] = {}
    found = []
    for write in writes:
        if write.method == "DELETE":
            found.append(f"deleted: {write.key}")
        elif write.key in seen and not (layout.is_receipt(write.key) and write.key.startswith("raw/")):
            # Only a copy that turned out not to be its source's bytes takes its receipts back.
            what = "the same bytes" if seen[write.key] == write.sha256 else "OTHER BYTES"
            found.append(f"overwritten with {what}: {write.key}")
        seen.setdefault(write.key, write.sha256)
    return found


def _of_manifest(key: str, manifest: Manifest, lake: Lake, golden: Golden) -> list[str]:
    found = _whole(key, manifest, lake)
    keys = Counter([video.key for video in manifest.videos] + [reject.key for reject in manifest.rejects])
    if manifest.stage != "raw":
        found += [f"{key}: {sample!r} is lost" for sample in sorted(golden.samples - set(keys))]
        found += [f"{key}: {sample!r} is there {count} times" for sample, count in keys.items() if count > 1]
        found += [f"{key}: {reject.key!r} was refused: {reject.message}" for reject in manifest.rejects]
    found += _same(key, manifest, golden)
    names = [part.name for part in manifest.parts]
    return found + [f"{key}: lists {name} twice" for name, count in Counter(names).items() if count > 1]


def _same(key: str, manifest: Manifest, golden: Golden) -> list[str]:
    wanted = golden.parts.get(manifest.stage)
    if wanted is None or tuple(part.sha256 for part in manifest.parts) == wanted:
        return []
    return [f"{key}: its parts are not those of an undisturbed run"]


def _whole(key: str, manifest: Manifest, lake: Lake) -> list[str]:
    """A manifest is there only after all that it lists, and what it lists is what it says."""
    committed = min((write.number for write in lake.writes if write.key == key), default=-1)
    found = [f"{key} appeared without a request"] if committed < 0 else []
    for part in manifest.parts:
        stored = lake.objects.get(part.name)
        if stored is None:
            found.append(f"{key}: {part.name} is not there")
        elif len(stored) != part.size or hashlib.sha256(stored).hexdigest() != part.sha256:
            found.append(f"{key}: {part.name} has other bytes")
        first = min((write.number for write in lake.writes if write.key == part.name), default=-1)
        if not 0 <= first < committed:
            found.append(f"{key} was there before {part.name}")
    return found


def _revisions(manifests: Mapping[str, Any]) -> list[str]:
    """Every chain of revisions starts at r000 and has no gap."""
    chains: dict[str, set[int]] = {}
    for key in manifests:
        chains.setdefault(key.rpartition("/")[0], set()).add(layout.revision_of(key) or 0)
    return [
        f"{folder}: revisions {sorted(found)}" for folder, found in chains.items() if found != set(range(len(found)))
    ]
