"""Odd videos, cut by the real ffmpeg and looked at by PyAV."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from shardmill.adapters.process import list_processes, read_process
from shardmill.adapters.video.cut import CutVideo, cut_video
from shardmill.adapters.video.error import StoppedError, VideoError
from shardmill.adapters.video.probe import best_ticks, probe
from shardmill.specs.recipes import SplitRecipe

RECIPE = SplitRecipe(width=64, height=32, preset="ultrafast")
TESTSRC = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@dataclass(frozen=True)
class Seen:
    """A clip as PyAV reads it."""

    times: tuple[Fraction, ...]
    length: Fraction
    key: bool
    size: tuple[int, int]
    audio: tuple[str, int, int] | None
    """Codec, rate and channels."""
    samples: np.ndarray


def see(path: Path) -> Seen:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        length = stream.duration * stream.time_base
        frames = list(container.decode(stream))
        times = tuple(frame.pts * frame.time_base for frame in frames)
        audio, samples = None, np.zeros((1, 0), np.float32)
        if container.streams.audio:
            context = container.streams.audio[0].codec_context
            audio = (context.name, context.sample_rate, context.channels)
            container.seek(0)
            samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        return Seen(times, length, frames[0].key_frame, (frames[0].width, frames[0].height), audio, samples)


def source_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        shown = [(frame.pts, frame.dts) for frame in container.decode(video=0)]
        return [tick * base for tick in best_ticks(shown)]


def cut(path: Path, folder: Path, recipe: SplitRecipe = RECIPE) -> CutVideo:
    folder.mkdir()
    return cut_video(path, recipe, name="a.mp4", folder=folder, stop=threading.Event())


def check_exact(path: Path, done: CutVideo, clip_seconds: Fraction = Fraction(2)) -> list[Seen]:
    """Compare a video's clips with its frames. Returns the clips."""
    times = source_times(path)
    expected: dict[int, list[Fraction]] = {}
    for moment in times:
        expected.setdefault((moment - times[0]) // clip_seconds, []).append(moment)
    assert [number for number, _ in done.clips] == list(expected)
    clips = [see(clip) for _, clip in done.clips]
    for clip, shown in zip(clips, expected.values(), strict=True):
        assert clip.times == tuple(time - shown[0] for time in shown)
        assert clip.key
    longest = max((after - before for before, after in pairwise(times)), default=Fraction(1, 25))
    for clip in clips[:-1]:
        assert abs(clip.length - clip_seconds) <= longest
    assert done.frames == len(times)
    return clips


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source.mp4"


def test_a_video_with_sound_is_cut_on_the_grid(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=160x90:r=25:d=5", *TESTSRC, "sine=f=440:r=22050:d=5", *X264, "-c:a", "aac", source)
    done = cut(source, tmp_path / "clips")
    clips = check_exact(source, done)
    assert [clip.length for clip in clips] == [2, 2, 1]
    assert all(clip.audio == ("aac", 22050, 1) for clip in clips)
    assert all(clip.size == (64, 32) for clip in clips)
    assert done.seconds == 5.0


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "1", "60", "3/2", "1000/333"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_any_frame_rate_is_cut_without_loss(run_ffmpeg, tmp_path, rate, suffix):
    source = tmp_path / f"source.{suffix}"
    run_ffmpeg(*TESTSRC, f"testsrc2=s=64x48:r={rate}:d=7", *X264, "-bf", "2", source)
    check_exact(source, cut(source, tmp_path / "clips"))


@pytest.mark.parametrize("picked", ["1", r"not(mod(n\,7))+not(mod(n\,3))*lt(t\,3)+gt(t\,4.1)*lt(t\,4.9)"])
def test_clips_hold_b_frames_and_begin_at_0(run_ffmpeg, source, tmp_path, picked):
    selected = ("-vf", f"select='{picked}'", "-fps_mode", "vfr")
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=30:d=5", *TESTSRC, "sine=d=5", *selected, *X264, "-c:a", "aac", source)
    done = cut(source, tmp_path / "clips", RECIPE.model_copy(update={"preset": "veryfast"}))
    clips = check_exact(source, done)
    for (_, path), clip in zip(done.clips, clips, strict=True):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            assert stream.start_time == 0
            assert abs(stream.duration * stream.time_base - clip.length) <= Fraction(1, 1000)
        assert [packet.is_keyframe for packet in packets] == [True] + [False] * (len(packets) - 1)
        assert all(before.dts < after.dts for before, after in pairwise(packets))
        assert all(packet.dts <= packet.pts for packet in packets)
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        assert any(frame.pict_type == PictureType.B for frame in frames)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs an ffprobe that is not ours")
def test_another_build_reads_clips_with_b_frames_from_0_to_their_end(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=3.2", *TESTSRC, "sine=d=4", *X264, "-c:a", "aac", source)
    for (_, path), length, frames in zip(cut(source, tmp_path / "clips").clips, (2.0, 1.2), ("50", "30"), strict=True):
        shown = subprocess.run(
            ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", str(path)],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        read = json.loads(shown.stdout)
        video, audio = read["streams"]
        assert not shown.stderr
        assert (float(video["start_time"]), float(video["duration"]), video["nb_frames"]) == (0, length, frames)
        assert (float(audio["start_time"]), float(audio["duration"])) == (0, pytest.approx(length, abs=0.001))
        times = [packet["pts"] for packet in read["packets"] if packet["codec_type"] == "video"]
        assert (min(times), sorted(times) != times) == (0, True)


def test_a_variable_rate_stays_variable(run_ffmpeg, source, tmp_path):
    picked = r"select='not(mod(n\,7))+not(mod(n\,3))*lt(t\,3)+gt(t\,4.1)*lt(t\,4.9)'"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=30:d=9", "-vf", picked, "-fps_mode", "vfr", *X264, source)
    clips = check_exact(source, cut(source, tmp_path / "clips"))
    gaps = {after - before for clip in clips for before, after in pairwise(clip.times)}
    assert len(gaps) > 3


def test_a_pause_longer_than_a_clip_leaves_its_spans_without_clips(run_ffmpeg, source, tmp_path):
    picked = r"select='lt(t\,1)+gt(t\,6.5)'"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=10:d=8", "-vf", picked, "-fps_mode", "vfr", *X264, source)
    done = cut(source, tmp_path / "clips")
    clips = check_exact(source, done)
    assert [number for number, _ in done.clips] == [0, 3]
    assert clips[0].length == 2


def test_a_video_shorter_than_a_clip_is_one_clip(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=0.2", *X264, source)
    (clip,) = check_exact(source, cut(source, tmp_path / "clips"))
    assert clip.length == Fraction(1, 5)


def test_a_single_frame_is_one_clip(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25", "-frames:v", "1", *X264, source)
    (clip,) = check_exact(source, cut(source, tmp_path / "clips"))
    assert clip.times == (0,)


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [
        ("mp4", ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "libmp3lame")),
        ("webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")),
        (
            "webm",
            ("-c:v", "libvpx", "-cpu-used", "8", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-c:a", "libvorbis"),
        ),
        ("avi", ("-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame")),
        ("avi", ("-c:v", "libx264", "-preset", "veryfast", "-c:a", "pcm_s16le")),
        ("mkv", ("-c:v", "ffv1", "-c:a", "flac")),
        ("mov", ("-c:v", "mjpeg", "-c:a", "pcm_s24le", "-ac", "6")),
        ("mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-c:a", "ac3")),
        ("mp4", ("-c:v", "libsvtav1", "-preset", "12", "-c:a", "aac", "-ac", "2")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1] + "+" + value[value.index("-c:a") + 1],
)
def test_codecs_and_containers(run_ffmpeg, tmp_path, suffix, codecs, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "0")
    source = tmp_path / f"source.{suffix}"
    inputs = (*TESTSRC, "testsrc2=s=128x96:r=25:d=3", *TESTSRC, "sine=f=440:r=48000:d=3")
    run_ffmpeg(*inputs, "-pix_fmt", "yuv420p", *codecs, source)
    clips = check_exact(source, cut(source, tmp_path / "clips"))
    assert [clip.length for clip in clips] == [2, 1]
    for clip in clips:
        assert clip.audio is not None
        assert clip.audio[:2] == ("aac", 24000)
        assert abs(clip.samples.shape[1] / 24000 - clip.length) < 0.1


def test_the_sound_stays_with_its_picture(run_ffmpeg, source, tmp_path):
    # A click at 0.5 s and each second from then on, in a sound that begins 0.4 s before the picture.
    clicks = r"aevalsrc='0.9*lt(mod(t+0.5\,1)\,0.005)':s=16000:d=6"
    run_ffmpeg(
        *TESTSRC, clicks, "-itsoffset", "0.4", *TESTSRC, "testsrc2=s=64x48:r=25:d=5", "-map", "1:v", "-map", "0:a",
        *X264, "-c:a", "flac", "-strict", "-2", source,
    )  # fmt: skip
    for _, path in cut(source, tmp_path / "clips").clips:
        samples = see(path).samples[0]
        for second in range(2):
            heard = np.flatnonzero(np.abs(samples[second * 16000 : (second + 1) * 16000]) > 0.3)
            if heard.size:  # the last clip is one second long
                assert abs(heard[0] / 16000 - 0.1) < 0.002


def test_a_sound_that_is_over_before_the_picture_or_begins_behind_it_is_none(run_ffmpeg, tmp_path):
    for name, offset in (
        ("before", ("-itsoffset", "4", *TESTSRC, "testsrc2=s=64x48:r=25:d=1", *TESTSRC, "sine=d=3")),
        ("behind", (*TESTSRC, "testsrc2=s=64x48:r=25:d=1", "-itsoffset", "5", *TESTSRC, "sine=d=3")),
    ):
        source = tmp_path / f"{name}.mkv"
        run_ffmpeg(*offset, *X264, "-c:a", "flac", source)
        (clip,) = check_exact(source, cut(source, tmp_path / name))
        assert clip.audio is None


def test_a_sound_that_begins_late_is_silent_until_then_and_one_that_ends_early_ends(run_ffmpeg, tmp_path):
    source = tmp_path / "source.mkv"
    run_ffmpeg(
        *TESTSRC, "testsrc2=s=64x48:r=25:d=8", "-itsoffset", "1", *TESTSRC, "sine=f=440:r=16000:d=2.5",
        *X264, "-c:a", "flac", source,
    )  # fmt: skip
    clips = check_exact(source, cut(source, tmp_path / "clips"))
    assert [clip.audio is not None for clip in clips] == [True, True, False, False]
    assert np.abs(clips[0].samples[0][: 16000 - 1100]).max() < 0.01
    assert np.abs(clips[0].samples[0][16000 + 200 : 32000]).max() > 0.05
    assert abs(clips[1].samples.shape[1] - 1.5 * 16000) <= 2048


def test_a_turned_video_is_shown_upright(run_ffmpeg, tmp_path):
    flat, source = tmp_path / "flat.mp4", tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "color=white:s=64x32:r=25:d=1", *X264, flat)
    run_ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", source)
    (_, path), *_ = cut(source, tmp_path / "clips").clips
    with av.open(str(path)) as container:
        grey = next(container.decode(video=0)).to_ndarray(format="gray")
    assert grey.shape == (32, 64)
    lit = np.flatnonzero(grey[16] > 128)
    assert (lit[0], lit[-1]) == (24, 39)  # 16x32 in the middle


# Of 64x21 ffmpeg's `pad` keeps 20 lines, for colours come in pairs of lines; in the well-known pipeline too.
@pytest.mark.parametrize(
    ("size", "sample_aspect", "lit"),
    [("99x33", "1", (64, 20)), ("33x99", "1", (10, 32)), ("32x32", "2", (64, 32)), ("64x32", "1/2", (32, 32))],
)
def test_a_picture_is_fitted_and_padded_with_black(run_ffmpeg, tmp_path, size, sample_aspect, lit):
    source = tmp_path / "source.mkv"
    run_ffmpeg(*TESTSRC, f"color=white:s={size}:r=25:d=0.4", "-vf", f"setsar={sample_aspect}", "-c:v", "ffv1", source)
    (_, path), *_ = cut(source, tmp_path / "clips").clips
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)
    grey = frame.to_ndarray(format="gray") > 128
    assert (grey.any(0).sum(), grey.any(1).sum()) == lit


def test_a_cover_picture_is_not_the_video(run_ffmpeg, tmp_path):
    cover, source = tmp_path / "cover.png", tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "color=red:s=16x16", "-frames:v", "1", cover)
    run_ffmpeg(
        "-i", cover, *TESTSRC, "testsrc2=s=64x48:r=25:d=1", "-map", "0", "-map", "1", "-c:v:0", "png",
        "-c:v:1", "libx264", "-disposition:v:0", "attached_pic", source,
    )  # fmt: skip
    assert cut(source, tmp_path / "clips").frames == 25


def test_a_source_whose_packets_are_not_its_frames_is_cut_by_its_frames(run_ffmpeg, tmp_path):
    whole, source = tmp_path / "whole.mp4", tmp_path / "source.mp4"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=6", *X264, "-g", "50", "-bf", "0", whole)
    run_ffmpeg("-ss", "1", "-i", whole, "-c", "copy", source)  # an edit list hides the first second
    check_exact(source, cut(source, tmp_path / "clips"))


def test_the_same_video_gives_the_same_bytes(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=160x90:r=25:d=5", *TESTSRC, "sine=f=440:d=5", *X264, "-c:a", "aac", source)
    first, second = cut(source, tmp_path / "1"), cut(source, tmp_path / "2")
    assert [path.read_bytes() for _, path in first.clips] == [path.read_bytes() for _, path in second.clips]


@pytest.mark.parametrize("clip_seconds", [0.5, 1.7, 10.0])
def test_any_clip_length(run_ffmpeg, source, tmp_path, clip_seconds):
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=30000/1001:d=4", *X264, source)
    done = cut(source, tmp_path / "clips", RECIPE.model_copy(update={"clip_seconds": clip_seconds}))
    check_exact(source, done, Fraction(str(clip_seconds)))


def test_the_source_is_described_as_ffprobe_would(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=160x90:r=25:d=1", *TESTSRC, "sine=f=440:r=44100:d=1", *X264, "-c:a", "aac", source)
    facts = probe(source, "---k.mp4").facts
    json.dumps(facts)
    assert facts["format"]["filename"] == "---k.mp4"
    assert facts["format"]["format_name"] == "mov,mp4,m4a,3gp,3g2,mj2"
    assert facts["format"]["size"] == str(source.stat().st_size)
    video, audio = facts["streams"]
    assert (video["codec_name"], video["width"], video["avg_frame_rate"], video["nb_frames"]) == (
        "h264",
        160,
        "25/1",
        "25",
    )
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", "44100", 1)
    assert (video["duration"], video["start_time"]) == ("1.000000", "0.000000")


def refusal(path: Path, folder: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        cut(path, folder)
    assert not str(caught.value.detail).count(str(path.parent))
    return caught.value


@pytest.mark.parametrize(
    "content", [b"", b"Hello, this is text.\n" * 100, b"\x00\xff\x13" * 5000, b"#!/bin/sh\nexit 0\n"]
)
def test_what_is_no_video_is_refused(source, tmp_path, content):
    source.write_bytes(content)
    assert refusal(source, tmp_path / "clips").reason == "not_a_video"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{other}'\n",
        '<?xml version="1.0"?><MPD><BaseURL>{other}</BaseURL></MPD>',
    ],
    ids=["hls", "hls-http", "concat", "dash"],
)
def test_a_playlist_in_disguise_reads_no_other_file(run_ffmpeg, source, tmp_path, text):
    other = tmp_path / "other.ts"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=1", *X264, other)
    source.write_text(text.format(other=other))
    assert refusal(source, tmp_path / "clips").reason == "not_a_video"


def test_a_file_of_sound_only_is_refused(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "sine=d=1", "-c:a", "aac", source)
    error = refusal(source, tmp_path / "clips")
    assert (error.reason, "audio" in error.message) == ("no_video_stream", True)


@pytest.mark.parametrize("codec", ["avc1", "sowt"])
def test_a_codec_that_nobody_knows_is_refused(run_ffmpeg, tmp_path, codec):
    source = tmp_path / "source.mov"
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=1", *TESTSRC, "sine=d=1", *X264, "-c:a", "pcm_s16le", source)
    content = source.read_bytes()
    assert codec.encode() in content
    source.write_bytes(content.replace(codec.encode(), b"zzzz"))
    error = refusal(source, tmp_path / "clips")
    assert (error.reason, "codec" in error.message) == ("unsupported", True)


@pytest.mark.parametrize("movflags", ["", "+faststart"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(run_ffmpeg, source, tmp_path, movflags, share):
    flags = ("-movflags", movflags) if movflags else ()
    run_ffmpeg(*TESTSRC, "testsrc2=s=160x90:r=25:d=5", *TESTSRC, "sine=d=5", *X264, "-c:a", "aac", *flags, source)
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * share)])
    error = refusal(source, tmp_path / "clips")
    assert error.reason in ("damaged", "not_a_video")
    assert error.message


def test_flipped_bytes_are_refused_with_the_words_of_ffmpeg(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=160x90:r=25:d=5", *X264, source)
    damaged = bytearray(source.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = bytes(reversed(damaged[middle : middle + 400]))
    source.write_bytes(damaged)
    error = refusal(source, tmp_path / "clips")
    assert (error.reason, bool(error.message)) == ("damaged", True)


def test_a_video_that_takes_too_long_is_refused(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=1280x720:r=30:d=8", *X264, source)
    (tmp_path / "clips").mkdir()
    with pytest.raises(VideoError) as caught:
        cut_video(
            source, SplitRecipe(preset="slow"), name="a", folder=tmp_path / "clips", stop=threading.Event(), seconds=0.1
        )
    assert caught.value.reason == "time_out"


def test_no_ffmpeg_outlives_a_process_that_was_killed(run_ffmpeg, source, tmp_path):
    # Full colour is not encoded in the process itself.
    run_ffmpeg(*TESTSRC, "testsrc2=s=1280x720:r=30:d=30", *X264, "-pix_fmt", "yuv444p", source)
    (tmp_path / "clips").mkdir()
    program = (
        "import sys, threading; from pathlib import Path; from shardmill.adapters.video.cut import cut_video; "
        "from shardmill.specs.recipes import SplitRecipe; "
        "cut_video(Path(sys.argv[1]), SplitRecipe(preset='slow'), name='a', folder=Path(sys.argv[2]), "
        "stop=threading.Event())"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(source), str(tmp_path / "clips")])
    try:
        started = wait_for(lambda: [info for info in list_processes() if info.parent == process.pid])
    finally:
        process.kill()
        process.wait()
    assert started
    assert wait_for(lambda: all(read_process(info.pid) is None for info in started))


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Give what the condition gives as soon as it is true; what it gives at last, if it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_work_that_nobody_wants_any_more_ends(run_ffmpeg, source, tmp_path):
    run_ffmpeg(*TESTSRC, "testsrc2=s=64x48:r=25:d=5", *X264, source)
    (tmp_path / "clips").mkdir()
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        cut_video(source, RECIPE, name="a", folder=tmp_path / "clips", stop=stop)
