"""Videos that are odd, but good: each is published, frame by frame."""

from __future__ import annotations

from odd.rows import Becomes, Kitchen, Odd, Refused, cooked, run_ffmpeg

LAVFI = ("-f", "lavfi", "-i")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
WITHOUT_SOUND = Becomes(2, 75)
WITH_SOUND = Becomes(2, 75, sound=True)


def scene(size: str = "64x48", rate: str = "25", seconds: float = 3) -> tuple[str, ...]:
    return (*LAVFI, f"testsrc2=s={size}:r={rate}:d={seconds}")


def tone(rate: int = 16000, seconds: float = 3) -> tuple[str, ...]:
    return (*LAVFI, f"sine=f=440:r={rate}:d={seconds}")


PLAIN = (*scene(), *X264)
HEARD = (*scene(), *tone(), *X264)


def plain(kitchen: Kitchen) -> bytes:
    """Three seconds, 75 frames, no sound."""
    return kitchen.ffmpeg(*PLAIN)


def copied(*before: str, after: tuple[str, ...] = (), suffix: str = "mp4"):
    """Rewrite a plain video's container, its packets as they are."""

    def make(kitchen: Kitchen) -> bytes:
        source = kitchen.path("mp4", plain(kitchen))
        return kitchen.ffmpeg(*before, "-i", source, "-c", "copy", *after, suffix=suffix)

    return make


def piped(form: str, *arguments: str):
    """Write to a pipe, where no header can be completed at the end."""
    return lambda kitchen: run_ffmpeg(*HEARD, *arguments, "-f", form, "pipe:1")


def of_two_sizes(codec: tuple[str, ...], form: str, suffix: str):
    """Join the bare streams of two videos of different sizes."""

    def make(kitchen: Kitchen) -> bytes:
        small, large = (run_ffmpeg(*scene(size), *codec, "-f", form, "pipe:1") for size in ("64x48", "128x64"))
        joined = kitchen.path(form, small + large)
        return kitchen.ffmpeg("-r", "25", "-f", form, "-i", joined, "-c", "copy", suffix=suffix)

    return make


def with_cover(kitchen: Kitchen) -> bytes:
    cover = kitchen.path("png", kitchen.ffmpeg(*LAVFI, "color=red:s=16x16", "-frames:v", "1", suffix="png"))
    return kitchen.ffmpeg(
        "-i", cover, *tone(), "-map", "0", "-map", "1", "-c:v", "png", "-c:a", "aac", "-disposition:v:0", "attached_pic"
    )


def with_subtitles(codec: str, suffix: str):
    def make(kitchen: Kitchen) -> bytes:
        words = kitchen.path("srt", b"1\n00:00:00,500 --> 00:00:02,000\nHello <i>you</i>\n")
        maps = ("-map", "0", "-map", "1", "-map", "2")
        return kitchen.ffmpeg(*scene(), *tone(), "-i", words, *maps, *X264, "-c:s", codec, suffix=suffix)

    return make


def turned(degrees: str):
    return copied("-display_rotation", degrees)


