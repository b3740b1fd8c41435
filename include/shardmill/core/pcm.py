"""A window on a track of PCM samples, addressed by the number of the sample."""

from __future__ import annotations


class PcmTrack:
    """Samples as they come, kept until they are dropped; what never came is silence."""

    def __init__(self, sample_bytes: int) -> None:
        """Begin an empty track; ``sample_bytes`` is the size of one sample of all its channels."""
        self._size = sample_bytes
        self._first = 0
        self._data = bytearray()

    @property
    def end(self) -> int:
        """Number of the sample behind the last one that came."""
        return self._first + len(self._data) // self._size

    def append(self, first: int, data: bytes) -> None:
        """Add samples, the first of which has the number ``first``: a hole is filled, what came before stays."""
        if not self._data:
            self._first = max(first, self._first)
        missing = first - self.end
        self._data += bytes(max(missing, 0) * self._size)
        self._data += data[max(-missing, 0) * self._size :]

    def take(self, first: int, last: int) -> bytes:
        """Give the samples [first, last), and forget all before ``last``.

        Where the track begins later, it is silent until then; where it ended before, so does the result.
        """
        begin, end = max(first - self._first, 0), max(last - self._first, 0)
        found = bytes(self._data[begin * self._size : end * self._size])
        silence = bytes(max(self._first - first, 0) * self._size) if found else b""
        del self._data[: end * self._size]
        self._first = max(self._first, last)
        return silence + found
