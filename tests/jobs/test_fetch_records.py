"""Published files come from a mirror that cuts, lies and changes, and lie in the lake whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from jobs.mirror_server import Answer, md5, mirror_server

from shardmill import stages
from shardmill.adapters import file_work
from shardmill.adapters.access import Access
from shardmill.adapters.file_work import Pace, StoppedError, Telling, each_file
from shardmill.adapters.mirror import Mirror, MirrorError, MirrorRefusedError, Patience, parse_list
from shardmill.adapters.records import Record, write_records
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, Store, StoreError
from shardmill.core.planning import BadRequestError
from shardmill.core.record_sets import download_shard
from shardmill.jobs import fetch_records
from shardmill.jobs.fetch_records import Fetching, fetch_files
from shardmill.jobs.plan_records import plan_records
from shardmill.specs.records import RecordSet
from shardmill.specs.train_on_records import TrainOnRecordsSpec

TRAIN, VALIDATE = "2/frame/train", "2/frame/validate"
SOON = Patience(failures=4, pause_seconds=0.001, longest_pause_seconds=0.01, read_seconds=5.0)


def records_file(folder: Path, number: int, count: int = 12, labels: tuple[int, ...] = (0, 2)) -> bytes:
    random = np.random.default_rng(number)
    path = folder / f"made-{number}.tfrecord"
    write_records(
        path,
        (
            Record(
                f"v{number:03d}-{index}",
                labels,
                random.integers(0, 255, (3 + index % 4, 1024), np.uint8),
                random.integers(0, 255, (3 + index % 4, 128), np.uint8),
            )
            for index in range(count)
        ),
    )
    return path.read_bytes()


@pytest.fixture
def mirror(tmp_path):
    with mirror_server() as server:
        server.publish(TRAIN, {f"train{number:02d}.tfrecord": records_file(tmp_path, number) for number in range(4)})
        server.publish(VALIDATE, {"validate00.tfrecord": records_file(tmp_path, 50)})
        yield server


@pytest.fixture
def ask(mirror, tmp_path):
    def make(**changed) -> TrainOnRecordsSpec:
        values = {
            "origin": "mirror",
            "mirror": mirror.url,
            "plans": mirror.url,
            "lake": f"file://{tmp_path / 'lake'}",
            "train_shard": "1,1",
            "validation_shard": "1,1",
            "batch_size": 8,
        }
        return TrainOnRecordsSpec(**(values | changed))

    return make


@pytest.fixture
def access(mirror, tmp_path):
    return Access(roots=Roots((mirror.url, f"file://{tmp_path}"), (f"file://{tmp_path}",)))


@pytest.fixture
def fetch(ask, access, tmp_path):
    """Plan a run and fetch its files; gives what was found in each."""

    def do(run: str = "r1", **changed):
        asked = ask(**changed)
        planned = plan_records(asked, run, access, SOON)
        lines: list[str] = []
        lake = Store(asked.lake)
        files = [planned.plan.files[number] for batch in planned.batches for number in batch]
        found = fetch_files(lake, asked, files, lines.append, Fetching(patience=SOON)) if files else []
        return planned, lake, found, lines

    return do


def copies(lake: Store) -> dict[str, str]:
    """Names of the files in the lake and the MD5 of their bytes."""
    found = (item.key for item in lake.list("records") if item.key.endswith(".tfrecord"))
    return {key: md5(lake.get(key)).hexdigest() for key in found}


def md5s(mirror) -> set[str]:
    return {md5(content).hexdigest() for path, content in mirror.files.items() if path.endswith(".tfrecord")}


def test_published_files_lie_in_the_lake_by_partition_and_are_not_fetched_again(mirror, fetch):
    _, lake, found, lines = fetch()
    assert set(copies(lake).values()) == md5s(mirror)
    assert {key.rsplit("/", 1)[0] for key in copies(lake)} == {f"records/sample/{TRAIN}", f"records/sample/{VALIDATE}"}
    assert [look.records for look in found] == [12] * 5
    assert all(lake.get(look.uri.removeprefix(f"{lake.uri}/")) for look in found)
    assert "5 of 5 files" in lines[-1] and "MB/s" in lines[-1]
    before = len(mirror.asked)
    again, *_ = fetch("r2")
    assert again.batches == []
    assert [asked[0] for asked in mirror.asked[before:]].count("GET") == 2, "only the two lists are read again"
    assert "all done" in again.summary


def test_a_share_of_the_files_is_the_one_of_the_published_download():
    # int(md5(name), 16) % n == i - 1, as the data set's own script has it.
    names = [f"train{number:04d}.tfrecord" for number in range(200)]
    shares = [download_shard(names, f"{number},7") for number in range(1, 8)]
    assert sorted(name for share in shares for name in share) == names
    assert all(10 < len(share) < 60 for share in shares)
    digest = int(md5(b"train0000.tfrecord").hexdigest(), 16)
    assert "train0000.tfrecord" in shares[digest % 7]


def test_a_file_whose_copy_was_deleted_is_fetched_again_and_the_others_are_not(mirror, fetch):
    _, lake, _, _ = fetch()
    gone = sorted(copies(lake))[0]
    lake.delete([gone])
    before = len(mirror.asked)
    fetch("r2")
    assert set(copies(lake).values()) == md5s(mirror)
    files = [path for method, path, _ in mirror.asked[before:] if method == "GET" and path.endswith(".tfrecord")]
    assert len(files) == 1


def cut_after(count: int, times: int):
    def misdeed(answer: Answer) -> bool:
        if answer.handler.command == "HEAD" or answer.number >= times:
            return False
        rest = answer.content[answer.start :]
        headers = {"ETag": '"one"', "Content-Length": str(len(rest))}
        if answer.start:
            headers["Content-Range"] = f"bytes {answer.start}-{len(answer.content) - 1}/{len(answer.content)}"
        answer.send(206 if answer.start else 200, headers, rest[:count])
        return answer.cut()

    return misdeed


def test_a_connection_that_is_cut_goes_on_where_it_broke(mirror, fetch):
    path = f"/{TRAIN}/train00.tfrecord"
    mirror.misdeeds[path] = cut_after(20_000, times=100)
    _, lake, _, _ = fetch()
    assert set(copies(lake).values()) == md5s(mirror)
    ranges = [wanted for method, asked, wanted in mirror.asked if (method, asked) == ("GET", path)]
    assert ranges[0] == "" and len(ranges) == -(-len(mirror.files[path]) // 20_000)
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in ranges[1:]]
    assert starts == sorted(starts) and starts[0] > 0, "each try begins behind the one before"


def test_a_mirror_that_knows_no_ranges_sends_the_file_anew(mirror, fetch):
    mirror.knows_ranges = False
    path = f"/{TRAIN}/train00.tfrecord"
    mirror.misdeeds[path] = cut_after(20_000, times=2)
    _, lake, _, _ = fetch()
    assert set(copies(lake).values()) == md5s(mirror)


def test_a_file_that_changes_between_two_pieces_is_never_put_together_of_both(mirror, fetch, tmp_path):
    path = f"/{TRAIN}/train00.tfrecord"
    other = records_file(tmp_path, 99)

    def change(answer: Answer) -> bool:
        if answer.handler.command == "HEAD" or answer.number:
            return False
        answer.send(200, {"ETag": '"old"', "Content-Length": str(len(other))}, other[:30_000])
        return answer.cut()

    mirror.misdeeds[path] = change
    _, lake, _, _ = fetch()
    assert set(copies(lake).values()) == md5s(mirror)


@pytest.mark.parametrize("claimed", [-500, +500])
def test_a_length_that_is_a_lie_is_seen_by_the_hash_and_tried_again(mirror, fetch, claimed):
    path = f"/{TRAIN}/train00.tfrecord"

    def lie(answer: Answer) -> bool:
        if answer.handler.command == "HEAD" or answer.number:
            return False
        answer.send(200, {"ETag": '"x"', "Content-Length": str(len(answer.content) + claimed)}, answer.content)
        return answer.cut()

    mirror.misdeeds[path] = lie
    _, lake, _, _ = fetch()
    assert set(copies(lake).values()) == md5s(mirror)


def test_bytes_that_are_never_those_of_the_list_are_refused_and_nothing_of_them_is_left(mirror, fetch, tmp_path):
    path = f"/{TRAIN}/train00.tfrecord"
    mirror.files[path] = mirror.files[path][:-1] + b"x"
    with pytest.raises(
        MirrorRefusedError, match=r"never has the MD5 of the list: expected the MD5 [0-9a-f]{32}, found"
    ):
        fetch()
    lake = Store(f"file://{tmp_path / 'lake'}")
    assert len(copies(lake)) == 4, "the others are there: every file is tried"
    assert not [item for item in lake.list("_scratch") if "fetch" in item.key]
    assert mirror.count(path) == 2, "a whole file is not fetched over and over"


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_mirror_that_is_overloaded_is_asked_again(mirror, fetch, status):
    def busy(answer: Answer) -> bool:
        return answer.number < 2 and answer.send(status, {"Content-Length": "0", "Retry-After": "0"})

    mirror.misdeeds |= dict.fromkeys((f"/{TRAIN}/train01.tfrecord", "/2/download_plans/frame_train.json"), busy)
    _, lake, _, _ = fetch()
    assert set(copies(lake).values()) == md5s(mirror)


def test_a_mirror_that_stays_overloaded_is_left_after_a_few_tries(mirror, fetch):
    path = f"/{TRAIN}/train01.tfrecord"
    mirror.misdeeds[path] = lambda answer: answer.send(503, {"Content-Length": "0"})
    with pytest.raises(MirrorError, match="answers 503"):
        fetch()


def test_it_waits_longer_and_longer_and_as_long_as_it_is_asked_to(mirror, tmp_path):
    path = f"/{TRAIN}/train01.tfrecord"
    mirror.misdeeds[path] = lambda answer: answer.send(503, {"Content-Length": "0", "Retry-After": "7"})
    waited: list[float] = []
    with Mirror(Patience(failures=5, pause_seconds=2.0), sleep=waited.append) as reader, pytest.raises(MirrorError):
        reader.fetch(f"{mirror.url}{path}", "0" * 32, tmp_path / "x")
    assert len(waited) == 4
    assert waited[0] == waited[1] == 7.0 and waited[3] >= 8.0


@pytest.mark.parametrize(("status", "words"), [(404, "there is no such file"), (403, "no right to it")])
def test_what_will_not_pass_is_told_at_once_with_the_address(mirror, fetch, status, words):
    path = f"/{TRAIN}/train02.tfrecord"
    mirror.misdeeds[path] = lambda answer: (
        answer.handler.command == "GET" and answer.send(status, {"Content-Length": "0"})
    )
    with pytest.raises(MirrorRefusedError, match=f"{path} answers {status}.*{words}"):
        fetch()
    assert mirror.count(path) == 1


def test_a_redirect_out_of_the_mirror_is_not_followed(mirror, fetch):
    path = f"/{TRAIN}/train02.tfrecord"
    elsewhere = {"Location": "http://169.254.169.254/latest/meta-data/", "Content-Length": "0"}
    mirror.misdeeds[path] = lambda answer: answer.handler.command == "GET" and answer.send(302, elsewhere)
    with pytest.raises(MirrorRefusedError, match=r"leads to http://169.254.169.254.*not followed"):
        fetch()


def test_a_published_file_that_is_cut_is_a_reject_with_its_offset_and_not_in_the_lake(mirror, fetch, tmp_path):
    whole = records_file(tmp_path, 7)
    mirror.publish(TRAIN, {"train00.tfrecord": whole, "train01.tfrecord": whole[:-100]})
    _, lake, found, lines = fetch()
    broken = [look for look in found if look.broken]
    assert len(broken) == 1 and "the file is cut" in broken[0].broken.reason and broken[0].broken.offset > 0
    assert len(copies(lake)) == 2
    assert any("train01.tfrecord: REFUSED" in line for line in lines)


def test_so_many_files_are_fetched_at_once_and_no_more(mirror, fetch, tmp_path):
    both_are_here = threading.Barrier(2, timeout=60)

    def wait(answer: Answer) -> bool:
        return answer.handler.command == "GET" and both_are_here.wait() < 0

    for number in range(4):
        mirror.misdeeds[f"/{TRAIN}/train{number:02d}.tfrecord"] = wait
    fetch(fetch_at_once=2)
    assert mirror.most_at_once == 2


def test_a_mirror_that_was_not_allowed_is_not_asked(mirror, ask, tmp_path):
    closed = Access(roots=Roots((f"file://{tmp_path}",), (f"file://{tmp_path}",)))
    with pytest.raises(BadRequestError, match=r"mirror: .*SHARDMILL_SOURCE_ROOTS"):
        plan_records(ask(), "r1", closed, SOON)
    assert mirror.asked == []


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[]",
        b'{"files": {"../../etc/passwd": "d41d8cd98f00b204e9800998ecf8427e"}}',
        b'{"files": {"a.tfrecord?x": "d41d8cd98f00b204e9800998ecf8427e"}}',
        b'{"files": {"a.tfrecord": "none"}}',
    ],
)
def test_what_is_no_list_of_files_is_refused(content):
    with pytest.raises(MirrorRefusedError, match="plans: "):
        parse_list(content, "http://mirror/plan.json")


def test_a_partition_without_a_list_is_refused_with_the_address(fetch):
    with pytest.raises(MirrorRefusedError, match=r"2/download_plans/frame_test.json answers 404"):
        fetch(validation_partition="2/frame/test")


def test_a_share_without_a_file_is_refused(fetch):
    with pytest.raises(BadRequestError, match=r"validation_shard: .* holds none of 1 files"):
        fetch(validation_shard=next(f"{n},2" for n in (1, 2) if not download_shard(["validate00.tfrecord"], f"{n},2")))


def test_a_writer_that_is_killed_before_the_look_is_kept_leaves_a_lake_that_the_next_one_completes(
    mirror, fetch, monkeypatch
):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_records, "keep_look", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(fetch_at_once=1)
    _, lake, found, _ = fetch("r2")
    assert len(found) == 5
    assert set(copies(lake).values()) == md5s(mirror)


def test_a_copy_that_does_not_stay_is_tried_again(mirror, fetch, monkeypatch):
    monkeypatch.setattr(Store, "head", lambda self, key: None)
    with pytest.raises(StoreError, match="is not what was just written: try again") as caught:
        fetch()
    assert not isinstance(caught.value, fetch_records.HOPELESS)
    assert not isinstance(caught.value, ChangedObjectError)


def test_the_same_shares_of_one_partition_are_refused_by_the_field_of_the_share(fetch):
    with pytest.raises(BadRequestError, match=r"^validation_shard: .* would be trained on and validated on"):
        fetch(validation_partition=TRAIN)


class TimeIsUpError(BaseException):
    """As Airflow raises it in the thread that waits."""


def test_a_fetch_whose_time_is_up_ends_though_its_files_still_come(monkeypatch):
    begun, ends = threading.Event(), threading.Event()

    def up(*args):
        begun.wait(60)
        raise TimeIsUpError

    def come(number: int) -> None:
        begun.set()
        while not ends.wait(0.01):
            pace.take(1)

    monkeypatch.setattr(file_work, "_wait", up)
    pace = Pace(1, None)
    late = threading.Timer(30, ends.set)
    late.start()
    with pytest.raises(TimeIsUpError):
        each_file([1], come, 1, pace, Telling(lambda line: None))
    late.cancel()
    assert not ends.is_set(), "it came to its end by itself"


def test_a_pause_before_another_try_ends_when_time_is_up(mirror, tmp_path):
    path, pace = f"/{TRAIN}/train01.tfrecord", Pace(1, None)
    mirror.misdeeds[path] = lambda answer: pace.stop() or answer.send(503, {"Content-Length": "0"})
    with Mirror(Patience(pause_seconds=60.0), pace.pause) as reader, pytest.raises(StoppedError):
        reader.fetch(f"{mirror.url}{path}", "0" * 32, tmp_path / "x", pace.take)
    assert mirror.count(path) == 1


def test_the_stages_fetch_and_settle_the_records_of_a_run(mirror, ask, access):
    planned = plan_records(ask(), "r1", access, SOON)
    opened = stages.open_run(planned.spec_uri, lambda connection: access)
    lines: list[str] = []
    assert stages.STAGES["fetch"](opened, opened.numbers, lines.append) == "60 records in 5 files"
    assert stages.STAGES["find"](opened, opened.numbers, lines.append).startswith("48 training and 12 validation")
    records = RecordSet.from_json(opened.lake.get("runs/r1/records.json"))
    assert len(records.vocabulary) == 3862 and records.max_frames == 6 and records.level == "frame"
    assert stages.STAGES["find"](opened, opened.numbers, lines.append).startswith("48 training")


def test_progress_tells_files_pace_and_how_long_it_will_take():
    now = [100.0]
    pace = Pace(4, 800 * 1_000_000, clock=lambda: now[0])
    assert pace.line == "0 of 4 files, 0.0 MB, 0.0 MB/s"
    now[0] = 110.0
    pace.take(200 * 1_000_000)
    pace.finish()
    assert pace.line == "1 of 4 files, 200.0 MB, 20.0 MB/s, about 0 min 30 s left"
    of_unknown_size = Pace(4, None, clock=lambda: now[0])
    now[0] = 170.0
    of_unknown_size.finish()
    assert of_unknown_size.line.endswith("about 3 min 00 s left")


def test_what_another_try_may_mend_is_raised_before_what_it_will_not(mirror, fetch):
    def gone(answer: Answer) -> bool:
        return answer.handler.command == "GET" and answer.send(404, {"Content-Length": "0"})

    mirror.misdeeds[f"/{TRAIN}/train00.tfrecord"] = gone
    mirror.misdeeds[f"/{TRAIN}/train01.tfrecord"] = lambda answer: answer.send(503, {"Content-Length": "0"})
    with pytest.raises(MirrorError, match="answers 503"):
        fetch()


def test_a_flipped_byte_in_what_was_found_is_seen(mirror, fetch):
    _, lake, _, _ = fetch()
    key = next(item.key for item in lake.list("records/sample/_looks"))
    content = bytearray(lake.get(key))
    content[20] ^= 1
    lake.put(key, bytes(content))
    with pytest.raises(DamagedObjectError, match=r"was damaged or changed|expected"):
        fetch("r2")
