"""How stores and AWS are reached: by Airflow connections, ``aws_default`` unless another is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardmill.core.planning import BadRequestError

if TYPE_CHECKING:
    from shardmill.adapters.access import Access
    from shardmill.adapters.store import StoreSettings

AWS_CONNECTION = "aws_default"


def access(source_connection: str = "") -> Access:
    """Give a run access to its lake and, by a connection of its own where one is named, to its source."""
    from shardmill.adapters.access import Access

    return Access(store_settings(), store_settings(source_connection) if source_connection else None)


def store_settings(connection: str = AWS_CONNECTION) -> StoreSettings:
    """Give the settings of the store from a connection's endpoint and credentials, renewed as they expire."""
    from airflow.sdk import BaseHook

    from shardmill.adapters.store import StoreSettings

    if connection != AWS_CONNECTION:
        found = BaseHook.get_connection(connection)
        if found.conn_type == "google_cloud_platform":
            return StoreSettings(google_service_account=_google_account(connection, found.extra_dejson))
        if found.conn_type != "aws":
            raise BadRequestError(
                f"source_connection: {connection} is of type {found.conn_type}: expected aws or Google"
            )
    return _s3_settings(connection)


def _google_account(connection: str, extra: Mapping[str, Any]) -> str:
    """Give the JSON of a service account, from the connection itself or from the file that it names."""
    account = extra.get("keyfile_dict") or (Path(extra["key_path"]).read_text() if extra.get("key_path") else "")
    if not account:
        raise BadRequestError(f"source_connection: {connection} holds no key: expected a keyfile JSON or its path")
    return account if isinstance(account, str) else json.dumps(account)


def _s3_settings(connection: str) -> StoreSettings:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    from shardmill.adapters.store import StoreSettings

    hook = AwsBaseHook(aws_conn_id=connection, client_type="s3")
    return StoreSettings(
        endpoint_url=hook.conn_config.get_service_endpoint_url("s3") or "",
        region=hook.region_name or "",
        session=hook.get_session(),
    )


def client(service: str, *, attempts: int | None = None) -> Any:
    """Give a boto3 client; ``attempts=1`` gives one that never sends a request twice."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": attempts}) if attempts else None
    return AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type=service, config=config).conn
