"""What ffmpeg is asked for: the picture scaled, with a key frame where each clip begins; the sound as AAC."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ffmpeg
import imageio_ffmpeg

from shardmill.adapters.video.probe import FORMATS, MAX_PIXELS, PROTOCOLS, Probe

if TYPE_CHECKING:
    from shardmill.specs.recipes import SplitRecipe

X264 = (
    "bframes=3:b-adapt=0:me=dia:subme=1:rc-lookahead=15:no-psy=1:aq-strength=0.8:qcomp=0.5:chroma-qp-offset=-1"
    ":partitions=i8x8,i4x4:weightp=0:weightb=0:cabac=0"
)
"""How x264 searches, as ``-x264-params``: what cost the least at equal SSIM and bytes (docs/benchmarks.md)."""
SOUND_CPU_FLAGS = "avx"
"""Instructions that may touch sound, as ``-cpuflags``. The last bits of floating point differ between them: measured in
the PCM of AAC, MP3, Opus, Vorbis and AC-3, in resampled sound and in encoded AAC."""
PICTURE_CPU_FLAGS = "+slowgather"
"""Instructions that may touch pictures, as ``-cpuflags``: all, for the pictures are the same with any. But swscale is
told to shrink without AVX2's gathering loads, which took half as long again on the CPU at hand (docs/benchmarks.md)."""
# Closed groups of pictures that begin where clips begin, and nowhere else.
GROUPS = "keyint=infinite:scenecut=0:open-gop=0"
_LANES = 16
"""Macroblocks of a row that AVX-512 works on at once. Where a row ends within them, x264 (with B-frames) lets what lies
behind it into its look-ahead: bytes differed from run to run at widths of 144, 160, 200, 320 and 400 pixels, and
between AVX and what came later at 640. AVX's code is the same at every width, and no slower there."""
# One thread each, for the encoder's bytes depend on their number; stderr holds errors only, for it is judged.
_GLOBAL = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-xerror", "-copyts")
_THREADS = ("-filter_threads", "1", "-filter_complex_threads", "1")
# accurate_rnd and bitexact give the same picture on every CPU. Colour is scaled linearly: cheaper, and hardly seen.
_SCALING = "bicublin+accurate_rnd+bitexact"
_SHRUNKEN = 4
"""So many times as many pixels as a clip's count as a good deal more."""
_LONGEST_SLIP = 0.02
"""Seconds: a larger hole in the sound is filled with silence."""
# At 64 kbit/s `fast` took a quarter of the time of `twoloop` and was 12 dB nearer to the source. It is nearer still, in
# less time, without the tools that only sound alike (noise, intensity, noise shaping), and without searching for what
# is the same left and right (docs/benchmarks.md).
_AAC = {"aac_coder": "fast", "aac_pns": "0", "aac_is": "0", "aac_tns": "0", "aac_ms": "0"}
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OUTPUT: dict[str, Any] = {
    "format": "nut",
    "flags": "+bitexact",
    "fflags": "+bitexact",
    "map_metadata": -1,
    "map_chapters": -1,
}


def decoding(video: Probe, recipe: SplitRecipe) -> dict[str, str]:
    """Give the decoder's options.

    Borders of blocks are left unsmoothed in B-frames, of which no others are made but their neighbours, where a picture
    is to become a good deal smaller: nothing of it is to be seen then (SSIM .9997; docs/benchmarks.md).
    """
    shrinks = video.look.width * video.look.height >= _SHRUNKEN * recipe.width * recipe.height
    return {"skip_loop_filter": "bidir"} if shrinks else {}


def picture_filters(width: int, height: int) -> list[tuple[str, dict[str, str]]]:
    """Give the filters that bring a picture to a size, with black around it: name and options of each."""
    return [
        (
            "scale",
            {
                "w": f"max(1,round(min({width},{height}*dar)))",
                "h": f"max(1,round(min({height},{width}/dar)))",
                "flags": _SCALING,
            },
        ),
        ("pad", {"width": f"{width}", "height": f"{height}", "x": "(ow-iw)/2", "y": "(oh-ih)/2", "color": "black"}),
        ("setsar", {"sar": "1"}),
        ("format", {"pix_fmts": "yuv420p"}),
    ]


