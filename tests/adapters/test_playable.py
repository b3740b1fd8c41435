"""Clips that a page holds: each is decoded again out of its data: URI."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest

from shardmill.adapters.playable import MAX_BYTES, UnplayableError, playable


def film(*, size=(256, 128), codec="libx264", pixels="yuv420p", sound="aac", noise=0, form="mp4", frames=20) -> bytes:
    """Encode two seconds at 10 frames a second with a tone; ``noise`` makes it large."""
    random, target = np.random.default_rng(1), io.BytesIO()
    with av.open(target, "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        heard = container.add_stream(sound, rate=48_000, layout="stereo") if sound else None
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 10 * number, np.uint8)
            if noise:
                picture = random.integers(0, noise, picture.shape, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        if heard:
            tone = np.sin(np.arange(2 * 48_000) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, 0
            container.mux(heard.encode(frame))
            container.mux(heard.encode(None))
    return target.getvalue()


def content(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    assert head == "data:video/mp4;base64"
    return base64.b64decode(body, validate=True)


def decoded(clip: bytes) -> tuple[list[av.VideoFrame], float, dict[str, str]]:
    """Pictures, seconds of sound, and what the streams are encoded with."""
    with av.open(io.BytesIO(clip), mode="r") as container:
        assert "mp4" in container.format.name
        kinds = {stream.type: stream.codec_context.name for stream in container.streams}
        frames = list(container.decode())
        pictures = [frame for frame in frames if isinstance(frame, av.VideoFrame)]
        sound = sum(frame.samples / frame.sample_rate for frame in frames if isinstance(frame, av.AudioFrame))
    return pictures, sound, kinds


@pytest.mark.parametrize("sound", ["aac", None])
def test_a_clip_of_the_pipeline_is_embedded_as_it_is(sound):
    clip = film(sound=sound)
    assert content(playable(clip)) == clip
    assert len(decoded(clip)[0]) == 20


@pytest.mark.parametrize(
    "asked",
    [
        {"size": (640, 360)},
        {"codec": "mpeg4"},
        {"pixels": "yuv444p"},
        {"codec": "libvpx", "sound": "libopus", "form": "webm"},
        {"noise": 255},
    ],
    ids=["large, but plain", "of another codec", "of other colours", "of another format", "of many bytes"],
)
def test_what_comes_out_is_small_and_decodes_frame_by_frame(asked):
    clip = film(**asked)

    embedded = content(playable(clip))

    pictures, sound, kinds = decoded(embedded)
    assert len(embedded) <= MAX_BYTES
    assert len(pictures) == 20 and kinds == {"video": "h264", "audio": "aac"}
    assert {picture.format.name for picture in pictures} == {"yuv420p"}
    assert sound == pytest.approx(2.0, abs=0.1)
    if embedded != clip:
        assert pictures[0].width <= 256
    if "noise" not in asked:
        levels = [picture.to_ndarray(format="gray").mean() for picture in pictures]
        assert abs(levels[5] - 50) < 8 and abs(levels[15] - 150) < 8


def test_a_clip_that_stays_too_large_is_refused():
    with pytest.raises(UnplayableError, match="expected a clip that fits into 2,000 bytes"):
        playable(film(noise=255), 2_000)


@pytest.mark.parametrize("clip", [b"", b"no video at all" * 50, film()[:300]], ids=["nothing", "text", "cut short"])
def test_what_is_no_clip_is_refused(clip):
    with pytest.raises(UnplayableError):
        playable(clip)
