from __future__ import annotations

import numpy as np
import pytest

from shardmill.core.logmel import BANDS, SAMPLE_RATE, VALUES, describe_second, mel_weights
from shardmill.core.quantise import quantise

TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE


def test_a_higher_tone_lights_a_higher_band():
    bands = [
        int(describe_second(0.3 * np.sin(2 * np.pi * hertz * TIME))[:BANDS].argmax()) for hertz in (200, 800, 3200)
    ]
    assert bands == sorted(set(bands))


def test_silence_is_not_what_padding_looks_like():
    silence = describe_second(np.zeros(0, np.float32))
    assert np.array_equal(silence, describe_second(np.zeros(SAMPLE_RATE, np.float32)))
    assert quantise(silence).min() > 0


def test_a_tone_at_full_scale_stays_in_the_range():
    values = describe_second(np.sin(2 * np.pi * 1000 * TIME))
    assert values.shape == (VALUES,)
    assert values.min() > -2
    assert values.max() < 2.2


def test_a_beating_sound_deviates_more_than_a_steady_one():
    steady = np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE)
    beating = steady * (np.sin(2 * np.pi * 4 * TIME) > 0)
    assert describe_second(beating)[BANDS:].mean() > describe_second(steady)[BANDS:].mean() + 1


@pytest.mark.parametrize("samples", [1, 399, 401, 15_999, 16_000])
def test_a_shorter_last_second_is_described(samples):
    assert np.isfinite(describe_second(np.ones(samples, np.float32) * 0.1)).all()


def test_every_band_hears_something():
    assert (mel_weights().sum(axis=0) > 0).all()
