"""What the scheduled nights ask, and when: from two environment variables of Airflow's processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param
from pydantic import ValidationError

from shardmill.specs.shard_runs import NightlySpec
from shardmill_airflow.forms import form_of

CRON = "SHARDMILL_NIGHTLY_CRON"
ASKED = "SHARDMILL_NIGHTLY"
AT_TWO = "0 2 * * *"
BUT_BACKFILLS: Any = ("scheduled", "manual", "operator_triggered", "asset_materialization")
"""Airflow's backfills by date do not heed max_active_runs: several nights would do the same shards at once."""


def nightly_timetable(environment: Mapping[str, str] = os.environ) -> CronTriggerTimetable:
    """Give the times of the nights, in UTC; unpausing the DAG makes no run for the night before."""
    return CronTriggerTimetable(environment.get(CRON) or AT_TWO, timezone="UTC", run_immediately=timedelta(0))


def nightly_form(environment: Mapping[str, str] = os.environ) -> dict[str, Param]:
    """Make the form with the defaults that the installation names, as JSON of fields; scheduled runs ask these.

    Raises:
        ValueError: naming the variable, and what is wrong with it.
    """
    form = form_of(NightlySpec)
    try:
        given = json.loads(environment.get(ASKED) or "{}")
        # As the spec reads it: a form takes no text for a number.
        asked = NightlySpec.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ValueError(f"{ASKED}: {wrong}") from error
    except ValueError as error:
        raise ValueError(f"{ASKED}: expected JSON of the fields of nightly_reprocess: {error}") from error
    for name in form.keys() & given.keys():
        form[name].value = getattr(asked, name)
    return form
