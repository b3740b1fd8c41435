"""Decide whether an account can carry a run's clusters, from what it said of itself; nothing is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardmill.core.account import Account, Bucket, Findings, Needs, Role, Subnet, Unanswered
from shardmill.core.requested_nodes import NodeType, node_groups
from shardmill.core.vcpu_quotas import Quota, quota_of

__all__ = ["EMR", "Findings", "Needs", "judge"]

EMR = "elasticmapreduce.amazonaws.com"
_SHOWN = 5


def judge(account: Account, needs: Needs) -> Findings:
    """Judge everything, so that all that is wrong is told at once."""
    findings = Findings()
    if needs.requests:
        _judge_release(account, needs, findings)
        _judge_types(account, needs, findings)
        _judge_quotas(account, needs, findings)
        _judge_roles(account, needs, findings)
        _judge_profiles(account, needs, findings)
        _judge_subnets(account, needs, findings)
        _judge_buckets(account, needs, findings)
    return findings


def _some(names: frozenset[str]) -> str:
    shown = sorted(names, reverse=True)
    return ", ".join(shown[:_SHOWN]) + (", …" if len(shown) > _SHOWN else "")


def _judge_release(account: Account, needs: Needs, findings: Findings) -> None:
    labels = needs.named("ReleaseLabel")
    if isinstance(account.releases, Unanswered):
        findings.note("EMR release", [], [account.releases])
        return
    known = account.releases
    wrong = [
        f"release_label: EMR has no release {label} in {account.region}: take one of {_some(known)}"
        for label in sorted(labels - known)
    ]
    findings.note(f"EMR release {', '.join(sorted(labels))}", wrong, [])


def _judge_types(account: Account, needs: Needs, findings: Findings) -> None:
    wrong: list[str] = []
    unanswered: list[Unanswered] = []
    for label in sorted(needs.named("ReleaseLabel")):
        supported = account.supported.get(label, Unanswered("nobody asked"))
        if isinstance(supported, Unanswered):
            unanswered.append(supported)
            continue
        wrong += [
            f"{name}: EMR does not take {found} with {label}: take another type or release"
            for found, name in needs.types.items()
            if found not in supported
        ]
    findings.note(f"EMR takes {', '.join(needs.types)}", wrong, unanswered)
    if isinstance(account.offered, Unanswered):
        findings.note(f"EC2 offers {', '.join(needs.types)}", [], [account.offered])
        return
    missing = [
        f"{name}: EC2 does not offer {found} in {account.region}: take another type or region"
        for found, name in needs.types.items()
        if found not in account.offered
    ]
    findings.note(f"EC2 offers {', '.join(needs.types)} in {account.region}", missing, [])


def _vcpus(request: Mapping[str, Any], types: Mapping[str, NodeType]) -> Mapping[Quota, int]:
    """Give the vCPUs that a cluster needs by quota; of a fleet's types the choice that needs the fewest."""
    needed: dict[Quota, int] = {}
    for group in node_groups(request):
        sizes = [
            (choice.count * types[choice.instance_type].vcpus, quota)
            for choice in group.choices
            if choice.instance_type in types and (quota := quota_of(choice.instance_type, spot=group.spot))
        ]
        if sizes:
            vcpus, quota = min(sizes, key=lambda size: size[0])
            needed[quota] = needed.get(quota, 0) + vcpus
    return needed


def _without_quota(needs: Needs) -> list[Unanswered]:
    names = [
        choice.instance_type
        for _, group in needs.groups
        for choice in group.choices
        if quota_of(choice.instance_type, spot=group.spot) is None
    ]
    return [Unanswered(f"no quota is known that {name} counts against") for name in dict.fromkeys(names)]


