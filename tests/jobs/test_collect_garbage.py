"""Garbage collection: what goes, what stays, and writers at work meanwhile."""

from __future__ import annotations

import os
import threading
import time

import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters.lake import LostRaceError
from shardmill.adapters.store import Store
from shardmill.core import layout
from shardmill.jobs.collect_garbage import collect_garbage
from shardmill.specs.garbage import GarbageSpec
from shardmill.specs.manifest import Draft, Manifest, SourceObject
from shardmill.specs.recipes import FeatureRecipe, SplitRecipe
from shardmill.specs.records import ManifestReference, RecordPart, RecordSet
from shardmill.specs.run import RunLabels, RunSpec
from shardmill.specs.video_pipeline import VideoPipelineSpec

OLD = 30 * 3600.0
SPLIT = SplitRecipe()


def source(version: str = "v") -> SourceObject:
    return SourceObject(uri="file:///source/s-000000.tar", size=9, version=version)


def draft(shard: int = 0, revision: int = 0, recipe=SPLIT, made_of: SourceObject | None = None) -> Draft:
    return Draft(
        stage="features" if isinstance(recipe, FeatureRecipe) else "clips",
        dataset="d",
        shard=shard,
        revision=revision,
        recipe_hash=recipe.hash,
        recipe=recipe.model_dump(mode="json"),
        source=made_of or source(),
    )


def publish(lake: Store, asked: Draft, contents: list[bytes]) -> commits.ShardWriter:
    """Put parts and receipts, no manifest."""
    writer = commits.ShardWriter(lake, asked, "d", ".bin")
    writer.resume()
    with lake.scratch("test-") as folder:
        for number, content in enumerate(contents):
            path = folder / str(number)
            path.write_bytes(content)
            writer.publish(commits.NewPart(path, samples=1, next_sample=number + 1))
            path.unlink()
    return writer


def revise(lake: Store, asked: Draft, contents: list[bytes], older: tuple = ()) -> commits.Revision:
    writer = publish(lake, asked, contents)
    manifest = Manifest(**asked.model_dump(), samples_in=0, parts=(*older, *writer.parts()))
    return commits.commit(lake, manifest)


def age(lake: Store, seconds: float = OLD, below: str = "") -> None:
    then = time.time() - seconds
    for path in (lake.folder / below).rglob("*"):
        os.utime(path, (then, then))


def keys(lake: Store, below: str = "") -> set[str]:
    return {item.key for item in lake.list(below)}


def collect(lake: Store, **fields):
    lines: list[str] = []
    done = collect_garbage(GarbageSpec(lake=lake.uri, **fields), say=lines.append)
    return done, lines


def listed(lake: Store) -> set[str]:
    """All parts of all manifests."""
    found = [item.key for item in lake.list() if layout.shard_of_manifest(item.key) is not None]
    return {part.name for key in found for part in commits.read_revision(lake, key).manifest.parts}


@pytest.fixture
def littered(lake):
    """Shard 0 has two revisions, the second with a part of the first, and parts of writers that lost; 1 has none."""
    first = revise(lake, draft(), [b"a", b"b"])
    older = first.manifest.parts[:1]
    revise(lake, draft(revision=1), [b"c"], older)
    folder = layout.part_folder(layout.stage_folder("clips", "d", SPLIT.hash), 0, 0)
    lake.put(f"{folder}/lost.bin", b"lost")
    publish(lake, draft(revision=2), [b"in the making"])
    publish(lake, draft(shard=1), [b"in the making too"])
    return lake


def test_without_delete_it_only_says_what_would_go_and_why(littered):
    before = keys(littered)
    done, lines = collect(littered)
    assert keys(littered) == before
    assert not done.deleted
    assert {why: gone.objects for why, gone in done.gone.items()} == {
        "listed by no manifest": 1,
        "receipt of a committed revision": 3,
    }
    assert done.summary.startswith("would delete 4 objects")
    assert any(line.startswith("would delete clips/d/") and "lost.bin: listed by no manifest" in line for line in lines)