SOUNDS = {
    "sound-mp3": cooked("MP3 sound", *HEARD, "-c:a", "libmp3lame", fate=WITH_SOUND, why="decoded, made AAC"),
    "sound-opus": cooked("Opus sound in mkv", *HEARD, "-c:a", "libopus", suffix="mkv", fate=WITH_SOUND, why="the same"),
    "sound-vorbis": cooked(
        "Vorbis sound in mkv", *HEARD, "-c:a", "libvorbis", suffix="mkv", fate=WITH_SOUND, why="the same"
    ),
    "sound-pcm": cooked("PCM sound in mov", *HEARD, "-c:a", "pcm_s16le", suffix="mov", fate=WITH_SOUND, why="the same"),
    "sound-ac3": cooked(
        "AC-3 sound, 5.1", *HEARD, "-ar", "48000", "-ac", "6", "-c:a", "ac3", fate=WITH_SOUND, why="mixed to stereo"
    ),
    "sound-96k": cooked(
        "sound of 96 kHz", *HEARD, "-ar", "96000", "-c:a", "flac", suffix="mkv", fate=WITH_SOUND,
        why="resampled to a rate that AAC has",
    ),
    "sound-8-bit": cooked(
        "8-bit sound in avi", *HEARD, "-c:a", "pcm_u8", suffix="avi", fate=WITH_SOUND, why="widened to 16 bits"),
    "sound-longer": cooked(
        "sound longer than the picture", *scene(), *tone(seconds=9), *X264, fate=WITH_SOUND,
        why="the picture decides how many clips there are",
    ),
    "sound-shorter": cooked(
        "picture longer than the sound", *scene(seconds=5), *tone(seconds=1), *X264, fate=Becomes(3, 125, sound=True),
        why="clips behind the end of the sound have none",
    ),
    "sound-late": cooked(
        "sound that begins late", *scene(seconds=5), "-itsoffset", "2.5", *tone(seconds=2), *X264, "-c:a", "flac",
        suffix="mkv", fate=Becomes(3, 125, sound=True), why="silence until it begins",
    ),
    "sound-first": cooked(
        "sound that begins before the picture", *tone(), "-itsoffset", "0.7", *scene(), *X264, "-c:a", "flac",
        suffix="mkv", fate=WITH_SOUND, why="time 0 is the first frame",
    ),
    "two-sounds": cooked(
        "two audio streams", *scene(), *tone(), *tone(8000), "-map", "0", "-map", "1", "-map", "2", *X264,
                fate=WITH_SOUND,
        why="the first is taken",
    ),
}  # fmt: skip

