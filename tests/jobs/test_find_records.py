"""Records that lie in folders are counted and hashed once, and only what can be trained on is taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shardmill import stages
from shardmill.adapters.access import Access
from shardmill.adapters.record_look import look_at
from shardmill.adapters.records import Record, VideoRecord, frame, write_records
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import ChangedObjectError, Store
from shardmill.core.planning import BadRequestError
from shardmill.core.rejects import TooManyRejectsError
from shardmill.core.vocabulary import VocabularyError, parse_vocabulary
from shardmill.jobs.plan_records import plan_records
from shardmill.jobs.sample_records import LABELS, RecordSample, put_record_sample
from shardmill.specs.record_files import FoundRecords, PlannedFile
from shardmill.specs.records import RecordSet
from shardmill.specs.train_on_records import TrainOnRecordsSpec


def frames(name: str, seconds: int, labels: tuple[int, ...] = (0, 1)) -> Record:
    random = np.random.default_rng(seconds)
    rgb, audio = (random.integers(0, 255, (seconds, values), np.uint8) for values in (1024, 128))
    return Record(name, labels, rgb, audio)


def means(name: str, labels: tuple[int, ...] = (0, 1)) -> VideoRecord:
    return VideoRecord(name, labels, np.zeros(1024, np.float32), np.ones(128, np.float32))


class Folders:
    """A source with records to train on and to validate on, and a lake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access = Access(roots=Roots((f"file://{folder}",), (f"file://{folder}",)))
        for name in ("train", "validate"):
            (folder / name).mkdir(exist_ok=True)
        self.lines: list[str] = []

    def write(self, name: str, records: list[Record] | list[VideoRecord]) -> Path:
        path = self.folder / f"{name}.tfrecord"
        write_records(path, records)
        return path

    def asked(self, **changed) -> TrainOnRecordsSpec:
        values = {
            "source": f"file://{self.folder}/train",
            "validation_source": f"file://{self.folder}/validate",
            "lake": f"file://{self.folder}/lake",
            "batch_size": 4,
            "workers": 1,
        }
        return TrainOnRecordsSpec(**(values | changed))

    def plan(self, run: str = "r1", **changed):
        return plan_records(self.asked(**changed), run, self.access)

    def look(self, run: str = "r1", **changed) -> stages.OpenRun:
        planned = self.plan(run, **changed)
        opened = stages.open_run(planned.spec_uri, lambda connection: self.access)
        for batch in planned.batches:
            stages.STAGES["fetch"](opened, batch, self.lines.append)
        return opened

    def find(self, run: str = "r1", **changed) -> RecordSet:
        opened = self.look(run, **changed)
        stages.STAGES["find"](opened, opened.numbers, self.lines.append)
        return RecordSet.from_json(opened.lake.get(f"runs/{run}/records.json"))


@pytest.fixture
def folders(tmp_path):
    made = Folders(tmp_path)
    made.write("train/a", [frames(f"a{n}", 3 + n) for n in range(4)])
    made.write("train/b", [frames(f"b{n}", 5, (2,)) for n in range(3)])
    made.write("validate/c", [frames(f"c{n}", 4) for n in range(2)])
    return made


def test_records_of_folders_become_the_run_s_record_set(folders):
    records = folders.find()
    train, validation = records.train, records.validation
    assert [(part.uri.rsplit("/", 2)[1:], part.records) for part in (*train, *validation)] == [
        (["train", "a.tfrecord"], 4),
        (["train", "b.tfrecord"], 3),
        (["validate", "c.tfrecord"], 2),
    ]
    for part in (*train, *validation):
        assert part.sha256 == hashlib.sha256(Path(part.uri.removeprefix("file://")).read_bytes()).hexdigest()
    assert (records.level, records.max_frames, records.vocabulary) == ("frame", 6, ("0", "1", "2"))


def test_a_second_run_reads_only_new_and_changed_files(folders):
    folders.find()
    folders.write("train/b", [frames(f"b{n}", 7, (2,)) for n in range(4)])
    folders.write("train/d", [frames("d0", 2)])
    planned = folders.plan("r2")
    names = [planned.plan.files[number].name for batch in planned.batches for number in batch]
    assert names == ["b.tfrecord", "d.tfrecord"]
    assert [part.records for part in folders.find("r2").train] == [4, 4, 1]


def test_a_run_is_planned_once_and_keeps_its_files(folders):
    folders.find()
    folders.write("train/d", [frames("d0", 2)])
    assert [part.records for part in folders.find().train] == [4, 3]


def test_a_file_that_changed_since_the_plan_is_refused(folders):
    planned = folders.plan()
    folders.write("train/a", [frames("other", 9)])
    opened = stages.open_run(planned.spec_uri, lambda connection: folders.access)
    with pytest.raises(ChangedObjectError, match="changed since it was planned"):
        stages.STAGES["fetch"](opened, opened.numbers, folders.lines.append)


