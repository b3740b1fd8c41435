"""The dates of a data set's shards, as Airflow's backfill by date takes them."""

from __future__ import annotations

from typing import Any

from airflow.timetables.base import DagRunInfo, TimeRestriction
from airflow.timetables.trigger import CronPartitionTimetable

MIDNIGHT, A_DATE = "0 0 * * *", "%Y-%m-%d"


class ShardDates(CronPartitionTimetable):
    """Days in UTC, each a partition: ``airflow backfill create`` makes a run for each, and none comes by itself.

    A cron that never comes would not do: no run could be backfilled either.
    """

    description = "Only when it is asked for: by hand, or by Airflow's backfill by date"

    def __init__(self) -> None:
        super().__init__(MIDNIGHT, timezone="UTC", key_format=A_DATE)

    @property
    def summary(self) -> str:
        """What the UI shows as the schedule."""
        return "by hand, or by date"

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Tell the scheduler that no run is due; backfills do not ask here."""
        return None

    def serialize(self) -> dict[str, Any]:
        """Keep nothing: all of them are the same."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ShardDates:
        """Make it again."""
        return cls()
