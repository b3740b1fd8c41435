"""``shardmill clusters``: which clusters of ours are alive, whose they are, and what they cost so far."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from shardmill.cli_lake import Command, Parser


def _clusters_arguments(parser: Parser) -> None:
    parser.add_argument("--region", default=None, help="AWS region; without, the one of the environment")
    parser.add_argument("--prices", default="", help="URI of a price file; without, the one that comes with Shardmill")


def _clusters(asked: argparse.Namespace) -> int:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from shardmill.adapters.prices import read_prices
    from shardmill.core.reaping import table
    from shardmill.jobs.reap_clusters import Look, look

    prices = read_prices(asked.prices)
    try:
        emr = boto3.client("emr", region_name=asked.region)
        report = look(Look(emr, emr.meta.region_name, prices))
    except (BotoCoreError, ClientError) as error:
        print(f"EMR was not asked: {error}", file=sys.stderr)
        return 1
    for line in table(report):
        print(line)
    print(report.summary)
    return int(bool(report.problems))


COMMANDS: Mapping[str, Command] = {
    "clusters": Command("list our clusters that are alive, and what they cost", _clusters_arguments, _clusters),
}
