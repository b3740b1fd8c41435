"""How AWS is reached: by the Airflow connection ``aws_default``, whatever it points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardmill.adapters.store import StoreSettings

AWS_CONNECTION = "aws_default"


def store_settings() -> StoreSettings:
    """Give the settings of the store from the connection's endpoint and credentials, renewed as they expire."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    from shardmill.adapters.store import StoreSettings

    hook = AwsBaseHook(aws_conn_id=AWS_CONNECTION, client_type="s3")
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
