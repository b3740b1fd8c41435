from __future__ import annotations

from dataclasses import replace

import numpy as np

from shardmill.core.sample_scenes import Scene, render_pictures, render_sound

SCENE = Scene(7, ("sunrise", "rising"), seconds=3.0)


def test_a_sunset_is_a_sunrise_backwards():
    sunset = render_pictures(replace(SCENE, labels=("sunset", "rising")))
    assert all(np.array_equal(one, other) for one, other in zip(render_pictures(SCENE), sunset[::-1], strict=True))


def test_the_sound_does_not_change_the_pictures_nor_the_other_way():
    other = replace(SCENE, labels=("sunrise", "drum"))
    assert all(np.array_equal(*pair) for pair in zip(render_pictures(SCENE), render_pictures(other), strict=True))
    assert not np.array_equal(render_sound(SCENE), render_sound(other))
    board = replace(SCENE, labels=("checkerboard", "sunset", "rising"))
    assert np.array_equal(render_sound(SCENE), render_sound(board))


def test_a_sunrise_becomes_lighter():
    pictures = render_pictures(SCENE)
    assert len(pictures) == 36
    assert pictures[-1].mean() > pictures[0].mean() + 40


def test_a_scene_without_a_sound_label_has_no_sound():
    assert len(render_sound(replace(SCENE, labels=("sunset",)))) == 0