def test_with_delete_exactly_that_goes(littered):
    before, (told, _) = keys(littered), collect(littered)
    done, _ = collect(littered, delete=True)
    assert (done.objects, done.bytes, done.gone) == (told.objects, told.bytes, told.gone)
    gone = before - keys(littered)
    assert len(gone) == 4
    assert all(key.endswith(("lost.bin", ".receipt.json")) for key in gone)
    assert not any("/000001/" in key or "/r002/" in key for key in gone)
    assert listed(littered) <= keys(littered)
    assert collect(littered, delete=True)[0].objects == 0


def test_work_on_a_revision_that_may_still_win_goes_on_behind_its_receipts(littered):
    collect(littered, delete=True)
    writer = commits.ShardWriter(littered, draft(revision=2), "d", ".bin")
    assert [receipt.next_sample for receipt in writer.resume()] == [1]


@pytest.mark.parametrize("spoil", ["damage", "delete", "swap"])
def test_a_shard_whose_manifests_are_not_all_whole_is_left_alone_and_named(littered, spoil):
    revise(littered, draft(shard=2), [b"x"])
    folder = layout.stage_folder("clips", "d", SPLIT.hash)
    key = layout.manifest_key(folder, 0, 0)
    if spoil == "damage":
        littered.put(key, littered.get(key).replace(b"clips", b"clipz", 1))
    elif spoil == "delete":
        littered.delete([key])
    else:
        littered.put(key, littered.get(layout.manifest_key(folder, 2, 0)))
    before = keys(littered, f"{folder}/000000")
    done, lines = collect(littered, delete=True)
    assert keys(littered, f"{folder}/000000") == before
    assert list(done.stayed) == [f"{folder}/000000"]
    assert any("run verify" in line for line in lines)
    assert done.objects == 1  # the receipt of shard 2


def test_a_revision_that_is_committed_while_it_looks_loses_nothing(littered, monkeypatch):
    from shardmill.jobs.collect_garbage import unlisted

    decide = unlisted.shard_litter
    committed = []

    def decide_slowly(*arguments):
        found = decide(*arguments)
        if not committed:
            committed.append(revise(littered, draft(revision=2), [b"in the making", b"more"]))
        return found

    monkeypatch.setattr(unlisted, "shard_litter", decide_slowly)
    collect(littered, delete=True)
    assert committed
    assert listed(littered) <= keys(littered)
    monkeypatch.undo()
    assert collect(littered, delete=True)[0].gone["receipt of a committed revision"].objects == 3


def test_only_the_dataset_that_was_asked_for_is_looked_at(littered):
    assert collect(littered, dataset="other")[0].objects == 0
    assert collect(littered, dataset="d")[0].objects == 4


def recipes_of(lake: Store, count: int = 3) -> list[str]:
    """Make recipes of clips with features of each, the last one the newest; give the folders of both."""
    folders = []
    for number in range(count):
        split = SplitRecipe(crf=20.0 + number)
        clips = revise(lake, draft(recipe=split), [f"clips {number}".encode()])
        revise(lake, draft(revision=1, recipe=split, made_of=source("w")), [b"again"], clips.manifest.parts)
        features = FeatureRecipe(split=split, extractor="frame_statistics", labels="l")
        of = SourceObject(uri=lake.uri_of(clips.key), size=1, version=clips.sha256)
        revise(lake, draft(recipe=features, made_of=of), [f"features {number}".encode()])
        for stage, recipe in (("clips", split), ("features", features)):
            folders.append(layout.stage_folder(stage, "d", recipe.hash))
            age(lake, OLD + 1000 * (count - number), folders[-1])
    return folders


