"""What a run's clusters need of an account, what it said of itself, and what came of comparing both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from shardmill.core.requested_nodes import NodeGroup, NodeType, node_groups

_FIELDS = {
    "train": {"MASTER": "master_type", "CORE": "core_type", "TASK": "spot_types"},
    "split": {"MASTER": "master_type", "CORE": "split_type", "TASK": "spot_types"},
}


@dataclass(frozen=True)
class Unanswered:
    """A question that the account did not answer."""

    why: str


Value = TypeVar("Value")
Answer: TypeAlias = Value | Unanswered


@dataclass(frozen=True)
class Role:
    """A role of IAM."""

    trusts: frozenset[str]
    """Services that may take it."""


@dataclass(frozen=True)
class Subnet:
    """A subnet of EC2."""

    state: str
    free_addresses: int


@dataclass(frozen=True)
class Bucket:
    """A bucket of S3."""

    region: str
    """Empty where nobody said."""


@dataclass(frozen=True)
class Account:
    """What an account said of itself; None where it does not hold what was asked for."""

    region: str
    releases: Answer[frozenset[str]]
    """Labels that EMR offers."""
    supported: Mapping[str, Answer[frozenset[str]]]
    """Instance types that EMR takes, by release label."""
    offered: Answer[frozenset[str]]
    """Of the instance types that were asked for those that EC2 offers in the region."""
    types: Answer[Mapping[str, NodeType]]
    """What EC2 says of instance types."""
    quotas: Answer[Mapping[str, float]]
    """vCPUs that may run at once, by the quota's code."""
    running: Answer[Mapping[str, int]]
    """vCPUs that run now, by the quota's code."""
    roles: Mapping[str, Answer[Role | None]]
    profiles: Mapping[str, Answer[frozenset[str] | None]]
    """Names of the roles in instance profiles."""
    subnets: Mapping[str, Answer[Subnet | None]]
    buckets: Mapping[str, Answer[Bucket | None]]


@dataclass(frozen=True)
class Needs:
    """What a run's clusters take for granted."""

    requests: Mapping[str, Mapping[str, Any]]
    """Arguments of RunJobFlow, by what the cluster is for."""
    buckets: Mapping[str, str]
    """Fields of the form that name buckets which nodes read or write, by bucket."""

    @property
    def groups(self) -> Iterator[tuple[str, NodeGroup]]:
        """Every group of nodes, each with the field that names its types."""
        for work, request in self.requests.items():
            for group in node_groups(request):
                yield _FIELDS.get(work, {}).get(group.role, group.role), group

    @property
    def types(self) -> Mapping[str, str]:
        """The fields that name instance types, by type."""
        return {choice.instance_type: name for name, group in self.groups for choice in group.choices}

    @property
    def subnets(self) -> frozenset[str]:
        """The subnets that are named."""
        instances = [request["Instances"] for request in self.requests.values()]
        return self.named("Ec2SubnetId") | {name for one in instances for name in one.get("Ec2SubnetIds", ())}

    def named(self, key: str) -> frozenset[str]:
        """Values of one argument over all requests, e.g. of ``ServiceRole``; empty ones left out."""
        found = (request.get(key) or request["Instances"].get(key) for request in self.requests.values())
        return frozenset(value for value in found if value)


@dataclass
class Findings:
    """What came of the checks, for people."""

    refusals: list[str] = field(default_factory=list)
    """Each names the field and says what to do."""
    right: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    """Each says why."""

    def note(self, what: str, wrong: list[str], unanswered: list[Unanswered]) -> None:
        """Take the outcome of a check: it is right only where everything was answered and nothing is wrong."""
        self.refusals += wrong
        self.not_checked += [f"{what}: {why}" for why in dict.fromkeys(one.why for one in unanswered)]
        if not wrong and not unanswered:
            self.right.append(what)
