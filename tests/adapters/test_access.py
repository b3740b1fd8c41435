from __future__ import annotations

import pytest

from shardmill.adapters.access import Access
from shardmill.adapters.store import StoreSettings

LAKE, SOURCE = StoreSettings("http://lake"), StoreSettings("http://source")


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("s3://videos/labels.csv", SOURCE),
        ("s3://videos/elsewhere/labels.csv", SOURCE),
        ("s3://videos-of-others/labels.csv", LAKE),
        ("gs://videos/labels.csv", LAKE),
        ("file:///labels.csv", LAKE),
    ],
)
def test_labels_are_reached_as_the_source_only_where_they_lie_in_its_bucket(uri, found):
    assert Access(LAKE, SOURCE).settings_of(uri, "s3://videos/raw") is found


def test_without_a_connection_of_its_own_the_source_is_reached_as_the_lake():
    assert Access(LAKE).source_settings is LAKE
    assert Access(LAKE).settings_of("s3://videos/labels.csv", "s3://videos/raw") is LAKE
