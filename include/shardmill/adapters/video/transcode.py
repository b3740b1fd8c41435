"""What ffmpeg is asked for: the picture scaled, with a key frame where each clip begins; the sound as AAC."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ffmpeg
import imageio_ffmpeg

from shardmill.adapters.video.probe import FORMATS, MAX_PIXELS, PROTOCOLS, Probe

if TYPE_CHECKING:
    from shardmill.specs.recipes import SplitRecipe

X264 = "bframes=4:b-adapt=0:me=dia:subme=1:rc-lookahead=15:no-psy=1:aq-strength=0.8:qcomp=0.5:chroma-qp-offset=-1"
"""How x264 searches, as ``-x264-params``: what cost the least at equal SSIM and bytes (docs/benchmarks.md)."""
SOUND_CPU_FLAGS = "avx"
"""Instructions that may touch sound, as ``-cpuflags``. The last bits of floating point differ between them: measured in
the PCM of AAC, MP3, Opus, Vorbis and AC-3, in resampled sound and in encoded AAC."""
PICTURE_CPU_FLAGS = ""
"""Instructions that may touch pictures, as ``-cpuflags``; empty: all, for the pictures are the same with any."""
# Closed groups of pictures that begin where clips begin, and nowhere else.
_GROUPS = "keyint=infinite:scenecut=0:open-gop=0"
# One thread each, for the encoder's bytes depend on their number; stderr holds errors only, for it is judged.
_GLOBAL = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-xerror", "-copyts")
_THREADS = ("-filter_threads", "1", "-filter_complex_threads", "1")
# accurate_rnd and bitexact give the same picture on every CPU.
_SCALING = "bicubic+accurate_rnd+bitexact"
_LONGEST_SLIP = 0.02
"""Seconds: a larger hole in the sound is filled with silence."""
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OUTPUT: dict[str, Any] = {
    "format": "nut",
    "flags": "+bitexact",
    "fflags": "+bitexact",
    "map_metadata": -1,
    "map_chapters": -1,
}


@cache
def ffmpeg_version() -> str:
    """Give the first line of what ffmpeg says of its build."""
    shown = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, text=True, check=True)
    return shown.stdout.partition(" Copyright")[0].removeprefix("ffmpeg version ").strip()


def picture_command(video: Probe, recipe: SplitRecipe, key_file: Path | None) -> list[str]:
    """Build the command that writes the picture as H.264 in NUT to stdout.

    Args:
        key_file: a text of times in seconds, separated by commas; None for a video of one clip.
    """
    width, height = recipe.width, recipe.height
    picture = (
        _source(video)[str(video.video)]
        .filter(
            "scale",
            w=f"max(1,round(min({width},{height}*dar)))",
            h=f"max(1,round(min({height},{width}/dar)))",
            flags=_SCALING,
        )
        .filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2", color="black")
        .filter("setsar", "1")
        .filter("format", "yuv420p")
    )
    keys = {"/force_key_frames": str(key_file)} if key_file else {}
    output = ffmpeg.output(
        picture,
        "pipe:1",
        vcodec="libx264",
        preset=recipe.preset,
        crf=recipe.crf,
        forced_idr=1,
        threads=1,
        fps_mode="passthrough",
        enc_time_base="filter",
        **{"x264-params": f"{X264}:{_GROUPS}"},
        **keys,
        **_OUTPUT,
    )
    return _command(output, PICTURE_CPU_FLAGS)


def sound_command(video: Probe, start: Fraction, end: Fraction, kbps: int) -> tuple[list[str], int]:
    """Build the command that writes the sound from ``start`` to ``end``, in seconds, as AAC in NUT to stdout.

    It is encoded as a whole and begins with the picture, in silence where the source's sound begins later.

    Returns:
        The command, and the time of the source's time 0 in what it writes, in seconds.
    """
    zero = max(0, -int(start // 1)) + 1  # NUT knows no time below 0, and the encoder begins a little before the sound
    rate = _aac_rate(video.sample_rate)
    # Only where it is needed: where the sound changes its format midway, all filters begin anew.
    late = {} if video.sound_start is not None and video.sound_start <= start else {"first_pts": round(start * rate)}
    sound = (
        _source(video)[str(video.audio)]
        .filter("atrim", start=f"{float(start):.6f}", end=f"{float(end):.6f}")
        .filter("aresample", rate)
        .filter("aresample", min_hard_comp=_LONGEST_SLIP, **{"async": 1}, **late)
        .filter("aformat", channel_layouts="mono|stereo")
    )
    # At 64 kbit/s `fast` took a quarter of the time of `twoloop` and was 12 dB nearer to the source (ffmpeg 9).
    output = ffmpeg.output(
        sound, "pipe:1", acodec="aac", aac_coder="fast", audio_bitrate=f"{kbps}k", output_ts_offset=zero, **_OUTPUT
    )
    return _command(output, SOUND_CPU_FLAGS), zero


def _aac_rate(rate: int) -> int:
    """Choose a rate that every player of AAC knows: the source's, or the next one that loses nothing, if there is."""
    if not rate:
        return 44_100
    higher = [known for known in _AAC_RATES if known >= rate]
    return higher[0] if higher else 44_100 if rate % 11_025 == 0 else 48_000


def _source(video: Probe) -> Any:
    return ffmpeg.input(
        str(video.path), threads=1, protocol_whitelist=PROTOCOLS, format_whitelist=FORMATS, max_pixels=MAX_PIXELS
    )


def _command(output: Any, cpu_flags: str) -> list[str]:
    options = ("-cpuflags", cpu_flags) if cpu_flags else ()
    return [imageio_ffmpeg.get_ffmpeg_exe(), *_GLOBAL, *options, *_THREADS, *output.get_args()]
