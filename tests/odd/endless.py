"""Files of a few kilobytes that stand for years of time, or for work without end."""

from __future__ import annotations

from odd.boxes import changed, full, raw_movie
from odd.damaged import DAMAGED, given
from odd.good import X264
from odd.hostile import timed
from odd.rows import Becomes, Kitchen, Odd, Refused

TOO_LARGE, TIME_OUT = Refused("too_large"), Refused("time_out")


def heavy(kitchen: Kitchen) -> bytes:
    """Make minutes of work of a few kilobytes: black in 4096×2160, over and over."""
    black_frames = ("-f", "lavfi", "-i", "color=black:s=4096x2160:r=25:d=1")
    once = kitchen.path("mp4", kitchen.ffmpeg(*black_frames, *X264, "-bf", "0"))
    return kitchen.ffmpeg("-stream_loop", "60", "-i", once, "-c", "copy", suffix="mp4")


def after_a_pause(kitchen: Kitchen) -> bytes:
    """Show the third frame of four 2^31 s after the second."""
    times = full(0, 3, 1, 1, 1, 2**31 - 1, 2, 1)
    return changed(raw_movie(4, 4, (1, 1)), b"stts", lambda inner: times)


STRETCHED = {
    "an-hour": Odd("a frame after an hour", timed(0, 500, 3_600_000), Becomes(2, 3), "two clips, none of an hour",
            "mkv"),
    "68-years": Odd("a frame after 68 years, in a mov of a kilobyte", after_a_pause, TOO_LARGE,
                    "a billion spans without a frame are not listed", "mov"),
    "a-year": Odd("a frame after a year", timed(0, 500, 365 * 86_400_000), TOO_LARGE,
                  "15 million spans without a frame are not listed", "mkv"),
    "far-future": Odd("a frame at 2^62 ticks", timed(0, 500, 2**62), TOO_LARGE, "that would be too many clips",
                      "mkv"),
    "all-far": Odd("all frames about 2^62 ticks", timed(2**62, 2**62 + 500, 2**62 + 1000), DAMAGED,
                   "no clock goes so far", "mkv"),
}  # fmt: skip

HEAVY = {
    "million-frames": Odd("a million frames in 20 KB", given(raw_movie(1_000_000, 1000, (1, 20))), TIME_OUT,
                          "25,000 clips of next to nothing are not made", "mov"),
    "dense-frames": Odd("a million frames within a second", given(raw_movie(1_000_000, 1000, (1, 1_000_000))), TIME_OUT,
                        "they are not all decoded", "mov"),
    "heavy": Odd("1500 frames of 4096×2160 in little space", heavy, TIME_OUT, "they are not all decoded"),
}  # fmt: skip
