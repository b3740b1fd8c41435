"""Cut videos in this very process, for tests of all that is around: a sandbox takes half a second to start."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from shardmill.adapters.video.cut import cut_video
from shardmill.adapters.video.pieces import Pieces
from shardmill.adapters.video.places import CLIPS, FOOTAGE
from shardmill.specs.recipes import SplitRecipe


class InProcess:
    """Cuts as a slot does, without the sandbox."""

    def __init__(self, recipe: SplitRecipe, folder: Path) -> None:
        self._recipe, self._stop = recipe, threading.Event()

    def cut(self, video: Path, *, name: str, to: Path, seconds: float, footage: bool) -> Pieces:
        (to / CLIPS).mkdir(parents=True)
        try:
            done = cut_video(
                video,
                self._recipe,
                name=name,
                folder=to / CLIPS,
                stop=self._stop,
                footage=to / FOOTAGE if footage else None,
            )
        except BaseException:
            shutil.rmtree(to)
            raise
        finally:
            video.unlink()
        made = [path for _, path in done.clips] + ([to / FOOTAGE] if footage else [])
        size = sum(path.stat().st_size for path in made)
        numbers = tuple(number for number, _ in done.clips)
        return Pieces(to, numbers, done.frames, done.seconds, done.facts, done.copied, size)

    def kill(self) -> None:
        self._stop.set()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass
