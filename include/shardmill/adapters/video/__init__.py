"""Videos: looked at by PyAV, cut by ffmpeg, and every clip proven before it is published."""

from __future__ import annotations

from shardmill.adapters.video.cut import CutVideo, cut_video, tools
from shardmill.adapters.video.error import StoppedError, VideoError

__all__ = ["CutVideo", "StoppedError", "VideoError", "cut_video", "tools"]
