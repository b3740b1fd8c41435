"""Plan a run that trains on records: freeze what was asked and which files it takes, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from shardmill.adapters import run_folder
from shardmill.adapters.access import Access
from shardmill.adapters.mirror import Mirror, Patience
from shardmill.adapters.record_look import find_look, look_key, looks_folder
from shardmill.adapters.roots import Roots
from shardmill.adapters.run_folder import run_name
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.core import planning
from shardmill.core.record_sets import SUFFIX, download_shard, keep_share, planned_files
from shardmill.specs.record_files import PlannedFile, RecordPlan, Subset
from shardmill.specs.run import RunSpec
from shardmill.specs.train_on_records import TrainOnRecordsSpec

PLAN = "files.json"
READERS = 16
ASKED_SIZES = 8
"""Files of a mirror whose size is asked for; the others are taken for as large as these on the average."""


@dataclass(frozen=True)
class PlannedRecords:
    """A run that may start."""

    run: RunSpec
    plan: RecordPlan
    batches: Sequence[Sequence[int]] = field(default_factory=tuple)
    """Numbers of the files that are to be fetched or looked at, batch by batch."""

    @property
    def spec_uri(self) -> str:
        return f"{self.run.folder}/spec.json"

    @property
    def summary(self) -> str:
        """What the run does, in a line."""
        todo = sum(len(batch) for batch in self.batches)
        size, exact = self.plan.bytes
        verb = "fetch" if self.run.on_records.copies else "look at"
        files = (
            f"{len(self.plan.files)} files of records, {'' if exact else 'about '}{size / planning.MEGABYTE:,.1f} MB"
        )
        return f"{files}: {todo} to {verb} in {len(self.batches)} batches" if todo else f"{files}: all done"

    @property
    def lines(self) -> Iterator[str]:
        """What was found."""
        yield from self.plan.notes


def plan_records(
    asked: TrainOnRecordsSpec, run_id: str, access: Access | None = None, patience: Patience | None = None
) -> PlannedRecords:
    """Check what was asked against the folders or the mirror, and freeze the listing in the run's folder.

    A run that was planned before keeps its plan: what it works on does not move under it.

    Raises:
        BadRequestError: a place that may not be used, no file, what the trainer does not do, or a run of this name that
            asked for something else.
        MirrorError: the mirror did not give its lists; another try may help.
    """
    access = access or Access()
    planning.check_trainer(asked)
    _check_roots(asked, access.roots)
    lake = Store(asked.lake, access.lake, create=True)
    run = run_folder.begin(lake, asked, run_name(run_id))
    plan = run_folder.find(lake, run.run, PLAN, RecordPlan)
    if plan is None:
        made = _of_mirror(asked, patience) if asked.origin == "mirror" else _of_folders(asked, access)
        plan = run_folder.freeze(lake, run.run, PLAN, made)
    total, _ = plan.bytes
    mean = max(1, total // max(1, len(plan.files)))
    sizes = {number: plan.files[number].size or mean for number in missing_files(lake, asked, plan)}
    return PlannedRecords(run, plan, planning.batch_shards(sizes, asked.batch_mb * planning.MEGABYTE))


def _check_roots(asked: TrainOnRecordsSpec, roots: Roots) -> None:
    roots.check_lake("lake", asked.lake)
    places = ("mirror", "plans") if asked.origin == "mirror" else ("source", "validation_source")
    for field_name in (*places, "vocabulary", "prices"):
        if uri := getattr(asked, field_name):
            roots.check_source(field_name, uri)


def _of_folders(asked: TrainOnRecordsSpec, access: Access) -> RecordPlan:
    found = _list_folder("source", asked.source, access)
    if asked.validation_source:
        listed: dict[Subset, list[PlannedFile]] = {
            "train": found,
            "validation": _list_folder("validation_source", asked.validation_source, access),
        }
    else:
        kept = keep_share([file.name for file in found], asked.validation_share)
        listed = {"train": [], "validation": []}
        for file in found:
            listed["validation" if file.name in kept else "train"].append(file)
    marked: Mapping[Subset, Sequence[PlannedFile]] = {
        subset: [file.model_copy(update={"subset": subset}) for file in files] for subset, files in listed.items()
    }
    where = {"train": asked.source, "validation": asked.validation_source or f"a share of {asked.source}"}
    notes = tuple(f"{subset}: {len(files)} files of {where[subset]}" for subset, files in marked.items())
    return RecordPlan(files=planned_files(marked, "validation_source"), notes=notes)


def _list_folder(field_name: str, uri: str, access: Access) -> list[PlannedFile]:
    try:
        store = Store(uri, access.source_settings)
        items = [item for item in store.files() if item.key.endswith(SUFFIX)]
    except MissingObjectError as error:
        raise planning.BadRequestError(f"{field_name}: {error}") from error
    if not items:
        raise planning.BadRequestError(f"{field_name}: 0 files found at {uri}: expected names that end in {SUFFIX}")
    for item in items:
        _check_inside(field_name, store, item.key)
    return [
        PlannedFile(subset="train", uri=store.uri_of(item.key), size=item.size, version=item.version) for item in items
    ]


def _check_inside(field_name: str, store: Store, key: str) -> None:
    """Refuse a file that is a link out of its folder: what may be read is said of folders."""
    folder = store.folder
    if folder is not None and not (folder / key).resolve().is_relative_to(folder.resolve()):
        raise planning.BadRequestError(
            f"{field_name}: {store.uri_of(key)} is a link that leads out of its folder: remove it"
        )


def _of_mirror(asked: TrainOnRecordsSpec, patience: Patience | None) -> RecordPlan:
    partitions: tuple[tuple[Subset, str, str], ...] = (
        ("train", asked.train_partition, asked.train_shard),
        ("validation", asked.validation_partition, asked.validation_shard),
    )
    files: dict[Subset, list[PlannedFile]] = {}
    notes = []
    with Mirror(patience) as mirror:
        for subset, partition, shard in partitions:
            version, level, split = partition.split("/")
            url = f"{asked.plans}/{version}/download_plans/{level}_{split}.json"
            listed = mirror.list_files(url)
            names = download_shard(listed, shard)
            if not names:
                raise planning.BadRequestError(
                    f"{subset}_shard: {shard} holds none of {len(listed)} files of {partition}: take a larger share"
                )
            files[subset] = [
                PlannedFile(subset=subset, uri=f"{asked.mirror}/{partition}/{name}", md5=listed[name]) for name in names
            ]
            files[subset] = _with_sizes(mirror, files[subset])
            notes.append(f"{subset}: {len(names)} of {len(listed)} files of {partition}, by {url}")
    return RecordPlan(files=planned_files(files, "validation_shard"), notes=tuple(notes))


def _with_sizes(mirror: Mirror, files: Sequence[PlannedFile]) -> list[PlannedFile]:
    """Ask for the sizes of some files, spread evenly over all of them."""
    step = max(1, len(files) // ASKED_SIZES)
    asked = [file.uri for file in files[::step][:ASKED_SIZES]]
    with ThreadPoolExecutor(len(asked)) as pool:
        sizes = dict(zip(asked, pool.map(mirror.size_of, asked), strict=True))
    return [file.model_copy(update={"size": sizes.get(file.uri)}) for file in files]


def missing_files(lake: Store, asked: TrainOnRecordsSpec, plan: RecordPlan) -> list[int]:
    """Give the numbers of the files of which nothing is known yet, or whose copy is gone."""
    looks = {item.key for item in lake.list(looks_folder(asked.dataset))}

    def done(file: PlannedFile) -> bool:
        key = look_key(asked.dataset, file, copies=asked.copies)
        return key in looks and find_look(lake, asked.dataset, file, copies=asked.copies) is not None

    with ThreadPoolExecutor(READERS) as pool:
        states = list(pool.map(done, plan.files))
    return [number for number, is_done in enumerate(states) if not is_done]
