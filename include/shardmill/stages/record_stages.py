"""The stages of training on records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shardmill.stages.opened import OpenRun
from shardmill.stages.outcomes import Say, say_it

if TYPE_CHECKING:
    from shardmill.specs.records import RecordSet


def fetch(opened: OpenRun, numbers: Sequence[int], say: Say) -> str:
    """Fetch files of records into the lake, or look at them where they lie; what is known of is skipped."""
    from shardmill.adapters.file_work import Telling
    from shardmill.jobs.fetch_records import HOPELESS, Fetching, fetch_files
    from shardmill.jobs.find_records import look_at_files

    asked, planned = opened.run.on_records, opened.files.files
    files, settings = [planned[number] for number in numbers], opened.access.source_settings
    if asked.copies:
        found = fetch_files(opened.lake, asked, files, say, Fetching(settings, show=opened.show))
    else:
        found = look_at_files(opened.lake, asked, files, Telling(say, opened.show, HOPELESS), settings)
    records, broken = sum(look.records for look in found), sum(look.broken is not None for look in found)
    refused = f", {broken} files cannot be used" if broken else ""
    return say_it(f"{records:,} records in {len(found)} files{refused}", say)


def find(opened: OpenRun, numbers: Sequence[int], say: Say) -> str:
    """Freeze which records are trained on and evaluated on; refuse what cannot be trained."""
    from shardmill.jobs.find_records import find_records

    settings = opened.settings_of(opened.run.on_records.vocabulary)
    return records_line(find_records(opened.lake, opened.run, opened.files, settings, say), say)


def records_line(records: RecordSet, say: Say) -> str:
    """Say how many records were chosen."""
    training, validation = (sum(part.records for part in parts) for parts in (records.train, records.validation))
    return say_it(f"{training} training and {validation} validation records, {len(records.vocabulary)} labels", say)
