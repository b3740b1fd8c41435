from __future__ import annotations

import json

import pytest

from shardmill.adapters.store import Store
from shardmill.cli import main
from shardmill.core.planning import BadRequestError
from shardmill.jobs.sample import make_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "sample"
    make_sample(folder, videos=8, shards=2, seconds=(2, 3))
    return folder


def plan(folder, sample, capsys, **changes) -> str:
    asked = {"source": f"file://{sample}", "lake": f"file://{folder / 'lake'}", "workers": 1, "batch_size": 1}
    path = folder / "asked.json"
    path.write_text(json.dumps(asked | {"preset": "ultrafast", "width": 64, "height": 32} | changes))
    capsys.readouterr()
    assert main(["plan", str(path), "--run", "r1"]) == 0
    return capsys.readouterr().out.strip()


def test_a_run_is_made_ready_for_training_without_airflow(tmp_path, sample, capsys):
    spec = plan(tmp_path, sample, capsys)
    for stage in ("ingest", "split", "label", "features", "select"):
        assert main([stage, spec]) == 0
    lake = Store(f"file://{tmp_path / 'lake'}")
    records = json.loads(lake.get("runs/r1/records.json"))
    assert sum(part["records"] for part in records["train"] + records["validation"]) >= 8
    capsys.readouterr()
    for stage in ("ingest", "split", "features"):
        assert main([stage, spec, "1"]) == 0
        assert "shard 000001: nothing to do (" in capsys.readouterr().out
    assert main(["report", spec]) == 0
    assert b"<html" in lake.get("runs/r1/report.html")


def test_labels_that_match_no_video_stop_the_run_with_counts(tmp_path, sample, capsys):
    (tmp_path / "labels.csv").write_text("video_id,labels\nnobody,a|b\n")
    spec = plan(tmp_path, sample, capsys, labels=f"file://{tmp_path / 'labels.csv'}")
    for stage in ("ingest", "split"):
        assert main([stage, spec]) == 0
    with pytest.raises(BadRequestError, match=r"names 1 videos, and none of the \d+ published videos"):
        main(["label", spec])


def test_an_unknown_job_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "invalid choice" in capsys.readouterr().err
