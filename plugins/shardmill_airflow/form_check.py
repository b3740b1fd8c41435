"""Looks at a form when its run is asked for: what cannot be used is told there, all of it, and no run is made.

Airflow itself looks at each field alone, tells the first mistake only, and tells it as a pattern of characters.
Whoever asks is known first: a form is not looked at before Airflow lets them see the DAG.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shardmill.specs.mistakes import Mistake, MistakesError, read_spec, shortened, shown
from shardmill.specs.value import Spec
from shardmill_airflow.date_check import moment, wrong_dates

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
BY_DATE = "backfill_shards"
"""The one DAG of the project that Airflow backfills by date."""
_TRIGGER = re.compile(r"(.*/api/v2/dags/([a-z0-9_]{1,100}))/dagRuns/?")
_BACKFILL = re.compile(r"(.*/api/v2)/backfills/?")
_NO_REQUEST = (ValueError, AttributeError, KeyError, TypeError, OverflowError, RecursionError)
"""What comes of a body that is no request at all: that is Airflow's to say."""
_REFUSED = {"dag_id": BY_DATE, "refused": "by its form"}
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
    try:
        asked = json.loads(body)
        conf, day = asked.get("conf") or {}, asked.get("partition_key") if dag_id == BY_DATE else None
        twice = day and conf.get("date") and conf["date"] != day
        also = (Mistake("date", f"the partition key asks for {shown(day)}: leave it out"),) if twice else ()
        return _what_is_wrong(dag_id, conf | {"date": day} if day else conf, also)
    except _NO_REQUEST:
        return ""


def _what_is_wrong(dag_id: str, conf: dict[str, Any], also: Sequence[Mistake] = ()) -> str:
    """Say what is wrong with a form's values, and what ``also`` is."""
    spec = spec_of(dag_id)
    if spec is None:
        return ""
    from shardmill_airflow.forms import filled_in, told

    mistakes = tuple(also)
    try:
        read_spec(spec, filled_in(conf))
    except MistakesError as error:
        mistakes += error.mistakes
    return told(spec, mistakes) if mistakes else ""


def what_is_wrong_by_date(body: bytes) -> str:
    """Say what cannot be used in a request to backfill dates of shards; empty as for ``what_is_wrong``."""
    try:
        asked = json.loads(body)
        if asked.get("dag_id") != BY_DATE:
            return ""
        # The first of the dates stands for all of them: each run is for one.
        conf = asked.get("dag_run_conf") or {}
        wrong = tuple(wrong_dates(asked, conf, datetime.now(UTC)))
        return _what_is_wrong(BY_DATE, conf | {"date": str(moment(asked["from_date"]).date())}, wrong)
    except _NO_REQUEST:
        return ""


@dataclass(frozen=True)
class _Call:
    """A call of the API that asks for runs."""

    dag_id: str
    dag_path: str
    """Where the API tells of the DAG."""
    by_date: bool = False

    def what_is_wrong(self, body: bytes) -> str:
        return what_is_wrong_by_date(body) if self.by_date else what_is_wrong(self.dag_id, body)


def _call_of(scope: MutableMapping[str, Any]) -> _Call | None:
    """Tell what a request asks for; None where it is none of the project's."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    if match := _BACKFILL.fullmatch(scope["path"]):
        return _Call(BY_DATE, f"{match[1]}/dags/{BY_DATE}", by_date=True)
    match = _TRIGGER.fullmatch(scope["path"])
    return _Call(match[2], match[1]) if match and match[2] in FORMS else None


class FormCheck:
    """Middleware of the API server that answers a wrong form with all that is wrong with it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        call = _call_of(scope)
        if call is None or not await self._may_read(scope, call.dag_path):
            await self.app(scope, receive, send)
            return
        received = await _read(receive)
        wrong = await _look(call, b"".join(message.get("body", b"") for message in received))
        if wrong:
            body = json.dumps(_REFUSED).encode()
            headers = [*_about_the_asker(scope), (b"content-length", str(len(body)).encode())]
            headers.append((b"content-type", b"application/json"))
            refused: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
            await self.app({**scope, "headers": headers}, _replay(refused, receive), _Answer(send, wrong))
        else:
            await self.app(scope, _replay(received, receive), send)

    async def _may_read(self, scope: MutableMapping[str, Any], path: str) -> bool:
        """Ask Airflow for the DAG in the name of who asks: it answers 200 to those who may see it.

        Of reading, unlike of triggering, Airflow's audit log takes no note.
        """
        probe = _Probe()
        asked = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self.app({**scope, **asked, "headers": _about_the_asker(scope)}, probe.receive, probe.answer)
        return probe.status == 200


def _about_the_asker(scope: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name not in _OF_THE_BODY]


async def _look(call: _Call, body: bytes) -> str:
    """Look at a form beside the event loop, which serves others meanwhile."""
    wrong = await asyncio.to_thread(call.what_is_wrong, body) if len(body) <= LARGEST_BODY else ""
    if wrong:
        # What was sent stands in it: no character of it may begin a line, or hide one.
        log.info("refused to trigger %s: %s", call.dag_id, ascii(shortened(wrong, LONGEST_LOG)))
    return wrong


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
    """A request without a body, of whose answer the status is kept."""

    def __init__(self) -> None:
        self.status = 0
        self.sent, self.over = False, asyncio.Event()

    async def receive(self) -> Message:
        """Give no message of the true request: they are for the app's next call."""
        if not self.sent:
            self.sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body"):
            self.over.set()


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
