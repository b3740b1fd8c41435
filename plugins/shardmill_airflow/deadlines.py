"""The deadline of a run: so many hours after it was queued as its form asks, section *Notify*."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk.definitions.deadline import BaseDeadlineReference

log = logging.getLogger(__name__)
FIELD = "notify_after_hours"
WITHIN = timedelta(0)
"""Between the reference and the deadline: the reference says it all."""
MOST_HOURS = 168


@dataclass(eq=False)
class RunDeadline(BaseDeadlineReference):
    """When a run is late, by its own ``notify_after_hours``. The plugin names it to Airflow, which asks it."""

    default_hours: float = 0.0
    """For runs that were triggered without saying; 0 for never."""
    required_kwargs: ClassVar[frozenset[str]] = frozenset({"dag_id", "run_id"})

    def serialize_reference(self) -> dict[str, Any]:
        return {**super().serialize_reference(), "default_hours": self.default_hours}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> RunDeadline:
        return cls(float(reference_data.get("default_hours", 0.0)))

    def _evaluate_with(self, *, session: Any, **kwargs: Any) -> datetime | None:
        """Give the deadline; None for a run that has none. It never raises: a run begins whatever is asked."""
        from airflow.models import DagRun
        from sqlalchemy import select

        try:
            asked = select(DagRun.queued_at, DagRun.conf).filter_by(dag_id=kwargs["dag_id"], run_id=kwargs["run_id"])
            row = session.execute(asked).one_or_none()
            hours = hours_of(row.conf, self.default_hours) if row else 0.0
            return row.queued_at + timedelta(hours=hours) if row and row.queued_at and hours else None
        except Exception as error:  # noqa: BLE001  (a run that has no deadline is better than none)
            log.error("the deadline of %s is not to be told: %s", kwargs.get("run_id"), error)
            return None


def hours_of(conf: Any, default: float) -> float:
    """Read from what a run was triggered with after how many hours it is late; 0 for never."""
    found = conf.get(FIELD, default) if isinstance(conf, dict) else default
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= MOST_HOURS:
        return 0.0
    return float(found)
