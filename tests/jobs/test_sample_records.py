"""The sample of records is written into a folder of its own, and takes nothing away that is somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmill.adapters.store import Store
from shardmill.core.planning import BadRequestError
from shardmill.jobs.sample_records import RecordSample, put_record_sample

SMALL = RecordSample(train=8, validation=4, train_files=2, validation_files=1)


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("marker", [None, b"{}", b"of another program"])
def test_the_sample_is_not_written_among_files_of_somebody_else_s(tmp_path, marker):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/mine.tfrecord").write_bytes(b"dear to me")
    if marker is not None:
        (tmp_path / "_sample.json").write_bytes(marker)
    before = below(tmp_path)
    with pytest.raises(BadRequestError, match=r"FOLDER: expected an empty folder or an older sample, found .*mine"):
        put_record_sample(tmp_path.as_uri(), sample=SMALL)
    assert below(tmp_path) == before


def test_an_older_sample_is_replaced_and_a_file_beside_it_stays(tmp_path):
    put_record_sample(tmp_path.as_uri(), sample=RecordSample(train=9, validation=4, train_files=3, validation_files=1))
    (tmp_path / "train/mine.tfrecord").write_bytes(b"dear to me")
    put_record_sample(tmp_path.as_uri(), sample=SMALL)
    assert {path.name for path in tmp_path.rglob("*.tfrecord")} == {
        "mine.tfrecord",
        "train00.tfrecord",
        "train01.tfrecord",
        "validate00.tfrecord",
    }
    assert (tmp_path / "train/mine.tfrecord").read_bytes() == b"dear to me"
    put_record_sample((tmp_path / "new").as_uri(), sample=SMALL)
    for name in ("train/train00", "train/train01", "validate/validate00"):
        assert (tmp_path / f"{name}.tfrecord").read_bytes() == (tmp_path / f"new/{name}.tfrecord").read_bytes()


def test_a_larger_sample_does_not_overwrite_a_file_that_is_not_of_the_older_one(tmp_path):
    put_record_sample(tmp_path.as_uri(), sample=SMALL)
    (tmp_path / "train/train02.tfrecord").write_bytes(b"dear to me")
    before = below(tmp_path)
    with pytest.raises(BadRequestError, match=r"found train/train02.tfrecord"):
        put_record_sample(tmp_path.as_uri(), sample=RecordSample(train=9, validation=4, train_files=3))
    assert below(tmp_path) == before


def test_a_sample_whose_writer_was_killed_is_completed(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    put_record_sample((tmp_path / "whole").as_uri(), sample=SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_new", killed)
        with pytest.raises(KeyboardInterrupt):
            put_record_sample((tmp_path / "killed").as_uri(), sample=SMALL)
    (tmp_path / "killed/train").mkdir(exist_ok=True)
    (tmp_path / "killed/train/train00.tfrecord").write_bytes(b"half")
    put_record_sample((tmp_path / "killed").as_uri(), sample=SMALL)
    assert below(tmp_path / "killed") == below(tmp_path / "whole")
