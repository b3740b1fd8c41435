"""What a run's clusters came to in the end, as EMR tells it."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.value import Sealed, Spec


class SpentStep(Spec):
    """A step of a cluster."""

    name: str
    state: str
    hours: float | None = None
    """From its start to its end, or until it was looked at; None where it never started."""


class SpentCluster(Spec):
    """A cluster that a run has had."""

    work: str
    """What it did for the run."""
    id: str
    state: str
    reason: str = ""
    """Why it is in that state, in EMR's words."""
    created: str
    """ISO 8601 in UTC."""
    ready: str = ""
    """When it was up; empty where it never was."""
    ended: str = ""
    """Empty where it was alive when it was looked at."""
    hours: float = Field(ge=0)
    """From its making to its end, or until it was looked at."""
    node_hours: dict[str, float] = Field(default_factory=dict)
    """Hours of all nodes of a type together (`m5.xlarge`, or `m5.xlarge spot`), each from its launch to its end."""
    steps: tuple[SpentStep, ...] = ()
    usd: float = 0.0
    """Node hours at the prices of the plan, as far as they are known."""
    unknown: tuple[str, ...] = ()
    """Types of nodes whose hours have no price."""


class RunSpent(Sealed):
    """What a run's clusters came to, stored as ``runs/<run>/spent.json`` by the run's report.

    A report that is made again adds clusters that came since; one that EMR has forgotten stays.
    """

    clusters: tuple[SpentCluster, ...]
    looked: str
    """When EMR was asked, ISO 8601 in UTC."""

    @property
    def usd(self) -> float:
        """Of all clusters, as far as prices are known."""
        return sum(cluster.usd for cluster in self.clusters)

    @property
    def alive(self) -> tuple[SpentCluster, ...]:
        """The clusters that had not ended."""
        return tuple(cluster for cluster in self.clusters if not cluster.ended)
