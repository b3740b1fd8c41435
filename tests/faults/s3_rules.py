"""Which requests meet which fault at the proxy."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from faults.s3_history import Request

Action = Literal[
    "internal_error",  # 500, nothing reached the server
    "slow_down",  # 503, nothing reached the server
    "hang",  # no answer, nothing reached the server
    "reset",  # the connection breaks, nothing reached the server
    "reset_after",  # the connection breaks after the server has done it
    "hang_after",  # no answer after the server has done it
    "internal_error_after",  # 500 after the server has done it
    "truncate",  # half of a GET's body, with the whole one's length announced
    "truncate_silently",  # half of a GET's body, with its own length announced
    "flip",  # one byte of a GET's body differs
    "flip_request",  # one byte of what a PUT brings differs
    "wrong_etag",  # the answer has another ETag
]


@dataclass(frozen=True)
class Nth:
    """Only the n-th request that matches, from 1; ``times`` of them in a row."""

    number: int = 1
    times: int = 1


@dataclass(frozen=True)
class Share:
    """A share of the requests that match; 1.0 is all of them."""

    share: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Rule:
    """Which requests meet which fault. Empty fields match everything."""

    action: Action
    when: Nth | Share = Nth()
    method: str = ""
    kind: str = ""
    """As of ``Request.kind``: manifest, receipt, part, derived, run, source, list, bucket, other."""
    key: str = ""
    """Regular expression, found anywhere in the key."""
    bucket: str = ""
    query: str = ""
    """Regular expression, found anywhere in the query, e.g. ``partNumber=``."""

    def matches(self, request: Request) -> bool:
        """Tell whether the rule is about this request."""
        return (
            self.method in ("", request.method)
            and self.kind in ("", request.kind)
            and self.bucket in ("", request.bucket)
            and re.search(self.key, request.key) is not None
            and re.search(self.query, request.query) is not None
        )


class CountedRule:
    """A rule and how often it matched."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._matched = 0
        self._random = random.Random(rule.when.seed) if isinstance(rule.when, Share) else None

    def strikes(self, request: Request) -> bool:
        """Count a request that matches, and tell whether it meets the fault."""
        if not self.rule.matches(request):
            return False
        self._matched += 1
        when = self.rule.when
        if isinstance(when, Share):
            assert self._random is not None
            return self._random.random() < when.share
        return when.number <= self._matched < when.number + when.times
