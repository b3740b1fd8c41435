from __future__ import annotations

import json

import pytest

from shardmill.core.planning import BadRequestError

ACCOUNT = {"type": "service_account", "client_email": "a@b", "private_key": "k", "private_key_id": "1"}


@pytest.fixture
def connect(monkeypatch):
    """Make a connection, and give the settings that come of it."""

    def make(**connection):
        from shardmill_airflow.connections import store_settings

        monkeypatch.setenv("AIRFLOW_CONN_SOURCE", json.dumps(connection))
        return store_settings("source")

    return make


def test_any_s3_compatible_endpoint_is_reached_by_a_connection(connect):
    extra = {"region_name": "eu-west-1", "endpoint_url": "http://minio:9000"}
    found = connect(conn_type="aws", login="key", password="secret", extra=extra)
    assert (found.endpoint_url, found.region) == ("http://minio:9000", "eu-west-1")
    assert found.session.get_credentials().access_key == "key"
    assert "secret" not in repr(found)


@pytest.mark.parametrize("form", ["dict", "text", "file"])
def test_gcs_is_reached_by_the_key_of_a_connection(connect, tmp_path, form):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(ACCOUNT))
    extra = {
        "dict": {"keyfile_dict": ACCOUNT},
        "text": {"keyfile_dict": json.dumps(ACCOUNT)},
        "file": {"key_path": str(path)},
    }[form]
    found = connect(conn_type="google_cloud_platform", extra=extra)
    assert json.loads(found.google_service_account) == ACCOUNT
    assert "private_key" not in repr(found)


@pytest.mark.parametrize("connection", [{"conn_type": "google_cloud_platform"}, {"conn_type": "ssh", "host": "h"}])
def test_a_connection_that_reaches_no_store_is_named(connect, connection):
    with pytest.raises(BadRequestError, match=r"^source_connection: source "):
        connect(**connection)
