"""Sound: the same bytes on every CPU, and in step with the picture however long the video is."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shardmill.adapters.video import transcode
from shardmill.adapters.video.avx import UnfitCpuError, require_avx
from shardmill.adapters.video.cut import cut_video
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")
LAVFI = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
VOICE = "aevalsrc='0.3*sin(2*PI*440*t+3*sin(t*7))+0.2*(random(0)-0.5)|0.3*sin(2*PI*330*t)':s=44100:d=3"
AAC_FRAME = 1024
EARLY = Fraction(1, 10)


def hashes(source: Path, folder: Path) -> list[str]:
    folder.mkdir()
    done = cut_video(source, RECIPE, name="a", folder=folder, stop=threading.Event())
    return [hashlib.sha256(path.read_bytes()).hexdigest() for _, path in done.clips]


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [
        ("mp4", (*X264, "-c:a", "aac")),
        ("mp4", (*X264, "-c:a", "libmp3lame")),
        ("webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")),
        ("mkv", (*X264, "-c:a", "libvorbis")),
        ("mov", (*X264, "-c:a", "pcm_s16le", "-ar", "96000")),
        ("mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-c:a", "ac3")),
        ("mp4", ("-c:v", "libsvtav1", "-preset", "12", "-c:a", "aac")),
    ],
    ids=["h264-aac", "h264-mp3", "vp9-opus", "h264-vorbis", "h264-pcm96k", "hevc-ac3", "av1-aac"],
)
def test_clips_are_the_same_whatever_the_cpu_knows_beyond_avx(run_ffmpeg, tmp_path, monkeypatch, suffix, codecs):
    monkeypatch.setenv("SVT_LOG", "0")
    source = tmp_path / f"source.{suffix}"
    run_ffmpeg(*LAVFI, "testsrc2=s=160x90:r=25:d=3", *LAVFI, VOICE, "-pix_fmt", "yuv420p", *codecs, source)
    found = {"all": hashes(source, tmp_path / "all")}
    for flags in ("", "avx", "sse2", "0"):
        monkeypatch.setattr(transcode, "PICTURE_CPU_FLAGS", flags)
        found[flags] = hashes(source, tmp_path / f"flags {flags}")
    assert len({tuple(clips) for clips in found.values()}) == 1, found


def test_the_flags_do_reach_what_touches_sound(run_ffmpeg, tmp_path, monkeypatch):
    source = tmp_path / "source.mp4"
    run_ffmpeg(*LAVFI, "testsrc2=s=64x48:r=25:d=3", *LAVFI, VOICE, *X264, "-c:a", "aac", source)
    found = [hashes(source, tmp_path / "pinned")]
    monkeypatch.setattr(transcode, "SOUND_CPU_FLAGS", "sse2")
    found.append(hashes(source, tmp_path / "others"))
    assert len({tuple(clips) for clips in found}) == 2


def test_a_cpu_without_avx_is_refused(tmp_path):
    require_avx()
    old = tmp_path / "cpuinfo"
    old.write_text("processor\t: 0\nflags\t\t: fpu sse sse2 avx2ish\n")
    with pytest.raises(UnfitCpuError, match="AVX"):
        require_avx(old)


def check_clicks(run_ffmpeg: Callable[..., None], folder: Path, codec: tuple[str, ...], seconds: int) -> None:
    """Make a video with a click each 3.7 s, cut it, and look where the clicks are."""
    source, every = folder / "source.mkv", Fraction(37, 10)
    clicks = rf"aevalsrc='0.9*lt(mod(t\,3.7)\,0.004)*sin(2*PI*1500*t)':s=16000:d={seconds}"
    run_ffmpeg(*LAVFI, f"color=s=64x48:r=2:d={seconds}", *LAVFI, clicks, *X264, *codec, source)
    (folder / "clips").mkdir()
    recipe = RECIPE.model_copy(update={"clip_seconds": 10.0})
    done = cut_video(source, recipe, name="a", folder=folder / "clips", stop=threading.Event())
    assert len(done.clips) == seconds // 10
    heard = 0
    for number, path in done.clips:
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
            samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        expected = [
            k * every - number * 10 for k in range(int(number * 10 / every), int((number + 1) * 10 / every) + 1)
        ]
        for moment in expected:
            if 0.2 <= moment < 9.8:
                around = samples[int((moment - EARLY) * rate) : int((moment + EARLY) * rate)]
                loud = np.flatnonzero(np.abs(around) > 0.2)
                assert loud.size, (number, float(moment))
                assert abs(int(loud[0]) - int(EARLY * rate)) <= AAC_FRAME, (number, float(moment))
                heard += 1
    assert heard >= seconds // 4


CODECS = {
    "aac": ("-c:a", "aac"),
    "mp3": ("-c:a", "libmp3lame"),
    "opus": ("-c:a", "libopus"),
    "vorbis": ("-c:a", "libvorbis"),
}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_clicks_stay_in_their_place_for_three_minutes(run_ffmpeg, tmp_path, codec):
    check_clicks(run_ffmpeg, tmp_path, codec, 180)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [CODECS["aac"], CODECS["opus"]], ids=["aac", "opus"])
def test_clicks_stay_in_their_place_for_two_hours(run_ffmpeg, tmp_path, codec):
    check_clicks(run_ffmpeg, tmp_path, codec, 7200)