def test_only_the_newest_recipes_of_each_stage_stay(lake):
    clips, features, *newer = recipes_of(lake)
    done, lines = collect(lake, keep_recipes=2, delete=True)
    assert not keys(lake, clips)
    assert not keys(lake, features)
    assert all(keys(lake, folder) for folder in newer)
    assert done.gone["recipe not among the 2 newest recipes"].objects == 9  # parts, receipts, manifests
    assert any(line.startswith(f"deleted {features}: recipe not among the 2 newest") for line in lines)


def test_a_dry_run_of_recipes_says_what_would_go_and_counts_nothing_twice(lake):
    recipes_of(lake)
    before = keys(lake)
    told, _ = collect(lake, keep_recipes=2)
    assert keys(lake) == before
    assert collect(lake, keep_recipes=2, delete=True)[0].gone == told.gone


def test_clips_that_features_were_made_of_stay(lake):
    clips, features, *_ = recipes_of(lake)
    done, _ = collect(lake, recipes=clips.rpartition("/")[2], delete=True)
    assert done.stayed == {clips: f"named, but {features} was made of it"}
    assert keys(lake, clips)
    named = f"{clips.rpartition('/')[2]} {features.rpartition('/')[2]}"
    done, _ = collect(lake, recipes=named, delete=True)
    assert done.stayed == {}
    assert not keys(lake, clips) | keys(lake, features)


def begin_run(lake: Store, name: str, **asked) -> RunSpec:
    run = RunSpec(run=name, started="2026-11-21", asked=VideoPipelineSpec(lake=lake.uri, dataset="d", **asked))
    lake.put(f"runs/{name}/spec.json", run.to_json())
    return run


def choose(lake: Store, name: str, features: str, *, by: str = "manifests") -> None:
    key = layout.manifest_key(features, 0, 0)
    revision = commits.read_revision(lake, key)
    uri = lake.uri_of(revision.manifest.parts[0].name) if by == "parts" else "u"
    part = RecordPart(uri=uri, sha256="s", records=1)
    references = (ManifestReference(key=key, sha256=revision.sha256),) if by == "manifests" else ()
    records = RecordSet(vocabulary=("a",), max_frames=1, manifests=references, train=(part,), validation=(part,))
    lake.put(f"runs/{name}/records.json", records.to_json())


@pytest.mark.parametrize("by", ["manifests", "parts"])
def test_a_recipe_that_a_run_s_records_refer_to_stays_with_its_clips(lake, by):
    clips, features, *_ = recipes_of(lake)
    begin_run(lake, "run-1")
    choose(lake, "run-1", features, by=by)
    age(lake, 400 * 24 * 3600.0, "runs")
    done, _ = collect(lake, keep_recipes=1, delete=True)
    assert keys(lake, clips)
    assert keys(lake, features)
    assert done.stayed[features].endswith("but the run run-1 refers to it")
    assert done.stayed[clips].endswith(f"but {features} was made of it")


@pytest.mark.parametrize(("days", "stays"), [(2, True), (30, False)])
def test_the_recipes_of_a_run_at_work_stay_until_it_must_be_over(lake, days, stays):
    run = begin_run(lake, "run-1")
    split, recipe = run.asked.split_recipe, run.asked.feature_recipe("digest")
    labels = RunLabels(digest="digest", vocabulary=("a",), videos=1, labelled=1)
    lake.put("runs/run-1/labels.json", labels.to_json())
    clips = revise(lake, draft(recipe=split), [b"clips"])
    of = SourceObject(uri=lake.uri_of(clips.key), size=1, version=clips.sha256)
    revise(lake, draft(recipe=recipe, made_of=of), [b"features"])
    age(lake, days * 24 * 3600.0)
    collect(lake, recipes=f"{split.hash} {recipe.hash}", delete=True)
    assert bool(keys(lake, "clips")) == bool(keys(lake, "features")) == stays


