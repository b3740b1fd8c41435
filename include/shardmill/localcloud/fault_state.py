"""Faults of the local EMR as values: what may be switched on, and which of them strikes on an occasion. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from shardmill.specs.value import Spec

FaultKind = Literal[
    "capacity",
    "bootstrap",
    "throttle",
    "lost_answer",
    "node_lost",
    "terminated",
    "step_failure",
    "step_hang",
    "slow_start",
    "no_spark",
]
_OWN_FIELDS: Mapping[str, frozenset[str]] = {
    "capacity": frozenset(),
    "bootstrap": frozenset({"text"}),
    "throttle": frozenset({"operations", "seconds"}),
    "lost_answer": frozenset({"operations"}),
    "node_lost": frozenset({"all", "during_step"}),
    "terminated": frozenset({"during_step"}),
    "step_failure": frozenset({"step", "status", "text"}),
    "step_hang": frozenset({"step"}),
    "slow_start": frozenset({"seconds"}),
    "no_spark": frozenset({"seconds", "writes", "bootstrap"}),
}
_NO_CLUSTER = ("throttle", "lost_answer")  # a call names its cluster by id, by name, or not at all
_LASTING = ("throttle", "slow_start", "no_spark")
FAULTS_PATH = "/_faults"
"""Where they are switched; no bucket can have this name, so it is nobody else's."""


class FaultsError(ValueError):
    """The list of faults is wrong; the message names the field."""


class Fault(Spec):
    """Something that goes wrong on request. What each kind does is told in docs/local-vs-emr.md."""

    kind: FaultKind
    times: int | None = Field(None, ge=1)
    """How often it strikes; by default once, but ``throttle``, ``slow_start`` and ``no_spark`` until cleared."""
    cluster: str = ""
    """Only clusters of this id, or with this in their name; empty for any."""
    step: str = ""
    """Only steps of this id, or with this in their name; empty for any."""
    operations: tuple[str, ...] = ()
    """Operations of the API that ``throttle`` and ``lost_answer`` meet; empty for all."""
    seconds: float | None = Field(None, ge=0)
    """``throttle``: it ends so long after it was switched on. ``slow_start``: how long a start is held up.
    ``no_spark``: how long each step takes."""
    all: bool = False
    """``node_lost``: every core node at once, and with them the cluster."""
    during_step: bool = False
    """Not before a step runs."""
    status: int = Field(1, ge=1, le=255)
    """Exit status of a ``step_failure``, such as 137 or 143."""
    text: str = Field("", max_length=10_000)
    """What the failing step, or bootstrap action, writes to its stderr."""
    writes: Mapping[str, str] = Field(default_factory=dict)
    """``no_spark``: texts that a step puts, by URI; in both ``{cluster}``, ``{step}``, ``{name}`` and ``{folder}`` (of
    the step's last argument) are filled in."""
    bootstrap: bool = True
    """``no_spark``: whether the cluster's bootstrap actions run."""

    @model_validator(mode="after")
    def _has_the_fields_of_its_kind(self) -> Self:
        shared = {"kind", "times"} | (set() if self.kind in _NO_CLUSTER else {"cluster"})
        foreign = self.model_fields_set - shared - _OWN_FIELDS[self.kind]
        if foreign:
            raise ValueError(f"{self.kind} does not take {', '.join(sorted(foreign))}")
        if self.kind == "slow_start" and self.seconds is None:
            raise ValueError("slow_start: expected seconds, found none")
        return self

    @property
    def limit(self) -> int | None:
        """How often it strikes; None for as long as it is on."""
        return self.times if self.times or self.kind in _LASTING else 1


@dataclass(frozen=True)
class Occasion:
    """When a fault may strike."""

    kind: FaultKind
    cluster_id: str = ""
    cluster_name: str = ""
    step_id: str = ""
    step_name: str = ""
    step_runs: bool = False
    operation: str = ""


@dataclass(frozen=True)
class SwitchedOn:
    """A fault that is on, since when (seconds since the epoch), and how often it struck."""

    fault: Fault
    since: float
    struck: int = 0

    def is_over(self, now: float) -> bool:
        """Whether it strikes no more."""
        spent = self.fault.limit is not None and self.struck >= self.fault.limit
        until = self.fault.seconds if self.fault.kind == "throttle" else None
        return spent or (until is not None and now - self.since >= until)

    def meets(self, occasion: Occasion, now: float) -> bool:
        """Whether it strikes here and now."""
        fault = self.fault
        return (
            fault.kind == occasion.kind
            and not self.is_over(now)
            and (not fault.cluster or fault.cluster == occasion.cluster_id or fault.cluster in occasion.cluster_name)
            and (not fault.step or fault.step == occasion.step_id or fault.step in occasion.step_name)
            and (not fault.operations or occasion.operation in fault.operations)
            and (occasion.step_runs or not fault.during_step)
        )


def strike(faults: Sequence[SwitchedOn], occasion: Occasion, now: float) -> tuple[tuple[SwitchedOn, ...], Fault | None]:
    """Choose the first fault that strikes on an occasion.

    Returns:
        The faults, that one counted; and the one, or None.
    """
    for number, one in enumerate(faults):
        if one.meets(occasion, now):
            counted = replace(one, struck=one.struck + 1)
            return (*faults[:number], counted, *faults[number + 1 :]), one.fault
    return tuple(faults), None


def read_faults(content: Any, operations: Sequence[str]) -> tuple[Fault, ...]:
    """Read a list of faults as JSON has it.

    Args:
        content: the list.
        operations: those that the API has.

    Raises:
        FaultsError: a fault is wrong.
    """
    try:
        faults = TypeAdapter(tuple[Fault, ...]).validate_python(content)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
        raise FaultsError("; ".join(problems)) from error
    unknown = sorted({name for fault in faults for name in fault.operations} - set(operations))
    if unknown:
        raise FaultsError(f"operations: the local EMR does not know {', '.join(unknown)}")
    return faults


def write_faults(faults: Sequence[SwitchedOn], now: float) -> list[dict[str, Any]]:
    """Write faults for JSON: the fields that were given, how often each struck, and whether it is over."""
    return [
        {**one.fault.model_dump(mode="json", exclude_unset=True), "struck": one.struck, "over": one.is_over(now)}
        for one in faults
    ]
