"""Frames, their padding, and the ablations made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmill.core import ablations
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES, fill_batch, multi_hot, real_frames, stack_frames


def video(seconds: int, max_frames: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (seconds, RGB_VALUES), np.uint8)
    return stack_frames(rgb, random.integers(0, 256, (seconds, AUDIO_VALUES), np.uint8), max_frames)


MEANS = ablations.TrainingMeans(np.full(RGB_VALUES, 7, np.uint8), np.full(AUDIO_VALUES, 9, np.uint8))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 4))
def test_padding_is_told_from_frames(seconds: int, padding: int) -> None:
    assert real_frames(video(seconds, seconds + padding)).tolist() == [True] * seconds + [False] * padding


def test_a_real_frame_of_zeros_is_not_taken_for_padding() -> None:
    frames = stack_frames(np.zeros((2, RGB_VALUES), np.uint8), np.zeros((2, AUDIO_VALUES), np.uint8), 4)
    assert real_frames(frames).tolist() == [True, True, False, False]
    assert frames.sum() == 2


def test_records_that_do_not_fit_are_refused() -> None:
    rgb, audio = np.zeros((3, RGB_VALUES), np.uint8), np.zeros((3, AUDIO_VALUES), np.uint8)
    with pytest.raises(ValueError, match="1 to 2 frames in a record, found 3"):
        stack_frames(rgb, audio, 2)
    with pytest.raises(ValueError, match="expected rgb"):
        stack_frames(rgb, audio[:2], 3)
    with pytest.raises(ValueError, match="another vocabulary"):
        multi_hot((0, 3), 3)


def test_the_ablations_change_only_what_they_name() -> None:
    batch = np.stack([video(3, 5, seed=1), video(5, 5, seed=2)])
    made = ablations.variants(batch, ["a", "b"], MEANS, seed=3)
    assert list(made) == ["full", "rgb_only", "audio_only", "shuffled_frames"]
    full, rgb_only, audio_only, shuffled = made.values()
    assert (full == batch).all()
    real = real_frames(batch)
    assert (rgb_only[..., :RGB_VALUES] == batch[..., :RGB_VALUES]).all()
    assert (rgb_only[real][:, RGB_VALUES:] == 9).all()
    assert (audio_only[..., RGB_VALUES:] == batch[..., RGB_VALUES:]).all()
    assert (audio_only[real][:, :RGB_VALUES] == 7).all()
    for variant in (rgb_only, audio_only, shuffled):
        assert (real_frames(variant) == real).all()
    for before, after in zip(batch, shuffled, strict=True):
        assert sorted(map(bytes, before)) == sorted(map(bytes, after))
    assert (shuffled != batch).any()


def test_ablations_that_make_no_sense_are_left_out() -> None:
    means = np.random.default_rng(0).normal(size=(3, RGB_VALUES + AUDIO_VALUES)).astype(np.float32)
    of_training = ablations.TrainingMeans(np.full(RGB_VALUES, 0.5, np.float32), np.full(AUDIO_VALUES, -1, np.float32))
    made = ablations.variants(means, ["a", "b", "c"], of_training, seed=3)
    assert list(made) == ["full", "rgb_only", "audio_only"]
    assert (made["rgb_only"][:, :RGB_VALUES] == means[:, :RGB_VALUES]).all()
    assert (made["rgb_only"][:, RGB_VALUES:] == -1).all()
    assert (made["audio_only"][:, :RGB_VALUES] == 0.5).all()
    assert (made["audio_only"][:, RGB_VALUES:] == means[:, RGB_VALUES:]).all()
    assert list(ablations.variants(means, ["a", "b", "c"], None, seed=3)) == ["full"]
    assert list(ablations.variants(video(2, 3)[None], ["a"], None, seed=3)) == ["full", "shuffled_frames"]


def test_the_order_of_a_shuffled_video_does_not_depend_on_its_batch() -> None:
    first, second = video(4, 5, seed=1), video(5, 5, seed=2)
    together = ablations.variants(np.stack([first, second]), ["a", "b"], MEANS, seed=3)["shuffled_frames"]
    alone = ablations.variants(second[None], ["b"], MEANS, seed=3)["shuffled_frames"]
    assert (together[1] == alone[0]).all()


def test_sums_of_records_give_the_means_over_real_frames_only() -> None:
    videos = [video(2, 6, seed=4), video(5, 6, seed=5)]
    truths = [multi_hot((0,), 3), multi_hot((0, 2), 3)]
    sums = sum(map(ablations.sum_record, videos, truths), ablations.no_sums(3))
    real = np.concatenate(videos)[real_frames(np.concatenate(videos))]
    assert (sums.records, sums.frames, sums.labels.tolist()) == (2, 7, [2, 0, 1])
    expected = np.rint(real.mean(axis=0))
    assert (np.concatenate([sums.means.rgb, sums.means.audio]) == expected).all()
    assert ablations.constant_scores((2, 0, 1), 2, 2).tolist() == [[1.0, 0.0, 0.5]] * 2


def test_a_filled_batch_holds_no_video_of_padding_alone() -> None:
    filled = fill_batch(video(2, 3)[None], 4)
    assert filled.shape[0] == 4
    assert real_frames(filled).any(axis=1).all()
