from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.lake import LostRaceError, NewPart, ShardWriter
from shardmill.adapters.store import DamagedObjectError, MissingObjectError, Store, read_sealed
from shardmill.core import layout
from shardmill.specs.manifest import Draft, Manifest, Part, Reject, SourceObject, Video

SOURCE = SourceObject(uri="file:///x/x-000003.tar", size=1, version="v1")
CONTENTS = (b"first part", b"second part", b"third part")


def manifest(**changes) -> Manifest:
    values = {
        "stage": "raw",
        "dataset": "d",
        "shard": 3,
        "revision": 0,
        "source": SOURCE,
        "samples_in": 0,
        "parts": (),
    }
    return Manifest(**(values | changes))


def draft(**changes) -> Draft:
    values = {"stage": "clips", "dataset": "d", "shard": 3, "revision": 0, "recipe_hash": "h", "source": SOURCE}
    return Draft(**(values | changes))


def writer_of(lake: Store, **changes) -> ShardWriter:
    return ShardWriter(lake, draft(**changes), "d-clips-000003", ".tar")


def writers_side_by_side(lake: Store) -> tuple[ShardWriter, ShardWriter]:
    """Two writers of one draft, neither of which found anything when it began."""
    writers = writer_of(lake), writer_of(lake)
    assert [writer.resume() for writer in writers] == [(), ()]
    return writers


def publish(writer: ShardWriter, scratch: Path, content: bytes, **fields) -> Part:
    path = scratch / "part"
    path.unlink(missing_ok=True)  # a lake on disk holds links to such files
    path.write_bytes(content)
    number = len(list(writer.resume(fields.get("subset", ""))))
    return writer.publish(NewPart(path, samples=1, **({"next_sample": 10 * (number + 1)} | fields)))


def build(lake: Store, scratch: Path, contents: tuple[bytes, ...] = CONTENTS) -> commits.Revision:
    """Write a revision as a stage does, behind what an earlier try left."""
    writer = writer_of(lake)
    for content in contents[len(writer.resume()) :]:
        publish(writer, scratch, content)
    parts = tuple(writer.parts())
    return commits.commit(lake, Manifest(**draft().model_dump(), samples_in=0, parts=parts))


def keys_in(lake: Store) -> list[str]:
    return [item.key for item in lake.list() if not item.key.startswith("_scratch")]


class CountingStore(Store):
    """A store that notes what it is asked to write, and may break down before a write."""

    def __init__(self, uri: str, breaks_at: int = -1) -> None:
        super().__init__(uri)
        self.written: list[str] = []
        self._breaks_at = breaks_at

    def put_new(self, key: str, content: bytes | Path) -> bool:
        if len(self.written) == self._breaks_at:
            raise ConnectionError("the connection broke")
        self.written.append(key)
        return super().put_new(key, content)


class LosingStore(Store):
    """A store whose every answer to a write gets lost: another try then finds the name taken."""

    def put_new(self, key: str, content: bytes | Path) -> bool:
        super().put_new(key, content)
        return super().put_new(key, content)


# Manifests --------------------------------------------------------------------------------------------------------


def test_a_shard_without_a_manifest_has_no_revision(lake):
    assert commits.latest_revision(lake, "raw", "d", "", 3) is None


def test_the_highest_revision_is_the_truth(lake):
    for revision in (0, 1, 2, 10, 9):
        commits.commit(lake, manifest(revision=revision))
    assert commits.latest_revision(lake, "raw", "d", "", 3).manifest.revision == 10


def test_revisions_above_three_digits_are_found_too(lake):
    for revision in (999, 1000):
        commits.commit(lake, manifest(revision=revision))
    assert commits.latest_revision(lake, "raw", "d", "", 3).manifest.revision == 1000


def test_an_equal_manifest_of_another_writer_is_success(lake):
    assert commits.commit(lake, manifest()) == commits.commit(lake, manifest())


def test_another_manifest_under_the_same_revision_is_a_lost_race(lake):
    commits.commit(lake, manifest())
    with pytest.raises(LostRaceError, match="plan again"):
        commits.commit(lake, manifest(samples_in=1))
    assert commits.latest_revision(lake, "raw", "d", "", 3).manifest == manifest()


def test_of_many_writers_exactly_one_commits(lake):
    won, lost = [], []

    def write(number: int) -> None:
        try:
            won.append(commits.commit(lake, manifest(samples_in=number)))
        except LostRaceError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_commit_whose_answer_was_lost_is_success(lake, tmp_path):
    revision = build(LosingStore(lake.uri), tmp_path)
    assert commits.latest_revision(lake, "clips", "d", "h", 3) == revision
    assert [part.sha256 for part in revision.manifest.parts] == [
        receipt.part.sha256 for receipt in writer_of(lake).resume()
    ]


