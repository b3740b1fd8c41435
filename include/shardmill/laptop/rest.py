"""Airflow's REST API, as much of it as the demo and the tests need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

ENDED = ("success", "failed")
PAGE = 100
TRIES = 4


@dataclass(frozen=True)
class TaskState:
    """A task instance as the API shows it."""

    task: str
    map_index: int
    state: str
    try_number: int
    seconds: float

    @property
    def name(self) -> str:
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


class AirflowApi:
    """A client that logs in by itself. A held resource: use it in a with block."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._login = {"username": user, "password": password}
        self._client = httpx.Client(base_url=url, timeout=30.0, trust_env=False)

    def __enter__(self) -> AirflowApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def is_healthy(self) -> bool:
        """Say whether the API server answers and all its companions report themselves healthy."""
        try:
            answer = self._client.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if answer.status_code != httpx.codes.OK:
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(answer.json()[part]["status"] == "healthy" for part in parts)

    def has_dag(self, dag_id: str) -> bool:
        """Say whether a DAG was read and may be triggered: one of an earlier time is stale until it is read again."""
        found = self._send("GET", f"/api/v2/dags/{dag_id}", allow_missing=True)
        return found is not None and not found["is_stale"]

    def trigger(self, dag_id: str, conf: Mapping[str, Any], run_id: str | None = None) -> str:
        """Trigger a run; give its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf)}
        if run_id:
            body["dag_run_id"] = run_id
        return str(self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Give the state of a run."""
        return str(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        """List the task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?order_by=start_date&limit={PAGE}"
        items: list[dict[str, Any]] = []
        while True:
            page = self._send("GET", f"{path}&offset={len(items)}")
            items += page["task_instances"]
            if not page["task_instances"] or len(items) >= page["total_entries"]:
                break
        return [
            TaskState(
                task=item["task_id"],
                map_index=item["map_index"],
                state=item["state"] or "none",
                try_number=item["try_number"],
                seconds=float(item["duration"] or 0),
            )
            for item in items
        ]

    def log_lines(self, dag_id: str, run_id: str, task: TaskState) -> Iterator[str]:
        """Read the log of a task's last try, line by line."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task}/logs/{max(1, task.try_number)}"
        answer = self._send("GET", f"{path}?map_index={task.map_index}&full_content=true")
        for entry in answer["content"]:
            yield from _readable(entry)

    def xcom(self, dag_id: str, run_id: str, task: str, key: str) -> Any:
        """Give a value that a task left behind; None where it left none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/{key}?deserialize=true"
        found = self._send("GET", path, allow_missing=True)
        return found["value"] if found else None

    def clear_run(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a run, so that each runs again."""
        self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/clear", {"dry_run": False, "only_failed": False})

    def set_task_state(self, dag_id: str, run_id: str, task: str, state: str) -> None:
        """Mark a task as a person would in the UI."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}"
        self._send("PATCH", path, {"new_state": state})

    def _send(self, method: str, path: str, body: Any = None, *, allow_missing: bool = False) -> Any:
        answer = self._request(method, path, body)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            token = self._client.post("/auth/token", json=self._login).raise_for_status().json()["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
            answer = self._request(method, path, body)
        if allow_missing and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}", request=answer.request, response=answer
            )
        return answer.json()

    def _request(self, method: str, path: str, body: Any) -> httpx.Response:
        """Send a request; one that only reads is sent again where a busy server did not answer in time."""
        for left in reversed(range(TRIES if method == "GET" else 1)):
            try:
                return self._client.request(method, path, json=body)
            except httpx.TransportError:
                if not left:
                    raise
        raise AssertionError("unreachable")


def _readable(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    yield str(entry.get("event", ""))
    for detail in entry.get("error_detail") or ():
        yield f"{detail.get('exc_type')}: {detail.get('exc_value')}"
    extra = {key: value for key, value in entry.items() if key in ("exception", "error") and value}
    if extra:
        yield json.dumps(extra)
