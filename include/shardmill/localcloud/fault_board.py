"""The faults that are switched on, shared by the API's threads and the agent; and the page that switches them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from werkzeug.wrappers import Request, Response

from shardmill.localcloud.emr_state import ACTIVE_STEP, Cluster, Step
from shardmill.localcloud.fault_state import (
    Fault,
    FaultKind,
    FaultsError,
    Occasion,
    SwitchedOn,
    read_faults,
    strike,
    write_faults,
)


class FaultBoard:
    """The faults that are on; none from the start."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._faults: tuple[SwitchedOn, ...] = ()
        self._lock = threading.Lock()

    def switch_on(self, faults: Iterable[Fault]) -> None:
        """Put these in place of those that were on."""
        now = self._clock()
        with self._lock:
            self._faults = tuple(SwitchedOn(fault, now) for fault in faults)

    def listed(self) -> list[dict[str, Any]]:
        """List what is on, with how often each struck."""
        with self._lock:
            return write_faults(self._faults, self._clock())

    def strikes(self, occasion: Occasion) -> Fault | None:
        """Give the fault that strikes on this occasion, and count it."""
        with self._lock:
            self._faults, fault = strike(self._faults, occasion, self._clock())
            return fault

    def strikes_call(self, kind: FaultKind, operation: str) -> Fault | None:
        """Give the fault that strikes a call of the API."""
        return self.strikes(Occasion(kind, operation=operation))

    def strikes_cluster(self, kind: FaultKind, cluster: Cluster) -> Fault | None:
        """Give the fault that strikes a cluster as it is now."""
        runs = bool(cluster.steps_in(ACTIVE_STEP))
        return self.strikes(Occasion(kind, cluster.id, str(cluster.request["Name"]), step_runs=runs))

    def strikes_step(self, kind: FaultKind, cluster: Cluster, step: Step) -> Fault | None:
        """Give the fault that strikes a step which is about to start."""
        return self.strikes(Occasion(kind, cluster.id, str(cluster.request["Name"]), step.id, step.name))


class FaultsApp:
    """A WSGI application: GET lists the faults, PUT replaces them by the JSON list that it is sent."""

    def __init__(self, board: FaultBoard, operations: Sequence[str]) -> None:
        self._board = board
        self._operations = tuple(operations)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "PUT"):
            return Response("Expected GET or PUT.\n", 405, {"Allow": "GET, PUT"})
        if request.method == "PUT":
            try:
                self._board.switch_on(read_faults(json.loads(request.get_data()), self._operations))
            except (FaultsError, ValueError) as error:
                return Response(f"{error}\n", 400)
        return Response(json.dumps(self._board.listed()), content_type="application/json")