CODECS = {
    "hevc-10-bit": cooked(
        "HEVC of 10 bits", *scene(), "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none",
        "-pix_fmt", "yuv420p10le", fate=WITHOUT_SOUND, why="made 8 bits",
    ),
    "vp9": cooked(
        "VP9 in webm", *scene(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", suffix="webm",
        fate=WITHOUT_SOUND, why="hidden frames are no frames",
    ),
    "vp8": cooked("VP8 in webm", *scene(), "-c:v", "libvpx", "-cpu-used", "8", suffix="webm", fate=WITHOUT_SOUND,
                  why="the same"),
    "av1": cooked("AV1 in mp4", *scene("64x64"), "-c:v", "libsvtav1", "-preset", "12", fate=WITHOUT_SOUND,
                  why="decoded by dav1d"),
    "mpeg4-avi": cooked("MPEG-4 with B-frames in avi", *scene(), "-c:v", "mpeg4", "-bf", "2", suffix="avi",
                        fate=WITHOUT_SOUND, why="AVI has no times of presentation: a decoding pass finds them"),
    "mpeg2": cooked("MPEG-2, interlaced", *scene(), "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-bf", "2",
                    suffix="mkv", fate=WITHOUT_SOUND, why="both fields stay in their frame"),
    "h264-interlaced": cooked("H.264, interlaced", *scene("64x64"), *X264, "-x264-params", "tff=1", fate=WITHOUT_SOUND,
                              why="both fields stay in their frame"),
    "mjpeg": cooked("MJPEG in mov", *scene(), "-c:v", "mjpeg", suffix="mov", fate=WITHOUT_SOUND,
            why="its full range is kept, and told"),
    "h263-3gp": cooked("H.263 in 3gp, named .mp4", *scene("128x96"), "-c:v", "h263", "-f", "3gp", fate=WITHOUT_SOUND,
                       why="the content tells the container, not the name"),
    "prores-alpha": cooked("ProRes 4444 with alpha", *scene(), "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le",
                           suffix="mov", fate=WITHOUT_SOUND, why="alpha is dropped"),
    "png-alpha": cooked("PNG frames with alpha", *scene(), "-c:v", "png", "-pix_fmt", "rgba", suffix="mov",
                        fate=WITHOUT_SOUND, why="alpha is dropped"),
    "vp9-alpha": cooked("VP9 with alpha", *scene(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8",
                        "-pix_fmt", "yuva420p", suffix="webm", fate=WITHOUT_SOUND, why="alpha is dropped"),
    "h264-444": cooked("H.264 of 4:4:4", *scene(), *X264, "-pix_fmt", "yuv444p", fate=WITHOUT_SOUND, why="made 4:2:0"),
    "h264-grey": cooked("H.264, grey", *scene(), *X264, "-pix_fmt", "gray", fate=WITHOUT_SOUND, why="made 4:2:0"),
    "rgb": cooked("RGB in huffyuv", *scene(), "-c:v", "huffyuv", "-pix_fmt", "rgb24", suffix="avi", fate=WITHOUT_SOUND,
                  why="made 4:2:0"),
    "open-gop": cooked("open GOPs and B-frames of the recipe's size", *scene("64x32"), "-c:v", "libx264", "-preset",
                       "veryfast", "-pix_fmt", "yuv420p", "-bf", "3", "-g", "25", "-x264-params", "open-gop=1",
                       fate=WITHOUT_SOUND, why="no clip may need a frame of the clip before"),
    "as-asked": cooked("a video that is already as the recipe asks", *scene("64x32"), *X264, "-g", "25",
                       fate=WITHOUT_SOUND, why="its pictures may be taken over as they are"),
    "as-asked-444": cooked("the recipe's size and key frames, but 4:4:4", *scene("64x32"), *X264, "-pix_fmt", "yuv444p",
                           "-g", "25", fate=WITHOUT_SOUND, why="every clip is 4:2:0"),
}  # fmt: skip

SHAPES = {
    "turned-90": Odd("a display matrix of 90°", turned("90"), WITHOUT_SOUND, "shown upright"),
    "turned-skew": Odd("a display matrix of 33°", turned("33"), WITHOUT_SOUND, "no right angle: shown as ffmpeg does"),
    "odd-sides": cooked("175×99 pixels", *scene("175x99"), *X264, "-pix_fmt", "yuv444p", fate=WITHOUT_SOUND,
                        why="odd sides are scaled as others"),
    "one-pixel": cooked("1×1 pixel", *scene("16x16"), "-vf", "scale=1:1", "-c:v", "ffv1", "-pix_fmt", "bgra",
                        suffix="mkv", fate=WITHOUT_SOUND, why="a pixel is a picture"),
    "very-wide": cooked("2000×16 pixels", *scene("2000x16"), *X264, fate=WITHOUT_SOUND, why="two rows are left of it"),
    "very-high": cooked("16×2000 pixels", *scene("16x2000"), *X264, fate=WITHOUT_SOUND, why="two columns are left"),
    "anamorphic": cooked("pixels of 16:11", *scene(), "-vf", "setsar=16/11", *X264, fate=WITHOUT_SOUND,
                         why="shown with square pixels"),
    "absurd-pixels": cooked("pixels of 255:1", *scene(), "-vf", "setsar=255/1", *X264, fate=WITHOUT_SOUND,
                            why="two rows are left of it"),
    "grows": Odd("H.264 whose size changes half way", of_two_sizes(X264, "h264", "mkv"), Becomes(3, 150),
                 "every frame is scaled to the recipe's size", "mkv"),
    "grows-mjpeg": Odd("MJPEG whose size changes half way", of_two_sizes(("-c:v", "mjpeg"), "mjpeg", "mkv"),
                       Becomes(3, 150), "the same", "mkv"),
    "two-pictures": cooked("two video streams", *scene(), *scene("32x32", "10", 9), "-map", "0", "-map", "1", *X264,
                           fate=WITHOUT_SOUND, why="the first is taken"),
    "cover-and-sound": Odd("a cover picture and sound", with_cover, Refused("no_video_stream"), "a cover is no video"),
}  # fmt: skip

TIMES = {
    "one-fps": cooked("1 frame a second", *scene(rate="1", seconds=5), *X264, fate=Becomes(3, 5),
            why="frames are kept"),
    "sixty-fps": cooked("60 frames a second", *scene(rate="60"), *X264, fate=Becomes(2, 180), why="frames are kept"),
    "slow": cooked("a frame every 5 s", *scene(rate="1/5", seconds=15), *X264, fate=Becomes(3, 3),
                   why="spans without a frame have no clip, and are named as gaps"),
    "thousand-fps": cooked("1000 frames a second", *scene(rate="1000", seconds=1), *X264, fate=Becomes(1, 1000),
                           why="frames are kept"),
    "variable": cooked("a variable frame rate", *scene(rate="30"), "-vf", r"select='not(mod(n\,7))+not(mod(n\,3))'",
                       "-fps_mode", "vfr", *X264, fate=Becomes(2, 38), why="times are kept"),
    "short": cooked("shorter than a clip", *scene(seconds=0.4), *X264, fate=Becomes(1, 10), why="a short clip"),
    "one-frame": cooked("a single frame", *scene(), "-frames:v", "1", *X264, fate=Becomes(1, 1), why="a short clip"),
    "from-one-hour": cooked("times that begin at one hour", *HEARD, "-output_ts_offset", "3600", "-c:a", "flac",
                            suffix="mkv", fate=WITH_SOUND, why="time 0 is the first frame"),
    "before-zero": cooked("times that begin before 0", *HEARD, "-output_ts_offset", "-1", "-avoid_negative_ts",
                          "disabled", "-c:a", "pcm_s16le", "-movflags", "frag_keyframe+empty_moov", suffix="mov",
                          fate=WITH_SOUND, why="time 0 is the first frame"),
    "hidden-start": Odd("an edit list that hides the first second", copied("-ss", "1"), Becomes(1, 50),
                        "what is hidden is not shown"),
}  # fmt: skip

CONTAINERS = {
    "no-sound": Odd("no sound", plain, WITHOUT_SOUND, "a clip needs none"),
    "moov-first": cooked("moov at the start", *HEARD, "-movflags", "+faststart", fate=WITH_SOUND, why="read as others"),
    "moov-last": cooked("moov at the end", *HEARD, fate=WITH_SOUND, why="read as others"),
    "fragments": cooked("a fragmented mp4", *HEARD, "-movflags", "frag_keyframe+empty_moov+default_base_moof",
                        fate=WITH_SOUND, why="its packets tell its length"),
    "dash-segments": cooked("a fragmented mp4 with an index", *HEARD, "-movflags", "dash+global_sidx+frag_keyframe",
                            fate=WITH_SOUND, why="its packets tell its length"),
    "live-mkv": Odd("an mkv from a live source, without a length", piped("matroska", "-live", "1"), WITH_SOUND,
                    "its packets tell its length", "mkv"),
    "live-webm": Odd("a webm from a live source, without a length",
                     lambda kitchen: run_ffmpeg(*scene(), *tone(), "-c:v", "libvpx", "-cpu-used", "8", "-c:a",
                                                "libopus", "-f", "webm", "-live", "1", "pipe:1"),
                     WITH_SOUND, "its packets tell its length", "webm"),
    "mkv-as-mp4": Odd("an mkv named .mp4", copied(after=("-f", "matroska")), WITHOUT_SOUND,
                      "the content tells the container, not the name"),
    "avi-h264": cooked("H.264 and MP3 in avi", *HEARD, "-c:a", "libmp3lame", suffix="avi", fate=WITH_SOUND,
                       why="a decoding pass finds the times"),
    "subtitles-mkv": Odd("subtitles in mkv", with_subtitles("srt", "mkv"), WITH_SOUND, "dropped", "mkv"),
    "subtitles-mp4": Odd("subtitles in mp4", with_subtitles("mov_text", "mp4"), WITH_SOUND, "dropped"),
    "timecode": Odd("a timecode track", copied(after=("-timecode", "01:00:00:00"), suffix="mov"), WITHOUT_SOUND,
                    "dropped", "mov"),
    "ключ-鍵-🎞/ü": Odd("a key of many scripts, in a folder", plain, WITHOUT_SOUND, "keys are Unicode"),
}  # fmt: skip

GOOD = {**SOUNDS, **CODECS, **SHAPES, **TIMES, **CONTAINERS}
