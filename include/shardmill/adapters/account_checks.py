"""Ask an account whether it holds what a run's clusters need, before anything is paid for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from shardmill.core.account import Account, Bucket, Needs, Role, Subnet, Unanswered
from shardmill.core.requested_nodes import NodeType
from shardmill.core.vcpu_quotas import quota_of

Client = Callable[[str], Any]
"""Gives a client of boto3 for a service."""
Value = TypeVar("Value")

_NOT_ALLOWED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException", "403")
_NOT_SERVED = ("501", "NotImplemented", "UnknownOperationException", "InvalidAction", "NoSuchResourceException")
_MOST_PAGES = 20
"""Of running instances; in an account with more of them they are not counted."""


def look_at_account(client: Client, needs: Needs) -> Account:
    """Ask for everything that a run's clusters take for granted.

    What may not be asked, or is not served where the account is, is an answer too; anything else is raised.
    """
    emr, ec2, iam, s3 = (client(service) for service in ("emr", "ec2", "iam", "s3"))
    return Account(
        region=emr.meta.region_name,
        releases=answered(_release_labels, emr),
        supported={label: answered(_supported, emr, label) for label in needs.named("ReleaseLabel")},
        offered=answered(_offered, ec2, needs.types),
        types=answered(instance_types, ec2, needs.types),
        quotas=answered(_quotas, client("service-quotas")),
        running=answered(_running, ec2),
        roles={name: answered(_role, iam, name) for name in needs.named("ServiceRole")},
        profiles={name: answered(_profile, iam, name) for name in needs.named("JobFlowRole")},
        subnets={name: answered(_subnet, ec2, name) for name in needs.subnets},
        buckets={name: answered(find_bucket, s3, name) for name in needs.buckets},
    )


def answered(ask: Callable[..., Value], *whom_and_what: Any) -> Value | Unanswered:
    """Ask; give why there is no answer where one may not ask, or where nobody is there to answer."""
    try:
        return ask(*whom_and_what)
    except ClientError as error:
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _NOT_ALLOWED:
            return Unanswered(f"{error.operation_name} is not allowed to whoever asks ({code})")
        if code in _NOT_SERVED or status == 501:
            return Unanswered(f"{error.operation_name} is not served here ({code})")
        raise
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        return Unanswered(f"nobody answers: {error}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _release_labels(emr: Any) -> frozenset[str]:
    page = emr.list_release_labels()
    found = set(page["ReleaseLabels"])
    while token := page.get("NextToken"):
        page = emr.list_release_labels(NextToken=token)
        found |= set(page["ReleaseLabels"])
    return frozenset(found)


def _supported(emr: Any, label: str) -> frozenset[str] | Unanswered:
    try:
        page = emr.list_supported_instance_types(ReleaseLabel=label)
    except ClientError as error:
        if _code(error) not in ("InvalidRequestException", "ValidationException"):
            raise
        return Unanswered(f"EMR has no release {label}")
    found = {each["Type"] for each in page["SupportedInstanceTypes"]}
    while marker := page.get("Marker"):
        page = emr.list_supported_instance_types(ReleaseLabel=label, Marker=marker)
        found |= {each["Type"] for each in page["SupportedInstanceTypes"]}
    return frozenset(found)


def _of_types(names: Iterable[str]) -> list[dict[str, Any]]:
    # A filter, not InstanceTypes=: that refuses all where one is unknown.
    return [{"Name": "instance-type", "Values": sorted(names)}]


def _offered(ec2: Any, names: Iterable[str]) -> frozenset[str]:
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="region", Filters=_of_types(names)
    )
    return frozenset(found["InstanceType"] for page in pages for found in page["InstanceTypeOfferings"])


def instance_types(ec2: Any, names: Iterable[str]) -> Mapping[str, NodeType]:
    """Give what EC2 says of some instance types; one that it does not know is not in the answer."""
    pages = ec2.get_paginator("describe_instance_types").paginate(Filters=_of_types(names))
    return {
        found["InstanceType"]: NodeType(
            found["VCpuInfo"]["DefaultVCpus"], bool(found.get("InstanceStorageSupported", False))
        )
        for page in pages
        for found in page["InstanceTypes"]
    }


def _quotas(service_quotas: Any) -> Mapping[str, float]:
    pages = service_quotas.get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
    return {quota["QuotaCode"]: quota["Value"] for page in pages for quota in page["Quotas"] if "Value" in quota}


def _running(ec2: Any) -> Mapping[str, int] | Unanswered:
    """Give the vCPUs in use by quota: each instance counts with those of its type, whatever it switched off."""
    counts: Counter[tuple[str, bool]] = Counter()
    for number, page in enumerate(_pages_of_instances(ec2)):
        if number == _MOST_PAGES:
            return Unanswered("there are too many instances to count")
        found = (instance for reservation in page["Reservations"] for instance in reservation["Instances"])
        counts.update((each["InstanceType"], each.get("InstanceLifecycle") == "spot") for each in found)
    types = instance_types(ec2, {name for name, _ in counts}) if counts else {}
    used: Counter[str] = Counter()
    for (name, spot), count in counts.items():
        if (quota := quota_of(name, spot=spot)) and name in types:
            used[quota.code] += count * types[name].vcpus
    return used


def _pages_of_instances(ec2: Any) -> Iterator[Mapping[str, Any]]:
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    yield from ec2.get_paginator("describe_instances").paginate(Filters=states, PaginationConfig={"PageSize": 1000})


def _role(iam: Any, name: str) -> Role | None:
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None
    policy = role.get("AssumeRolePolicyDocument") or {}
    return Role(frozenset(_trusted(json.loads(unquote(policy)) if isinstance(policy, str) else policy)))


def _trusted(policy: Mapping[str, Any]) -> Iterator[str]:
    """Give the services that a trust policy lets take the role; what it denies is left to AWS."""
    for statement in _many(policy.get("Statement")):
        principal = statement.get("Principal", {})
        if statement.get("Effect") == "Allow" and isinstance(principal, Mapping):
            yield from _many(principal.get("Service"))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _profile(iam: Any, name: str) -> frozenset[str] | None:
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except iam.exceptions.NoSuchEntityException:
        return None
    return frozenset(role["RoleName"] for role in profile["Roles"])


def _subnet(ec2: Any, name: str) -> Subnet | None:
    try:
        (found,) = ec2.describe_subnets(SubnetIds=[name])["Subnets"]
    except ClientError as error:
        if not _code(error).startswith("InvalidSubnet"):
            raise
        return None
    return Subnet(found["State"], found["AvailableIpAddressCount"])


def find_bucket(s3: Any, name: str) -> Bucket | None:
    """Look at a bucket, and at whether it may be listed; None where there is none."""
    try:
        found = s3.head_bucket(Bucket=name)
        s3.list_objects_v2(Bucket=name, MaxKeys=1)
    except ClientError as error:
        if _code(error) not in ("404", "NoSuchBucket"):
            raise
        return None
    headers = found.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return Bucket(found.get("BucketRegion") or headers.get("x-amz-bucket-region", ""))
