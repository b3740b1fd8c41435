"""Decide what of a lake may go: what no manifest lists, and recipes past their retention."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shardmill.core import layout

_PLACE = re.compile(r"(\d{6})/r(\d{3,})/[^/]+")
_CLIPS = re.compile(r"(?:^|/)(clips/[^/]+/[0-9a-f]{12})/_manifests/\d{6}/r\d{3,}\.json$")
_FEATURES = re.compile(r"(?:^|/)(features/[^/]+/[0-9a-f]{12})/\d{6}/r\d{3,}/[^/]+$")
_RECIPE = re.compile(r"[0-9a-f]{12}")
RECEIPT = "receipt of a committed revision"
UNLISTED = "listed by no manifest"


@dataclass(frozen=True)
class Litter:
    """An object that may go, and why."""

    key: str
    size: int
    """Bytes."""
    why: str


@dataclass(frozen=True)
class Committed:
    """What the manifests of one shard say."""

    revisions: frozenset[int]
    listed: frozenset[str]
    """Keys of the parts that any of them lists."""

    @property
    def highest(self) -> int:
        """The highest revision; −1 where there is none."""
        return max(self.revisions, default=-1)

    @property
    def missing(self) -> tuple[int, ...]:
        """The revisions below the highest that have no manifest, ascending."""
        return tuple(number for number in range(self.highest) if number not in self.revisions)


def place_of(folder: str, key: str) -> tuple[int, int] | None:
    """Read the shard and the revision in whose folder of parts a key lies; None where it lies elsewhere."""
    match = _PLACE.fullmatch(key.removeprefix(folder + "/")) if key.startswith(folder + "/") else None
    return (int(match[1]), int(match[2])) if match else None


def clips_folder_of(uri: str) -> str | None:
    """Read the folder of clips from the URI of one of their manifests; None where it is another's."""
    match = _CLIPS.search(uri)
    return match[1] if match else None


def features_folder_of(uri: str) -> str | None:
    """Read the folder of features from the URI of one of their parts; None where it is another's."""
    match = _FEATURES.search(uri)
    return match[1] if match else None


def is_recipe(name: str) -> bool:
    """Say whether a folder's name is a recipe's hash."""
    return _RECIPE.fullmatch(name) is not None


def shard_litter(folder: str, objects: Iterable[tuple[str, int]], committed: Committed) -> list[Litter]:
    """Choose the objects of a shard that no reader and no writer can need, receipts first.

    A writer of a revision that has a manifest can only lose; one of a higher revision may still win: its folder stays.
    A shard without a manifest stays, and one whose chain has a gap: what the absent manifest listed is not known.
    Receipts go before parts, so that no writer finds a receipt whose part is gone.

    Args:
        folder: the stage's.
        objects: keys below it with their sizes in bytes.
    """
    if committed.missing:
        return []
    receipts, parts = [], []
    for key, size in objects:
        place = place_of(folder, key)
        if place is None or place[1] > committed.highest or key in committed.listed:
            continue
        if layout.is_receipt(key):
            receipts.append(Litter(key, size, RECEIPT))
        else:
            parts.append(Litter(key, size, UNLISTED))
    return receipts + parts


@dataclass(frozen=True)
class Recipe:
    """The output of one recipe of a stage."""

    folder: str
    newest_manifest: float
    """When its youngest manifest was written, seconds since 1970; 0 where it has none."""
    newest_object: float
    """When anything was written to it last."""

    @property
    def hash(self) -> str:
        """The recipe's short hash."""
        return self.folder.rpartition("/")[2]


@dataclass(frozen=True)
class Retention:
    """Which recipes of a stage and dataset are to stay."""

    keep: int
    """So many with the youngest manifests; 0 for all."""
    named: frozenset[str]
    """Hashes of recipes that are to go, whatever ``keep`` says."""
    before: float
    """Only recipes that nothing was written to since then go, seconds since 1970."""


def past_retention(
    recipes: Sequence[Recipe], asked: Retention, used: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Choose the recipes that go.

    Args:
        recipes: of one stage and dataset.
        used: who still refers to a recipe, by its folder.

    Returns:
        Why each goes, by folder; and why others stay that would have gone.
    """
    by_age = sorted(
        (recipe for recipe in recipes if recipe.newest_manifest), key=lambda recipe: -recipe.newest_manifest
    )
    reasons = {recipe.folder: f"not among the {asked.keep} newest recipes" for recipe in by_age[asked.keep :]}
    # What a collection left that was broken off has no manifest, nor does a recipe whose first run still is at work:
    # that one was written to lately.
    reasons |= {recipe.folder: "without any manifest" for recipe in recipes if not recipe.newest_manifest}
    if not asked.keep:
        reasons = {}
    reasons |= {recipe.folder: "named" for recipe in recipes if recipe.hash in asked.named}
    going, staying = {}, {}
    for recipe in recipes:
        if recipe.folder not in reasons:
            continue
        if recipe.folder in used:
            staying[recipe.folder] = f"{reasons[recipe.folder]}, but {used[recipe.folder]}"
        elif recipe.newest_object > asked.before:
            staying[recipe.folder] = f"{reasons[recipe.folder]}, but written to lately"
        else:
            going[recipe.folder] = reasons[recipe.folder]
    return going, staying


def deletion_order(folder: str, keys: Iterable[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Order the deletion of whole shards, so that no reader ever finds a manifest whose parts are gone.

    Returns:
        What goes one after the other: the manifests but each shard's highest, for until then the highest stays the
        truth; those; the receipts, for a writer takes up no part without one; all else.
    """
    manifests: dict[int, list[tuple[int, str]]] = {}
    receipts, others = [], []
    for key in keys:
        shard, revision = layout.shard_of_manifest(key), layout.revision_of(key)
        if shard is not None and revision is not None and key.startswith(layout.manifests_folder(folder) + "/"):
            manifests.setdefault(shard, []).append((revision, key))
        elif layout.is_receipt(key):
            receipts.append(key)
        else:
            others.append(key)
    chains = [[key for _, key in sorted(chain)] for chain in manifests.values()]
    lower = [key for chain in chains for key in chain[:-1]]
    return lower, [chain[-1] for chain in chains], receipts, others
