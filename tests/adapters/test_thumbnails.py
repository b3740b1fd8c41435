from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest

from shardmill.adapters.thumbnails import MAX_WIDTH, NoPictureError, thumbnail


def clip(frames, *, size=(256, 128)) -> bytes:
    """Encode grey frames, one for each level."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for level in frames:
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def sound_only() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(body)), mode="r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize(("at", "level"), [(0.0, 20), (0.5, 120), (1.0, 220)])
def test_the_picture_is_the_frame_that_was_asked_for(at, level):
    picture = decoded(thumbnail(clip([20, 70, 120, 170, 220]), at))

    assert abs(float(picture.mean()) - level) < 6


def test_a_picture_keeps_its_shape_and_is_never_scaled_up():
    assert decoded(thumbnail(clip([50], size=(256, 128)))).shape == (96, MAX_WIDTH, 3)
    assert decoded(thumbnail(clip([50], size=(64, 48)))).shape == (48, 64, 3)
    assert decoded(thumbnail(clip([50], size=(322, 182)))).shape == (109, MAX_WIDTH, 3)


def test_a_picture_is_small():
    assert len(thumbnail(clip(range(0, 250, 10)))) < 12_000


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50, clip([10])[:300], sound_only()])
def test_what_holds_no_picture_is_refused(content):
    with pytest.raises(NoPictureError):
        thumbnail(content)
