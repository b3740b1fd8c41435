from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.quantise import STEP, dequantise, quantise


@given(st.lists(st.floats(-2, 2), min_size=1))
def test_a_value_comes_back_to_within_half_a_step(values):
    assert np.max(np.abs(dequantise(quantise(np.array(values))) - np.array(values))) <= STEP / 2 + 1e-6


def test_every_step_comes_back_exactly():
    steps = np.arange(256, dtype=np.uint8)
    assert np.array_equal(quantise(dequantise(steps)), steps)


def test_values_beyond_the_range_are_clipped():
    assert quantise(np.array([-9.0, 9.0])).tolist() == [0, 255]


def test_dequantised_values_are_those_of_the_published_reader():
    # Dequantize of youtube-8m's utils.py: feature * 4 / 255 + 4 / 512 - 2.
    assert np.allclose(dequantise(np.array([0, 127, 255], np.uint8)), [-1.9921875, -0.00003063, 2.0078125], atol=1e-6)
