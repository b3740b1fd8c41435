"""What goes wrong with a video."""

from __future__ import annotations


class VideoError(ValueError):
    """A video cannot be used. Its fields go into the manifest's list of rejects."""

    def __init__(self, reason: str, message: str, detail: str = "") -> None:
        """Say why.

        Args:
            reason: the class of the reason, e.g. ``damaged``.
            message: what was expected and what was found.
            detail: the last lines of the tool that refused it.
        """
        super().__init__(message)
        self.reason, self.message, self.detail = reason, message, detail


class FramesDifferError(ValueError):
    """The decoder's frames are not those that the clips were planned for."""


class SoundDiffersError(FramesDifferError):
    """The sound is not for this process to encode."""


class StoppedError(RuntimeError):
    """The work was stopped by somebody else; the video is not to blame."""


class SlotError(RuntimeError):
    """A process that is to cut videos does not; no video is to blame."""