def test_a_revision_carries_the_hash_of_its_manifests_bytes(lake):
    committed = commits.commit(lake, manifest())
    path = lake.folder / committed.key
    assert committed.key == "raw/d/_manifests/000003/r000.json"
    assert commits.file_sha256(path) == committed.sha256
    assert commits.latest_revision(lake, "raw", "d", "", 3) == committed


def test_a_flipped_byte_anywhere_in_a_manifest_is_damage(lake):
    key = commits.commit(lake, manifest(tools={"ffmpeg": "7"})).key
    whole = lake.get(key)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        lake.put(key, bytes(damaged))
        with pytest.raises(DamagedObjectError, match=r"r000\.json"):
            commits.latest_revision(lake, "raw", "d", "", 3)
    for cut in (0, 1, len(whole) - 1):
        lake.put(key, whole[:cut])
        with pytest.raises(DamagedObjectError):
            commits.latest_revision(lake, "raw", "d", "", 3)


def test_a_manifest_that_was_damaged_on_the_way_is_read_again(lake):
    class Flipping(Store):
        reads = 0

        def get(self, key: str, version: str = "") -> bytes:
            self.reads += 1
            content = super().get(key, version)
            return content if self.reads > 2 else content.replace(b"d", b"e")

    committed = commits.commit(lake, manifest())
    assert read_sealed(Flipping(lake.uri), committed.key, Manifest) == manifest()


def test_a_damaged_manifest_is_not_taken_for_an_equal_one(lake):
    key = commits.commit(lake, manifest()).key
    lake.put(key, lake.get(key)[:-1])
    with pytest.raises(DamagedObjectError):
        commits.commit(lake, manifest())


# Parts and receipts -----------------------------------------------------------------------------------------------


def test_a_part_stands_under_the_hash_of_its_content_with_a_receipt_beside_it(lake, tmp_path):
    writer = writer_of(lake)
    video, reject = Video(key="a", clips=1), Reject(key="b", reason="damaged", message="m")
    part = publish(writer, tmp_path, b"content", videos=(video,), rejects=(reject,))
    assert part.name == f"clips/d/h/000003/r000/d-clips-000003-000000-{part.sha256[:12]}.tar"
    assert (part.size, lake.get(part.name)) == (7, b"content")
    (receipt,) = writer_of(lake).resume()
    assert (receipt.part, receipt.videos, receipt.rejects, receipt.next_sample) == (part, (video,), (reject,), 10)
    assert len(keys_in(lake)) == 2


@pytest.mark.parametrize("writes", range(7))
def test_a_retry_publishes_only_what_is_missing(lake, tmp_path, writes):
    broken = CountingStore(lake.uri, breaks_at=writes)
    with pytest.raises(ConnectionError):
        build(broken, tmp_path)
    assert commits.latest_revision(lake, "clips", "d", "h", 3) is None
    again = CountingStore(lake.uri)
    revision = build(again, tmp_path)
    # Only a part whose receipt is not there is put once more, under the name that it has.
    assert len(again.written) == 7 - writes + writes % 2
    undisturbed = Store(f"file://{tmp_path / 'undisturbed'}", create=True)
    assert build(undisturbed, tmp_path) == revision
    assert keys_in(undisturbed) == keys_in(lake)


def test_a_writer_goes_on_behind_the_last_receipt(lake, tmp_path):
    first = writer_of(lake)
    for content in CONTENTS[:2]:
        publish(first, tmp_path, content)
    second = writer_of(lake)
    assert second.next_sample() == 20
    assert list(second.parts()) == list(first.parts())
    third = publish(second, tmp_path, CONTENTS[2])
    assert "-000002-" in third.name


def test_each_subset_is_a_chain_of_its_own(lake, tmp_path):
    writer = writer_of(lake)
    publish(writer, tmp_path, b"v0", subset="validation", next_sample=3)
    publish(writer, tmp_path, b"t0", subset="train", next_sample=5)
    publish(writer, tmp_path, b"v1", subset="validation", next_sample=9)
    again = writer_of(lake)
    assert (again.next_sample("train"), again.next_sample("validation"), again.next_sample()) == (5, 9, 0)
    assert [lake.get(part.name) for part in again.parts()] == [b"t0", b"v0", b"v1"]


@pytest.mark.parametrize(
    "other",
    [
        {"source": SOURCE.model_copy(update={"version": "v2"})},
        {"source": SOURCE.model_copy(update={"size": 2})},
        {"recipe": {"crf": 1}},
        {"revision": 1},
        {"shard": 4},
        {"recipe_hash": "other"},
    ],
)
def test_receipts_of_another_draft_are_not_adopted(lake, tmp_path, other):
    publish(writer_of(lake), tmp_path, b"content")
    assert writer_of(lake, **other).resume() == ()
    assert len(writer_of(lake).resume()) == 1


