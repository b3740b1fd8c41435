"""Published files on a mirror: fetched over HTTP, on from where they broke off, and checked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from shardmill.adapters.mirror_answers import (
    MirrorRefusedError,
    OtherBytesError,
    PassingError,
    Progress,
    check_status,
    parse_list,
    settle_start,
)

__all__ = ["Mirror", "MirrorError", "MirrorRefusedError", "Patience", "parse_list"]

LIST_BYTES = 16 * 1024 * 1024
"""The longest list of files that is read; that of 3,844 files has 0.25 MB."""


class MirrorError(RuntimeError):
    """A mirror could not give what it should; another try may help."""


@dataclass(frozen=True)
class Patience:
    """How long a fetch goes on."""

    failures: int = 6
    """Times that it may fail one after the other without a byte more than ever before."""
    pause_seconds: float = 1.0
    """Before the second try; doubled before each further one, and drawn between half of that and all of it."""
    longest_pause_seconds: float = 60.0
    read_seconds: float = 60.0
    """Silence that breaks a connection."""
    connect_seconds: float = 15.0


class Mirror:
    """A connection pool to one mirror. Redirects are not followed: where files come from is what was allowed."""

    def __init__(self, patience: Patience | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._patience = patience or Patience()
        self._sleep = sleep
        self._client = httpx.Client(
            timeout=httpx.Timeout(self._patience.read_seconds, connect=self._patience.connect_seconds),
            headers={"Accept-Encoding": "identity", "User-Agent": "shardmill"},
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def list_files(self, url: str) -> dict[str, str]:
        """Read the list of a partition's files.

        Returns:
            The MD5 of each file by its name, 32 hex digits.

        Raises:
            MirrorRefusedError: it is no such list, or there is none.
            MirrorError: the mirror did not give it.
        """
        content = bytearray()

        def read() -> None:
            content.clear()
            with self._client.stream("GET", url) as answer:
                check_status(answer, url)
                for chunk in answer.iter_raw():
                    content.extend(chunk)
                    if len(content) > LIST_BYTES:
                        raise MirrorRefusedError(f"plans: {url} is longer than {LIST_BYTES} bytes: no list of files")

        self._insist(url, read, lambda: len(content))
        return parse_list(bytes(content), url)

    def size_of(self, url: str) -> int | None:
        """Ask for the size of a file; None where the mirror does not say."""
        found: list[int | None] = []

        def ask() -> None:
            answer = self._client.head(url)
            if answer.status_code in (httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED):
                found.append(None)
                return
            check_status(answer, url)
            length = answer.headers.get("Content-Length", "")
            found.append(int(length) if length.isdigit() else None)

        self._insist(url, ask, lambda: 0)
        return found[-1]

    def fetch(self, url: str, md5: str, path: Path, taken: Callable[[int], None] = lambda count: None) -> int:
        """Fetch a file; what breaks off goes on where it broke, on the same version.

        Args:
            md5: what its bytes must come to.
            path: where it is written; what lies there is replaced.
            taken: gets the number of bytes of each piece as it comes.

        Returns:
            Its size in bytes.

        Raises:
            MirrorRefusedError: another try will not change it: no such file, a redirect, no right to it, or its bytes
                are never those of the MD5.
            MirrorError: it failed too often.
        """
        with path.open("wb") as file:
            progress = Progress(file)

            def read() -> None:
                self._read_on(url, progress, taken)
                if (found := progress.digest.hexdigest()) != md5:
                    size = progress.position
                    progress.restart()
                    raise OtherBytesError(f"expected the MD5 {md5}, found {found} of {size} bytes", failures=2)

            self._insist(url, read, lambda: progress.furthest)
            return progress.position

    def _read_on(self, url: str, progress: Progress, taken: Callable[[int], None]) -> None:
        headers = {"Range": f"bytes={progress.position}-", "If-Range": progress.validator}
        resumes = progress.position > 0 and bool(progress.validator)
        if progress.position and not resumes:
            progress.restart()  # without a validator nobody can say that the rest is of the same version
        with self._client.stream("GET", url, headers=headers if resumes else None) as answer:
            if resumes and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                progress.restart()
                raise PassingError("the file became shorter than what was fetched of it")
            check_status(answer, url)
            settle_start(answer, progress)
            # Piece by piece as they come: gathered in larger ones, what came last would be lost when it breaks off.
            for chunk in answer.iter_raw():
                progress.take(chunk)
                progress.furthest = max(progress.furthest, progress.position)
                taken(len(chunk))
        if progress.size is not None and progress.position != progress.size:
            size = progress.position
            if size > progress.size:
                progress.restart()
            raise PassingError(f"expected {progress.size} bytes, found {size}")

    def _insist(self, url: str, work: Callable[[], None], furthest: Callable[[], int]) -> None:
        """Do something until it succeeds, or fails too often without progress."""
        failures, best, patience = 0, 0, self._patience
        while True:
            try:
                work()
                return
            except (PassingError, httpx.TransportError, httpx.DecodingError) as error:
                again = getattr(error, "failures", 1)
                failures, best = (again, furthest()) if furthest() > best else (failures + again, best)
                if failures >= patience.failures:
                    raise _given_up(url, error) from error
                asked = getattr(error, "pause_seconds", 0.0)
                drawn = patience.pause_seconds * 2 ** (failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                self._sleep(min(max(asked, drawn), patience.longest_pause_seconds))


def _given_up(url: str, error: Exception) -> Exception:
    if isinstance(error, OtherBytesError):
        return MirrorRefusedError(
            f"mirror: {url} never has the MD5 of the list: {error}: take another mirror, or tell who keeps this one"
        )
    return MirrorError(
        f"{url}: tries one after the other brought nothing more; the last one: "
        f"{type(error).__name__}: {error}: look at the mirror, or try again later"
    )
