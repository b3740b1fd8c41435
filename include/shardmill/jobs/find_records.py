"""Find records in TFRecord files that are there: count and hash each once, and settle what a run trains on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from shardmill.adapters import run_folder
from shardmill.adapters.file_work import Pace, Say, Telling, each_file
from shardmill.adapters.record_look import find_look, keep_look, look_at
from shardmill.adapters.source import SourceReader
from shardmill.adapters.store import ChangedObjectError, MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core.planning import BadRequestError, check_enough_records
from shardmill.core.record_sets import settle_records, subset_counts, sum_up
from shardmill.core.vocabulary import VocabularyError, parse_vocabulary
from shardmill.specs.manifest import SourceObject
from shardmill.specs.record_files import PlannedFile, RecordFile, RecordPlan
from shardmill.specs.records import RecordSet
from shardmill.specs.run import RunSpec
from shardmill.specs.train_on_records import TrainOnRecordsSpec

HOPELESS = (BadRequestError, ChangedObjectError)
FOUND = "found.json"
READERS = 16


def look_at_files(
    lake: Store,
    asked: TrainOnRecordsSpec,
    files: Sequence[PlannedFile],
    telling: Telling,
    settings: StoreSettings | None,
) -> list[RecordFile]:
    """Read each file where it lies, once, in the version that was planned; one that was looked at is not read again.

    Args:
        settings: how the folder of the source is reached.

    Raises:
        ChangedObjectError: a file is no longer the one that was planned.
    """
    pace = Pace(len(files), sum(file.size or 0 for file in files))

    def look(file: PlannedFile) -> RecordFile:
        found = find_look(lake, asked.dataset, file, copies=False)
        if found is None:
            source = SourceObject(uri=file.uri, size=file.size or 0, version=file.version)
            found = look_at(pace.counted(SourceReader(source, settings).stream()), file)
            keep_look(lake, asked.dataset, found, copies=False)
            telling.say(f"{file.name}: {_told(found)}")
        else:
            telling.say(f"{file.name}: nothing to do, looked at before ({_told(found)})")
            pace.take(found.size)
        return found

    return each_file(files, look, asked.fetch_at_once, pace, telling)


def _told(look: RecordFile) -> str:
    if look.broken is not None:
        return f"REFUSED at offset {look.broken.offset}: {look.broken.reason}"
    bad = f", {look.rejected} of them cannot be used" if look.rejected else ""
    return f"{look.records} records at the level of {look.level}s{bad}"


def find_records(lake: Store, run: RunSpec, plan: RecordPlan, settings: StoreSettings | None, say: Say) -> RecordSet:
    """Settle the records of a run from what was found in its files, and freeze them.

    Args:
        settings: how the vocabulary is reached.

    Raises:
        BadRequestError: what was found cannot be trained on, or changed since the run settled it; names a field.
        TooManyRejectsError: more cannot be used than `max_reject_share` allows.
        MissingObjectError: a file was not looked at.
    """
    asked = run.on_records

    def kept(file: PlannedFile) -> RecordFile:
        found = find_look(lake, asked.dataset, file, copies=asked.copies)
        if found is None:
            raise MissingObjectError(f"{file.uri} was not looked at: fetch the files of the run first")
        return found

    with ThreadPoolExecutor(READERS) as pool:
        looks = list(zip((file.subset for file in plan.files), pool.map(kept, plan.files), strict=True))
    found = sum_up(looks)
    # First of all what was found: who is told that too much is refused wants to know all of it.
    for reject in (*found.broken, *found.rejects):
        say(f"reject: {reject.file} at offset {reject.offset}: {reject.reason}")
    run_folder.freeze(lake, run.run, FOUND, found)
    records = settle_records(asked, looks, read_vocabulary(asked, settings))
    check_enough_records(subset_counts(looks), asked)
    if run_folder.freeze(lake, run.run, "records.json", records) != records:
        raise BadRequestError("the run's records changed since it chose them: trigger a new run")
    return records


def read_vocabulary(asked: TrainOnRecordsSpec, settings: StoreSettings | None) -> tuple[str, ...]:
    """Read the names of the labels; empty where none are given. Raises BadRequestError."""
    if not asked.vocabulary:
        return ()
    try:
        return parse_vocabulary(read_uri(asked.vocabulary, settings).decode())
    except (MissingObjectError, VocabularyError, UnicodeDecodeError) as error:
        raise BadRequestError(f"vocabulary: {asked.vocabulary} cannot be used: {error}") from error
