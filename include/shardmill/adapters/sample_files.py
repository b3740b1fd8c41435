"""Write the files of the generated sample: MP4 by libav, shards in tar."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from shardmill.core.sample_scenes import SAMPLE_RATE, Scene, render_pictures, render_sound

_CLOCK = 12_000
"""Ticks a second of the frames' times."""


def encode_scene(scene: Scene) -> bytes:
    """Draw a scene and encode it as H.264 and AAC in MP4; the same scene gives the same bytes.

    One thread each, for the bytes that x264 writes depend on how many it has; and no code for CPUs above AVX, which
    reads beyond the rows of pictures as narrow as these.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=scene.frame_rate)
        video.width, video.height, video.pix_fmt = scene.width, scene.height, "yuv420p"
        video.codec_context.time_base = Fraction(1, _CLOCK)
        video.codec_context.thread_count = 1
        video.options = {"preset": "veryfast", "crf": "26", "x264-params": "asm=avx"}
        samples = render_sound(scene)
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if len(samples) else None
        for picture, time in zip(render_pictures(scene), scene.frame_times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _encode_sound(container, audio, samples)
    return buffer.getvalue()


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of these files in order, whole or not at all; equal files give equal bytes."""
    unfinished = path.with_name(path.name + ".part")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