def test_files_are_copied_into_the_lake_where_that_is_asked(folders):
    records = folders.find(ingest="copy")
    assert all(part.uri.startswith(f"file://{folders.folder}/lake/records/sample/") for part in records.train)
    copied = Path(records.train[0].uri.removeprefix("file://"))
    assert copied.read_bytes() == (folders.folder / "train/a.tfrecord").read_bytes()
    assert folders.plan("r2", ingest="copy").batches == []


def test_a_copy_that_was_deleted_is_found_again_where_the_other_subset_has_it(folders):
    made = {"ingest": "copy", "validation_source": ""}
    train = folders.find(**made).train
    Path(train[0].uri.removeprefix("file://")).unlink()
    name = Path(train[0].uri).name.partition("-")[0]
    (folders.folder / "other").mkdir()
    folders.write("other/z", [frames("z0", 3)])
    swapped = {"source": f"file://{folders.folder}/other", "validation_source": f"file://{folders.folder}/train"}
    records = folders.find("r2", ingest="copy", **swapped)
    assert any(f"/validation/{name}-" in part.uri for part in records.validation)
    assert folders.plan("r3", ingest="copy", **swapped).batches == []


def test_what_only_elephas_does_is_refused_before_anything_is_planned(folders):
    with pytest.raises(BadRequestError, match=r"^mode: only elephas has it"):
        folders.plan(mode="hogwild")
    assert not (folders.folder / "lake").exists()


def test_without_a_validation_source_a_share_of_the_files_is_kept(folders):
    for number in range(8):
        folders.write(f"train/more-{number}", [frames(f"m{number}", 2)])
    records = folders.find(validation_source="", validation_share=0.3)
    assert (len(records.train), len(records.validation)) == (7, 3)
    assert folders.find("r2", validation_source="", validation_share=0.3) == records
    assert not {part.uri for part in records.train} & {part.uri for part in records.validation}


def test_one_file_cannot_be_shared(folders):
    (folders.folder / "train/b.tfrecord").unlink()
    with pytest.raises(BadRequestError, match="validation_share: 1 file cannot be shared"):
        folders.plan(validation_source="")


