"""The other forms by clicks, and what a person does with a backfill: take the preview out, clear one batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from browser.airflow_ui import AirflowUi
from browser.pictures import Pictures

from shardmill.adapters.store import Store
from shardmill.laptop.stack import StackAddress

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]
Opened = Callable[[], AbstractContextManager[AirflowUi]]
LAKE = "s3://shardmill-lake/clicked"
RUN_SECONDS = 1800


@pytest.mark.parametrize(
    ("dag", "section", "field", "text", "told"),
    [
        (
            "nightly_reprocess",
            "Data",
            "labels",
            "ftp://x",
            "labels: expected s3://…, gs://… or file://…, found 'ftp://x'",
        ),
        ("backfill_shards", "What", "shards", "9..1", "shards: the range '9..1' is empty: it ends before it starts"),
        ("train_on_records", "Mirror", "train_shard", "9,1", "train_shard: expected i,n with 1 <= i <= n"),
    ],
    ids=["nightly_reprocess", "backfill_shards", "train_on_records"],
)
def test_each_form_tells_a_mistake_by_its_field(
    browser: Opened, pictures: Pictures, dag: str, section: str, field: str, text: str, told: str
) -> None:
    with browser() as ui:
        ui.open_dag(dag)
        form = ui.open_form()
        form.open_section(section)
        form.fill(field, text)
        form.send()
        refused = form.refusal()
        assert "1 field to be mended, and nothing was started:" in refused
        assert told in refused
        assert f"in the form: {section}, " in refused
        assert "/runs/" not in ui.page.url


def test_a_batch_of_a_backfill_that_is_cleared_by_clicks_redoes_only_its_missing_shard(
    browser: Opened, stack: tuple[StackAddress, Path]
) -> None:
    lake = Store(LAKE, stack[0].store_settings)
    with browser() as ui:
        ui.open_dag("backfill_shards")
        form = ui.open_form()
        form.open_section("What")
        form.fill("shards", "000000..000003")
        form.switch("preview")
        form.open_section("What")
        form.open_section("Data")
        form.fill("lake", LAKE)
        form.fill("min_batches", "2")
        form.open_section("Data")
        form.open_section("Guards")
        form.switch("canary")
        form.send()
        form.started()
        assert ui.wait_for_run(RUN_SECONDS) == "Success"

        before = {item.key: item.version for item in lake.list() if "/_manifests/" in item.key}
        assert len([key for key in before if key.startswith("features/")]) == 4
        (lost,) = [key for key in before if key.startswith("features/") and "/000001/" in key]
        lake.delete([lost])
        ui.open_mapped_task("shards", "000000..000001")
        ui.clear_task()
        assert ui.wait_for_run(RUN_SECONDS) == "Success"

    after = {item.key: item.version for item in lake.list() if "/_manifests/" in item.key}
    assert set(after) == set(before)
    # A manifest holds no time: made again of the same clips it is the same.
    assert {key for key in after if after[key] != before[key]} <= {lost}
