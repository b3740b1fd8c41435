"""What changed since the run before: what was asked, what lay at the source, counts, scores, labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shardmill.core.freshness import shard_range
from shardmill.core.report import Earlier, Found
from shardmill.specs.fresh import Fresh
from shardmill.specs.records import MetricsReport, RecordSet
from shardmill.specs.result import RunResult
from shardmill.specs.run import RunPlan, RunSpec
from shardmill.specs.shard_runs import WorkersRun
from shardmill.specs.train_on_records import TrainOnRecordsSpec

SCORES = {"gap": "GAP@20", "map": "mAP", "hit_at_1": "Hit@1", "perr": "PERR", "loss": "loss"}
WORKING_TASKS = ("ingest", "fetch", "split", "split_on_cluster", "features", "canary", "shards", "train", "evaluate")
MOST_LABELS = 6
"""Labels that are named: those whose average precision moved the furthest."""
_LEAST_MOVE = 0.0005
"""Less is not seen in three digits."""


@dataclass(frozen=True)
class FieldChange:
    """A field of the spec that was asked for otherwise."""

    name: str
    before: str
    now: str


@dataclass(frozen=True)
class NumberChange:
    """A number then and now; None where it is not known."""

    name: str
    before: float | None
    now: float | None
    more_is_better: bool | None = None
    """None where neither is."""
    note: str = ""

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.now is None else self.now - self.before

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or empty where it is equal, unknown, or neither."""
        change = self.difference
        if self.more_is_better is None or change is None or abs(change) < _LEAST_MOVE:
            return ""
        return "better" if (change > 0) == self.more_is_better else "worse"


@dataclass(frozen=True)
class Changes:
    """A run beside the one before."""

    run: str
    started: str
    between: int
    """Later runs that were passed over, for they had no metrics."""
    fields: tuple[FieldChange, ...]
    lines: tuple[str, ...]
    """What changed at the source, in the recipes, and in what the scores are measured on."""
    scores: tuple[NumberChange, ...]
    counts: tuple[NumberChange, ...]
    seconds: tuple[NumberChange, ...]
    """Of the whole run, and of the tasks that work."""
    usd: NumberChange | None
    """Of the clusters; None where neither run's is known."""
    labels: tuple[NumberChange, ...]


def changes(found: Found, now: RunResult) -> Changes | None:
    """Hold a run against the one before; None where there was none."""
    before = found.earlier
    if before is None:
        return None
    return Changes(
        run=before.run.run,
        started=before.run.started,
        between=before.between,
        fields=tuple(_fields(before.run, found.run)),
        lines=(*_recipes(before.run, found), *_shards(before, found), *_validation(before, found)),
        scores=tuple(_scores(before.metrics, found.metrics)),
        counts=tuple(_counts(before.result, now)),
        seconds=tuple(_seconds(before.result, now)),
        usd=_usd(before.result, now),
        labels=tuple(_labels(before.metrics, found.metrics)),
    )


def _fields(before: RunSpec, now: RunSpec) -> Iterator[FieldChange]:
    for name in type(now.asked).model_fields:
        values = [str(getattr(run.asked, name, "")) for run in (before, now)]
        if values[0] != values[1]:
            yield FieldChange(name, *values)


def _recipes(before: RunSpec, found: Found) -> Iterator[str]:
    if isinstance(found.run.asked, TrainOnRecordsSpec) or before.pipeline != found.run.pipeline:
        return
    if before.video.split_recipe.hash != found.run.video.split_recipe.hash:
        yield "The recipe of the clips is another: every video was to be cut anew."
    elif found.labels_digest and (
        before.video.feature_recipe(found.labels_digest).hash
        != found.run.video.feature_recipe(found.labels_digest).hash
    ):
        yield "The recipe of the records is another: they were to be made anew."


def _shards(before: Earlier, found: Found) -> Iterator[str]:
    """Say how the shards differ: the planned ones, or the fresh ones where a plan holds only what was due."""
    if not isinstance(found.run.asked, WorkersRun):
        yield from _source(before.plan, found.plan)
    elif before.fresh is None or found.fresh is None:
        return
    elif getattr(before.run.asked, "shards", "") != found.run.asked.shards:
        yield "Fresh shards are not compared: the run before asked for another range."
    elif before.fresh.recipe != found.fresh.recipe:
        yield "Fresh shards are not compared: the records are of another recipe."
    else:
        yield from _fresh(before.fresh, found.fresh)


