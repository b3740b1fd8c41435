"""Airflow's ``@task`` with links into the lake, and mapped tasks that are named by their shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.providers.standard.decorators.short_circuit import _ShortCircuitDecoratedOperator
from airflow.sdk import BaseOperatorLink
from airflow.sdk.bases.decorator import task_decorator_factory

from shardmill_airflow.links import FolderLink, ReportLink

SHARDS = "shards"
"""Key in a task's context under which it names its shards; the UI shows that in the place of a mapped task's index."""
NAMED_BY_SHARDS = f"{{{{ {SHARDS} }}}}"


class LinkedTask(_PythonDecoratedOperator):
    operator_extra_links: Collection[BaseOperatorLink] = (FolderLink(),)


class LinkedShortCircuit(_ShortCircuitDecoratedOperator):
    operator_extra_links: Collection[BaseOperatorLink] = (FolderLink(),)


class ReportTask(_PythonDecoratedOperator):
    operator_extra_links: Collection[BaseOperatorLink] = (ReportLink(), FolderLink())


def task(function: Any = None, *, of: type = LinkedTask, **kwargs: Any) -> Any:
    """Make a task of a function, as ``airflow.sdk.task`` does, with links of its kind."""
    return task_decorator_factory(python_callable=function, decorated_operator_class=of, **kwargs)


def name_of(shards: Sequence[int]) -> str:
    """Name some shards or files in a few words: ``000000..000009``, ``000000..000009 (7)`` where some are left out."""
    if not shards:
        return "none"
    first, last = min(shards), max(shards)
    if len(shards) == 1:
        return f"{first:06d}"
    return f"{first:06d}..{last:06d}" + ("" if last - first + 1 == len(shards) else f" ({len(shards)})")
