"""Walk a run back: from its metrics and its model to the records, and on through the lake."""

from __future__ import annotations

import json
from typing import NamedTuple

from shardmill.core import lineage
from shardmill.core.labels import LabelTable
from shardmill.jobs.verify.ledger import Chain, Ledger, Read, Value
from shardmill.jobs.verify.record_files import verify_files
from shardmill.jobs.verify.shards import Walk
from shardmill.specs.curves import LabelCurves
from shardmill.specs.manifest import Manifest
from shardmill.specs.records import ManifestReference, MetricsReport, ModelManifest, Predictions, RecordPart, RecordSet
from shardmill.specs.run import RunLabels, RunPlan, RunSpec

TABLE = "label_table.json"
ORDER = ("plan.json", TABLE, "labels.json", "records.json", "model/model.json", "metrics.json")
"""A run froze these one after the other: where one is there, those before it have to be."""
RECORD_ORDER = ("files.json", "found.json", "records.json", "model/model.json", "metrics.json")
"""The same, of a run that trains on records that were there."""
SHARDS_ORDER = (TABLE, "plan.json")
"""The same, of a run that ends with records."""
ORDERS = {"train_on_records": RECORD_ORDER, "nightly_reprocess": SHARDS_ORDER, "backfill_shards": SHARDS_ORDER}
SHARDS_OTHERS = ("fresh.json", "canary.json")
OTHERS = (
    *SHARDS_OTHERS,
    *("spec.json", "clusters.json", "spent.json", "spending_told.txt", "predictions.json"),
    *("curves.json", "history.json", "result.json", "report.html"),
)
FOLDERS = ("logs/", "asked/", "checkpoints/", "training/", "tensorboard/", "announced/")
MODEL, WEIGHTS = "model/model.json", "model/"


def verify_run(walk: Walk, ledger: Ledger, run: str, *, needs_model: bool) -> None:
    """Walk back from all that a run froze."""
    _Run(walk, ledger, run).verify(needs_model)


class _Shard(NamedTuple):
    """What is kept of a shard's manifest, for those of thousands of shards are large."""

    number: int
    train: tuple[RecordPart, ...]
    validation: tuple[RecordPart, ...]


