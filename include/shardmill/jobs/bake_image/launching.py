"""Launch the instance that an image is baked on, or join the one that an earlier try launched."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shardmill.adapters import baking
from shardmill.adapters.store import Store
from shardmill.core import bake_requests
from shardmill.core.planning import BadRequestError
from shardmill.jobs.bake_image.opened import LAUNCH, SCRIPT, OpenBake, shipped

_SIGNED_SLACK_SECONDS = 3600
_LONGEST_SIGNED_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Started:
    """An instance that works, or has worked, on an image."""

    instance_id: str
    attempt: int
    gone_by: float
    """When it shuts itself down, seconds since the epoch."""
    line: str


def start(opened: OpenBake, s3: Any) -> Started:
    """Join an instance that an earlier try launched, or launch one.

    Args:
        opened: the bake.
        s3: signs the URLs by which the instance, without any credentials, gets its list and tells its result.
    """
    attempt = 0
    for builder in baking.builders(opened.ec2, opened.plan.name):
        attempt = max(attempt, builder.attempt)
        result = opened.result(builder.attempt)
        if builder.is_there and (result is None or result.ok):
            line = f"joined {builder.instance_id} (attempt {builder.attempt}), which is {builder.state}"
            return Started(builder.instance_id, builder.attempt, _latest(opened), line)
    while opened.result(attempt + 1) is not None or _is_stale(opened, attempt + 1):
        attempt += 1  # of an instance that EC2 has forgotten, or never took in
    return launch(opened, attempt + 1, s3)


def _latest(opened: OpenBake) -> float:
    return (datetime.now(UTC) + timedelta(hours=opened.plan.asked.max_hours)).timestamp()


def _is_stale(opened: OpenBake, attempt: int) -> bool:
    """Say whether a launch was written down so long ago that its signed URLs may end before its instance."""
    written = opened.lake.head(opened.key(attempt, LAUNCH))
    return written is not None and time.time() - written.modified > _SIGNED_SLACK_SECONDS / 2


def launch(opened: OpenBake, attempt: int, s3: Any) -> Started:
    """Launch by a request that is written down first: with the same token, EC2 takes the very same one only."""
    key = opened.key(attempt, LAUNCH)
    opened.lake.put_new(key, json.dumps(_request(opened, attempt, s3)).encode())
    request = json.loads(opened.lake.get(key))
    instance_id = baking.launch(opened.ec2, request)
    deadline = datetime.fromisoformat(bake_requests.deadline_of(request))
    line = f"launched {instance_id} (attempt {attempt}), which goes down by {deadline:%Y-%m-%d %H:%M} UTC"
    return Started(instance_id, attempt, deadline.timestamp(), line)


def _request(opened: OpenBake, attempt: int, s3: Any) -> dict[str, Any]:
    plan, lake = opened.plan, opened.lake
    seconds = round(plan.asked.max_hours * 3600)
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    holds = min(seconds + _SIGNED_SLACK_SECONDS, _LONGEST_SIGNED_SECONDS)
    result = lake.uri_of(opened.key(attempt, "result.json"))
    script = bake_requests.user_data(
        shipped(SCRIPT),
        {
            "LOCK_URL": baking.signed(s3, lake.uri_of(opened.lock_key), "get_object", holds),
            "WHEELS_URL": _wheels_page(opened, attempt, s3, holds),
            "RESULT_URL": baking.signed(s3, result, "put_object", holds),
            "GPU": "yes" if plan.gpu else "no",
            "MINUTES": str(math.ceil(seconds / 60)),
        },
    )
    return bake_requests.launch_request(plan, script, attempt, deadline.isoformat(timespec="seconds"))


def _wheels_page(opened: OpenBake, attempt: int, s3: Any, holds: int) -> str:
    """Put up a page of signed links to the wheels that were named; give its own, or nothing where none were."""
    if not opened.plan.asked.wheels:
        return ""
    folder = Store(opened.plan.asked.wheels, opened.lake.settings)
    wheels = [item.key for item in folder.files() if item.key.endswith(".whl")]
    if not wheels:
        raise BadRequestError(f"wheels: {folder.uri} holds no .whl")
    links = {name: baking.signed(s3, folder.uri_of(name), "get_object", holds) for name in wheels}
    key = opened.key(attempt, "wheels.html")
    opened.lake.put(key, bake_requests.links_page(links).encode())
    return baking.signed(s3, opened.lake.uri_of(key), "get_object", holds, ResponseContentType="text/html")
