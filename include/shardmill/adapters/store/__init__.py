"""The store: objects in a folder at ``s3://``, ``gs://`` or ``file://``. No other module talks to a bucket."""

from shardmill.adapters.store.errors import ChangedObjectError, DamagedObjectError, MissingObjectError, StoreError
from shardmill.adapters.store.fetching import fetch_checked, write_hashed
from shardmill.adapters.store.reading import CHUNK_BYTES
from shardmill.adapters.store.sealed import read_sealed, read_sealed_bytes
from shardmill.adapters.store.settings import StoreSettings
from shardmill.adapters.store.store import ObjectInfo, Store, read_uri, split_uri

__all__ = [
    "CHUNK_BYTES",
    "ChangedObjectError",
    "DamagedObjectError",
    "MissingObjectError",
    "ObjectInfo",
    "Store",
    "StoreError",
    "StoreSettings",
    "fetch_checked",
    "read_sealed",
    "read_sealed_bytes",
    "read_uri",
    "split_uri",
    "write_hashed",
]