def test_two_writers_with_other_content_for_one_part_do_not_mix(lake, tmp_path):
    one, other = writers_side_by_side(lake)
    publish(one, tmp_path, b"one 0")
    with pytest.raises(LostRaceError, match="plan again"):
        publish(other, tmp_path, b"other 0")
    publish(one, tmp_path, b"one 1")
    assert [lake.get(receipt.part.name) for receipt in writer_of(lake).resume()] == [b"one 0", b"one 1"]


def test_two_writers_with_equal_content_help_one_another(lake, tmp_path):
    one, other = writers_side_by_side(lake)
    for content in CONTENTS:
        assert publish(one, tmp_path, content) == publish(other, tmp_path, content)
    assert len(keys_in(lake)) == 6


def test_writers_that_lose_go_on_with_the_winners_parts_until_one_revision_stands(lake, tmp_path):
    barrier = threading.Barrier(3)
    found: list[commits.Revision] = []

    def work(name: str) -> None:
        scratch = tmp_path / name
        scratch.mkdir()
        barrier.wait()
        contents = tuple(f"{name} {number}".encode() for number in range(3))
        found.append(commits.until_won(lambda: build(Store(lake.uri), scratch, contents)))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert {revision.sha256 for revision in found} == {commits.latest_revision(lake, "clips", "d", "h", 3).sha256}
    contents = [lake.get(part.name) for part in found[0].manifest.parts]
    assert [content.split()[1] for content in contents] == [b"0", b"1", b"2"]


def test_who_always_loses_gives_up(lake):
    tries = []

    def lose() -> None:
        tries.append(1)
        raise LostRaceError("plan again")

    with pytest.raises(LostRaceError):
        commits.until_won(lose)
    assert len(tries) == commits.MOST_RACES


def test_forgotten_receipts_are_done_again(lake, tmp_path):
    writer = writer_of(lake)
    parts = [publish(writer, tmp_path, content) for content in CONTENTS]
    writer.forget(1)
    assert list(writer.parts()) == parts[:1]
    again = writer_of(lake)
    assert again.next_sample() == 10
    assert publish(again, tmp_path, b"better").name != parts[1].name
    assert again.resume()[0].part == parts[0]


def test_forgetting_one_subset_leaves_the_other(lake, tmp_path):
    writer = writer_of(lake)
    publish(writer, tmp_path, b"t", subset="train")
    publish(writer, tmp_path, b"v", subset="validation")
    writer.forget(0, "train")
    again = writer_of(lake)
    assert (again.resume("train"), len(again.resume("validation"))) == ((), 1)


@pytest.mark.parametrize("damage", [lambda receipt: receipt.replace(b":10", b":90"), lambda receipt: b""])
def test_a_damaged_receipt_is_never_gone_on_with_and_is_made_anew(lake, tmp_path, damage):
    part = publish(writer_of(lake), tmp_path, b"content")
    key = layout.receipt_key("clips/d/h/000003/r000", 0, draft().inputs)
    whole = lake.get(key)
    lake.put(key, damage(whole))
    again = writer_of(lake)
    assert again.resume() == ()
    assert publish(again, tmp_path, b"content") == part
    assert lake.get(key) == whole


def test_a_part_that_is_gone_is_made_anew_while_nothing_lists_it(lake, tmp_path):
    part = publish(writer_of(lake), tmp_path, b"content")
    lake.delete([part.name])
    again = writer_of(lake)
    assert again.resume() == ()
    assert publish(again, tmp_path, b"content") == part
    assert lake.get(part.name) == b"content"


def test_a_receipt_whose_part_was_collected_means_that_another_writer_committed(lake, tmp_path):
    part = publish(writer_of(lake), tmp_path, b"content")
    commits.commit(lake, Manifest(**draft().model_dump(), samples_in=0, parts=()))
    lake.delete([part.name])
    with pytest.raises(LostRaceError, match="was committed meanwhile"):
        writer_of(lake).resume()


def test_another_file_under_a_parts_name_is_named(lake, tmp_path):
    part = publish(writer_of(lake), tmp_path, b"content")
    lake.put(part.name, b"half")
    path = tmp_path / "again"
    path.write_bytes(b"content")
    with pytest.raises(DamagedObjectError, match=r"expected the SHA-256 ed7002b.*: remove it"):
        commits.put_part(lake, part, path)


def test_what_is_not_there_is_missing_and_not_damaged(lake):
    with pytest.raises(MissingObjectError):
        commits.read_revision(lake, "raw/d/_manifests/000003/r000.json")
