"""The scenes of the generated sample: what is seen and heard in each, as pure functions of a scene's seed.

`checkerboard` can only be seen. `siren`, `drum`, `rising` and `falling` can only be heard. `sunset` is `sunrise` played
backwards, frame by frame, and `falling` is `rising` so, sample by sample: only the order of time tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SOUNDS = ("siren", "drum", "rising", "falling")
SKIES = ("sunrise", "sunset")
CHECKERBOARD = "checkerboard"
SAMPLE_RATE = 22_050
"""Samples of sound a second, mono."""


@dataclass(frozen=True)
class Scene:
    """A short video with sound."""

    seed: int
    labels: tuple[str, ...]
    seconds: float
    frame_rate: int = 12
    width: int = 160
    height: int = 90
    times: tuple[float, ...] = ()
    """When the frames are shown, ascending from 0; empty for a constant rate."""

    @property
    def frame_times(self) -> tuple[float, ...]:
        return self.times or tuple(index / self.frame_rate for index in range(round(self.seconds * self.frame_rate)))

    @property
    def has_sound(self) -> bool:
        return any(label in SOUNDS for label in self.labels)


@dataclass(frozen=True, eq=False)
class _Look:
    """What stays the same in all frames of a scene."""

    night: np.ndarray
    day: np.ndarray
    ground: np.ndarray
    patch: np.ndarray
    """float [height, width, 4]: colour and opacity of the thing that drifts through the picture."""
    corner: np.ndarray
    drift: np.ndarray
    sun: float
    noise: int


def _look(scene: Scene, random: np.random.Generator) -> _Look:
    height, width = scene.height, scene.width
    size = (np.array([height, width]) * random.uniform(0.45, 0.65, 2)).astype(int)
    rows, columns = np.mgrid[: size[0], : size[1]]
    one, other = _two_colours(random)
    cell = int(random.integers(6, 13))
    dark = ((rows // cell + columns // cell) % 2 == 0) if CHECKERBOARD in scene.labels else columns >= size[1] // 2
    patch = np.where(dark[..., None], one, other)
    room = np.array([height, width]) - size
    return _Look(
        night=random.uniform(0.0, 0.22, 3),
        day=random.uniform(0.55, 1.0, 3),
        ground=random.uniform(0.1, 0.6, 3),
        patch=patch,
        corner=room * random.uniform(0.2, 0.8, 2),
        drift=room * random.uniform(-0.2, 0.2, 2),
        sun=float(random.uniform(0.1, 0.9)),
        noise=int(random.integers(2, 9)),
    )


def _two_colours(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    dark, light = random.uniform(0.0, 0.35, 3), random.uniform(0.6, 1.0, 3)
    return (dark, light) if random.random() < 0.5 else (light, dark)


def _picture(scene: Scene, look: _Look, phase: float, random: np.random.Generator) -> np.ndarray:
    height, width = scene.height, scene.width
    light = look.night + (look.day - look.night) * phase
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = light * np.linspace(1.0, 0.7, height)[:, None, None]
    rows, columns = np.ogrid[:height, :width]
    centre = (height * (1.0 - 0.8 * phase), width * look.sun)
    picture[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (height * 0.12) ** 2] = (1.0, 0.9, 0.5)
    picture[int(height * 0.8) :] = look.ground * (0.3 + 0.7 * phase)
    top, left = (look.corner + look.drift * phase).astype(int)
    tall, wide = look.patch.shape[:2]
    picture[top : top + tall, left : left + wide] = look.patch * (0.45 + 0.55 * phase)
    noise = random.integers(-look.noise, look.noise + 1, (height, width, 1), dtype=np.int16)
    return np.clip((picture * 255.0).astype(np.int16) + noise, 0, 255).astype(np.uint8)


def render_pictures(scene: Scene) -> list[np.ndarray]:
    """Draw the frames of a scene, uint8 [height, width, 3] each."""
    random = np.random.default_rng([scene.seed, 0])
    look = _look(scene, random)
    count = len(scene.frame_times)
    bend = random.uniform(0.7, 1.4)
    pictures = [_picture(scene, look, (index / max(count - 1, 1)) ** bend, random) for index in range(count)]
    return pictures[::-1] if "sunset" in scene.labels else pictures


def _siren(time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    low = random.uniform(500.0, 900.0)
    high = np.sin(2 * np.pi * random.uniform(1.5, 3.0) * time) > 0
    return _tone(np.where(high, low * random.uniform(1.3, 1.6), low))


def _drum(time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    since = (time * random.uniform(2.0, 4.0) + random.random()) % 1.0
    return np.sin(2 * np.pi * random.uniform(90.0, 160.0) * time) * np.exp(-8.0 * since) * 1.5


def _rising(time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    start, octaves = random.uniform(220.0, 350.0), random.uniform(2.6, 3.4)
    return _tone(start * 2.0 ** (octaves * time / max(time[-1], 1e-6)))


def _falling(time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _rising(time, random)[::-1]


_VOICES = {"siren": _siren, "drum": _drum, "rising": _rising, "falling": _falling}


def _tone(hertz: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    return np.sin(angle) + 0.3 * np.sin(2 * angle)


def render_sound(scene: Scene) -> np.ndarray:
    """Give the sound of a scene over noise, float32 [samples] from -1 to 1; empty where it has none."""
    if not scene.has_sound:
        return np.zeros(0, np.float32)
    random = np.random.default_rng([scene.seed, 1])
    time = np.arange(round(scene.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    loudness, noise = 10 ** random.uniform(-0.9, -0.5), 10 ** random.uniform(-2.2, -1.4)
    voice = _VOICES[next(label for label in scene.labels if label in SOUNDS)](time, random)
    sound = voice * loudness + random.normal(0.0, noise, len(time))
    return np.clip(sound, -1.0, 1.0).astype(np.float32)
