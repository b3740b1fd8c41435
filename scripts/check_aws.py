"""Try a real AWS account with the smallest cluster there is: check, price, make, run a step, end, list what is left.

It costs money, and does nothing without PROFILE, MAX_USD and CONFIRM=yes; DRY_RUN=1 stops after plan and price.
Exit status: 0 all went well; 1 the account is not fit, or something failed; 2 refused before anything was made.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound

from check_aws_cluster import (
    ENDING_MINUTES,
    MOST_HOURS,
    NO_IMAGE,
    NO_LOGS,
    CheckError,
    Paid,
    left_over,
    run_paid,
    smoke_request,
)
from shardmill.adapters.account_checks import instance_types, look_at_account
from shardmill.adapters.emr import EmrError
from shardmill.adapters.prices import read_prices
from shardmill.adapters.reaping import cluster_nodes
from shardmill.adapters.store import Store, StoreError, StoreSettings
from shardmill.core.account_rules import Findings, Needs, judge
from shardmill.core.costs import bill_of
from shardmill.core.reaping import cost_of
from shardmill.core.requested_nodes import NodeType
from shardmill.specs.cluster import ClusterSpec
from shardmill.specs.prices import Prices

YES = ("1", "true", "yes")
ROOT_VOLUME_GIB = 20
ATTEMPTS = 8
"""Of a call that is throttled or not answered, but for those that make something."""


class RefusedError(ValueError):
    """What was asked is not done; names the variable and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do the check; the exit status says how it went."""
    asked = _arguments(argv)
    try:
        prepared = _prepare(asked)
    except ValueError as error:  # of ours, and pydantic's
        print(f"refused, nothing was made: {error}", file=sys.stderr)
        return 2
    except (BotoCoreError, ClientError, StoreError) as error:
        print(f"the account was not looked at, nothing was made: {error}", file=sys.stderr)
        return 1
    if isinstance(prepared, int):
        return prepared
    try:
        return _pay(*prepared)
    except (BotoCoreError, ClientError, StoreError, CheckError, EmrError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make check-aws", description=__doc__)
    for name, meaning in (
        ("profile", "profile of the AWS configuration; credentials of the environment are not taken"),
        ("max-usd", "the most that it may cost"),
        ("confirm", "yes: make the cluster"),
        ("dry-run", "1: stop after plan and price"),
        ("region", "AWS region, where the profile names none"),
        ("lake", "s3://… that nodes can read and write: then the step's script lies there, and the logs"),
        ("prices", "URI of a price file; else the one that comes with Shardmill"),
        ("image", "the account's own cluster image; else EMR's"),
        ("subnet", "subnet of the node; else the account's default"),
    ):
        parser.add_argument(f"--{name}", default="", help=meaning)
    parser.add_argument("--instance-type", default="m5.xlarge")
    parser.add_argument("--release", default="emr-7.13.0")
    parser.add_argument("--service-role", default="EMR_DefaultRole")
    parser.add_argument("--instance-profile", default="EMR_EC2_DefaultRole")
    parser.add_argument("--poll-seconds", type=float, default=15.0)
    return parser.parse_args(argv)


def _prepare(asked: argparse.Namespace) -> int | tuple[Paid, Prices]:
    """Plan, price and check without making anything; give what is to be paid for, or an exit status.

    Raises:
        ValueError: refused; names the variable.
    """
    max_usd, session = _limit(asked.max_usd), _session(asked.profile, asked.region)
    if asked.lake and not asked.lake.startswith("s3://"):
        raise RefusedError(f"LAKE: expected s3://…, found {asked.lake}")
    prices, client = read_prices(asked.prices), _clients(session)
    request = smoke_request(_spec(asked, session.region_name))
    _price(request, prices, session.region_name, max_usd)  # before anybody is asked anything
    most = _price(request, prices, session.region_name, max_usd, instance_types(client("ec2"), [asked.instance_type]))
    for line in _plan(asked, request, session, prices):
        print(line)
    print(f"  it costs at most {most:.2f} USD, allowed are {max_usd:g}")
    findings = _look(asked, client, request)
    for line in _told(findings):
        print(line)
    if findings.refusals:
        return 1
    if asked.dry_run.lower() in YES:
        print("DRY_RUN: nothing was made")
        return 0
    if asked.confirm != "yes":
        raise RefusedError("CONFIRM: this costs money: say CONFIRM=yes")
    return Paid(client, request, _lake(asked, session), _say, asked.poll_seconds), prices


def _say(line: str) -> None:
    print(line, flush=True)


def _limit(text: str) -> float:
    try:
        limit = float(text)
    except ValueError as error:
        raise RefusedError(f"MAX_USD: expected a number such as 2, found {text!r}") from error
    if not (math.isfinite(limit) and limit > 0):
        raise RefusedError(f"MAX_USD: expected a number above 0, found {text}")
    return limit


def _session(profile: str, region: str) -> boto3.Session:
    if not profile:
        raise RefusedError("PROFILE: name a profile of the AWS configuration")
    try:
        session = boto3.Session(profile_name=profile)
    except ProfileNotFound as error:
        raise RefusedError(f"PROFILE: {error}") from error
    known = session.region_name
    if not (known or region):
        raise RefusedError(f"REGION: the profile {profile} names none: name one")
    if known and region and known != region:
        raise RefusedError(f"REGION: {region}, but the profile {profile} says {known}: leave it out, or take another")
    return session if known else boto3.Session(profile_name=profile, region_name=region)


def _clients(session: boto3.Session) -> Callable[..., Any]:
    def client(service: str, attempts: int = 0) -> Any:
        retries: Any = {"total_max_attempts": attempts or ATTEMPTS, "mode": "standard"}
        return session.client(service, config=Config(retries=retries))

    return client


def _spec(asked: argparse.Namespace, region: str) -> ClusterSpec:
    now = datetime.now(UTC)
    name = f"shardmill-check-{now:%Y%m%d-%H%M%S}"
    return ClusterSpec(
        name=name,
        run=name.removeprefix("shardmill-"),
        owner="check-aws",
        release_label=asked.release,
        image_id=asked.image or NO_IMAGE,
        master_type=asked.instance_type,
        core_type=asked.instance_type,
        root_volume_gib=ROOT_VOLUME_GIB if not asked.image else ClusterSpec.model_fields["root_volume_gib"].default,
        log_uri=f"{asked.lake.rstrip('/')}/checks/logs" if asked.lake else NO_LOGS,
        idle_minutes=10,
        service_role=asked.service_role,
        instance_profile=asked.instance_profile,
        subnet_id=asked.subnet,
        region=region,
        deadline=(now + timedelta(hours=MOST_HOURS)).isoformat(timespec="seconds"),
    )


def _price(
    request: dict[str, Any], prices: Prices, region: str, max_usd: float, types: Mapping[str, NodeType] | None = None
) -> float:
    """Give what the cluster costs at most. Refuses what has no price, or is too dear."""
    bill = bill_of(request, prices, region, types)
    if bill.unknown:
        raise RefusedError(
            f"MAX_USD: no price known for {', '.join(bill.unknown)}: name a price file of the region (PRICES=…)"
        )
    hours = MOST_HOURS + ENDING_MINUTES / 60
    most = bill.between((0.0, hours))[1]
    if most > max_usd:
        raise RefusedError(
            f"MAX_USD: {max_usd:g}, but {hours * 60:.0f} minutes of {_type(request)} cost up to {most:.2f}"
        )
    return most


def _type(request: dict[str, Any]) -> str:
    """Name the instance type of the only node."""
    return str(request["Instances"]["InstanceGroups"][0]["InstanceType"])


def _plan(asked: argparse.Namespace, request: dict[str, Any], session: Any, prices: Prices) -> Iterator[str]:
    sts = session.client("sts")
    identity = sts.get_caller_identity()
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    yield f"account {identity['Account']} as {identity['Arn']}, {session.region_name}, {sts.meta.endpoint_url}"
    yield f"  cluster {request['Name']}: 1 × {_type(request)}, {request['ReleaseLabel']}, ends at {tags['deadline']}"
    yield f"  image: {request.get('CustomAmiId', 'the one of EMR')}; logs: {request.get('LogUri', 'none')}"
    yield f"  step: {'a script in ' + asked.lake if asked.lake else 'SparkPi'}"
    yield f"  prices: {prices.region}, {prices.as_of}: {prices.source}"


def _look(asked: argparse.Namespace, client: Callable[..., Any], request: dict[str, Any]) -> Findings:
    bucket = {asked.lake.removeprefix("s3://").partition("/")[0]: "lake"} if asked.lake else {}
    needs = Needs(requests={"check": request}, buckets=bucket)
    return judge(look_at_account(client, needs), needs)


def _told(findings: Findings) -> Iterator[str]:
    yield from (f"  right        {line}" for line in findings.right)
    yield from (f"  not checked  {line}" for line in findings.not_checked)
    yield from (f"  WRONG        {line}" for line in findings.refusals)


def _lake(asked: argparse.Namespace, session: boto3.Session) -> Store | None:
    if not asked.lake:
        return None
    endpoint = session.client("s3").meta.endpoint_url
    own = "" if endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")) else endpoint
    return Store(asked.lake, StoreSettings(endpoint_url=own, region=session.region_name, session=session))


def _pay(paid: Paid, prices: Prices) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    started = datetime.now(UTC)
    cluster_id = run_paid(paid)
    now = datetime.now(UTC)
    nodes = list(cluster_nodes(paid.client("emr"), cluster_id))
    cost = cost_of(nodes, paid.request["EbsRootVolumeSize"], (prices, prices.region), now)
    minutes = (now - started).total_seconds() / 60
    print(f"the step completed; {minutes:.1f} minutes, about {cost.usd_so_far:.3f} USD")
    left = list(left_over(paid, cluster_id))
    print("left over: " + ("nothing" if not left else ""))
    for line in left:
        print(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
