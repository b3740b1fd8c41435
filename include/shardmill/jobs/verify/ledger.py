"""What a verification looked at and what it found."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shardmill.adapters.store import (
    ChangedObjectError,
    DamagedObjectError,
    MissingObjectError,
    Store,
    StoreSettings,
    read_sealed,
)
from shardmill.core.lineage import Claim, Finding, Kind, Verified
from shardmill.specs.value import Sealed

TELL_SECONDS = 10.0
READS = 2
"""Times that a part is read before it counts as damaged: a byte may flip on the way."""

Value = TypeVar("Value", bound=Sealed)
Chain = tuple[str, ...]


@dataclass(frozen=True)
class Verifying:
    """How a verification goes about it."""

    deep: bool = False
    """Whether the bytes of every part and of the weights are read and hashed."""
    source_settings: StoreSettings | None = None
    """How the source is reached."""
    say: Callable[[str], None] = lambda line: None
    """Gets a line of progress now and then."""
    workers: int = 8
    """Shards that are walked at once."""


@dataclass(frozen=True)
class Read(Generic[Value]):
    """A sealed value with what its bytes are."""

    key: str
    value: Value
    sha256: str
    size: int


class Progress:
    """Counts for all threads, and says so every few seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._lock = say, threading.Lock()
        self._told = time.monotonic()
        self.objects = self.bytes = 0

    def count(self, objects: int, read: int) -> None:
        """Take in that so many objects were looked at, and so many bytes read."""
        with self._lock:
            self.objects += objects
            self.bytes += read
            if time.monotonic() - self._told < TELL_SECONDS:
                return
            self._told = time.monotonic()
            line = f"{self.objects:,} objects, {self.bytes / 1e6:,.1f} MB read"
        self._say(line)


class Ledger:
    """What one walk found, in its order."""

    def __init__(self, lake: Store, progress: Progress) -> None:
        self.lake, self.progress = lake, progress
        self._findings: dict[tuple[str, str, str], Finding] = {}

    def find(self, kind: Kind, key: str, message: str, chain: Chain) -> None:
        """Note something about an object of the lake; what was noted before stays as it was reached first."""
        self.find_at(kind, self.lake.uri_of(key), message, chain)

    def find_at(self, kind: Kind, uri: str, message: str, chain: Chain) -> None:
        """Note something about an object at a URI."""
        self._findings.setdefault((kind, uri, message), Finding(kind, uri, message, chain))

    def claim(self, claims: Iterable[Claim], key: str, chain: Chain) -> None:
        """Note all that is wrong with an object."""
        for kind, message in claims:
            self.find(kind, key, message, chain)

    def join(self, other: Ledger) -> None:
        """Take in what another walk found."""
        for identity, finding in other._findings.items():
            self._findings.setdefault(identity, finding)

    def read(self, key: str, kind: type[Value], chain: Chain) -> Read[Value] | None:
        """Read a sealed value that has to be there; None, and noted, where it is not or is damaged."""
        try:
            value = read_sealed(self.lake, key, kind)
        except MissingObjectError:
            self.find("missing", key, f"expected a {kind.__name__}, found nothing", chain)
            return None
        except DamagedObjectError as error:
            self.find("damaged", key, str(error.__cause__), chain)
            return None
        content = value.to_json()
        self.progress.count(1, len(content))
        return Read(key, value, hashlib.sha256(content).hexdigest(), len(content))

    def hash_object(self, key: str, sha256: str, chain: Chain) -> None:
        """Read an object and compare its bytes with their hash."""
        message = ""
        for _ in range(READS):
            try:
                found = self._sha256(key)
            except MissingObjectError:
                self.find("missing", key, "it was there when it was listed", chain)
                return
            except ChangedObjectError:
                message = "it was written to while it was read"
                continue
            if found == sha256:
                return
            message = f"expected the SHA-256 {sha256}, found {found}"
        self.find("damaged", key, message, chain)

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for chunk in self.lake.stream(key):
            digest.update(chunk)
            self.progress.count(0, len(chunk))
        return digest.hexdigest()

    def close(self) -> Verified:
        """Give what was found, broken links first."""
        findings = sorted(self._findings.values(), key=lambda finding: not finding.is_broken)
        return Verified(self.progress.objects, self.progress.bytes, tuple(findings))
