"""What a run asks of the account, looked at before anything is paid for: all that does not fit is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowSkipException

from shardmill_airflow.connections import client
from shardmill_airflow.run_clusters import Work, cluster_spec, spark_layout, why_none

if TYPE_CHECKING:
    from shardmill.core.account import Findings
    from shardmill.core.requested_nodes import NodeType
    from shardmill.core.run_plan import Draft
    from shardmill.specs.image import ImageFacts
    from shardmill.stages import OpenRun

Value = TypeVar("Value")
Request = Mapping[str, Any]
WORKS: tuple[Work, ...] = ("split", "train")
"""In the order in which their clusters live."""
_TO_COME = "ami-00000000"
"""Stands for an image that is not there, so that what else is wrong can be told with it; the run is refused."""


@dataclass(frozen=True)
class Look:
    """The clusters that a run needs, and what its account said."""

    drafts: Mapping[str, Draft]
    """By what they are for."""
    types: Mapping[str, NodeType]
    """What EC2 says of their instance types, as far as it says."""
    findings: Findings
    other_region: bool = False
    """Whether the source is known to lie in another region."""


def look(opened: OpenRun) -> Look:
    """Ask the account whether it can carry the run's clusters; one that needs none asks nothing.

    Raises:
        RefusedError: it cannot, with everything that is wrong.
        BadRequestError: a cluster that cannot be asked for.
    """
    from shardmill.adapters.account_checks import look_at_account
    from shardmill.adapters.emr import RefusedError, live_clusters
    from shardmill.core.account import Findings, Needs, Unanswered
    from shardmill.core.account_rules import judge

    works = [work for work in WORKS if _is_needed(opened, work)]
    if not works:
        return Look({}, {}, Findings())
    refusals = list[str]()
    image_id = opened.run.on_cluster.image_id or _try(refusals, _newest_image, opened)
    requests: dict[str, Request] = {work: _request(opened, work, image_id or _TO_COME) for work in works}
    # One that is alive is joined: it has its nodes, and what they take of quotas and subnets is taken already.
    emr = client("emr")
    joined = {work for work in works if live_clusters(emr, requests[work]["Name"])}
    needs = Needs({work: requests[work] for work in works if work not in joined}, _buckets(opened, works))
    account = look_at_account(_client, needs)
    findings = judge(account, needs)
    types = {} if isinstance(account.types, Unanswered) else account.types
    drafts: dict[str, Draft] = {work: _draft(opened, work, (requests[work], types), refusals) for work in works}
    if image_id and (image := _try(refusals, _check_image, opened, requests, types)):
        _note_packages(findings, image)
    if wrong := dict.fromkeys((*refusals, *findings.refusals)):
        raise RefusedError("\n".join(wrong))
    return Look(drafts, types, findings, _source_is_elsewhere(opened, account.region, findings))


def _newest_image(opened: OpenRun) -> str:
    from shardmill.adapters.emr import newest_image
    from shardmill.specs.cluster import has_gpus

    return newest_image(client("ec2"), gpus=has_gpus(opened.run.on_cluster.core_type))


def _client(service: str) -> Any:
    """Give a client; where no way leads to Service Quotas, as from a closed network, that is found out soon."""
    return client(service, attempts=1) if service == "service-quotas" else client(service)


def _source_is_elsewhere(opened: OpenRun, region: str, findings: Findings) -> bool:
    from shardmill.adapters.account_checks import answered, find_bucket
    from shardmill.core.account import Unanswered
    from shardmill.specs.train_on_records import TrainOnRecordsSpec

    asked = opened.run.asked
    from_mirror = isinstance(asked, TrainOnRecordsSpec) and asked.origin == "mirror"
    if from_mirror or not asked.source.startswith("s3://") or asked.source_connection:
        return False
    found = answered(find_bucket, client("s3"), _bucket_of(asked.source))
    if isinstance(found, Unanswered):
        findings.not_checked.append(f"region of the source: {found.why}")
    return not isinstance(found, Unanswered) and found is not None and found.region not in ("", region)


def _bucket_of(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _is_needed(opened: OpenRun, work: Work) -> bool:
    try:
        return not why_none(opened, work)
    except AirflowSkipException:
        return False


def _try(refusals: list[str], ask: Callable[..., Value], *of_what: Any) -> Value | None:
    """Ask something; what is refused is added to the refusals."""
    from shardmill.adapters.emr import RefusedError
    from shardmill.core.planning import BadRequestError

    try:
        return ask(*of_what)
    except (RefusedError, BadRequestError) as error:
        refusals.append(str(error))
        return None


def _request(opened: OpenRun, work: Work, image_id: str) -> Request:
    from shardmill.core.emr_request import cluster_request

    return cluster_request(cluster_spec(opened.run, work, image_id, client("emr").meta.region_name))


def _draft(opened: OpenRun, work: Work, found: tuple[Request, Mapping[str, NodeType]], refusals: list[str]) -> Draft:
    """Lay Spark out on the nodes; of types that EC2 does not know it is told already that there are none."""
    from shardmill.core.requested_nodes import requested_types
    from shardmill.core.run_plan import Draft

    request, types = found
    known = not types or requested_types(request) <= types.keys()
    layout = _try(refusals, spark_layout, opened.run, work, client("ec2")) if known else None
    return Draft(request, layout.lines if layout else ())


def _check_image(opened: OpenRun, requests: Mapping[str, Request], types: Mapping[str, NodeType]) -> ImageFacts:
    from shardmill.adapters.images import check_image_for
    from shardmill.core.requested_nodes import requested_types

    first, *_ = requests.values()
    names = requested_types(*requests.values())
    return check_image_for(
        client("ec2"),
        first["CustomAmiId"],
        first["ReleaseLabel"],
        names & types.keys() if types else names,
        first["EbsRootVolumeSize"],
        opened.lake,
    )


def _note_packages(findings: Findings, image: ImageFacts) -> None:
    """Tell whether a baked image holds the packages that this version's jobs import.

    Another list is no refusal, for a bake may be given one of its user's own. An image without the tag was made by
    other means than a bake: nothing is known of it.
    """
    from shardmill.core.bake import sha256
    from shardmill.core.planning import BadRequestError
    from shardmill.jobs.bake_image.planning import shipped_lock

    if not (baked := image.tags.get("lock")):
        return
    try:
        ours = {sha256(shipped_lock(gpu=gpu)) for gpu in (False, True)}
    except BadRequestError as error:  # an installation that does not bake has no need of it
        findings.not_checked.append(f"packages of {image.image_id}: {error}")
        return
    if baked in ours:
        findings.right.append(f"packages of {image.image_id}")
    else:
        findings.not_checked.append(
            f"packages of {image.image_id}: it was baked from another list than this version's, and a job that misses "
            "one fails on the cluster: run bake_gpu_ami again, unless the list was your own"
        )


def _buckets(opened: OpenRun, works: Sequence[str]) -> dict[str, str]:
    """Name the buckets that nodes read or write by the fields that name them."""
    from shardmill.specs.train_on_records import TrainOnRecordsSpec

    asked = opened.run.asked
    if isinstance(asked, TrainOnRecordsSpec):
        fields = ["lake"] if asked.copies else ["source", "validation_source", "lake"]
    else:
        fields = ["source", "lake"] if "split" in works and asked.ingest == "reference" else ["lake"]
    uris = {name: getattr(asked, name) for name in fields}
    return {_bucket_of(uri): name for name, uri in uris.items() if uri.startswith("s3://")}