def test_a_recipe_that_was_written_to_lately_stays(lake):
    clips, features, *_ = recipes_of(lake)
    lake.put(f"{features}/000001/r000/part.tfrecord", b"a writer is at work")
    done, _ = collect(lake, keep_recipes=1, delete=True)
    assert done.stayed[features].endswith("written to lately")
    assert keys(lake, clips)


@pytest.mark.parametrize("key", ["runs/run-1/records.json", "features"])
def test_where_it_cannot_be_told_what_is_referred_to_no_recipe_goes(lake, key):
    clips, features, *_ = recipes_of(lake)
    choose(lake, "run-1", features)
    if key == "features":
        key = layout.manifest_key(features, 0, 0)
    lake.put(key, lake.get(key)[:-10])
    age(lake)
    done, _ = collect(lake, recipes=clips.rpartition("/")[2], delete=True)
    assert keys(lake, clips)
    assert "all further recipes" in done.stayed


def test_no_reader_ever_finds_a_manifest_whose_parts_are_gone(lake, monkeypatch):
    folders = recipes_of(lake, 1)
    delete = Store.delete
    seen = []

    def look_and_delete(self, gone):
        for key in gone:
            delete(self, [key])
            seen.append(listed(self) <= keys(self))

    monkeypatch.setattr(Store, "delete", look_and_delete)
    collect(lake, recipes=" ".join(folder.rpartition("/")[2] for folder in folders), delete=True)
    assert len(seen) == 9
    assert all(seen)
    assert not any(keys(lake, folder) for folder in folders)


def test_uploads_that_nobody_finished_go_with_the_rest(lake):
    staged = lake.folder / "part.tar#1"
    staged.write_bytes(b"half")
    assert collect(lake, delete=True)[0].objects == 0
    age(lake)
    assert collect(lake)[0].gone["unfinished upload"].bytes == 4
    assert staged.exists()
    collect(lake, delete=True)
    assert not staged.exists()


class Writers:
    """Writers that race for the revisions of some shards, with parts that are equal in part, until they are stopped."""

    def __init__(self, lake: Store, shards: int, revisions: int) -> None:
        self.lake, self.shards, self.revisions = lake, shards, revisions
        self.lost = 0
        self.errors: list[Exception] = []
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(2)]

    def write(self, writer: int) -> None:
        try:
            for revision in range(self.revisions):
                for shard in range(self.shards):
                    try:
                        self.revise(writer, shard, revision)
                    except LostRaceError:
                        self.lost += 1
        except Exception as error:
            self.errors.append(error)
            raise

    def revise(self, writer: int, shard: int, revision: int) -> None:
        before = commits.latest_revision(self.lake, "clips", "d", SPLIT.hash, shard)
        if before is not None and before.manifest.revision >= revision:
            return
        # Every other revision carries the parts of the one before, as a retry of rejects does.
        older = before.manifest.parts if before is not None and revision % 2 else ()
        asked = draft(shard, revision, made_of=source(f"v{revision // 2} of {writer * (shard % 2)}"))
        contents = [b"equal", f"by {writer} for {shard} {revision}".encode() * 50]
        revise(self.lake, asked, contents, older)


def test_writers_that_race_with_the_collector_lose_nothing(lake):
    writers = Writers(lake, shards=6, revisions=12)
    for thread in writers.threads:
        thread.start()
    passes, missing = 0, set()
    while any(thread.is_alive() for thread in writers.threads):
        collect(lake, delete=True)
        passes += 1
        missing |= {name for name in listed(lake) if lake.head(name) is None}
    for thread in writers.threads:
        thread.join()
    assert writers.errors == []
    assert writers.lost
    assert passes > 3
    assert missing == set()
    collect(lake, delete=True)
    parts = {key for key in keys(lake) if layout.shard_of_manifest(key) is None}
    assert parts == listed(lake)
    folder = layout.stage_folder("clips", "d", SPLIT.hash)
    manifests = keys(lake, layout.manifests_folder(folder))
    assert manifests == {layout.manifest_key(folder, shard, number) for shard in range(6) for number in range(12)}
