"""Videos that were videos once, and files that never were: each is a reject, and says why."""

from __future__ import annotations

from odd.boxes import box, full, put
from odd.good import HEARD, LAVFI, X264, plain, scene, tone
from odd.rows import Becomes, Kitchen, Make, Odd, Refused, cooked

FASTSTART = (*HEARD, "-movflags", "+faststart")
AS_ASKED = (*scene("64x32"), *X264, "-g", "25")


def given(content: bytes) -> Make:
    return lambda kitchen: content


def cut_at(share: float, *arguments: str, suffix: str = "mp4") -> Make:
    def make(kitchen: Kitchen) -> bytes:
        whole = kitchen.ffmpeg(*arguments, suffix=suffix)
        return whole[: int(len(whole) * share)]

    return make


def flipped(*arguments: str, suffix: str = "mp4") -> Make:
    """Turn 400 bytes in the middle round."""

    def make(kitchen: Kitchen) -> bytes:
        content = bytearray(kitchen.ffmpeg(*arguments, suffix=suffix))
        middle = len(content) // 2
        content[middle : middle + 400] = bytes(reversed(content[middle : middle + 400]))
        return bytes(content)

    return make


def zero_tail(kitchen: Kitchen) -> bytes:
    """Keep moov and the first frames; a download that stopped leaves such files."""
    content = kitchen.ffmpeg(*FASTSTART)
    kept = len(content) * 2 // 3
    return content[:kept] + bytes(len(content) - kept)


def patched(kind: bytes, offset: int, value: bytes) -> Make:
    return lambda kitchen: put(plain(kitchen), kind, offset, value)


def joined(kitchen: Kitchen) -> bytes:
    return plain(kitchen) * 2


NOT_A_VIDEO, ABSENT, DAMAGED = Refused("not_a_video"), Refused("no_video_stream"), Refused("damaged")
NO_FRAMES = Refused("no_frames")

DAMAGED_FILES = {
    "empty": Odd("an empty file", given(b""), NOT_A_VIDEO, "nothing is no video"),
    "text": Odd("text", given(b"This is no video.\n" * 100), NOT_A_VIDEO, "no format is found in it"),
    "html": Odd("a web page in place of a download", given(b"<!DOCTYPE html><html><body>404</body></html>"),
                NOT_A_VIDEO, "no format is found in it"),
    "zeros": Odd("10,000 zero bytes", given(bytes(10_000)), NOT_A_VIDEO, "no format is found in it"),
    "zip": Odd("a zip file", given(b"PK\x03\x04" + bytes(200)), NOT_A_VIDEO, "no format is found in it"),
    "png": cooked("a PNG named .mp4", *LAVFI, "testsrc2=s=64x48", "-frames:v", "1", "-f", "image2", "-c:v", "png",
                  fate=NOT_A_VIDEO, why="image formats are not on the list"),
    "jpeg": cooked("a JPEG named .mp4", *LAVFI, "testsrc2=s=64x48", "-frames:v", "1", "-f", "image2", "-c:v", "mjpeg",
                   fate=NOT_A_VIDEO, why="image formats are not on the list"),
    "gif": cooked("a GIF named .mp4", *scene(), "-f", "gif", fate=NOT_A_VIDEO, why="GIF is not on the list"),
    "mpegts": cooked("an MPEG transport stream named .mp4", *scene(), *X264, "-f", "mpegts", fate=NOT_A_VIDEO,
                     why="not on the list of formats"),
    "flv": cooked("an flv named .mp4", *scene(), *X264, "-f", "flv", fate=NOT_A_VIDEO,
            why="not on the list of formats"),
    "ogg": cooked("an ogg named .mp4", *scene(), "-c:v", "libtheora", "-f", "ogg", fate=NOT_A_VIDEO,
                  why="not on the list of formats"),
    "bare-h264": cooked("a bare H.264 stream", *scene(), *X264, "-f", "h264", fate=NOT_A_VIDEO,
                        why="not on the list of formats"),
    "mp3": cooked("an MP3", *tone(), "-f", "mp3", fate=NOT_A_VIDEO, why="not on the list of formats"),
    "sound-only": cooked("an mp4 with sound only", *tone(), "-c:a", "aac", fate=ABSENT, why="no picture"),
    "wav": cooked("a wav named .avi", *tone(), "-f", "wav", suffix="avi", fate=NOT_A_VIDEO, why="RIFF, but no AVI"),
    "head-only": Odd("the first 32 bytes of an mp4", cut_at(0.005, *HEARD), DAMAGED, "it begins like a video"),
    "no-moov": Odd("an mp4 cut in the middle, moov at its end", cut_at(0.5, *HEARD), DAMAGED, "moov is gone"),
    "cut-data": Odd("an mp4 cut in the middle, moov at its start", cut_at(0.6, *FASTSTART), DAMAGED,
                    "frames that the header promises are gone"),
    "cut-mkv": Odd("an mkv cut in the middle of a frame", cut_at(0.6, *scene(), *X264, suffix="mkv"), DAMAGED,
                   "the last packet is not whole", "mkv"),
    "cut-avi": Odd("an avi cut in the middle", cut_at(0.6, *scene(), "-c:v", "mpeg4", suffix="avi"), DAMAGED,
                   "the index is gone and the last packet is not whole", "avi"),
    "flipped": Odd("flipped bytes in the middle", flipped(*scene("128x96"), *X264), DAMAGED, "ffmpeg complains"),
    "flipped-as-asked": Odd("flipped bytes in a video that is as the recipe asks", flipped(*AS_ASKED), DAMAGED,
                            "what is taken over is decoded too"),
    "zero-tail": Odd("a tail of zeros", zero_tail, DAMAGED, "ffmpeg complains"),
    "twice": Odd("two mp4 files in one", joined, Becomes(2, 75), "the second moov is not read"),
    "no-samples": Odd("an mp4 without a frame", lambda kitchen: kitchen.ffmpeg(
        *scene(), *X264, "-movflags", "frag_keyframe+empty_moov")[:1200], DAMAGED, "its fragments are cut off"),
    "no-codec": Odd("a codec that nobody knows", lambda kitchen: plain(kitchen).replace(b"avc1\0", b"zzzz\0"),
                    Refused("unsupported"), "there is no decoder"),
    "no-parameters": Odd("H.264 without its parameters", patched(b"stsd", 0, full(0, 0)), DAMAGED,
                         "no sample description is left"),
    "far-chunk": Odd("a chunk that lies beyond the end", patched(b"stco", 8, b"\x7f\xff\xff\xff"), NO_FRAMES,
                     "there is nothing to read"),
    "free": Odd("nothing but padding boxes", given(box(b"ftyp", b"isom\0\0\2\0isom") + box(b"free", bytes(64)) * 50),
                DAMAGED, "it begins like a video"),
}  # fmt: skip