def picture_command(video: Probe, recipe: SplitRecipe, key_file: Path | None) -> list[str]:
    """Build the command that writes the picture as H.264 in NUT to stdout.

    Args:
        key_file: a text of times in seconds, separated by commas; None for a video of one clip.
    """
    picture = _source(video, decoding(video, recipe))[str(video.video)]
    for name, options in picture_filters(recipe.width, recipe.height):
        picture = picture.filter(name, **options)
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
        **{"x264-params": x264_params(recipe)},
        **keys,
        **_OUTPUT,
    )
    return _command(output, PICTURE_CPU_FLAGS)


def x264_params(recipe: SplitRecipe) -> str:
    """Give x264's own options, by which a recipe's bytes are the same in every run and on every CPU with AVX."""
    whole_rows = -(-recipe.width // 16) % _LANES == 0
    return f"{X264}:{GROUPS}" if whole_rows else f"{X264}:{GROUPS}:asm=avx"


def sound_filters(
    video: Probe, start: Fraction, end: Fraction, recipe: SplitRecipe
) -> list[tuple[str, dict[str, str]]]:
    """Give the filters for the sound from ``start`` to ``end``, in seconds: name and options of each."""
    rate = sound_rate(video, recipe)
    # Only where it is needed: where the sound changes its format midway, all filters begin anew.
    late = (
        {} if video.sound_start is not None and video.sound_start <= start else {"first_pts": f"{round(start * rate)}"}
    )
    return [
        ("atrim", {"start": f"{float(start):.6f}", "end": f"{float(end):.6f}"}),
        ("aresample", {"sample_rate": f"{rate}"}),
        ("aresample", {"min_hard_comp": f"{_LONGEST_SLIP}", "async": "1", **late}),
        ("aformat", {"channel_layouts": "mono|stereo"}),
    ]


def sound_command(video: Probe, start: Fraction, end: Fraction, recipe: SplitRecipe) -> tuple[list[str], int]:
    """Build the command that writes the sound from ``start`` to ``end``, in seconds, as AAC in NUT to stdout.

    It is encoded as a whole and begins with the picture, in silence where the source's sound begins later.

    Returns:
        The command, and the time of the source's time 0 in what it writes, in seconds.
    """
    zero = max(0, -int(start // 1)) + 1  # NUT knows no time below 0, and the encoder begins a little before the sound
    sound = _source(video)[str(video.audio)]
    for name, options in sound_filters(video, start, end, recipe):
        sound = sound.filter(name, **options)
    output = ffmpeg.output(
        sound,
        "pipe:1",
        acodec="aac",
        audio_bitrate=f"{recipe.audio_kbps}k",
        output_ts_offset=zero,
        **sound_options(sound_rate(video, recipe)),
        **_OUTPUT,
    )
    return _command(output, SOUND_CPU_FLAGS), zero


def sound_options(rate: int) -> dict[str, str]:
    """Give the encoder's options for so many samples a second.

    By itself it would leave out what lies above a height that it derives from the bit rate (9.5 kHz at 64 kbit/s).
    """
    return {**_AAC, "cutoff": str(rate // 2)}


def sound_rate(video: Probe, recipe: SplitRecipe) -> int:
    """Choose the samples a second: the source's or the next that every player of AAC knows, up to the recipe's."""
    known = [rate for rate in _AAC_RATES if rate <= recipe.audio_hz]
    higher = [rate for rate in known if rate >= (video.sample_rate or known[-1])]
    return higher[0] if higher else known[-1]


def _source(video: Probe, options: Mapping[str, str] = MappingProxyType({})) -> Any:
    return ffmpeg.input(
        str(video.path),
        threads=1,
        protocol_whitelist=PROTOCOLS,
        format_whitelist=FORMATS,
        max_pixels=MAX_PIXELS,
        **options,
    )


def _command(output: Any, cpu_flags: str) -> list[str]:
    options = ("-cpuflags", cpu_flags) if cpu_flags else ()
    return [imageio_ffmpeg.get_ffmpeg_exe(), *_GLOBAL, *options, *_THREADS, *output.get_args()]
