from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardmill.core import layout
from shardmill.core.garbage import (
    RECEIPT,
    UNLISTED,
    Committed,
    Recipe,
    Retention,
    clips_folder_of,
    deletion_order,
    is_recipe,
    past_retention,
    place_of,
    shard_litter,
)

FOLDER = "clips/d/0123456789ab"
A, B, C = (f"clips/d/{letter * 12}" for letter in "abc")


def key(revision: int, name: str, shard: int = 3) -> str:
    return f"{layout.part_folder(FOLDER, shard, revision)}/{name}"


def committed(*revisions: int, listed: tuple[str, ...] = ()) -> Committed:
    return Committed(frozenset(revisions), frozenset(listed))


def going(objects: list[str], found: Committed) -> dict[str, str]:
    return {item.key: item.why for item in shard_litter(FOLDER, [(name, 1) for name in objects], found)}


def test_a_part_that_any_manifest_lists_stays():
    objects = [key(0, "old.tar"), key(1, "new.tar"), key(1, "other.tar")]
    found = committed(0, 1, listed=(key(0, "old.tar"), key(1, "new.tar")))
    assert going(objects, found) == {key(1, "other.tar"): UNLISTED}


def test_a_receipt_goes_once_its_revision_is_committed():
    receipts = [layout.receipt_key(layout.part_folder(FOLDER, 3, revision), 0, "i" * 12) for revision in (0, 1, 2)]
    assert going(receipts, committed(0, 1)) == {receipts[0]: RECEIPT, receipts[1]: RECEIPT}


def test_receipts_go_before_parts():
    part, receipt = key(0, "a.tar"), key(0, "z.receipt.json")
    assert [item.key for item in shard_litter(FOLDER, [(part, 1), (receipt, 1)], committed(0))] == [receipt, part]


def test_a_shard_without_a_manifest_is_not_touched():
    assert going([key(0, "a.tar")], committed()) == {}


def test_a_shard_whose_chain_has_a_gap_is_not_touched():
    assert going([key(0, "a.tar")], committed(0, 2)) == {}
    assert committed(0, 2).missing == (1,)


def test_what_lies_elsewhere_than_in_a_folder_of_parts_is_not_touched():
    strange = [f"{FOLDER}/_index.parquet", f"{FOLDER}/000003/note", key(0, "deep/er.tar"), "clips/d/x/000003/r000/a"]
    assert going([*strange, f"{FOLDER}/_manifests/000003/r000.json"], committed(0)) == {}


@given(
    revisions=st.integers(0, 4),
    objects=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["a.tar", "b.tar", "p.receipt.json"])), unique=True),
    listed=st.sets(st.tuples(st.integers(0, 6), st.sampled_from(["a.tar", "b.tar"]))),
)
def test_nothing_listed_and_nothing_above_the_highest_ever_goes(revisions, objects, listed):
    found = committed(*range(revisions), listed=tuple(key(*item) for item in listed))
    gone = going([key(*item) for item in objects], found)
    assert not found.listed & set(gone)
    assert all(place_of(FOLDER, name)[1] < revisions for name in gone)
    stays = {key(*item) for item in objects} - set(gone)
    assert all(name in found.listed or place_of(FOLDER, name)[1] >= revisions for name in stays)


def test_only_the_newest_recipes_stay():
    recipes = [Recipe(A, 10, 10), Recipe(B, 30, 30), Recipe(C, 20, 20)]
    gone, stayed = past_retention(recipes, Retention(2, frozenset(), before=100), {})
    assert (gone, stayed) == ({A: "not among the 2 newest recipes"}, {})


def test_a_keep_of_0_keeps_all():
    assert past_retention([Recipe(A, 10, 10)], Retention(0, frozenset(), before=100), {}) == ({}, {})


def test_a_named_recipe_goes_though_it_is_the_newest():
    gone, _ = past_retention([Recipe(A, 10, 10), Recipe(B, 30, 30)], Retention(1, frozenset({"b" * 12}), 100), {})
    assert gone == {A: "not among the 1 newest recipes", B: "named"}


def test_a_recipe_that_is_referred_to_stays_and_says_so():
    gone, stayed = past_retention([Recipe(A, 10, 10)], Retention(0, frozenset({"a" * 12}), 100), {A: "a run uses it"})
    assert (gone, stayed) == ({}, {A: "named, but a run uses it"})


def test_a_recipe_that_is_written_to_stays():
    gone, stayed = past_retention([Recipe(A, 10, 150)], Retention(0, frozenset({"a" * 12}), 100), {})
    assert (gone, stayed) == ({}, {A: "named, but written to lately"})


def test_a_recipe_without_a_manifest_is_not_among_those_that_are_counted():
    gone, staying = past_retention([Recipe(A, 0, 110), Recipe(B, 20, 20)], Retention(1, frozenset(), 100), {})
    assert gone == {}
    assert "written to lately" in staying[A]


def test_what_a_collection_left_that_was_broken_off_goes_with_the_next():
    gone, _ = past_retention([Recipe(A, 0, 10), Recipe(B, 20, 20)], Retention(1, frozenset(), 100), {})
    assert gone == {A: "without any manifest"}
    assert past_retention([Recipe(A, 0, 10)], Retention(0, frozenset(), 100), {})[0] == {}


def test_manifests_go_before_what_they_list_and_the_highest_of_them_last():
    manifests = [layout.manifest_key(FOLDER, shard, revision) for shard in (0, 1) for revision in (0, 1, 1000)]
    receipt, part = key(0, "p.receipt.json"), key(0, "p.tar")
    order = deletion_order(FOLDER, [part, receipt, *manifests, f"{FOLDER}/_index.parquet"])
    assert order == (
        [name for name in manifests if not name.endswith("r1000.json")],
        [name for name in manifests if name.endswith("r1000.json")],
        [receipt],
        [part, f"{FOLDER}/_index.parquet"],
    )


def test_the_folder_of_clips_is_read_from_whatever_lake_they_are_reached_by():
    for lake in ("s3://b", "file:///x/clips/y"):
        assert clips_folder_of(f"{lake}/{A}/_manifests/000003/r000.json") == A
    assert clips_folder_of("s3://b/source-000003.tar") is None


def test_only_hashes_are_recipes():
    assert is_recipe("0123456789ab")
    assert not is_recipe("0123456789abc")
    assert not is_recipe("_manifests")
