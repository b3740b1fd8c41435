"""Audio features: of 64 log-mel bands, the mean and the standard deviation over each second, 128 values.

The mean says what sounds; the standard deviation says whether it beats, sweeps or stands still.
"""

from __future__ import annotations

from functools import cache

import numpy as np

SAMPLE_RATE = 16_000
"""Samples a second, mono."""
WINDOW = 400
"""25 ms."""
HOP = 160
"""10 ms."""
BANDS = 64
VALUES = 2 * BANDS
_FFT = 512
_LOWEST_HZ = 80.0
_HIGHEST_HZ = 7_600.0
_FLOOR = 1e-2
"""Added to magnitudes, of which a full-scale tone has about 100: 80 dB below it is silence."""


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


@cache
def mel_weights() -> np.ndarray:
    """Give the triangular weights that sum spectral magnitudes to bands, float64 [257, 64]."""
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), BANDS + 2)
    bins = _mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


@cache
def _hanning() -> np.ndarray:
    return np.hanning(WINDOW)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Give the logarithm (base 10) of the mel bands' magnitudes, a row each 10 ms.

    Args:
        samples: float [any], from -1 to 1, 16 kHz mono; fewer than a window are padded with silence.

    Returns:
        float64 [windows, 64], from -2 (silence) to about 2 (a tone at full scale).
    """
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(windows * _hanning(), _FFT))
    return np.log10(magnitudes @ mel_weights() + _FLOOR)


def describe_second(samples: np.ndarray) -> np.ndarray:
    """Describe one second (or the shorter last one) by 128 values: 64 means, then 64 standard deviations.

    Returns:
        float32 [128], from about -1.75 (silence, resp. no change) to 2. Silence stays above the lowest step of the
        quantisation, which is what padding looks like.
    """
    bands = log_mel(samples)
    means = (bands.mean(axis=0) + 2.0) * 0.9 - 1.75
    deviations = bands.std(axis=0) * 3.0 - 1.75
    return np.concatenate([means, deviations]).astype(np.float32)
