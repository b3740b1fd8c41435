"""``shardmill predict`` over records and over a video, by a model that has the weights it was born with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unpacking import unpack_tar

from shardmill.adapters.model_store import OtherModelError, publish_model, put_weights
from shardmill.adapters.records import Record, read_records, write_records
from shardmill.adapters.roots import LAKES, SOURCES
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed, read_uri
from shardmill.cli import main
from shardmill.jobs.predict import NoRecordsError
from shardmill.jobs.sample import make_sample
from shardmill.specs.records import MODEL_VERSION, ModelManifest, RecordSet, model_inputs
from shardmill.specs.run import RunSpec
from shardmill.specs.run_kinds import OtherPipelineError

pytestmark = pytest.mark.timeout(900)
PROJECT = Path(__file__).resolve().parent.parent.parent
CLUSTER_PYTHON = PROJECT / ".local" / "cluster" / "bin" / "python"
SMALL = {"rgb_units": 3, "audio_units": 2, "dense_units": 4, "workers": 1, "batch_size": 1}


@dataclass(frozen=True, eq=False)
class Trained:
    """A run of the video pipeline that stands where training would have ended."""

    folder: Store
    model: Any
    records: tuple[Record, ...]
    parts: tuple[str, ...]
    """URIs of the records' files."""
    videos: dict[str, Path]
    """The source's videos by key."""

    def expected(self, record: Record, top: int) -> list[tuple[str, float]]:
        scores = self.model.predict_on_batch(np.hstack([record.rgb, record.audio])[None])[0]
        names = read_sealed(self.folder, "model/model.json", ModelManifest).vocabulary
        return [(names[label], float(scores[label])) for label in np.argsort(-scores, kind="stable")[:top]]


def publish(folder: Store, keras_model: Any, **changed: Any) -> None:
    """Publish a model for the records of a run."""
    from shardmill.adapters.keras_models import named_weights

    run, records = (
        read_sealed(folder, name, kind) for name, kind in (("spec.json", RunSpec), ("records.json", RecordSet))
    )
    training = run.asked.training.model_copy(update=changed)
    means = {"mean.rgb": np.zeros(1024, np.uint8), "mean.audio": np.zeros(128, np.uint8)}
    weights, sha256 = put_weights(folder, {**named_weights(keras_model), **means})
    manifest = ModelManifest(
        inputs=model_inputs(training, records),
        model_version=MODEL_VERSION,
        training=training,
        vocabulary=records.vocabulary,
        records=records.digest,
        train_records=1,
        label_counts=(1,) * len(records.vocabulary),
        weights=weights,
        weights_sha256=sha256,
        parameters=1,
        trainer="nobody",
        history=(),
        seconds=1.0,
        examples_per_second=1.0,
    )
    folder.delete(["model/model.json"])
    publish_model(folder, manifest)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from shardmill.adapters.keras_models import build_model

    with pytest.MonkeyPatch.context() as patch:
        for variable in (SOURCES, LAKES):
            patch.setenv(variable, "file:///")
        folder = tmp_path_factory.mktemp("predict")
        make_sample(folder / "sample", videos=6, shards=1, seconds=(2, 4))
        asked = {"source": f"file://{folder / 'sample'}", "lake": f"file://{folder / 'lake'}", "preset": "ultrafast"}
        (folder / "asked.json").write_text(json.dumps({**asked, **SMALL, "width": 64, "height": 32}))
        assert main(["plan", str(folder / "asked.json"), "--run", "r1"]) == 0
        run = Store(f"file://{folder / 'lake' / 'runs' / 'r1'}")
        for stage in ("ingest", "split", "label", "features", "select"):
            assert main([stage, run.uri_of("spec.json")]) == 0
    records = read_sealed(run, "records.json", RecordSet)
    model = build_model(len(records.vocabulary), read_sealed(run, "spec.json", RunSpec).asked.training)
    publish(run, model)
    parts = tuple(part.uri for part in (*records.train, *records.validation))
    found = tuple(record for uri in parts for record in read_records(read_uri(uri), uri))
    return Trained(run, model, found, parts, unpack(folder))


def unpack(folder: Path) -> dict[str, Path]:
    videos = folder / "videos"
    for shard in (folder / "sample").glob("*.tar"):
        unpack_tar(shard, videos)
    return {path.stem: path for path in videos.rglob("*.mp4")}


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, list[tuple[str, float]]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["video"]: [tuple(one) for one in line["top"]] for line in lines}


def check_near(found: list[tuple[str, float]], expected: list[tuple[str, float]], within: float = 1e-5) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=within)


def test_records_get_the_scores_of_the_model(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["predict", trained.folder.uri, *trained.parts, "--json", "--top", "3"]) == 0
    found = said(capsys)
    assert list(found) == [record.id for record in trained.records]
    for record in trained.records:
        check_near(found[record.id], trained.expected(record, 3))


