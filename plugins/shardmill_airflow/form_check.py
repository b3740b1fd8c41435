"""Looks at a form when its run is asked for: what cannot be used is told there, all of it, and no run is made.

Airflow itself looks at each field alone, tells the first mistake only, and tells it as a pattern of characters.
"""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import shardmill.specs
from shardmill.specs.mistakes import MistakesError, read_spec
from shardmill.specs.value import Spec

log = logging.getLogger(__name__)
FORMS = {
    "bake_gpu_ami": "image:ImageSpec",
    "collect_garbage": "garbage:GarbageSpec",
    "backfill_shards": "shard_runs:BackfillSpec",
    "nightly_reprocess": "shard_runs:NightlySpec",
    "reap_clusters": "reaping:ReapSpec",
}
"""Module and class of the spec behind a DAG's form; of any other, module and class are named as the DAG is."""
LARGEST_BODY = 1_000_000
"""Bytes; a larger request is Airflow's own to look at, and the run's first task looks at its form."""
_TRIGGER = re.compile(r".*/api/v2/dags/([a-z0-9_]{1,100})/dagRuns/?")
_REFUSED = b'{"refused": "by its form"}'
"""A body that Airflow takes from nobody: it answers 422 to who may trigger the DAG, and 401 or 403 to others."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def spec_of(dag_id: str) -> type[Spec] | None:
    """Give the spec behind a DAG's form; None for a DAG that is none of the project's."""
    known = {module.name for module in pkgutil.iter_modules(shardmill.specs.__path__)}
    words = "".join(word.capitalize() for word in dag_id.split("_"))
    module, _, name = FORMS.get(dag_id, f"{dag_id}:{words}Spec").partition(":")
    found = getattr(importlib.import_module(f"shardmill.specs.{module}"), name, None) if module in known else None
    return found if isinstance(found, type) and issubclass(found, Spec) else None


def what_is_wrong(spec: type[Spec], body: bytes) -> str:
    """Say what cannot be used in a request to trigger a DAG; empty where nothing is wrong, or Airflow will say it."""
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
        spec = spec_of(match[1]) if match else None
        if spec is None:
            await self.app(scope, receive, send)
            return
        received = await _read(receive)
        body = b"".join(message.get("body", b"") for message in received)
        wrong = what_is_wrong(spec, body) if len(body) <= LARGEST_BODY else ""
        if wrong:
            log.info("refused to trigger %s: %s", spec.__name__, wrong)
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            headers.append((b"content-length", str(len(_REFUSED)).encode()))
            refused: list[Message] = [{"type": "http.request", "body": _REFUSED, "more_body": False}]
            await self.app({**scope, "headers": headers}, _replay(refused, receive), _Answer(send, wrong))
        else:
            await self.app(scope, _replay(received, receive), send)


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


class _Answer:
    """Puts what is wrong in the place of Airflow's 422; any other answer, such as 401, goes on as it is."""

    def __init__(self, send: Send, wrong: str) -> None:
        self.send, self.body = send, json.dumps({"detail": wrong}).encode()
        self.ours = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.ours = message["status"] == 422
            if self.ours:
                length = str(len(self.body)).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", length)]
                message = {"type": "http.response.start", "status": 400, "headers": headers}
            await self.send(message)
        elif not self.ours:
            await self.send(message)
        elif not message.get("more_body"):
            await self.send({"type": "http.response.body", "body": self.body})
