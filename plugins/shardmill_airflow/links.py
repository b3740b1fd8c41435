"""Links from a task to what it works with: the run's folder, the report, the cluster, its logs, Spark's history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

from shardmill_airflow.connections import AWS_CONNECTION

if TYPE_CHECKING:
    from shardmill.adapters.store import StoreSettings

PLACE = "emr"
"""XCom key of what the links are made from."""
LAKE = "lake_links"
"""XCom key of the links into the lake, by their names."""
FOLDER, REPORT = "Folder in the lake", "Report"
HISTORY = "spark_history_url"
"""Extra of the connection: URL of a Spark history server of one's own; EMR keeps one for each cluster by itself."""


def place_of(emr: Any, cluster_id: str, log_uri: str, history_url: str = "") -> dict[str, str]:
    """Gather what the links are made from.

    Args:
        emr: the client; where it sends its requests decides what is linked to.
        history_url: of a history server of one's own.
    """
    endpoint = str(emr.meta.endpoint_url)
    host = urlsplit(endpoint).hostname or ""
    amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    return {
        "cluster_id": cluster_id,
        "region": str(emr.meta.region_name),
        "log_uri": log_uri,
        "endpoint": "" if amazon else endpoint,
        "history": history_url,
    }


def history_url() -> str:
    """Give the URL of a Spark history server that the connection names; empty where it names none."""
    from airflow.sdk import BaseHook

    return str(BaseHook.get_connection(AWS_CONNECTION).extra_dejson.get(HISTORY, ""))


def console_url(place: dict[str, str]) -> str:
    """Give the page of a cluster in the console; empty where it is not Amazon's."""
    if place["endpoint"]:
        return ""
    host = f"{place['region']}.console.{_domain(place['region'])}"
    return f"https://{host}/emr/home?region={place['region']}#/clusterDetails/{quote(place['cluster_id'])}"


def logs_url(place: dict[str, str]) -> str:
    """Give a page that lists a cluster's logs; empty where it keeps none."""
    if not place["log_uri"]:
        return ""
    return lake_url(f"{place['log_uri'].rstrip('/')}/{place['cluster_id']}/", place["endpoint"], place["region"])


def lake_url(uri: str, endpoint: str, region: str) -> str:
    """Give the page of an object, or of a folder (its URI ends in a slash), in the console or the store itself.

    Args:
        endpoint: of a store that is not Amazon's; empty for Amazon's.

    Returns:
        Empty for what is not in S3, or where no region is known.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not (endpoint or region):
        return ""
    is_folder, name = key.endswith("/") or not key, quote(key)
    if endpoint:
        return f"{endpoint.rstrip('/')}/{quote(bucket)}" + (f"?prefix={name}" if is_folder else f"/{name}")
    page = "buckets" if is_folder else "object"
    return f"https://{region}.console.{_domain(region)}/s3/{page}/{quote(bucket)}?region={region}&prefix={name}"


def leave_links(ti: Any, settings: StoreSettings | None, **uris: str) -> dict[str, str]:
    """Leave links into the lake with a task: ``folder``, ``report``; give them by the names that the UI shows."""
    endpoint, region = (settings.endpoint_url, settings.region) if settings else ("", "")
    names = {"folder": FOLDER, "report": REPORT}
    left = {names[kind]: lake_url(uri, endpoint, region) for kind, uri in uris.items()}
    ti.xcom_push(LAKE, left)
    return left


def _domain(region: str) -> str:
    if region.startswith("cn-"):
        return "amazonaws.cn"
    return "amazonaws-us-gov.com" if region.startswith("us-gov-") else "aws.amazon.com"


class _PlaceLink(BaseOperatorLink):
    """A link that is empty until the task knows its cluster."""

    name: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        place = XCom.get_value(ti_key=ti_key, key=PLACE)
        return self.url(place) if place else ""

    def url(self, place: dict[str, str]) -> str:
        """Give the link's target."""
        raise NotImplementedError


class _LakeLink(BaseOperatorLink):
    """A link into the lake that is empty until the task leaves it."""

    name: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        return str((XCom.get_value(ti_key=ti_key, key=LAKE) or {}).get(self.name, ""))


class FolderLink(_LakeLink):
    name: ClassVar[str] = FOLDER


class ReportLink(_LakeLink):
    name: ClassVar[str] = REPORT


class ConsoleLink(_PlaceLink):
    name: ClassVar[str] = "EMR cluster"

    def url(self, place: dict[str, str]) -> str:
        return console_url(place)


class LogsLink(_PlaceLink):
    name: ClassVar[str] = "Cluster logs"

    def url(self, place: dict[str, str]) -> str:
        return logs_url(place)


class HistoryLink(_PlaceLink):
    name: ClassVar[str] = "Spark history"

    def url(self, place: dict[str, str]) -> str:
        return place["history"] or console_url(place)