def test_a_video_file_gets_what_its_record_gets(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    record = max(trained.records, key=lambda record: len(record.rgb))
    capsys.readouterr()
    assert main(["predict", trained.folder.uri_of("spec.json"), str(trained.videos[record.id]), "--json"]) == 0
    found = said(capsys)
    assert list(found) == [record.id]
    check_near(found[record.id], trained.expected(record, 5), within=1e-3)


def test_a_folder_of_records_is_a_table_of_a_line_a_video(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, record in enumerate(trained.records[:2]):
        write_records(tmp_path / f"{number}.tfrecord", [record])
    capsys.readouterr()
    path = str(trained.folder.folder)
    assert main(["predict", path, str(tmp_path), "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, record in zip(lines, trained.records[:2], strict=True):
        ((label, score),) = trained.expected(record, 1)
        assert line.split() == [record.id, *label.split(), f"{score:.3f}"]


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.tfrecord"
    write_records(path, trained.records[:3])
    path.write_bytes(path.read_bytes()[:-5])
    (tmp_path / "noise.mp4").write_bytes(b"no video")
    capsys.readouterr()
    assert main(["predict", trained.folder.uri, str(path), str(tmp_path / "noise.mp4"), "--json"]) == 1
    output = capsys.readouterr()
    assert [json.loads(line)["video"] for line in output.out.splitlines()] == [one.id for one in trained.records[:2]]
    assert f"{path.as_uri()} at offset" in output.err
    assert "noise.mp4: not_a_video" in output.err
    assert "2 could not be used" in output.err


def test_a_model_of_videos_takes_records_of_frames_by_their_means(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shardmill.adapters.keras_models import build_model
    from shardmill.adapters.records import mean_record

    other = Store(f"file://{tmp_path}")
    for name in ("spec.json", "records.json"):
        other.put(name, trained.folder.get(name))
    training = read_sealed(other, "spec.json", RunSpec).asked.training.model_copy(update={"model": "video_level_dense"})
    model = build_model(len(read_sealed(other, "records.json", RecordSet).vocabulary), training)
    publish(other, model, model="video_level_dense")
    write_records(tmp_path / "means.tfrecord", [mean_record(record) for record in trained.records])
    capsys.readouterr()
    assert main(["predict", other.uri, *trained.parts, "--json"]) == 0
    of_frames = said(capsys)
    assert main(["predict", other.uri, str(tmp_path / "means.tfrecord"), "--json"]) == 0
    of_means = said(capsys)
    assert list(of_frames) == list(of_means) == [record.id for record in trained.records]
    for video, found in of_means.items():
        check_near(of_frames[video], found)
    means = mean_record(trained.records[0])
    scores = model.predict_on_batch(np.concatenate([means.mean_rgb, means.mean_audio])[None])[0]
    assert of_means[means.id][0][1] == pytest.approx(float(scores.max()), abs=1e-5)


def test_a_video_needs_a_run_that_knows_how_features_are_made(trained: Trained, tmp_path: Path) -> None:
    other = Store(f"file://{tmp_path}")
    for item in trained.folder.list():
        other.put(item.key, trained.folder.get(item.key))
    run = read_sealed(other, "spec.json", RunSpec)
    asked = {"pipeline": "train_on_records", "lake": run.asked.lake, "workers": 1}
    changed = RunSpec.model_validate({"run": "r1", "started": run.started, "asked": asked})
    other.put("spec.json", changed.to_json())
    with pytest.raises(OtherPipelineError, match="train_on_records"):
        main(["predict", other.uri, str(next(iter(trained.videos.values())))])


def test_a_run_without_model_and_a_folder_without_records_are_told(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="name the folder of a trained run"):
        main(["predict", str(tmp_path), str(tmp_path)])
    with pytest.raises(NoRecordsError, match=r"expected a \.tfrecord file, a folder that holds some, or a video"):
        main(["predict", trained.folder.uri, str(tmp_path)])


def test_a_model_that_our_code_builds_otherwise_by_now_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = Store(f"file://{tmp_path}")
    manifest = read_sealed(trained.folder, "model/model.json", ModelManifest)
    other.put("model/model.json", manifest.model_copy(update={"model_version": MODEL_VERSION - 1}).to_json())
    with pytest.raises(OtherModelError, match=f"is of model version {MODEL_VERSION - 1}, this program builds version"):
        main(["predict", other.uri, *trained.parts])


def test_damaged_weights_are_refused(trained: Trained, tmp_path: Path) -> None:
    other = Store(f"file://{tmp_path}")
    for item in trained.folder.list():
        other.put(item.key, trained.folder.get(item.key))
    weights = read_sealed(other, "model/model.json", ModelManifest).weights
    content = bytearray(other.get(weights))
    content[-30] ^= 1
    other.put(weights, bytes(content))
    with pytest.raises(DamagedObjectError, match="is damaged"):
        main(["predict", other.uri, *trained.parts])


@pytest.mark.parametrize("missing", ["tensorflow", "keras"])
def test_without_tensorflow_it_says_where_to_run(trained: Trained, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nfrom shardmill.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "predict", trained.folder.uri, *trained.parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"predict needs TensorFlow, which this Python has not: {sys.executable}")


@pytest.mark.slow
def test_the_cluster_s_python_predicts_records_and_videos_too(trained: Trained) -> None:
    if not CLUSTER_PYTHON.exists():
        pytest.skip(f"the cluster's environment is not there: {CLUSTER_PYTHON}")
    record = trained.records[0]
    inputs = [trained.parts[0], str(trained.videos[record.id])]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(PROJECT / "include"),
    }
    command = [str(CLUSTER_PYTHON), "-m", "shardmill.cli", "predict", trained.folder.uri, *inputs, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in (lines[0], lines[-1]):
        assert line["video"] == record.id
        check_near([tuple(one) for one in line["top"]], trained.expected(record, 5), within=1e-3)


def test_a_wrong_top_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["predict", str(tmp_path), str(tmp_path), "--top", "0"]) == 2
    assert "--top: expected at least 1, found 0" in capsys.readouterr().err


def test_a_later_input_that_fails_takes_no_prediction_with_it(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(MissingObjectError):
        main(["predict", trained.folder.uri, trained.parts[0], str(tmp_path / "gone.tfrecord"), "--json"])
    assert list(said(capsys)) == [one.id for one in read_records(read_uri(trained.parts[0]), trained.parts[0])]


def test_a_folder_without_records_is_told_before_anything_is_predicted(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(NoRecordsError):
        main(["predict", trained.folder.uri, trained.parts[0], str(tmp_path), "--json"])
    assert capsys.readouterr().out == ""
