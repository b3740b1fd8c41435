"""How stores are reached, and opening them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store

from shardmill.adapters.store.errors import MissingObjectError, StoreError

CREDENTIAL_LIFE = timedelta(minutes=5)


@dataclass(frozen=True)
class StoreSettings:
    """How S3 and GCS are reached; everything empty means: as obstore finds it on this machine."""

    endpoint_url: str = ""
    """Of S3, or of any store that speaks its protocol."""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    session: Any = field(default=None, repr=False)
    """A boto3 session whose credentials are asked for again and again, for such as expire; instead of fixed keys."""
    google_service_account: str = field(default="", repr=False)
    """JSON of a service account of Google Cloud; empty for what obstore finds, e.g. by its usual variables."""
    timeout_seconds: float = 120.0
    """Of one request with its answer, at most 64 MiB."""
    patience_seconds: float = 120.0
    """How long requests that fail are sent again."""

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> StoreSettings:
        """Read the variables that the SDKs read."""
        return StoreSettings(
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", ""),
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
            access_key_id=environment.get("AWS_ACCESS_KEY_ID", ""),
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environment.get("AWS_SESSION_TOKEN", ""),
        )


def disk_folder(uri: str) -> Path | None:
    """Give the folder on disk that a URI names; None where it names none."""
    scheme, _, rest = uri.partition("://")
    return Path(unquote("/" + rest.lstrip("/"))) if scheme == "file" else None


def open_store(uri: str, settings: StoreSettings, *, create: bool) -> ObjectStore:
    """Open the folder at a URI; ``create`` makes it where it is a missing folder on disk."""
    folder = disk_folder(uri)
    if folder is not None:
        if not create and not folder.is_dir():
            raise MissingObjectError(f"the folder {folder} is not there: check the URI {uri}")
        return LocalStore(folder, mkdir=create)
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme == "s3":
        return _s3(bucket, prefix, settings)
    if scheme == "gs":
        return _gcs(bucket, prefix, settings)
    raise StoreError(f"expected a URI that starts with s3://, gs:// or file://, found {uri!r}")


def _s3(bucket: str, prefix: str, settings: StoreSettings) -> S3Store:
    config: dict[str, Any] = {
        "region": settings.region or "us-east-1",
        "virtual_hosted_style_request": False,
        "copy_if_not_exists": "multipart",
    }
    for name in ("access_key_id", "secret_access_key", "session_token"):
        if value := getattr(settings, name):
            config[name] = value
    if settings.endpoint_url:
        config["endpoint"] = settings.endpoint_url
    renewed: dict[str, Any] = {}
    if settings.session is not None:
        from obstore.auth.boto3 import Boto3CredentialProvider

        renewed["credential_provider"] = Boto3CredentialProvider(settings.session, ttl=CREDENTIAL_LIFE)
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]
        **_client(settings, plain_http=settings.endpoint_url.startswith("http://")),
        **renewed,
    )


def _gcs(bucket: str, prefix: str, settings: StoreSettings) -> GCSStore:
    config: dict[str, Any] = {}
    plain_http = False
    if account := settings.google_service_account:
        config["service_account_key"] = account
        plain_http = str(json.loads(account).get("gcs_base_url", "")).startswith("http://")
    return GCSStore(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]
        **_client(settings, plain_http=plain_http),
    )


def _client(settings: StoreSettings, *, plain_http: bool) -> dict[str, Any]:
    return {
        "client_options": {
            "allow_http": plain_http,
            "timeout": timedelta(seconds=settings.timeout_seconds),
            "connect_timeout": timedelta(seconds=min(10.0, settings.timeout_seconds)),
        },
        "retry_config": {"retry_timeout": timedelta(seconds=settings.patience_seconds)},
    }
