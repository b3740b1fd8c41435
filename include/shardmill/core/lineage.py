"""Where a result came from: what each link of the chain model → features → clips → source has to agree with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shardmill.core import layout
from shardmill.core.planning import BadRequestError
from shardmill.specs.manifest import Manifest
from shardmill.specs.records import ModelManifest, RecordPart, RecordSet, model_inputs
from shardmill.specs.run import RunLabels, RunSpec
from shardmill.specs.value import short_hash

Kind = Literal[
    "missing",
    "damaged",
    "mismatch",
    "gap",
    "counts",
    "unlisted",
    "uncommitted",
    "unfinished",
    "source_changed",
    "source_unseen",
]
NOTES: Mapping[str, str] = {
    "unlisted": "harmless: no manifest lists it; collect-garbage removes it from committed revisions",
    "uncommitted": "a writer's unfinished work, or a manifest was deleted",
    "unfinished": "a run that broke off here; what comes before it is whole",
    "source_changed": "nothing in the lake is wrong; a new run makes the shard anew",
    "source_unseen": "the source could not be asked",
}
"""Kinds that are told and break nothing, and what they mean."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed."""

    kind: Kind
    uri: str
    """What it is about."""
    message: str
    """What was expected and what was found."""
    chain: tuple[str, ...] = ()
    """URIs by which it was reached, from what was verified on."""

    @property
    def is_broken(self) -> bool:
        """Whether a link is broken; else this is only worth knowing."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        path = "".join(f"\n    from {uri}" for uri in reversed(self.chain))
        return f"{self.kind}: {self.uri}: {self.message}{path}"


@dataclass(frozen=True)
class Verified:
    """What a verification saw."""

    objects: int
    bytes: int
    """Of all that was read."""
    findings: tuple[Finding, ...]
    """Broken links first, in the order of the walk; then notes."""

    @property
    def is_whole(self) -> bool:
        """Whether no link is broken."""
        return not any(finding.is_broken for finding in self.findings)


class Target(NamedTuple):
    """What is to be verified."""

    lake: str
    """URI."""
    run: str = ""
    """Name of a run."""
    model: bool = False
    """Whether the run is expected to have a model."""
    folders: tuple[str, ...] = ()
    """Of a stage, its dataset and recipe; the last component may be '*', for all recipes."""


_RUN = re.compile(r"(.+)/runs/([^/]+)(?:/(spec\.json|model|model/model\.json))?")
_RAW = re.compile(r"(.+)/(raw/[^/]+)")
_STAGE = re.compile(r"(.+)/((?:clips|features)/[^/]+)(/[0-9a-f]{12})?")


def parse_target(uri: str, dataset: str = "") -> Target:
    """Read what is to be verified from its URI. Raises BadRequestError.

    Args:
        dataset: name of a dataset; ``uri`` is the lake then.
    """
    uri = uri.rstrip("/")
    if dataset:
        return Target(uri, folders=(f"features/{dataset}/*", f"clips/{dataset}/*", f"raw/{dataset}"))
    if match := _RUN.fullmatch(uri):
        return Target(match[1], run=match[2], model=(match[3] or "").startswith("model"))
    if match := _STAGE.fullmatch(uri):
        return Target(match[1], folders=(match[2] + (match[3] or "/*"),))
    if match := _RAW.fullmatch(uri):
        return Target(match[1], folders=(match[2],))
    raise BadRequestError(
        f"expected …/runs/<run>, …/runs/<run>/model/model.json, …/raw/<dataset>, …/clips/<dataset>/<recipe> or "
        f"…/features/<dataset>/<recipe>, or a lake and the name of a dataset, found {uri}"
    )


Claim = tuple[Kind, str]
"""What is wrong, without where."""


def check_manifest(manifest: Manifest, key: str) -> Iterator[Claim]:
    """Compare a manifest with its key, its recipe and its own counts."""
    folder = layout.stage_folder(manifest.stage, manifest.dataset, manifest.recipe_hash)
    own = layout.manifest_key(folder, manifest.shard, manifest.revision)
    if own != key:
        yield "mismatch", f"it is the manifest of {own}"
    if manifest.recipe_hash and short_hash(manifest.recipe) != manifest.recipe_hash:
        yield "mismatch", f"expected a recipe of hash {manifest.recipe_hash}, found {short_hash(manifest.recipe)}"
    shard_folder = f"{folder}/{layout.shard_name(manifest.shard)}/r"
    for part in manifest.parts:
        if not part.name.startswith(shard_folder):
            yield "mismatch", f"it lists {part.name}, which is no part of its shard"
    yield from _check_counts(manifest)


def _check_counts(manifest: Manifest) -> Iterator[Claim]:
    samples = sum(part.samples for part in manifest.parts)
    if manifest.stage == "raw":
        if manifest.parts and sum(part.size for part in manifest.parts) != manifest.source.size:
            yield "counts", f"its parts are not the {manifest.source.size} bytes of its source"
        return
    if manifest.samples_in != len(manifest.videos) + len(manifest.rejects):
        yield (
            "counts",
            f"{manifest.samples_in} samples became {len(manifest.videos)} videos and {len(manifest.rejects)} rejects",
        )
    expected = len(manifest.videos) if manifest.stage == "features" else sum(video.clips for video in manifest.videos)
    if samples != expected:
        yield "counts", f"its videos have {expected} samples, its parts hold {samples}"
    if any(video.part >= len(manifest.parts) for video in manifest.videos):
        yield "mismatch", f"a video lies in a part behind the last of {len(manifest.parts)}"


def check_features(features: Manifest, clips: Manifest) -> Iterator[Claim]:
    """Compare the records of a shard with the clips that they were made of."""
    if (features.dataset, features.shard) != (clips.dataset, clips.shard):
        yield "mismatch", f"it was made of shard {clips.shard} of {clips.dataset}"
    split = features.recipe.get("split")
    if split is not None and short_hash(split) != clips.recipe_hash:
        yield "mismatch", f"expected clips of recipe {short_hash(split)}, found {clips.recipe_hash}"
    found = sorted([video.key for video in features.videos] + [reject.key for reject in features.rejects])
    if found != sorted(video.key for video in clips.videos):
        yield "counts", f"the clips are of {len(clips.videos)} videos, its records and rejects of {len(found)} others"


def record_parts(features: Manifest, lake: str, subset: str) -> tuple[RecordPart, ...]:
    """Give the parts of a subset as a RecordSet lists them."""
    return tuple(
        RecordPart(uri=f"{lake}/{part.name}", sha256=part.sha256, records=part.samples)
        for part in features.parts
        if part.subset == subset
    )


def check_labels(records: RecordSet, labels: RunLabels, run: RunSpec) -> Iterator[Claim]:
    """Compare a run's records with the labels that they were made with."""
    if records.vocabulary != labels.vocabulary:
        yield "mismatch", "its vocabulary is not that of labels.json"
    recipe = run.video.feature_recipe(labels.digest).hash
    folder = layout.manifests_folder(layout.stage_folder("features", run.asked.dataset, recipe))
    for reference in records.manifests:
        if not reference.key.startswith(folder + "/"):
            yield "mismatch", f"it refers to {reference.key}, expected manifests below {folder}"


def check_model(model: ModelManifest, records: RecordSet, run: RunSpec) -> Iterator[Claim]:
    """Compare a run's model with what it was trained on."""
    if model.records != records.digest:
        yield "mismatch", f"it was trained on records {model.records}, records.json is {records.digest}"
    if model.training != run.on_cluster.training:
        yield "mismatch", "its training is not what the run asked"
    expected = model_inputs(model.training, records)
    if model.inputs != expected:
        yield "mismatch", f"expected inputs {expected}, found {model.inputs}"
    if model.vocabulary != records.vocabulary:
        yield "mismatch", "its vocabulary is not that of records.json"
