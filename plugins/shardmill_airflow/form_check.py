"""Looks at a form when its run is asked for: what cannot be used is told there, all of it, and no run is made.

Airflow itself looks at each field alone, tells the first mistake only, and tells it as a pattern of characters.
Whoever asks is known first: a form is neither received nor looked at before Airflow lets them trigger the DAG.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from shardmill.specs.mistakes import MistakesError, read_spec, shortened
from shardmill.specs.value import Spec

log = logging.getLogger(__name__)
FORMS = {
    "backfill_shards": "shard_runs:BackfillSpec",
    "bake_gpu_ami": "image:ImageSpec",
    "collect_garbage": "garbage:GarbageSpec",
    "nightly_reprocess": "shard_runs:NightlySpec",
    "reap_clusters": "reaping:ReapSpec",
    "train_on_records": "train_on_records:TrainOnRecordsSpec",
    "video_pipeline": "video_pipeline:VideoPipelineSpec",
}
"""Module and class of the spec behind the form of each DAG of the project; other DAGs are not looked at."""
LARGEST_BODY = 64_000
"""Bytes; a larger request is Airflow's own to look at, and the run's first task looks at its form."""
LONGEST_LOG = 2000
"""Characters of a wrong form's mistakes that are logged."""
_TRIGGER = re.compile(r".*/api/v2/dags/([a-z0-9_]{1,100})/dagRuns/?")
_REFUSED = b'{"refused": "by its form"}'
"""A body that Airflow takes from nobody: it answers 422 to who may trigger the DAG, and 401 or 403 to others."""
_OF_THE_BODY = {b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def spec_of(dag_id: str) -> type[Spec] | None:
    """Give the spec behind a DAG's form; None for a DAG that is none of the project's."""
    if dag_id not in FORMS:
        return None
    module, _, name = FORMS[dag_id].partition(":")
    spec: type[Spec] = getattr(importlib.import_module(f"shardmill.specs.{module}"), name)
    return spec


def what_is_wrong(dag_id: str, body: bytes) -> str:
    """Say what cannot be used in a request to trigger a DAG; empty where nothing is wrong, or Airflow will say it."""
    spec = spec_of(dag_id)
    if spec is None:
        return ""
    from shardmill_airflow.forms import filled_in, told

    try:
        conf = json.loads(body).get("conf") or {}
        read_spec(spec, filled_in(conf))
    except MistakesError as error:
        return told(spec, error.mistakes)
    except (ValueError, AttributeError, RecursionError):
        pass  # no request at all: that is Airflow's to say
    return ""


class FormCheck:
    """Middleware of the API server that answers a wrong form with all that is wrong with it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        match = _TRIGGER.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if match is None or match[1] not in FORMS:
            await self.app(scope, receive, send)
        elif await self._may_trigger(scope, send):
            received = await _read(receive)
            wrong = await _look(match[1], b"".join(message.get("body", b"") for message in received))
            if wrong:
                await _refuse(send, wrong)
            else:
                await self.app(scope, _replay(received, receive), send)

    async def _may_trigger(self, scope: MutableMapping[str, Any], send: Send) -> bool:
        """Ask Airflow, by a body that it takes from nobody; where it answers anything but 422, that is the answer."""
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_THE_BODY]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(_REFUSED)).encode())]
        probe = _Probe(send)
        await self.app({**scope, "headers": headers}, probe.receive, probe.answer)
        return probe.status == 422


async def _look(dag_id: str, body: bytes) -> str:
    """Look at a form beside the event loop, which serves others meanwhile."""
    wrong = await asyncio.to_thread(what_is_wrong, dag_id, body) if len(body) <= LARGEST_BODY else ""
    if wrong:
        # What was sent stands in it: no character of it may begin a line, or hide one.
        log.info("refused to trigger %s: %s", dag_id, ascii(shortened(wrong, LONGEST_LOG)))
    return wrong


async def _refuse(send: Send, wrong: str) -> None:
    body = json.dumps({"detail": wrong}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> list[Message]:
    """Take what there is of a body, up to a little more than is looked at."""
    received: list[Message] = []
    size = 0
    while size <= LARGEST_BODY:
        message = await receive()
        received.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return received


def _replay(received: list[Message], receive: Receive) -> Receive:
    left = iter(received)

    async def again() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return again


class _Probe:
    """A request with a body of our own. An answer of 422 is kept back; any other, such as 401, goes on as it is."""

    def __init__(self, send: Send) -> None:
        self.send, self.status = send, 0
        self.sent, self.over = False, asyncio.Event()

    async def receive(self) -> Message:
        """Give our body, and no message of the true request: that is for the app's next call."""
        if not self.sent:
            self.sent = True
            return {"type": "http.request", "body": _REFUSED, "more_body": False}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if self.status != 422:
            await self.send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.over.set()
