"""``shardmill predict``: the best labels of videos by a run's model, from records or from a video file."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shardmill.cli_lake import Command, Parser

if TYPE_CHECKING:
    from shardmill.adapters.records import Record
    from shardmill.adapters.store import StoreSettings
    from shardmill.jobs.predict import Item, Predicted, Predictor
    from shardmill.specs.recipes import FeatureRecipe
    from shardmill.specs.record_rejects import RecordReject

NEEDED = ("tensorflow", "keras")


def _arguments(parser: Parser) -> None:
    parser.add_argument("run", help="folder of a trained run, or its spec.json: a URI or a path")
    parser.add_argument("inputs", nargs="+", help="TFRecord files, folders of such, or videos: URIs or paths")
    parser.add_argument("--top", type=int, default=5, help="so many labels of each video")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each video instead of a table")


def _predict(asked: argparse.Namespace) -> int:
    if asked.top < 1:
        print(f"--top: expected at least 1, found {asked.top}", file=sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow tells of each GPU library that it lacks
    try:
        return _Predicting(asked).run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        print(
            f"predict needs TensorFlow, which this Python has not: {sys.executable}. Take one that has what "
            "requirements-cluster.txt names (after `make setup`: .local/cluster/bin/python), with "
            "PYTHONPATH=include, and -m shardmill.cli predict …",
            file=sys.stderr,
        )
        return 2


class _Predicting:
    """Predicts for one input after the other; what cannot be used is named on stderr."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._folder = uri_of(asked.run).removesuffix("/spec.json").removesuffix("/model/model.json")
        self._refused = 0

    def run(self) -> int:
        from shardmill.adapters.store import Store
        from shardmill.jobs.predict import load_predictor

        predictor = load_predictor(Store(self._folder))
        write = _write_json if self._asked.json else _write_row
        # All inputs are looked up first, and each is written before the next is read: none is lost to a later one.
        for uri in [uri for given in self._asked.inputs for uri in _files_of(uri_of(given))]:
            for predicted in predictor.predict(self._records(uri, predictor), self._asked.top):
                write(predicted)
        if self._refused:
            print(f"{self._refused} could not be used", file=sys.stderr)
        return int(self._refused > 0)

    def _records(self, uri: str, predictor: Predictor) -> Iterator[Item]:
        from shardmill.jobs.predict import read_file

        if _is_video(uri):
            yield from self._video(uri)
        else:
            yield from read_file(uri, predictor.level, self._refuse)

    def _video(self, uri: str) -> Iterable[Record]:
        from shardmill import stages
        from shardmill.adapters.footage_file import FootageError
        from shardmill.adapters.video.error import VideoError

        opened = stages.open_run(f"{self._folder}/spec.json")
        recipe = opened.run.video.feature_recipe(opened.labels.digest)
        try:
            yield describe_video(uri, recipe, opened.access.source_settings)
        except VideoError as error:
            self._refused += 1
            print(f"{uri}: {error.reason}: {error.message}", file=sys.stderr)
        except FootageError as error:
            self._refused += 1
            print(f"{uri}: {error}", file=sys.stderr)

    def _refuse(self, reject: RecordReject) -> None:
        self._refused += 1
        print(f"{reject.file} at offset {reject.offset}: {reject.reason}", file=sys.stderr)


def _is_video(uri: str) -> bool:
    from shardmill.adapters.tar import VIDEO_SUFFIXES

    return uri.rpartition(".")[2].lower() in VIDEO_SUFFIXES


def _files_of(uri: str) -> list[str]:
    """Give the files of an input: a video, a TFRecord file, or those of a folder. Raises NoRecordsError."""
    from shardmill.jobs.predict import find_files

    return [uri] if _is_video(uri) else find_files(uri)


def describe_video(uri: str, recipe: FeatureRecipe, settings: StoreSettings | None) -> Record:
    """Cut a video in the sandbox and describe it as the records were made that a model was trained on.

    Raises:
        VideoError, FootageError: the video cannot be used.
    """
    from shardmill.adapters.extractors import make_extractor
    from shardmill.adapters.footage_file import load_footage
    from shardmill.adapters.records import Record
    from shardmill.adapters.store import Store, split_uri
    from shardmill.adapters.video.slots import Slot
    from shardmill.jobs.features.describing import describe_footage

    extract = make_extractor(recipe, settings)
    folder, name = split_uri(uri)
    with tempfile.TemporaryDirectory(prefix="shardmill-predict-") as scratch:
        video = Path(scratch) / "video"
        with video.open("wb") as file:
            for chunk in Store(folder).stream(name):
                file.write(chunk)
        with Slot(recipe.split, Path(scratch) / "slot") as slot:
            pieces = slot.cut(video, name=name, to=Path(scratch) / "clips", footage=True)
        rgb, audio = describe_footage(load_footage(pieces.footage), extract)
    most = recipe.max_frames
    return Record(name.rpartition(".")[0], (), rgb[:most], audio[:most], has_labels=False)


def uri_of(text: str) -> str:
    """Give a URI as it is, and the URI of a path."""
    return text.rstrip("/") if "://" in text else f"file://{Path(text).resolve()}"


def _write_json(predicted: Predicted) -> None:
    print(json.dumps({"video": predicted.video, "top": predicted.top}), flush=True)


def _write_row(predicted: Predicted) -> None:
    from shardmill.core.video_keys import printable

    said = "  ".join(f"{printable(label)} {score:.3f}" for label, score in predicted.top)
    print(f"{printable(predicted.video):<24} {said}", flush=True)


COMMANDS: Mapping[str, Command] = {
    "predict": Command("say the best labels of videos by a run's model", _arguments, _predict),
}