def test_a_cut_file_is_a_reject_with_its_offset_and_the_others_are_used(folders):
    path = folders.folder / "train/b.tfrecord"
    content = path.read_bytes()
    third = 2 * (len(content) // 3)
    path.write_bytes(content[: third + 50])
    with pytest.raises(TooManyRejectsError, match=rf"max_reject_share: 1 of 3 files .*b.tfrecord at offset {third}"):
        folders.find()
    found = FoundRecords.from_json(Store(f"file://{folders.folder}/lake").get("runs/r1/found.json"))
    assert [reject.file[-10:] for reject in found.broken] == ["b.tfrecord"], "a run that is stopped says all of it too"
    assert any("reject: " in line and f"offset {third}" in line for line in folders.lines)
    records = folders.find("r2", max_reject_share=0.5)
    assert [part.records for part in records.train] == [4]
    found = FoundRecords.from_json(Store(f"file://{folders.folder}/lake").get("runs/r2/found.json"))
    assert [(reject.file[-10:], reject.offset) for reject in found.broken] == [("b.tfrecord", third)]
    assert any("reject: " in line and f"offset {third}" in line for line in folders.lines)


def test_a_record_with_a_flipped_byte_is_a_reject_and_the_rest_of_its_file_is_used(folders):
    path = folders.folder / "train/a.tfrecord"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(TooManyRejectsError, match="max_reject_share: 1 of 9 records"):
        folders.find()
    records = folders.find("r2", max_reject_share=0.2)
    assert [part.records for part in records.train] == [4, 3], "entries are counted, the bad one too"
    assert any("offset 0: is damaged: the record's checksum" in line for line in folders.lines)


@pytest.mark.parametrize("content", [b"", b"something else, and long enough to be a header"])
def test_what_is_no_file_of_records_is_a_reject(content):
    look = look_at([content], PlannedFile(subset="train", uri="s3://b/x.tfrecord"))
    assert look.broken is not None and look.broken.offset == 0


def test_a_file_of_two_levels_is_a_reject_from_where_the_other_begins(folders):
    path = folders.write("train/b", [frames("b0", 3), means("b1")])
    first = len(path.read_bytes())
    folders.write("train/b", [frames("b0", 3)])
    first = len(path.read_bytes())
    folders.write("train/b", [frames("b0", 3), means("b1")])
    look = look_at([path.read_bytes()], PlannedFile(subset="train", uri="file:///b.tfrecord"))
    assert look.broken is not None
    assert (look.broken.offset, look.records) == (first, 2)
    assert "level of frames up to here, and of videos from here on" in look.broken.reason


def test_a_record_without_frames_or_means_is_a_reject(folders):
    from shardmill.adapters.records import Example

    message = Example()
    message.features.feature["id"].bytes_list.value.append(b"x")
    look = look_at([frame(message.SerializeToString())], PlannedFile(subset="train", uri="file:///b.tfrecord"))
    assert look.broken is not None and look.rejected == 1
    assert "neither frames nor means" in look.rejects[0].reason


def test_records_at_the_level_of_videos_are_found(folders):
    for name, count in (("train/a", 4), ("train/b", 3), ("validate/c", 2)):
        folders.write(name, [means(f"{name}{n}") for n in range(count)])
    records = folders.find(model="video_level_dense")
    assert (records.level, records.max_frames, sum(part.records for part in records.train)) == ("video", 1, 7)
    with pytest.raises(BadRequestError, match="model: two_stream_bilstm reads frames"):
        folders.find("r2")


def test_files_of_two_levels_are_refused(folders):
    folders.write("validate/c", [means("c")])
    with pytest.raises(BadRequestError, match=r"a.tfrecord is at the level of frames, .*c.tfrecord of videos"):
        folders.find()


def test_a_validation_split_without_labels_is_refused(folders):
    folders.write("validate/c", [frames("c", 4, ())])
    with pytest.raises(BadRequestError, match="validation_source: none of its 1 records has a label"):
        folders.find()


def test_a_training_split_without_labels_is_refused(folders):
    for name in ("a", "b"):
        folders.write(f"train/{name}", [frames(f"{name}{n}", 4, ()) for n in range(4)])
    with pytest.raises(BadRequestError, match="source: none of its 8 records has a label"):
        folders.find()


def test_the_same_folder_for_both_is_refused(folders):
    with pytest.raises(BadRequestError, match=r"^validation_source: .* would be trained on and validated on"):
        folders.plan(validation_source=f"file://{folders.folder}/train")


@pytest.mark.parametrize("field", ["source", "validation_source"])
def test_a_folder_without_records_is_refused_by_its_field(folders, field):
    (folders.folder / "empty").mkdir()
    with pytest.raises(BadRequestError, match=f"^{field}: 0 files found"):
        folders.plan(**{field: f"file://{folders.folder}/empty"})
    with pytest.raises(BadRequestError, match=f"^{field}: "):
        folders.plan("r2", **{field: f"file://{folders.folder}/absent"})


def test_a_link_out_of_the_folder_is_refused(folders, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.tfrecord"
    elsewhere.write_bytes(b"x")
    (folders.folder / "train/link.tfrecord").symlink_to(elsewhere)
    with pytest.raises(BadRequestError, match="leads out of its folder"):
        folders.plan()


def test_labels_have_the_names_of_the_vocabulary(folders):
    names = folders.folder / "vocabulary.csv"
    names.write_text('Index,TrainVideoCount,Name\n1,10,"b, too"\n0,12,a\n2,9,\n3,1,a\n')
    records = folders.find(vocabulary=names.as_uri())
    assert records.vocabulary == ("a", "b, too", "2", "a (3)")


def test_a_label_without_a_name_is_refused(folders):
    names = folders.folder / "names.txt"
    names.write_text("first\nsecond\n")
    with pytest.raises(BadRequestError, match=r"vocabulary: 2 labels, but .*b.tfrecord has the label 2"):
        folders.find(vocabulary=names.as_uri())
    with pytest.raises(BadRequestError, match=r"classes: 2 labels, but .*b.tfrecord has the label 2"):
        folders.find("r2", classes=2)


def test_more_classes_than_the_records_have_can_be_asked_for(folders):
    assert len(folders.find(classes=3862).vocabulary) == 3862


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found none"),
        ("Index,Name\n0,a\n0,b\n", "row 3: label 0 is there twice"),
        ("Index,Name\nx,a\n", "row 2: expected a label's number"),
        ("Index,Name\n90000,a\n", "numbers up to 90000"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_the_row(text, message):
    with pytest.raises(VocabularyError, match=message):
        parse_vocabulary(text)


def test_it_runs_from_the_command_line(folders, monkeypatch, capsys):
    from shardmill.cli import main

    root = f"file://{folders.folder}"
    monkeypatch.setenv("SHARDMILL_SOURCE_ROOTS", root)
    monkeypatch.setenv("SHARDMILL_LAKE_ROOTS", root)
    asked = folders.folder / "asked.json"
    asked.write_text(folders.asked().model_dump_json())
    assert main(["plan", str(asked), "--run", "mine"]) == 0
    uri = capsys.readouterr().out.strip()
    assert uri == f"{root}/lake/runs/mine/spec.json"
    assert main(["fetch", uri]) == 0
    assert main(["find", uri]) == 0
    assert "7 training and 2 validation records, 3 labels" in capsys.readouterr().out


def test_the_sample_is_the_same_every_time_and_can_be_found(tmp_path):
    small = RecordSample(train=40, validation=10, train_files=2, validation_files=1)
    for name in ("one", "two"):
        put_record_sample(f"file://{tmp_path}/{name}", sample=small)
    one, two = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*.tfrecord"))}
        for name in ("one", "two")
    )
    assert one == two and len(one) == 3
    folders = Folders(tmp_path)
    source = {"source": f"file://{tmp_path}/one/train", "validation_source": f"file://{tmp_path}/one/validate"}
    records = folders.find(**source)
    assert len(records.vocabulary) == LABELS
    assert sum(part.records for part in records.train) == 40
    before = (tmp_path / "one/train/train00.tfrecord").stat().st_mtime_ns
    put_record_sample(f"file://{tmp_path}/one", sample=small)
    assert (tmp_path / "one/train/train00.tfrecord").stat().st_mtime_ns == before
