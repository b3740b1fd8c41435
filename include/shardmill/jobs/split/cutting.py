"""Cut the videos of a shard with several processes, while it is still being read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shardmill.adapters.video.error import VideoError
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.slots import Slot
from shardmill.core.video_keys import printable
from shardmill.jobs.split.cases import Case
from shardmill.jobs.split.window import GivenUpError, Window
from shardmill.specs.manifest import Reject
from shardmill.specs.recipes import SplitRecipe


class Cutter(Protocol):
    """Cuts one video after the other."""

    def cut(self, video: Path, *, name: str, to: Path, seconds: float, footage: bool) -> Pieces: ...
    def kill(self) -> None: ...
    def __enter__(self) -> Cutter: ...
    def __exit__(self, *error: object) -> None: ...


OpenCutter = Callable[[SplitRecipe, Path], Cutter]
Cut = Callable[[Cutter, Case], Pieces | Reject]
SLOT: OpenCutter = Slot


@contextmanager
def cutting(
    read: Callable[[Window], None],
    window: Window,
    cutters: Sequence[Cutter],
    cut: Cut,
) -> Iterator[None]:
    """For the time of the block, read cases into the window and cut them; the block takes the results out.

    The threads live as long as what they started: a process in a sandbox dies with the thread that started it.
    """
    threads = [threading.Thread(target=_fill, args=(read, window), name="read")]
    threads += [threading.Thread(target=_work, args=(cutter, window, cut), name="cut") for cutter in cutters]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        yield
    except BaseException:
        window.fail(GivenUpError("the shard was given up"))
        for cutter in cutters:
            cutter.kill()
        raise
    finally:
        for thread in started:
            thread.join()


def _fill(read: Callable[[Window], None], window: Window) -> None:
    try:
        read(window)
        window.close()
    except GivenUpError:
        return
    except BaseException as error:  # noqa: BLE001  (raised where the results are taken)
        window.fail(error)


def _work(cutter: Cutter, window: Window, cut: Cut) -> None:
    try:
        with cutter:
            while (case := window.take()) is not None:
                window.finish(case, cut(cutter, case))
    except BaseException as error:  # noqa: BLE001  (raised where the results are taken)
        window.fail(error)


def cut_case(cutter: Cutter, case: Case, *, seconds: float, footage: bool) -> Pieces | Reject:
    """Cut the video of a sample, or say why it is refused."""
    assert case.video is not None  # noqa: S101 - refused cases are not handed out
    try:
        return cutter.cut(
            case.video, name=case.name, to=case.video.with_suffix(".clips"), seconds=seconds, footage=footage
        )
    except VideoError as error:
        return Reject(key=case.key, reason=error.reason, message=printable(error.message), detail=_lines(error.detail))
    finally:
        case.video.unlink(missing_ok=True)


def _lines(detail: str) -> str:
    return "\n".join(printable(line) for line in detail.splitlines())
