"""The sample that `make up` and `make demo` put where the forms' defaults look."""

from __future__ import annotations

from shardmill.jobs.sample import make_sample
from shardmill.laptop import sample
from shardmill.laptop.stack import StackAddress
from shardmill.specs.shard_runs import NightlySpec
from shardmill.specs.video_pipeline import VideoPipelineSpec


def test_the_sample_lies_where_the_forms_defaults_look_and_is_put_once(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "sample_folder", lambda: tmp_path / "sample")
    make_sample(tmp_path / "sample", videos=2, shards=2, seconds=(1.0, 1.0))
    served = serve()
    served.s3.create_bucket(Bucket="shardmill-source")
    sample.upload_sample(StackAddress(0, "", served.server.endpoint))

    def uris() -> dict[str, object]:
        found = served.s3.list_objects_v2(Bucket="shardmill-source")["Contents"]
        return {f"s3://shardmill-source/{item['Key']}": item["LastModified"] for item in found}

    put = uris()
    shards = [uri for uri in put if uri.endswith(".tar")]
    assert len(shards) == 2
    assert all(uri.startswith(f"{VideoPipelineSpec().source}/sample-") for uri in shards)
    assert NightlySpec().labels in put
    served.s3.delete_object(Bucket="shardmill-source", Key="sample/labels.csv")
    sample.upload_sample(StackAddress(0, "", served.server.endpoint))
    assert uris() == {uri: when for uri, when in put.items() if not uri.endswith("labels.csv")}
