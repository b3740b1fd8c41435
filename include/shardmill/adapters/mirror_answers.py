"""What a mirror answers, and how far a file has come by it: which bytes fit behind which, and what is no use."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import httpx

from shardmill.core.planning import BadRequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\.[A-Za-z0-9_-]{1,20}){0,2}")
"""Of a published file: it becomes part of a URL and of a key in the lake."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
MOST_BYTES = 64 * 1024**3
"""A longer file is not what it should be."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others soon."""


class MirrorRefusedError(BadRequestError):
    """A mirror answers in a way that another try will not change; names the address."""


@dataclass
class Progress:
    """How far the file is that is being fetched."""

    file: BinaryIO
    digest: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    position: int = 0
    furthest: int = 0
    validator: str = ""
    """Strong ETag or date of the version that is being read; a range of another one is refused by it."""
    size: int | None = None
    """Of the whole, as the server says."""

    def restart(self) -> None:
        """Forget what was read: it is of another version, or the server sends the file from its start."""
        self.file.seek(0)
        self.file.truncate()
        self.digest = hashlib.md5(usedforsecurity=False)
        self.position, self.validator, self.size = 0, "", None

    def take(self, chunk: bytes) -> None:
        """Write and hash the next bytes."""
        if self.position + len(chunk) > MOST_BYTES:
            raise MirrorRefusedError(f"mirror: a file longer than {MOST_BYTES} bytes is no file of records")
        self.file.write(chunk)
        self.digest.update(chunk)
        self.position += len(chunk)


class PassingError(Exception):
    """What may be otherwise at the next try."""

    def __init__(self, why: str, *, pause_seconds: float = 0.0, failures: int = 1) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds
        """As the server asks."""
        self.failures = failures
        """As how many it counts: it is dear to fetch a whole file once more."""


class OtherBytesError(PassingError):
    """A whole file came, and is not that of the list; once more it may be, again and again it will not."""


def settle_start(answer: httpx.Response, progress: Progress) -> None:
    """See where the bytes of an answer belong: behind what is there, or at the start of it all."""
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        span = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        whole = None if span is None or span[3] == "*" else int(span[3])
        same = progress.size is None or whole is None or whole == progress.size
        if span is None or int(span[1]) != progress.position or not same:
            progress.restart()
            raise PassingError(f"asked for other bytes than {answer.headers.get('Content-Range')!r}")
        progress.size = whole or progress.size
        progress.validator = progress.validator or _validator(answer)
        return
    if progress.position:  # the server knows no ranges, or has another version by now
        progress.restart()
    progress.size = int(length) if length.isdigit() else None
    progress.validator = _validator(answer)


def _validator(answer: httpx.Response) -> str:
    """Give what names the version of an answer; a weak ETag names none byte by byte."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


def check_status(answer: httpx.Response, url: str) -> None:
    """Take an answer that brings bytes. Raises PassingError, or MirrorRefusedError where another try is no use."""
    status = answer.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if status in PASSING:
        after = answer.headers.get("Retry-After", "")
        raise PassingError(f"the mirror answers {status}", pause_seconds=float(after) if after.isdigit() else 0.0)
    if answer.is_redirect or status in (301, 302, 303, 307, 308):
        target = answer.headers.get("Location", "elsewhere")
        raise MirrorRefusedError(
            f"mirror: {url} leads to {target[:200]}: redirects are not followed, give the address behind it"
        )
    remedies = {401: "no right to it", 403: "no right to it", 404: "there is no such file", 410: "it is gone"}
    raise MirrorRefusedError(
        f"mirror: {url} answers {status} ({remedies.get(status, answer.reason_phrase)}): check the address, the "
        "partition and the list of files"
    )


def parse_list(content: bytes, url: str) -> dict[str, str]:
    """Read a list of files: JSON whose ``files`` gives the MD5 of each by its name.

    Raises:
        MirrorRefusedError: it is none, or a name or an MD5 is not one.
    """
    try:
        files = json.loads(content)["files"]
        found = {str(name): str(md5).lower() for name, md5 in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MirrorRefusedError(
            f'plans: expected {{"files": {{"name": "MD5"}}}} at {url}, found {content[:60]!r}…'
        ) from error
    for name, md5 in found.items():
        if NAME.fullmatch(name) is None or _MD5.fullmatch(md5) is None:
            raise MirrorRefusedError(f"plans: {url} lists {name[:120]!r} with the MD5 {md5[:40]!r}: no name or no MD5")
    return found
