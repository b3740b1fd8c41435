from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shardmill.adapters.clip_reading import ClipError, read_footage
from shardmill.adapters.sample_files import encode_scene
from shardmill.core.sample_scenes import Scene

CLIP = Scene(3, ("sunrise", "rising"), seconds=2.0)


def footage(*scenes: Scene, clip_seconds: float = 2.0, max_frames: int = 300, numbers: tuple[int, ...] = ()):
    clips = [encode_scene(scene) for scene in scenes]
    return read_footage(clips, numbers or range(len(clips)), clip_seconds=clip_seconds, max_frames=max_frames)


@pytest.mark.parametrize(("last", "expected"), [(2.0, 4), (1.25, 4), (1.0, 3), (0.5, 3), (0.1, 3)])
def test_each_second_with_a_frame_gives_one(last, expected):
    found = footage(CLIP, replace(CLIP, seconds=last))
    assert found.frames.shape == (expected, 90, 160, 3)
    assert len(found.sound) == expected
    assert found.seconds == pytest.approx(2 + last, abs=1 / 12 + 0.01)


def test_the_frame_is_the_first_at_or_after_its_second():
    scene = replace(CLIP, times=(0.0, 0.5, 0.9, 1.3, 1.9))
    found = footage(scene)
    assert len(found.frames) == 2
    by_light = [frame.mean() for frame in found.frames]
    still = footage(replace(scene, times=(0.0, 0.5, 0.9, 1.0, 1.9)))
    assert by_light == pytest.approx([frame.mean() for frame in still.frames], abs=2)


def test_a_second_without_a_frame_gives_nothing():
    assert len(footage(replace(CLIP, times=(0.0, 0.4))).frames) == 1


def test_a_video_gives_at_most_so_many_frames():
    assert len(footage(CLIP, CLIP, CLIP, max_frames=3).frames) == 3


def test_clips_of_half_seconds_give_a_frame_a_second():
    half = replace(CLIP, seconds=0.5)
    assert len(footage(*[half] * 6, clip_seconds=0.5).frames) == 3


def test_the_sound_of_a_second_is_where_it_was():
    loud = footage(replace(CLIP, labels=("sunrise", "rising")))
    crossings = [np.count_nonzero(np.diff(np.signbit(samples))) for samples in loud.sound]
    assert [len(samples) for samples in loud.sound] == [16_000, pytest.approx(16_000, abs=1600)]
    assert crossings[1] > 1.5 * crossings[0]


def test_a_video_without_sound_has_empty_seconds():
    assert [len(samples) for samples in footage(replace(CLIP, labels=("sunset",))).sound] == [0, 0]


@pytest.mark.parametrize("damage", [b"", b"no clip at all", encode_scene(CLIP)[:3000]])
def test_a_damaged_clip_is_named(damage):
    with pytest.raises(ClipError, match="clip 000007"):
        read_footage([encode_scene(CLIP), damage], [6, 7], clip_seconds=2.0, max_frames=300)
