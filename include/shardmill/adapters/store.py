"""The store: objects in a folder at ``s3://``, ``gs://`` or ``file://``, reached through obstore."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError, PermissionDeniedError, PreconditionError
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store

CHUNK_BYTES = 8 * 1024 * 1024
CREDENTIAL_LIFE = timedelta(minutes=5)


class StoreError(RuntimeError):
    """A folder or object could not be used as expected; the message says what to do."""


class MissingObjectError(StoreError):
    """An object that should be there is not."""


class ChangedObjectError(StoreError):
    """An object is no longer the version that was planned with."""


@dataclass(frozen=True)
class StoreSettings:
    """How S3 is reached; everything empty means: as obstore finds it on this machine."""

    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    session: Any = field(default=None, repr=False)
    """A boto3 session whose credentials are asked for again and again, for such as expire; instead of fixed keys."""

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> StoreSettings:
        """Read the variables that the AWS SDKs read."""
        return StoreSettings(
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", ""),
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
            access_key_id=environment.get("AWS_ACCESS_KEY_ID", ""),
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environment.get("AWS_SESSION_TOKEN", ""),
        )


@dataclass(frozen=True)
class ObjectInfo:
    """An object as it stands in a listing."""

    key: str
    size: int
    version: str
    """ETag; on disk one made of size, time and inode."""


def _s3_store(bucket: str, prefix: str, settings: StoreSettings) -> S3Store:
    config: dict[str, str | bool] = {"region": settings.region or "us-east-1", "virtual_hosted_style_request": False}
    for name in ("access_key_id", "secret_access_key", "session_token"):
        if value := getattr(settings, name):
            config[name] = value
    if settings.endpoint_url:
        config["endpoint"] = settings.endpoint_url
    renewed: dict[str, Any] = {}
    if settings.session is not None:
        from obstore.auth.boto3 import Boto3CredentialProvider

        renewed["credential_provider"] = Boto3CredentialProvider(settings.session, ttl=CREDENTIAL_LIFE)
    plain_http = settings.endpoint_url.startswith("http://")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": plain_http},
        **renewed,
    )


def _open(uri: str, settings: StoreSettings, *, create: bool) -> ObjectStore:
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        folder = Path(unquote("/" + rest.lstrip("/")))
        if not create and not folder.is_dir():
            raise MissingObjectError(f"the folder {folder} is not there: check the URI {uri}")
        return LocalStore(folder, mkdir=create)
    bucket, _, prefix = rest.partition("/")
    if scheme == "s3":
        return _s3_store(bucket, prefix, settings)
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix or None)
    raise StoreError(f"expected a URI that starts with s3://, gs:// or file://, found {uri!r}")


class Store:
    """Objects below one folder. Keys are relative to it, with '/' between their parts."""

    def __init__(self, uri: str, settings: StoreSettings | None = None, *, create: bool = False) -> None:
        """Open the folder at ``uri``; ``create`` makes it where it is a missing folder on disk."""
        self.uri = uri.rstrip("/")
        self._store = _open(self.uri, settings or StoreSettings.from_environment(), create=create)

    def uri_of(self, key: str) -> str:
        """Give the full URI of a key."""
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        """Read a whole object. Raises MissingObjectError."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise MissingObjectError(f"{self.uri_of(key)} is not there") from error

    def stream(self, key: str, version: str = "") -> Iterator[bytes]:
        """Read an object in chunks; with a ``version``, only that one (else ChangedObjectError)."""
        try:
            result = obstore.get(self._store, key, options={"if_match": version} if version else None)
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (NotFoundError, FileNotFoundError) as error:
            raise MissingObjectError(f"{self.uri_of(key)} is not there") from error
        except PreconditionError as error:
            raise ChangedObjectError(f"{self.uri_of(key)} changed since it was listed: trigger a new run") from error

    def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None where there is none."""
        try:
            meta = obstore.head(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return None
        return ObjectInfo(key, meta["size"], meta["e_tag"] or "")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List the objects whose key starts with the folder ``prefix``, ascending by key."""
        try:
            found = [meta for batch in obstore.list(self._store, prefix or None) for meta in batch]
        except NotFoundError as error:
            raise MissingObjectError(f"{self.uri} is not there: check the bucket's name") from error
        except PermissionDeniedError as error:
            raise StoreError(f"{self.uri} may not be listed: check the connection's rights") from error
        return iter(sorted((ObjectInfo(m["path"], m["size"], m["e_tag"] or "") for m in found), key=lambda o: o.key))

    def put_new(self, key: str, content: bytes | Path) -> bool:
        """Write an object unless its key is taken. Returns whether this call wrote it."""
        if isinstance(content, Path) and content.stat().st_size > CHUNK_BYTES:
            return self._upload_new(key, content)
        try:
            obstore.put(self._store, key, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def _upload_new(self, key: str, path: Path) -> bool:
        # A multipart upload has no create-only mode: names of large objects are content addresses, so an object
        # under this key holds these very bytes. An upload left by an exception is aborted by obstore's writer.
        if self.head(key) is not None:
            return False
        with path.open("rb") as source, obstore.open_writer(self._store, key, buffer_size=CHUNK_BYTES) as sink:
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
        return True

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whatever was there. Only for what can be made again."""
        obstore.put(self._store, key, content)


def split_uri(uri: str) -> tuple[str, str]:
    """Cut the URI of an object into its folder and its name."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return folder, name


def read_uri(uri: str, settings: StoreSettings | None = None) -> bytes:
    """Read the whole object at a URI. Raises MissingObjectError."""
    folder, name = split_uri(uri)
    return Store(folder, settings).get(name)
