"""A window on a track of PCM samples, addressed by the number of the sample."""

from __future__ import annotations

from collections import deque


class PcmTrack:
    """Samples as they come, kept until they are dropped; what never came is silence, and takes no memory."""

    def __init__(self, sample_bytes: int) -> None:
        """Begin an empty track; ``sample_bytes`` is the size of one sample of all its channels."""
        self._size = sample_bytes
        self._pieces: deque[tuple[int, bytes]] = deque()  # number of the first sample, and samples; ascending
        self._start: int | None = None  # the first sample that ever came
        self._end = 0
        self._kept: int | None = None  # what precedes this sample is dropped

    @property
    def end(self) -> int:
        """Number of the sample behind the last one that came; 0 before any came."""
        return self._end

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return sum(len(data) for _, data in self._pieces)

    def append(self, first: int, data: bytes) -> None:
        """Add samples, the first of which has the number ``first``: a hole is silent, what came before stays."""
        behind = first + len(data) // self._size
        begin = first if self._start is None else max(first, self._end)
        if self._start is None:
            self._start, self._end = first, behind
        self._end = max(self._end, behind)
        begin = begin if self._kept is None else max(begin, self._kept)
        if begin < behind:
            self._pieces.append((begin, data[(begin - first) * self._size :]))

    def take(self, first: int, last: int) -> bytes:
        """Give the samples [first, last), and forget all before ``last``.

        Where the track begins later, it is silent until then; where it ended before, so does the result.
        """
        behind = min(last, self._end)
        if self._kept is not None and last <= self._kept:
            return b""
        if self._start is None or self._start >= last or behind <= first:
            self.forget(last)
            return b""
        samples = bytearray((behind - first) * self._size)
        for begin, data in self._pieces:
            if begin >= behind:
                break
            skipped, offset = max(first - begin, 0) * self._size, max(begin - first, 0) * self._size
            found = data[skipped : skipped + len(samples) - offset]
            samples[offset : offset + len(found)] = found
        self.forget(last)
        return bytes(samples)

    def forget(self, before: int) -> None:
        """Drop the samples before ``before``, those still to come too."""
        self._kept = before if self._kept is None else max(before, self._kept)
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) // self._size <= self._kept:
            self._pieces.popleft()
