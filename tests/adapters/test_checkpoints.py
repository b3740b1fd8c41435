"""Checkpoints: whole or not at all, the last two, of this training only."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

from shardmill.adapters.checkpoints import Checkpoints, OtherTrainingError
from shardmill.adapters.store import DamagedObjectError, Store
from shardmill.specs.checkpoint import ArrayFile, Checkpoint

INPUTS = "0123456789ab"


def silent(line: str) -> None:
    raise AssertionError(line)


def checkpoint(examples: int, *files: ArrayFile, inputs: str = INPUTS) -> Checkpoint:
    return Checkpoint(
        inputs=inputs,
        seed=1,
        epoch=examples // 100,
        positions=(3, 4),
        steps=(7, 8),
        examples=examples,
        epoch_losses=((1.5, 3), (2.5, 4)),
        arrays=files,
        history=(),
        seconds=1.0,
    )


def put(checkpoints: Checkpoints, examples: int) -> ArrayFile:
    file = checkpoints.put_arrays({"weights": np.full(4, examples, np.float32)})
    checkpoints.put(checkpoint(examples, file))
    return file


def keys(lake: Store) -> list[str]:
    return [info.key for info in lake.list("checkpoints")]


def test_the_farthest_is_found_with_its_arrays(lake: Store) -> None:
    checkpoints = Checkpoints(lake, INPUTS)
    assert checkpoints.latest(silent) is None
    for examples in (90, 1000, 250):
        put(checkpoints, examples)
    found = checkpoints.latest(silent)
    assert found == checkpoint(1000, *found.arrays) if found else False
    assert checkpoints.arrays(found.arrays[0])["weights"].tolist() == [1000] * 4


def test_two_are_kept_with_their_arrays(lake: Store) -> None:
    checkpoints = Checkpoints(lake, INPUTS)
    for examples in range(100, 600, 100):
        put(checkpoints, examples)
    assert len(keys(lake)) == 4
    assert checkpoints.latest(silent).examples == 500


def test_arrays_that_a_kept_one_shares_with_an_old_one_stay(lake: Store) -> None:
    checkpoints = Checkpoints(lake, INPUTS)
    file = checkpoints.put_arrays({"weights": np.zeros(4, np.float32)})
    for examples in range(100, 600, 100):
        checkpoints.put(checkpoint(examples, file))
    assert checkpoints.latest(silent).examples == 500
    assert len(keys(lake)) == 3


def test_a_writer_that_died_before_the_commit_left_nothing_that_counts(lake: Store) -> None:
    checkpoints = Checkpoints(lake, INPUTS)
    put(checkpoints, 100)
    orphan = checkpoints.put_arrays({"weights": np.ones(9, np.float32)})
    assert checkpoints.latest(silent).examples == 100
    checkpoints.remove_orphans()
    assert orphan.key not in keys(lake)
    assert len(keys(lake)) == 2


def test_every_damaged_byte_of_the_last_one_makes_the_one_before_count(lake: Store) -> None:
    checkpoints, told = Checkpoints(lake, INPUTS), []
    put(checkpoints, 100)
    before = set(keys(lake))
    put(checkpoints, 200)
    whole = {key: lake.get(key) for key in set(keys(lake)) - before}
    for key, content in whole.items():
        for place in itertools.chain(range(0, len(content), 97), [len(content) - 1]):
            lake.put(key, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert checkpoints.latest(told.append).examples == 100, (key, place)
            for other in whole:  # the damaged one was removed
                lake.put(other, whole[other])
    assert told
    assert checkpoints.latest(silent).examples == 200


def test_damaged_ones_do_not_stand_in_the_way_of_new_ones(lake: Store) -> None:
    checkpoints, told = Checkpoints(lake, INPUTS), []
    for examples in (100, 200):
        lake.put(put(checkpoints, examples).key, b"damaged")
    assert checkpoints.latest(told.append) is None
    assert len(told) == 2
    put(checkpoints, 50)  # trained from the beginning, and not so far yet
    assert checkpoints.latest(silent).examples == 50
    checkpoints.remove_orphans()
    assert len(keys(lake)) == 2


def test_arrays_that_are_gone_make_the_one_before_count(lake: Store) -> None:
    checkpoints, told = Checkpoints(lake, INPUTS), []
    put(checkpoints, 100)
    lake.delete([put(checkpoints, 200).key])
    assert checkpoints.latest(told.append).examples == 100
    assert "cannot be used" in told[0]


def test_a_training_with_other_inputs_does_not_go_on_from_them(lake: Store) -> None:
    put(Checkpoints(lake, INPUTS), 100)
    with pytest.raises(OtherTrainingError, match=r"expected ba9876543210, found 0123456789ab.*new name"):
        Checkpoints(lake, "ba9876543210").latest(silent)


def test_nothing_is_unpickled(lake: Store) -> None:
    checkpoints = Checkpoints(lake, INPUTS)
    with pytest.raises(ValueError, match="plain numbers"):
        checkpoints.put_arrays({"weights": np.array([{}], dtype=object)})
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([{}], dtype=object))
    good = checkpoints.put_arrays({"weights": np.zeros(1, np.float32)})
    lake.put(good.key, buffer.getvalue())
    with pytest.raises(DamagedObjectError):
        checkpoints.arrays(good)
