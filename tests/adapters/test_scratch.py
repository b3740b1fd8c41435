"""Folders for unfinished files, and what is left of them where their process was killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shardmill.adapters.scratch import scratch_folder

_KILLED = """
import fcntl, os, signal, sys
from pathlib import Path
from shardmill.adapters import scratch
from shardmill.adapters.sandbox import find
from shardmill.adapters.scratch import scratch_folder

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "unlocked":
    fcntl.flock = lambda number, kind: None if kind & fcntl.LOCK_NB else die()
if sys.argv[2] == "trial":
    find.start_child = die
    find._try(find.Sandbox("namespaces", "/usr/bin/unshare"))
if sys.argv[2] == "removing":
    def remove_the_lock_first(folder, **options):
        if (Path(folder) / ".held").exists():
            (Path(folder) / ".held").unlink()
            die()
    scratch.shutil.rmtree = remove_the_lock_first
with scratch_folder("split-", Path(sys.argv[1])):
    if sys.argv[2] != "removing":
        die()
"""


def _kill_one(place: Path, what: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(place), what],
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(list(place.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    _kill_one(tmp_path, "split")
    with scratch_folder("other-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_killed_while_it_looked_for_a_sandbox_left_is_removed_by_the_next(tmp_path):
    _kill_one(tmp_path, "trial")
    with scratch_folder("split-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_what_a_process_killed_while_it_removed_its_folder_left_is_removed_by_the_next(tmp_path):
    _kill_one(tmp_path, "removing")
    with scratch_folder("other-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_in_use_stays(tmp_path):
    with scratch_folder("a-", tmp_path) as first, scratch_folder("b-", tmp_path) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_a_folder_whose_process_died_before_it_was_named_is_removed_by_the_next(tmp_path):
    _kill_one(tmp_path, "unlocked")
    with scratch_folder("other-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_while_another_process_makes_a_folder_only_old_ones_without_a_name_are_removed(tmp_path):
    old, new = tmp_path / ".shardmill-split-old", tmp_path / ".shardmill-split-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    maker = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(maker, fcntl.LOCK_SH)
        with scratch_folder("other-", tmp_path):
            assert not old.exists()
            assert new.exists()
    finally:
        os.close(maker)


def test_a_folder_is_lent_even_where_somebody_keeps_the_place_locked(tmp_path):
    keeper = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(keeper, fcntl.LOCK_EX)
        with scratch_folder("other-", tmp_path) as folder:
            assert folder.is_dir()
    finally:
        os.close(keeper)
    assert list(tmp_path.iterdir()) == []


def test_folders_made_by_many_at_once_are_all_kept_until_given_back(tmp_path):
    def lend(number):
        for _ in range(20):
            with scratch_folder(f"{number}-", tmp_path) as folder:
                (folder / "file").write_text("kept")
                assert (folder / "file").read_text() == "kept"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lend, range(8)))
    assert list(tmp_path.iterdir()) == []
