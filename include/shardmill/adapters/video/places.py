"""What the files of a video are called in the folder that it is cut in; known inside and outside of the sandbox."""

from __future__ import annotations

VIDEO, CLIPS, FOOTAGE = "video", "clips", "footage.npz"
READY = "ready"
"""What the process in the sandbox says first."""
MOST_BYTES = 8 * 1024**3
"""The clips of a video may not be larger together."""
MOST_ANSWER_BYTES = 64 * 1024 * 1024
