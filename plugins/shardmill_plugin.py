"""All that Airflow's plugin scan sees; the package beside it is hidden by .airflowignore."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from shardmill_airflow.deadlines import RunDeadline
from shardmill_airflow.form_check import FormCheck
from shardmill_airflow.shard_dates import ShardDates


class ShardmillPlugin(AirflowPlugin):
    name = "shardmill"
    deadline_references: ClassVar[list[Any]] = [RunDeadline]
    timetables: ClassVar[list[Any]] = [ShardDates]
    fastapi_root_middlewares: ClassVar[list[Any]] = [{"name": "shardmill forms", "middleware": FormCheck}]