def _fresh(before: Fresh, now: Fresh) -> Iterator[str]:
    came, went = sorted(now.records.keys() - before.records.keys()), sorted(before.records.keys() - now.records.keys())
    made = sum(before.records[shard] != digest for shard, digest in now.records.items() if shard in before.records)
    told = [
        f"{before.count:,} then and {now.count:,} now",
        f"{len(came):,} came: {shard_range(came)}" if came else "",
        f"{made:,} were made anew" if made else "",
        f"{len(went):,} are so no longer: {shard_range(went)}" if went else "",
    ]
    yield f"Fresh shards: {'; '.join(filter(None, told))}."


def _source(before: RunPlan | None, now: RunPlan | None) -> Iterator[str]:
    if before is None or now is None:
        return
    then, there = ({one.shard: one.source.version for one in plan.shards} for plan in (before, now))
    kept = then.keys() & there.keys()
    counts = {
        "not in the run before": len(there.keys() - then.keys()),
        "changed at the source": sum(then[shard] != there[shard] for shard in kept),
        "no longer in this run": len(then.keys() - there.keys()),
    }
    told = [f"{count:,} {what}" for what, count in counts.items() if count]
    if told:
        yield f"Of {len(then.keys() | there.keys()):,} shards: {', '.join(told)}."
    else:
        yield f"The same {len(there):,} shard{'s' * (len(there) != 1)}, unchanged at the source."


def _validation(before: Earlier, found: Found) -> Iterator[str]:
    """Say whether the scores of both can be compared: by the videos that are listed, and by their records."""
    if before.metrics is None or found.metrics is None or before.records is None or found.records is None:
        return
    then, now = before.metrics.videos, found.metrics.videos
    labels = "" if before.records.vocabulary == found.records.vocabulary else ", whose labels are other ones"
    if then != now or before.videos != frozenset(one.video for one in found.predictions):
        yield f"The scores are of other validation videos, {then:,} then and {now:,} now{labels}: mind that."
    elif _parts(before.records) != _parts(found.records) or labels:
        yield f"The scores are of the same {now:,} validation videos{labels}; their records were made anew."
    else:
        yield f"The scores are of the same {now:,} validation videos, and of the same records."


def _parts(records: RecordSet) -> frozenset[str]:
    return frozenset(part.sha256 for part in records.validation)


def _scores(before: MetricsReport | None, now: MetricsReport | None) -> Iterator[NumberChange]:
    if before is not None and now is not None:
        for name, title in SCORES.items():
            yield NumberChange(title, getattr(before, name), getattr(now, name), name != "loss")


def _counts(before: RunResult | None, now: RunResult) -> Iterator[NumberChange]:
    """Give every count; those of the run before are as its report had them, whatever became of the lake since."""
    if before is None:
        return
    for name in dict.fromkeys((*now.counts, *before.counts)):
        yield NumberChange(name, before.counts.get(name), now.counts.get(name))
    then, since = _rejects(before), _rejects(now)
    for name in dict.fromkeys((*now.rejects, *before.rejects)):
        yield NumberChange(f"rejects: {name}", then(name), since(name), more_is_better=False)


def _rejects(result: RunResult) -> Callable[[str], int | None]:
    """Count by reason: one that is not named had no reject, but in a run that did not come so far none is known."""
    return lambda name: result.rejects.get(name, 0 if "rejects" in result.counts else None)


def _seconds(before: RunResult | None, now: RunResult) -> Iterator[NumberChange]:
    """Give what took time in either run; no verdict, for a run that finds its work done is no faster one."""
    if before is None:
        return
    if before.took is not None or now.took is not None:
        yield NumberChange("start to report", before.took, now.took)
    for name in WORKING_TASKS:
        if name in before.seconds or name in now.seconds:
            yield NumberChange(name, before.seconds.get(name), now.seconds.get(name))


def _usd(before: RunResult | None, now: RunResult) -> NumberChange | None:
    if before is None or (before.usd is None and now.usd is None):
        return None
    return NumberChange("clusters", before.usd, now.usd)


def _labels(before: MetricsReport | None, now: MetricsReport | None) -> Iterator[NumberChange]:
    if before is None or now is None:
        return
    then, there = _precisions(before), _precisions(now)
    moved = [NumberChange(label, then.get(label), there.get(label), more_is_better=True) for label in {**there, **then}]
    known = [one for one in moved if one.difference is not None and abs(one.difference) >= _LEAST_MOVE]
    yield from sorted(known, key=lambda one: (-abs(one.difference or 0.0), one.name))[:MOST_LABELS]


def _precisions(metrics: MetricsReport) -> Mapping[str, float]:
    return {score.label: score.average_precision for score in metrics.labels if score.positives}
