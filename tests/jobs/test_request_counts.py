"""What a run asks of a bucket is counted, and lies within what its plan says."""

from __future__ import annotations

from collections import Counter

import pytest
from local_account import local_account

from shardmill import stages
from shardmill.adapters.prices import read_prices
from shardmill.core.estimates import Load
from shardmill.core.side_costs import side_costs
from shardmill.jobs.plan import plan_run
from shardmill.jobs.report import write_report
from shardmill.jobs.sample import make_sample
from shardmill.localcloud import server
from shardmill.specs.video_pipeline import VideoPipelineSpec

SHARDS = 3


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Sends what talks to S3 to a local one; gives the requests that come there, those that write and list apart."""
    counts: Counter[str] = Counter()
    answer = server._Dispatcher.__call__

    def count(self, environ, start_response):
        lists = "list-type=2" in environ.get("QUERY_STRING", "")
        writes = lists or environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE")
        counts["requests that write" if writes else "requests that read"] += 1
        return answer(self, environ, start_response)

    monkeypatch.setattr(server._Dispatcher, "__call__", count)
    with local_account(tmp_path / "s3") as (client, _):
        s3 = client("s3")
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_REGION", server.REGION)
        make_sample(tmp_path / "sample", videos=2 * SHARDS, shards=SHARDS, seconds=(2, 3))
        for path in (tmp_path / "sample").glob("*.tar"):
            s3.put_object(Bucket="shardmill-source", Key=f"sample/{path.name}", Body=path.read_bytes())
        counts.clear()
        yield counts


def test_a_run_asks_no_more_of_its_bucket_than_was_planned(bucket):
    asked = VideoPipelineSpec(
        source="s3://shardmill-source/sample",
        lake="s3://shardmill-lake",
        preset="ultrafast",
        width=64,
        height=32,
        max_reject_share=0.9,
    )
    opened = stages.open_run(plan_run(asked, "run").spec_uri)
    for stage in ("ingest", "split", "label", "features"):
        stages.STAGES[stage](opened, opened.plan.numbers, lambda line: None)
    write_report(opened.lake, opened.run, [])
    load = Load(asked, opened.plan.shards, {}, read_prices("").rates)
    planned = {cost.what: cost.amount for cost in side_costs(load, read_prices(""))}
    for what in ("requests that write", "requests that read"):
        least, most = planned[what]
        assert least <= bucket[what] <= most, (what, dict(bucket))
