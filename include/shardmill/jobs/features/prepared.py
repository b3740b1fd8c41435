"""Videos described while their clips were made: what is described once is not decoded again."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np

from shardmill.adapters.footage_file import FootageError, load_footage
from shardmill.adapters.store import StoreSettings
from shardmill.core.frames import RGB_VALUES
from shardmill.jobs.features.describing import Described, describe_footage
from shardmill.specs.recipes import FeatureRecipe

log = logging.getLogger(__name__)


class Prepared:
    """Descriptions, kept on disk until their records are made: about a kilobyte a second of video."""

    def __init__(self, recipe: FeatureRecipe, folder: Path, settings: StoreSettings | None = None) -> None:
        """Prepare.

        Args:
            folder: for the descriptions.
            settings: how the extractor's weights are reached.

        Raises:
            ExtractorError: the recipe's extractor cannot be made.
        """
        from shardmill.adapters.extractors import make_extractor

        self._extract = make_extractor(recipe, settings)
        self._folder = folder
        self._seconds: dict[str, tuple[int, float]] = {}
        self._alone = threading.Lock()

    def take(self, key: str, path: Path) -> None:
        """Describe a video by the footage in a file; what cannot be read there is decoded from its clips later.

        May be called from several threads; one describes at a time, for a Keras extractor uses all cores by itself.
        """
        try:
            footage = load_footage(path)
        except FootageError as error:
            log.warning("%r is not described on the way: %s", key, error)
            return
        with self._alone:
            rgb, audio = describe_footage(footage, self._extract)
            number = self._seconds[key][0] if key in self._seconds else len(self._seconds)
            np.save(self._folder / f"{number:06d}.npy", np.hstack([rgb, audio]))
            self._seconds[key] = (number, footage.seconds)

    def __contains__(self, key: object) -> bool:
        return key in self._seconds

    def give(self, key: str, clips: int) -> Described:
        """Give the description of a video of so many clips."""
        number, seconds = self._seconds[key]
        both = np.load(self._folder / f"{number:06d}.npy", allow_pickle=False)
        return Described(key, clips, seconds, both[:, :RGB_VALUES], both[:, RGB_VALUES:])
