"""``shardmill`` commands about the lake itself: what is there, what is broken, what may go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Parser = argparse.ArgumentParser


@dataclass(frozen=True)
class Command:
    """One command: its help, its arguments, and what it does. It returns the exit status."""

    help: str
    arguments: Callable[[Parser], object]
    run: Callable[[argparse.Namespace], int]


def _rebuild_arguments(parser: Parser) -> None:
    parser.add_argument("lake", help="URI of the lake")
    parser.add_argument("dataset", help="name of the data set")


def _rebuild(asked: argparse.Namespace) -> int:
    from shardmill.adapters.store import Store
    from shardmill.jobs.derived import rebuild

    for line in rebuild(Store(asked.lake), asked.dataset):
        print(line, flush=True)
    return 0


def _urls_arguments(parser: Parser) -> None:
    parser.add_argument("lake", help="URI of the lake")
    parser.add_argument("dataset", help="name of the data set")
    parser.add_argument("recipe", help="hash of the split recipe: the name of the clips' folder")
    parser.add_argument("--shards", default="all", help="e.g. 000000..000099,000205")
    parser.add_argument("--hours", type=float, default=0.0, help="print signed URLs that are good for so long")


def _urls(asked: argparse.Namespace) -> int:
    from shardmill.adapters.store import Store
    from shardmill.jobs.urls import list_urls
    from shardmill.specs.value import parse_shard_range

    shards = parse_shard_range(asked.shards)
    for url in list_urls(Store(asked.lake), asked.dataset, asked.recipe, shards, hours=asked.hours):
        print(url)
    return 0


def _verify_arguments(parser: Parser) -> None:
    parser.add_argument("uri", help="a run's folder, its model/model.json, a data set's folder at a stage, or a lake")
    parser.add_argument("--dataset", default="", help="name of a data set, where the URI is that of a lake")
    parser.add_argument("--deep", action="store_true", help="read all bytes again and compare their hashes")


def _verify(asked: argparse.Namespace) -> int:
    from shardmill.jobs.verify import Verifying, verify

    found = verify(asked.uri, asked.dataset, how=Verifying(deep=asked.deep, say=_say))
    for finding in found.findings:
        print(finding, flush=True)
    state = "whole" if found.is_whole else "BROKEN"
    print(f"{state}: {found.objects} objects looked at, {found.bytes / 1e6:.1f} MB read", flush=True)
    return int(not found.is_whole)


def _garbage_arguments(parser: Parser) -> None:
    parser.add_argument("lake", help="URI of the lake")
    parser.add_argument("--dataset", default="", help="name of a data set; all without")
    parser.add_argument("--older-than-hours", type=float, default=24.0, help="of unfinished uploads and of recipes")
    parser.add_argument("--keep-recipes", type=int, default=0, help="the newest so many of a stage stay; 0 keeps all")
    parser.add_argument("--recipe", action="append", default=[], help="hash of a recipe that is to go too")
    parser.add_argument("--delete", action="store_true", help="delete; without, only say what would go")


def _garbage(asked: argparse.Namespace) -> int:
    from shardmill.jobs.collect_garbage import collect_garbage
    from shardmill.specs.garbage import GarbageSpec
    from shardmill.specs.mistakes import MistakesError, read_spec

    fields = {name: value for name, value in vars(asked).items() if name in GarbageSpec.model_fields}
    try:
        spec = read_spec(GarbageSpec, fields | {"recipes": " ".join(asked.recipe)})
    except MistakesError as error:
        print("\n".join(map(str, error.mistakes)), file=sys.stderr)
        return 2
    print(collect_garbage(spec, say=_say).summary)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


COMMANDS: Mapping[str, Command] = {
    "rebuild": Command("make a data set's index and catalogue anew from its manifests", _rebuild_arguments, _rebuild),
    "urls": Command("list where clips can be read, for webdataset and its like", _urls_arguments, _urls),
    "verify": Command("walk back by hashes and name what is broken", _verify_arguments, _verify),
    "collect-garbage": Command("delete what nothing refers to", _garbage_arguments, _garbage),
}
