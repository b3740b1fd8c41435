"""How many tasks a backfill may have at work at once: an environment variable of Airflow's processes."""

from __future__ import annotations

import os
from collections.abc import Mapping

TASKS = "SHARDMILL_BACKFILL_TASKS"
FOUR = 4


def tasks_at_once(environment: Mapping[str, str] = os.environ) -> int:
    """Read the number. Raises ValueError naming the variable."""
    text = environment.get(TASKS) or str(FOUR)
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise ValueError(f"{TASKS}: expected a number of tasks from 1 to 1000, found {text!r}")
    return int(text)
