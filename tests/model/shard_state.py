"""The values of the commit model: the contract's rules and a state of the store and of who uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[int, int, str]
"""Folder's revision, part's number and, where names are content addresses, the content."""
Part = tuple[Key, str]
"""A part as a manifest or receipt lists it: name and content.

Content is three letters: the source that it was made from, how the part before it came out, how it came out itself
(where one part ends, the next begins)."""
NoteKey = tuple[int, int, str]
"""A receipt's name: folder's revision, part's number, inputs."""


class Manifest(NamedTuple):
    source: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Rules:
    """The contract and, as fields, every way of breaking it that is tried."""

    outcomes: tuple[str, str] = ("x", "x")
    """How a part may come out when the first and when the second writer builds it, a letter each."""
    retries: tuple[bool, bool] = (False, False)
    """Which of the writers make rejects anew."""
    last_revision: int = 1
    source_changes: bool = True
    late_requests: bool = False
    """Whether a manifest's put whose answer was lost may still take effect, at any time."""
    manifest_create_only: bool = True
    content_addresses: bool = True
    part_create_only: bool = True
    reads_manifest_back: bool = True
    reads_receipt_back: bool = True
    receipt_names_inputs: bool = True
    loser_deletes: bool = False
    source_after_revision: bool = True
    """Whether the source is looked at after the highest revision was."""
    collects: str = "committed"
    """Folders that are collected: 'committed', 'above' (where there is a manifest, all), 'any'."""
    keeps: str = "all"
    """Whose parts are kept: those of 'all' manifests, or of the 'highest'."""


class Writer(NamedTuple):
    """Where a writer stands; each step is one request to the store."""

    at: str = "plan"
    revision: int = 0
    source: str = ""
    carried: tuple[Part, ...] = ()
    chain: tuple[Part, ...] = ()
    content: str = ""

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.source, self.chain)


Object = tuple[str, tuple[int, int, str]]
"""What an object is, 'part' or 'receipt', and its key."""


class State(NamedTuple):
    source: str
    manifests: tuple[Manifest, ...]
    parts: frozenset[Part]
    notes: frozenset[tuple[NoteKey, Part]]
    writers: tuple[Writer, Writer]
    doomed: frozenset[Object] = frozenset()
    """What a collector once decided to delete and, asked now, would not.

    There may be any number of collectors, with any time between each one's listing and each of its deletes, and each
    may end half way: so what one could once decide may be deleted at any time from then on. What any would decide now
    need not be remembered.
    """
    late: frozenset[tuple[int, Manifest]] = frozenset()


Name = tuple[object, ...]
"""What happens, in words and values."""
Step = tuple[Name, State]


START = State("A", (), frozenset(), frozenset(), (Writer(), Writer()))
