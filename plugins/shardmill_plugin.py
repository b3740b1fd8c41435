"""All that Airflow's plugin scan sees; the package beside it is hidden by .airflowignore."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class ShardmillPlugin(AirflowPlugin):
    name = "shardmill"
