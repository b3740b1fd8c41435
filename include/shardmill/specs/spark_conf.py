"""Settings of Spark as people write them in a form: ``spark.executor.memory=8g; spark.locality.wait=0s``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_KEY = re.compile(r"spark\.[A-Za-z0-9.]+")
_VALUE = re.compile(r"[A-Za-z0-9._:,/%+=-]{1,200}")
"""Sizes, times and names; YARN starts executors by a shell that has some settings among its arguments."""
_REFUSED = {
    "spark.master": "it is YARN",
    "spark.submit.": "the step submits the job in its own way",
    "spark.app.name": "the step has a name by which a retry finds it",
    "spark.dynamicAllocation.": "a job needs all of its executors for as long as it runs",
    "spark.speculation": "the job decides whether a task may be copied",
    "spark.task.maxFailures": "the job decides how often a task is tried",
    "spark.python.worker.reuse": "the job decides it",
    "spark.pyspark.": "driver and executors must have the Python that the packages were installed for",
    "spark.files": "the step ships what the job needs",
    "spark.archives": "the step ships what the job needs",
    "spark.eventLog.": "the project says where event logs lie",
}
"""What the form may not set: the job or the request sets it, so that it would be overruled in silence or break both."""


_TAKEN = (
    "spark.broadcast.blockSize",
    "spark.cleaner.",
    "spark.default.parallelism",
    "spark.driver.cores",
    "spark.driver.maxResultSize",
    "spark.driver.memory",
    "spark.excludeOnFailure.",
    "spark.executor.cores",
    "spark.executor.heartbeatInterval",
    "spark.executor.instances",
    "spark.executor.memory",
    "spark.locality.",
    "spark.memory.",
    "spark.network.",
    "spark.reducer.",
    "spark.rdd.compress",
    "spark.rpc.",
    "spark.scheduler.",
    "spark.sql.adaptive.",
    "spark.sql.execution.arrow.",
    "spark.sql.shuffle.partitions",
    "spark.stage.",
    "spark.storage.",
    "spark.task.cpus",
)
"""What it may: sizes, times and patience. Others can load code into the nodes, which have the rights of their role:
that is not for everybody who may start a run."""


def parse_spark_conf(text: str) -> dict[str, str]:
    """Read ``key=value`` settings, divided by semicolons or line ends.

    Raises:
        ValueError: an entry is none, comes twice, or is not the form's to set.
    """
    found: dict[str, str] = {}
    for entry in re.split(r"[;\n]", text):
        if not entry.strip():
            continue
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(
                "expected spark.name=value; spark.other=value, a value of letters, digits and . _ : , / % + = - only, "
                f"found {entry.strip()!r}"
            )
        if why := next((why for start, why in _REFUSED.items() if key.startswith(start)), None):
            raise ValueError(f"{key} cannot be set here: {why}")
        if not key.startswith(_TAKEN):
            raise ValueError(f"{key} cannot be set here: only {', '.join(name.rstrip('.') for name in _TAKEN)}")
        if key in found:
            raise ValueError(f"{key} is given twice")
        found[key] = value
    return found


def _check(text: str) -> str:
    parse_spark_conf(text)
    return text.strip()


SparkConf = Annotated[str, AfterValidator(_check)]
