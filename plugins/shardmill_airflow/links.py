"""Links from a task to what it works with: the cluster, its logs, the history of its Spark applications."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

from shardmill_airflow.connections import AWS_CONNECTION

PLACE = "emr"
"""XCom key of what the links are made from."""
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
    _, separator, rest = place["log_uri"].partition("://")
    if not separator:
        return ""
    bucket, _, folder = rest.rstrip("/").partition("/")
    prefix = quote(f"{folder}/{place['cluster_id']}/".lstrip("/"))
    if place["endpoint"]:
        return f"{place['endpoint']}/{quote(bucket)}?prefix={prefix}"
    host = f"{place['region']}.console.{_domain(place['region'])}"
    return f"https://{host}/s3/buckets/{quote(bucket)}?region={place['region']}&prefix={prefix}"


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


class ConsoleLink(_PlaceLink):
    name: ClassVar[str] = "EMR cluster"

    def url(self, place: dict[str, str]) -> str:
        return console_url(place)


class LogsLink(_PlaceLink):
    name: ClassVar[str] = "Logs"

    def url(self, place: dict[str, str]) -> str:
        return logs_url(place)


class HistoryLink(_PlaceLink):
    name: ClassVar[str] = "Spark history"

    def url(self, place: dict[str, str]) -> str:
        return place["history"] or console_url(place)