def _judge_quotas(account: Account, needs: Needs, findings: Findings) -> None:
    asked = {"quotas of vCPUs": account.quotas, "vCPUs of instance types": account.types}
    unanswered = {what: answer for what, answer in asked.items() if isinstance(answer, Unanswered)}
    if isinstance(account.quotas, Unanswered) or isinstance(account.types, Unanswered):
        for what, answer in unanswered.items():
            findings.note(what, [], [answer])
        return
    running = {} if isinstance(account.running, Unanswered) else account.running
    wrong, right, unknown = [], [], _without_quota(needs)
    for work, request in needs.requests.items():
        for quota, vcpus in _vcpus(request, account.types).items():
            allowed, used = account.quotas.get(quota.code), running.get(quota.code, 0)
            told = f"quota “{quota.name}” ({quota.code})"
            if allowed is None:
                unknown.append(Unanswered(f"the account names no {told}"))
            elif used + vcpus > allowed:
                wrong.append(
                    f"{_quota_field(work, quota)}: the cluster to {work} needs {vcpus} vCPUs of the {told}, which is "
                    f"{allowed:g}, and {used} are in use: ask AWS (Service Quotas, EC2) for more, or take fewer or "
                    "smaller nodes"
                )
            else:
                right.append(f"{vcpus} of {allowed:g} {quota.code}")
    findings.note(f"vCPUs within quota: {', '.join(right)}", wrong, unknown)
    if isinstance(account.running, Unanswered):
        findings.note("vCPUs in use already", [], [account.running])


def _quota_field(work: str, quota: Quota) -> str:
    if quota.spot:
        return "spot_count"
    return "split_count" if work == "split" else "core_count"


def _judge_roles(account: Account, needs: Needs, findings: Findings) -> None:
    for name in sorted(needs.named("ServiceRole")):
        found = account.roles.get(name, Unanswered("nobody asked"))
        wrong = []
        if found is None:
            wrong.append(f"service_role: there is no role {name}: make it (docs/clusters.md), or name another")
        elif isinstance(found, Role) and EMR not in found.trusts:
            wrong.append(
                f"service_role: {name} does not trust {EMR}: add that service to its trust policy, or name another"
            )
        findings.note(f"role {name}", wrong, [found] if isinstance(found, Unanswered) else [])


def _judge_profiles(account: Account, needs: Needs, findings: Findings) -> None:
    for name in sorted(needs.named("JobFlowRole")):
        found = account.profiles.get(name, Unanswered("nobody asked"))
        wrong = []
        if found is None:
            wrong.append(f"instance_profile: there is no instance profile {name}: make it, or name another")
        elif not isinstance(found, Unanswered) and not found:
            wrong.append(f"instance_profile: {name} holds no role: add the role of the nodes to it")
        findings.note(f"instance profile {name}", wrong, [found] if isinstance(found, Unanswered) else [])


def _nodes(request: Mapping[str, Any]) -> int:
    return sum(max(choice.count for choice in group.choices) for group in node_groups(request))


def _judge_subnets(account: Account, needs: Needs, findings: Findings) -> None:
    most = max(_nodes(request) for request in needs.requests.values())
    for name, found in sorted(account.subnets.items()):
        wrong = []
        if found is None:
            wrong.append(f"subnet_id: there is no subnet {name} in {account.region}: name another")
        elif isinstance(found, Subnet) and found.state != "available":
            wrong.append(f"subnet_id: {name} is {found.state}, expected available: wait, or name another")
        elif isinstance(found, Subnet) and found.free_addresses < most:
            wrong.append(
                f"subnet_id: {name} has {found.free_addresses} free addresses, the cluster needs {most}: "
                "name a larger subnet, or take fewer nodes"
            )
        findings.note(f"subnet {name}", wrong, [found] if isinstance(found, Unanswered) else [])


def _judge_buckets(account: Account, needs: Needs, findings: Findings) -> None:
    for name, form_field in needs.buckets.items():
        found = account.buckets.get(name, Unanswered("nobody asked"))
        wrong = []
        if found is None:
            wrong.append(f"{form_field}: there is no bucket {name}: make it, or name another")
        elif isinstance(found, Bucket) and found.region not in ("", account.region):
            wrong.append(
                f"{form_field}: the bucket {name} lies in {found.region}, the clusters run in {account.region}, and "
                "their jobs reach buckets of that region only: take a bucket there"
            )
        findings.note(f"bucket {name}", wrong, [found] if isinstance(found, Unanswered) else [])
