"""Screenshots for the docs: in light and dark, and small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LARGEST_BYTES = 250_000
SCHEMES = ("light", "dark")
COLOURS = 256
SETTLE_MS = 900
"""Colours fade in."""


class Pictures:
    """Takes them, into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, page: Any, name: str, **how: Any) -> None:
        """Take a page in light and in dark; it is left in light.

        Args:
            name: of the picture; `-light.png` and `-dark.png` are added.
            how: arguments of Playwright's `screenshot`.
        """
        for scheme in reversed(SCHEMES):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(SETTLE_MS)
            path = self.folder / f"{name}-{scheme}.png"
            page.screenshot(path=path, **how)
            shrink(path)


def keep_the_end(context: Any, folder: Path) -> None:
    """Keep what each page shows at last, for whoever asks why a test failed."""
    for number, page in enumerate(context.pages):
        page.screenshot(path=folder / f"end-{number}.png")


def shrink(path: Path) -> None:
    """Write a picture without what a page does not need, and with fewer colours where it is large."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > LARGEST_BYTES:
        picture.quantize(COLOURS, kmeans=2, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
