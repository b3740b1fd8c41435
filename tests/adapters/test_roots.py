from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shardmill.adapters.access import Access
from shardmill.adapters.roots import LAKES, SOURCES, Roots
from shardmill.adapters.store import StoreSettings
from shardmill.core.planning import BadRequestError
from shardmill.specs.video_pipeline import VideoPipelineSpec


def allowed(uri: str, *roots: str) -> bool:
    try:
        Roots(sources=roots).check_source("source", uri)
    except BadRequestError:
        return False
    return True


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that a root names, with one beside it whose name begins in the same way."""
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data-private").mkdir()
    (tmp_path / "secret").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("below", ["", "/", "/inner", "/not-yet-there/x-000001.tar", "/inner/..", "/inner/../inner"])
def test_what_lies_below_a_root_may_be_used(data, below):
    assert allowed(f"file://{data}{below}", f"file://{data}")
    assert allowed(f"file://{data}{below}", f"file://{data}/")


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "/etc/passwd",
        "/",
        "{data}-private",
        "{data}/..",
        "{data}/../secret",
        "{data}/%2e%2e/secret",
        "{data}/%2E%2E/secret",
        "{data}/inner/%2e%2e/%2e%2e",
        "{data}%2f..%2fsecret",
    ],
)
def test_what_lies_elsewhere_on_disk_may_not(data, path):
    assert not allowed("file://" + path.format(data=data), f"file://{data}")


def test_a_link_out_of_a_root_is_followed_before_it_is_judged(data):
    (data / "out").symlink_to(data.parent / "secret")
    (data / "in").symlink_to(data / "inner")
    (data.parent / "secret" / "back").symlink_to(data)
    assert not allowed(f"file://{data}/out", f"file://{data}")
    assert not allowed(f"file://{data}/out/x.tar", f"file://{data}")
    assert allowed(f"file://{data}/in/x.tar", f"file://{data}")
    assert allowed(f"file://{data.parent}/secret/back/inner", f"file://{data}")


def test_a_root_that_is_a_link_means_what_it_points_at(data):
    root = data.parent / "root"
    root.symlink_to(data)
    assert allowed(f"file://{root}/inner", f"file://{root}")
    assert allowed(f"file://{data}/inner", f"file://{root}")


@pytest.mark.parametrize(
    ("uri", "root", "expected"),
    [
        ("s3://bucket", "s3://bucket", True),
        ("s3://bucket/a/b", "s3://bucket/", True),
        ("s3://bucket/a", "s3://bucket/a", True),
        ("s3://bucket/a/b", "s3://bucket/a/", True),
        ("s3://bucket-evil", "s3://bucket", False),
        ("s3://bucket-evil/a", "s3://bucket", False),
        ("s3://bucket/ab", "s3://bucket/a", False),
        ("s3://bucket", "s3://bucket/a", False),
        ("s3://any/thing", "s3://", True),
        ("gs://bucket/a", "s3://", False),
        ("gs://bucket/a", "s3://bucket", False),
        ("gs://bucket/a", "gs://bucket", True),
        ("file:///bucket/a", "s3://", False),
        ("s3://bucket/a", "file:///", False),
        ("S3://bucket", "s3://", False),
    ],
)
def test_a_bucket_is_compared_folder_by_folder(uri, root, expected):
    assert allowed(uri, root) == expected


def test_one_of_several_roots_is_enough(data):
    roots = ("s3://bucket/in", f"file://{data}", "gs://other")
    assert allowed("gs://other/x", *roots)
    assert allowed(f"file://{data}/x", *roots)
    assert not allowed("s3://bucket/out", *roots)


def test_sources_and_lakes_have_roots_of_their_own():
    roots = Roots.from_environment({SOURCES: "s3://in  s3://in-too", LAKES: " s3://lake\n"})
    roots.check_source("labels", "s3://in-too/labels.csv")
    roots.check_lake("lake", "s3://lake/x")
    with pytest.raises(BadRequestError, match=rf"^lake: s3://in/x lies below none .*\(s3://lake\).*{LAKES}$"):
        roots.check_lake("lake", "s3://in/x")
    with pytest.raises(BadRequestError, match=rf"^labels: s3://lake/x .*\(s3://in, s3://in-too\).*{SOURCES}$"):
        roots.check_source("labels", "s3://lake/x")


def test_where_nothing_is_set_nothing_may_be_used_and_the_variable_is_named():
    roots = Roots.from_environment({})
    for uri in ("file:///", "s3://bucket", "file:///etc/passwd"):
        with pytest.raises(BadRequestError, match=f"none is set.*ask its operator to add it to {SOURCES}"):
            roots.check_source("source", uri)
        with pytest.raises(BadRequestError, match=f"none is set.*ask its operator to add it to {LAKES}"):
            roots.check_lake("lake", uri)


@pytest.mark.parametrize("field", ["source", "lake", "labels", "extractor_weights", "projection"])
@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/x",
        "/etc/passwd",
        "s3://user:secret@bucket/x",
        "s3://bucket/../other",
        "file:///data/../etc",
        "s3://",
        "s3://bucket/a\nb",
    ],
)
def test_a_uri_that_no_store_could_mean_is_refused_before_any_root(field, uri):
    with pytest.raises(ValidationError, match=field):
        VideoPipelineSpec.model_validate({field: uri})


def test_access_is_by_default_that_of_the_environment(monkeypatch):
    monkeypatch.setenv(SOURCES, "s3://in")
    monkeypatch.delenv(LAKES, raising=False)
    assert Access().roots == Roots(sources=("s3://in",))


def test_the_source_is_reached_as_the_lake_is_where_nothing_else_is_said():
    lake, source = StoreSettings(region="lake"), StoreSettings(region="source")
    assert Access(lake=lake).source_settings == lake
    assert Access(lake=lake, source=source).source_settings == source
    assert Access().source_settings is None
