"""The sample of videos: generated once in a checkout, and put where the forms' defaults look for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shardmill.adapters.store import Store
from shardmill.jobs.sample import MARKER, make_sample
from shardmill.laptop.stack import StackAddress, project_folder

SAMPLE = "s3://shardmill-source/sample"


def sample_folder() -> Path:
    """Give the folder of the generated sample."""
    return project_folder() / ".local" / "sample"


def ensure_sample(say: Callable[[str], None]) -> None:
    """Generate the sample, unless it is there."""
    say("sample: labelled synthetic videos with sound, generated once")
    make_sample(sample_folder())


def upload_sample(address: StackAddress) -> None:
    """Put the sample into the local S3, unless it is there."""
    source, target = sample_folder(), Store(SAMPLE, address.store_settings)
    marker = (source / MARKER).read_bytes()
    if target.head(MARKER) is not None and target.get(MARKER) == marker:
        return
    for path in sorted(source.iterdir()):
        if path.name != MARKER:
            target.put(path.name, path.read_bytes())
    target.put(MARKER, marker)
