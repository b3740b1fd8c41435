"""EMR's security configurations: named JSON texts, of which a cluster names one. What they ask for is not applied."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from shardmill.localcloud.request_refused import RefusedError

Request = Mapping[str, Any]
Answer = dict[str, Any]


class SecurityConfigurations:
    """Those of the account, and the operations on them by name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Answer] = {}
        self.operations: dict[str, Callable[[Request], Answer]] = {
            "CreateSecurityConfiguration": self.create,
            "DescribeSecurityConfiguration": lambda request: dict(self.find(request["Name"])),
            "ListSecurityConfigurations": self.list_all,
            "DeleteSecurityConfiguration": self.delete,
        }

    def find(self, name: str) -> Answer:
        """Give a configuration. Raises RefusedError where there is none of this name."""
        with self._lock:
            found = self._known.get(name)
        if found is None:
            raise RefusedError(f"Security configuration with name '{name}' does not exist.", "InvalidRequestException")
        return found

    def create(self, request: Request) -> Answer:
        """Keep a configuration."""
        name, text = request["Name"], request["SecurityConfiguration"]
        try:
            json.loads(text)
        except ValueError as error:
            raise RefusedError(f"The security configuration is no JSON: {error}", "InvalidRequestException") from error
        made = {"Name": name, "CreationDateTime": self._clock()}
        with self._lock:
            if name in self._known:
                raise RefusedError(
                    f"Security configuration with name '{name}' already exists.", "InvalidRequestException"
                )
            self._known[name] = {**made, "SecurityConfiguration": text}
        return made

    def list_all(self, request: Request) -> Answer:
        """List names and times."""
        with self._lock:
            known = list(self._known.values())
        return {"SecurityConfigurations": [{key: one[key] for key in ("Name", "CreationDateTime")} for one in known]}

    def delete(self, request: Request) -> Answer:
        """Forget a configuration."""
        self.find(request["Name"])
        with self._lock:
            self._known.pop(request["Name"], None)
        return {}
