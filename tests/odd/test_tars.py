"""Tars with hostile names and headers, and tars that are not whole."""

from __future__ import annotations

import tarfile
from collections import Counter

import pytest
from odd.conftest import tar_of_members
from odd.inputs import MEMBERS, TARS
from odd.rows import Becomes, Ignored, OddMember
from odd.splitting import Place, Result, tar_of
from odd.test_files import each
from unpacking import unpack_tar

from shardmill.core.tar_header import DamagedTarError
from shardmill.jobs.split import EmptyShardError

ERRORS = {error.__name__: error for error in (DamagedTarError, EmptyShardError)}


def samples_of(row: OddMember) -> list:
    return [fate for fates in row.fates.values() for fate in fates if not isinstance(fate, Ignored)]


HARMLESS = {name: row for name, row in MEMBERS.items() if not row.fault}


def check(result: Result, row: OddMember) -> None:
    for key, fates in row.fates.items():
        expected = Counter(fate for fate in fates if not isinstance(fate, Ignored))
        assert Counter(result.fates(key)) == expected, result.words(key)


@pytest.mark.parametrize("name", HARMLESS)
def test_each_member_becomes_what_its_row_says(split_members: Result, name: str):
    check(split_members, MEMBERS[name])


@pytest.mark.parametrize("name", each({name: row for name, row in MEMBERS.items() if row.fault}))
def test_each_member_with_a_known_fault(tmp_path, short: bytes, name: str):
    place = Place(tmp_path)
    place.ingest(tar_of_members(short, [MEMBERS[name]]))
    place.split()
    check(place.result(), MEMBERS[name])


def test_the_good_videos_beside_odd_members_are_published(split_members: Result):
    assert split_members.fates("good-first") == split_members.fates("good-last") == [Becomes(1, 5)]
    expected = sum(len(samples_of(row)) for row in HARMLESS.values()) + 2
    assert split_members.manifest.samples_in == expected
    assert list(split_members.place.scratch.iterdir()) == []


def test_a_part_can_be_unpacked_by_those_who_trust_it(split_members: Result, tmp_path):
    for part in split_members.manifest.parts:
        (tmp_path / "part.tar").write_bytes(split_members.place.lake.get(part.name))
        with tarfile.open(tmp_path / "part.tar") as tar:
            assert all(member.isreg() for member in tar)
        unpack_tar(tmp_path / "part.tar", tmp_path / "unpacked")
    clips = list((tmp_path / "unpacked").rglob("*.mp4"))
    assert len(clips) == sum(video.clips for video in split_members.manifest.videos)


def test_each_refused_member_is_printed_in_one_line(split_members: Result):
    for reject in split_members.manifest.rejects:
        assert f"{reject.key}{reject.message}".isprintable()


@pytest.mark.parametrize("name", each(TARS))
def test_a_tar_that_is_not_whole_commits_nothing_and_says_why(tmp_path, short: bytes, name: str):
    row, place = TARS[name], Place(tmp_path)
    tar = tar_of([("a.mp4", short), ("b.mp4", short)])
    place.ingest(row.change(tar, short))
    with pytest.raises(ERRORS[row.fate.error], match=f"(?s)odd-000007.*({row.fate.words})"):
        place.split()
    assert place.manifest() is None
    assert list(place.scratch.iterdir()) == []
    assert place.processes() == []
