"""``shardmill plan`` and ``survey``: what a file asks for is checked, and done or told."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shardmill.cli_lake import Command, Parser

if TYPE_CHECKING:
    from shardmill.specs.run_kinds import Asked

_KIND = "pipeline"
"""The field that says which kind of run is asked for."""


def _arguments(parser: Parser) -> None:
    parser.add_argument("asked", type=Path, help="JSON file of the fields that differ from the form's defaults")


def _plan_arguments(parser: Parser) -> None:
    _arguments(parser)
    parser.add_argument("--run", required=True, help="name of the run")


def _plan(asked: argparse.Namespace) -> int:
    from shardmill.jobs.plan import plan_run
    from shardmill.jobs.plan_records import plan_records
    from shardmill.specs.train_on_records import TrainOnRecordsSpec

    def frozen(spec: Asked) -> list[str]:
        if isinstance(spec, TrainOnRecordsSpec):
            return [plan_records(spec, asked.run).spec_uri]
        return [plan_run(spec, asked.run).spec_uri]

    return _act(asked.asked, frozen)


def _survey(asked: argparse.Namespace) -> int:
    from shardmill.adapters.access import Access
    from shardmill.core.planning import BadRequestError
    from shardmill.jobs.plan import look
    from shardmill.specs.video_pipeline import VideoPipelineSpec

    def surveyed(spec: Asked) -> list[str]:
        if not isinstance(spec, VideoPipelineSpec):
            raise BadRequestError(f"{_KIND}: expected video_pipeline, found {spec.pipeline}: take `shardmill plan`")
        return list(look(spec, Access()).lines())

    return _act(asked.asked, surveyed)


def _act(path: Path, act: Callable[[Asked], list[str]]) -> int:
    """Print what comes of what a file asks for; where that cannot be done, why not, and nothing is done."""
    from shardmill.core.costs import BudgetError
    from shardmill.core.planning import BadRequestError
    from shardmill.specs.mistakes import MistakesError

    try:
        lines = act(_read(path))
    except MistakesError as error:
        print("\n".join(f"{path}: {mistake}" for mistake in error.mistakes), file=sys.stderr)
        return 2
    except (BadRequestError, BudgetError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def _read(path: Path) -> Asked:
    from shardmill.specs.mistakes import Mistake, MistakesError, read_spec, shown
    from shardmill.specs.run_kinds import SPECS, pipeline_of

    found = _fields(path)
    kind = pipeline_of(found)
    if kind not in SPECS:
        raise MistakesError((Mistake(_KIND, f"expected one of {', '.join(SPECS)}, found {shown(kind)}"),))
    fields = {name: value for name, value in found.items() if name != _KIND}
    return cast("Asked", read_spec(SPECS[kind], fields))


def _fields(path: Path) -> dict[str, Any]:
    from shardmill.core.planning import BadRequestError

    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise BadRequestError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"expected a JSON object of fields: {error}") from error
    if not isinstance(found, dict):
        raise BadRequestError(f"expected a JSON object of fields, found a {type(found).__name__}")
    return found


COMMANDS: Mapping[str, Command] = {
    "plan": Command(
        "check what is asked, freeze it as a run, and print the URI of its spec.json", _plan_arguments, _plan
    ),
    "survey": Command("say what a run would do, shard by shard, and why", _arguments, _survey),
}