class _Run:
    def __init__(self, walk: Walk, ledger: Ledger, run: str) -> None:
        self._walk, self._ledger, self._run = walk, ledger, run
        self._folder = f"runs/{run}"
        self._sizes = {item.key.removeprefix(self._folder + "/"): item.size for item in walk.lake.list(self._folder)}
        self._order: tuple[str, ...] = ORDER
        self._start: Chain = (walk.lake.uri_of(f"{self._folder}/spec.json"),)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _uri(self, name: str) -> str:
        return self._walk.lake.uri_of(self._key(name))

    def verify(self, needs_model: bool) -> None:
        spec = self._ledger.read(self._key("spec.json"), RunSpec, ())
        if spec is not None and spec.value.folder != self._walk.lake.uri_of(self._folder):
            self._ledger.find("mismatch", self._key("spec.json"), f"it is the spec of {spec.value.folder}", ())
        on_records = spec is not None and spec.value.pipeline == "train_on_records"
        self._order = ORDERS.get(spec.value.pipeline, ORDER) if spec is not None else ORDER
        expected = self._expected(needs_model)
        model, chain = self._model(expected)
        records = self._read("records.json", RecordSet, expected, chain)
        labels = self._read("labels.json", RunLabels, expected, self._start)
        if spec is not None and records is not None:
            if model is not None:
                claims = lineage.check_model(model.value, records.value, spec.value)
                self._ledger.claim(claims, self._key(MODEL), chain[:-1])
            if labels is not None:
                claims = lineage.check_labels(records.value, labels.value, spec.value)
                self._ledger.claim(claims, self._key("records.json"), chain)
        plan = self._read("plan.json", RunPlan, expected, self._start)
        if TABLE in expected:
            self._table(labels, plan)
        if records is not None and on_records:
            verify_files(self._walk, self._ledger, records.value, (*chain, self._uri("records.json")))
        elif records is not None:
            self._records(records.value, plan, (*chain, self._uri("records.json")))
        self._others(model)

    def _expected(self, needs_model: bool) -> set[str]:
        """Give the names that have to be there."""
        last = max((number for number, name in enumerate(self._order) if name in self._sizes), default=-1)
        if MODEL in self._order and (needs_model or "predictions.json" in self._sizes):
            last = max(last, self._order.index(MODEL))
        return {*self._order[: last + 1], *(["predictions.json"] if "metrics.json" in self._sizes else [])}

    def _read(self, name: str, kind: type[Value], expected: set[str], chain: Chain) -> Read[Value] | None:
        if name in self._sizes or name in expected:
            return self._ledger.read(self._key(name), kind, chain)
        return None

    def _model(self, expected: set[str]) -> tuple[Read[ModelManifest] | None, Chain]:
        """Check the model and what was measured of it; give it with the chain that goes on from it."""
        metrics = self._read("metrics.json", MetricsReport, expected, self._start)
        predictions = self._read("predictions.json", Predictions, expected, self._start)
        curves = self._read("curves.json", LabelCurves, set(), self._start)
        chain = (*self._start, self._uri("metrics.json")) if metrics else self._start
        model = self._read(MODEL, ModelManifest, expected, chain)
        if model is None:
            return None, chain
        for found in (metrics, predictions, curves):
            if found is not None and found.value.inputs != model.value.inputs:
                message = f"it is of a model of inputs {found.value.inputs}, this one has {model.value.inputs}"
                self._ledger.find("mismatch", found.key, message, self._start)
        chain = (*chain, self._uri(MODEL))
        self._files(model.value, chain)
        return model, chain

    def _files(self, model: ModelManifest, chain: Chain) -> None:
        """Check the model's weights and what was made of it for other programs."""
        self._file("weights", model.weights, model.weights_sha256, chain)
        for export in model.exports:
            self._file(f"{export.kind} export", export.key, export.sha256, chain)

    def _file(self, what: str, name: str, sha256: str, chain: Chain) -> None:
        self._walk.progress.count(1, 0)
        size = self._sizes.get(name)
        if not name.startswith(WEIGHTS) or sha256[:12] not in name:
            self._ledger.find("mismatch", self._key(MODEL), f"{name} is no name of its {what}", chain[:-1])
        elif size is None:
            self._ledger.find("missing", self._key(name), f"expected the model's {what}, found nothing", chain)
        elif not size:
            self._ledger.find("damaged", self._key(name), f"expected the model's {what}, found 0 bytes", chain)
        elif self._walk.how.deep:
            self._ledger.hash_object(self._key(name), sha256, chain)

    def _table(self, labels: Read[RunLabels] | None, plan: Read[RunPlan] | None) -> None:
        chain = (*self._start, self._uri("labels.json"))
        if TABLE not in self._sizes:
            self._ledger.find("missing", self._key(TABLE), "expected the run's label table, found nothing", chain)
            return
        content = self._walk.lake.get(self._key(TABLE))
        self._walk.progress.count(1, len(content))
        try:
            table = LabelTable.from_rows(json.loads(content))
        except (ValueError, TypeError, AttributeError) as error:
            self._ledger.find("damaged", self._key(TABLE), f"expected labels by video: {error}", chain)
            return
        if labels is not None and (table.digest, table.vocabulary) != (labels.value.digest, labels.value.vocabulary):
            message = f"expected the digest {labels.value.digest}, found {table.digest}"
            self._ledger.find("damaged", self._key(TABLE), message, chain)
        elif labels is None and plan is not None and plan.value.labels not in ("", table.digest):
            message = f"expected the digest {plan.value.labels} of the plan, found {table.digest}"
            self._ledger.find("damaged", self._key(TABLE), message, chain)

    def _records(self, records: RecordSet, plan: Read[RunPlan] | None, chain: Chain) -> None:
        """Walk back from each manifest of the features, and compare the parts with those that are trained on."""

        def follow(own: Ledger, reference: ManifestReference) -> _Shard | None:
            return self._summary(self._walk.referenced(own, reference, chain))

        found = self._walk.each(self._ledger, records.manifests, follow)
        key, before = self._key("records.json"), chain[:-1]
        if not records.manifests:
            self._ledger.find("mismatch", key, "it names no manifest of the features", before)
        shards = [shard for shard in found if shard is not None]
        if len(shards) != len(found):
            return
        if plan is not None and sorted(shard.number for shard in shards) != sorted(plan.value.numbers):
            message = f"it is of {len(shards)} shards, the plan of {len(plan.value.numbers)} others"
            self._ledger.find("mismatch", key, message, before)
        for subset in ("train", "validation"):
            parts = tuple(part for shard in shards for part in getattr(shard, subset))
            if parts != getattr(records, subset):
                self._ledger.find("mismatch", key, f"its {subset} parts are not those of the manifests", before)

    def _summary(self, manifest: Manifest | None) -> _Shard | None:
        if manifest is None:
            return None
        uri = self._walk.lake.uri
        train, validation = (lineage.record_parts(manifest, uri, subset) for subset in ("train", "validation"))
        return _Shard(manifest.shard, train, validation)

    def _others(self, model: Read[ModelManifest] | None) -> None:
        """Name what a run has no use for."""
        if "predictions.json" in self._sizes and "metrics.json" not in self._sizes:
            self._ledger.find("unfinished", self._key("metrics.json"), "predictions are there, no metrics", self._start)
        known = {*self._order, *OTHERS}
        if model is not None:
            known |= {model.value.weights, *(export.key for export in model.value.exports)}
        for name in self._sizes:
            if name in known or name.startswith(FOLDERS):
                continue
            if name.startswith(WEIGHTS) and MODEL not in self._sizes:
                self._ledger.find("uncommitted", self._key(name), "there is no model.json", self._start)
            elif model is not None or not name.startswith(WEIGHTS):
                self._ledger.find("unlisted", self._key(name), "nothing of the run refers to it", self._start)
