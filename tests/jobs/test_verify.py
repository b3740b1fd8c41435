"""Verification of a small lake with one trained run: whole, and with every kind of object spoiled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters import run_folder
from shardmill.adapters.model_store import publish_model, put_weights
from shardmill.adapters.store import Store, StoreSettings
from shardmill.core.labels import LabelTable
from shardmill.core.planning import BadRequestError
from shardmill.jobs.verify import Verifying, verify
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.refusals import Holdings
from shardmill.specs.curves import LabelCurves
from shardmill.specs.manifest import Draft, Manifest, Reject, SourceObject, Video
from shardmill.specs.records import (
    MODEL_VERSION,
    Export,
    ManifestReference,
    MetricsReport,
    ModelManifest,
    Predictions,
    RecordPart,
    RecordSet,
    model_inputs,
)
from shardmill.specs.run import PlannedShard, RunLabels, RunPlan, RunSpec
from shardmill.specs.value import canonical_json
from shardmill.specs.video_pipeline import VideoPipelineSpec

RUN = "run-1"
LABELS = LabelTable.from_rows({f"video{shard}{number}": ["cat"] for shard in (0, 1) for number in (0, 1)})


class TrainedRun:
    """Two shards taken in, cut, made into records and trained on; shard 1's clips are a retry of a reject."""

    def __init__(self, lake_uri: str, source_uri: str, scratch: Path, settings: StoreSettings | None = None) -> None:
        self.lake = Store(lake_uri, settings, create=True)
        self.source = Store(source_uri, settings, create=True)
        self.settings, self.scratch = settings, scratch
        asked = VideoPipelineSpec(lake=self.lake.uri, source=self.source.uri, dataset="d")
        self.run = RunSpec(run=RUN, started="2026-11-21T01:00:00+00:00", asked=asked)
        self.freeze("spec.json", self.run)
        sources = {shard: self.take_in(shard) for shard in (0, 1)}
        self.freeze("plan.json", RunPlan(shards=tuple(PlannedShard(shard=n, source=s) for n, s in sources.items())))
        clips = [self.cut(0, sources[0], 0, ("video00", "video01"), ())]
        first = self.cut(1, sources[1], 0, ("video10",), ("video11",))
        clips.append(self.cut(1, sources[1], 1, ("video11",), (), first.manifest))
        self.lake.put_new(f"runs/{RUN}/label_table.json", canonical_json(LABELS.rows))
        labels = RunLabels(digest=LABELS.digest, vocabulary=LABELS.vocabulary, videos=4, labelled=4)
        self.freeze("labels.json", labels)
        self.features = [self.describe(found) for found in clips]
        self.train()

    def freeze(self, name, value) -> None:
        run_folder.freeze(self.lake, RUN, name, value)

    def publish(self, draft: Draft, stem: str, content: bytes, **fields) -> commits.ShardWriter:
        writer = commits.ShardWriter(self.lake, draft, stem, ".bin")
        path = self.scratch / "part"
        path.write_bytes(content)
        writer.publish(commits.NewPart(path, **fields))
        path.unlink()  # a lake on disk links it
        return writer

    def take_in(self, shard: int) -> SourceObject:
        content = f"source {shard}".encode() * 10
        self.source.put(f"s-{shard:06d}.tar", content)
        info = self.source.head(f"s-{shard:06d}.tar")
        source = SourceObject(uri=self.source.uri_of(info.key), size=info.size, version=info.version)
        draft = Draft(stage="raw", dataset="d", shard=shard, revision=0, source=source)
        parts = ()
        if shard == 0:  # one is copied, the other read where it lies
            parts = tuple(self.publish(draft, "d-000000", content, samples=1, next_sample=1).parts())
        commits.commit(self.lake, Manifest(**draft.model_dump(), samples_in=1, parts=parts))
        return source

    def cut(self, shard, source, revision, keys, refused, before: Manifest | None = None) -> commits.Revision:
        recipe = self.run.asked.split_recipe
        draft = Draft(
            stage="clips",
            dataset="d",
            shard=shard,
            revision=revision,
            recipe_hash=recipe.hash,
            recipe=recipe.model_dump(),
            source=source,
        )
        content = f"clips {shard} {revision}".encode() * 100
        writer = self.publish(draft, f"d-clips-{shard:06d}", content, samples=2 * len(keys), next_sample=2)
        old_parts, old_videos = (before.parts, before.videos) if before else ((), ())
        videos = [Video(key=key, clips=2, frames=50, seconds=4.0, part=len(old_parts)) for key in keys]
        manifest = Manifest(
            **draft.model_dump(),
            samples_in=2,
            parts=(*old_parts, *writer.parts()),
            videos=(*old_videos, *videos),
            rejects=tuple(Reject(key=key, reason="time_out", message="too slow") for key in refused),
        )
        return commits.commit(self.lake, manifest)

    def describe(self, clips: commits.Revision) -> commits.Revision:
        recipe, shard = self.run.asked.feature_recipe(LABELS.digest), clips.manifest.shard
        size = len(clips.manifest.to_json())
        draft = Draft(
            stage="features",
            dataset="d",
            shard=shard,
            revision=0,
            recipe_hash=recipe.hash,
            recipe=recipe.model_dump(mode="json"),
            source=SourceObject(uri=self.lake.uri_of(clips.key), size=size, version=clips.sha256),
        )
        writer = commits.ShardWriter(self.lake, draft, f"d-{shard:06d}", ".tfrecord")
        for subset in ("train", "validation"):
            path = self.scratch / subset
            path.write_bytes(f"{subset} {shard}".encode() * 50)
            writer.publish(commits.NewPart(path, samples=1, next_sample=2, subset=subset))
            path.unlink()
        videos = tuple(
            Video(key=video.key, frames=4, part=number, subset=("train", "validation")[number])
            for number, video in enumerate(clips.manifest.videos)
        )
        manifest = Manifest(**draft.model_dump(), samples_in=2, parts=tuple(writer.parts()), videos=videos)
        return commits.commit(self.lake, manifest)

    def train(self) -> None:
        parts = [part for revision in self.features for part in revision.manifest.parts]
        of = {
            subset: tuple(
                RecordPart(uri=self.lake.uri_of(part.name), sha256=part.sha256, records=part.samples)
                for part in parts
                if part.subset == subset
            )
            for subset in ("train", "validation")
        }
        references = tuple(ManifestReference(key=found.key, sha256=found.sha256) for found in self.features)
        records = RecordSet(vocabulary=LABELS.vocabulary, max_frames=4, manifests=references, **of)
        self.freeze("records.json", records)
        training = self.run.asked.training
        folder = Store(self.run.folder, self.settings)
        weights, sha256 = put_weights(folder, {"dense": np.arange(100, dtype=np.float32)})
        content = b"a model for other programs"
        digest = hashlib.sha256(content).hexdigest()
        export = Export(kind="keras", key=f"model/model-{digest[:12]}.keras", sha256=digest, size=len(content))
        folder.put(export.key, content)
        inputs = model_inputs(training, records)
        model = ModelManifest(
            inputs=inputs,
            model_version=MODEL_VERSION,
            training=training,
            vocabulary=LABELS.vocabulary,
            records=records.digest,
            train_records=2,
            label_counts=(2,),
            weights=weights,
            weights_sha256=sha256,
            exports=(export,),
            parameters=100,
            trainer="t",
            history=(),
            seconds=1.0,
            examples_per_second=1.0,
        )
        publish_model(folder, model)
        self.freeze("predictions.json", Predictions(inputs=inputs, videos=2, listed={}))
        self.freeze("curves.json", LabelCurves(inputs=inputs, videos=2, together=None, labels=()))
        figures = ("loss", "gap", "map", "hit_at_1", "perr")
        ablations = ("gap_rgb_only", "gap_audio_only", "gap_shuffled_frames", "gap_constant")
        report = MetricsReport(inputs=inputs, videos=2, labels=(), **dict.fromkeys((*figures, *ablations), 0.5))
        self.freeze("metrics.json", report)

    @property
    def recipes(self) -> dict[str, str]:
        return {
            "clips": self.run.asked.split_recipe.hash,
            "features": self.run.asked.feature_recipe(LABELS.digest).hash,
        }

    def verify(self, deep: bool = True, uri: str = ""):
        how = Verifying(deep=deep, source_settings=self.settings, workers=2)
        return verify(uri or self.run.folder, settings=self.settings, how=how)

    def named(self) -> list[str]:
        """All that the run stands on."""
        return [item.key for item in self.lake.list() if not item.key.endswith(".receipt.json")]


@pytest.fixture
def trained(tmp_path) -> TrainedRun:
    return TrainedRun(f"file://{tmp_path}/lake", f"file://{tmp_path}/source", tmp_path)


KINDS = {
    "a copied shard": "raw/d/000000/r000/d-000000-000000-",
    "a manifest of a copied shard": "raw/d/_manifests/000000/r000.json",
    "a manifest of a referenced shard": "raw/d/_manifests/000001/r000.json",
    "clips": "clips/d/{clips}/000000/r000/",
    "clips of an earlier revision": "clips/d/{clips}/000001/r000/",
    "a manifest of clips": "clips/d/{clips}/_manifests/000000/r000.json",
    "a manifest of an earlier revision": "clips/d/{clips}/_manifests/000001/r000.json",
    "a manifest of a later revision": "clips/d/{clips}/_manifests/000001/r001.json",
    "training records": "features/d/{features}/000001/r000/d-000001-000000-",
    "a manifest of features": "features/d/{features}/_manifests/000001/r000.json",
    "the spec": "runs/run-1/spec.json",
    "the plan": "runs/run-1/plan.json",
    "the labels": "runs/run-1/labels.json",
    "the label table": "runs/run-1/label_table.json",
    "the list of records": "runs/run-1/records.json",
    "the weights": "runs/run-1/model/weights-",
    "an export of the model": "runs/run-1/model/model-",
    "the model": "runs/run-1/model/model.json",
    "the metrics": "runs/run-1/metrics.json",
    "the predictions": "runs/run-1/predictions.json",
    "the curves": "runs/run-1/curves.json",
}


def key_of(run: TrainedRun, kind: str) -> str:
    prefix = KINDS[kind].format(**run.recipes)
    return next(key for key in run.named() if key.startswith(prefix))


def flip(store: Store, key: str, place: float) -> None:
    content = bytearray(store.get(key))
    content[min(int(place * len(content)), len(content) - 1)] ^= 1
    store.put(key, bytes(content))


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_run_has_no_finding(trained, deep):
    seen = trained.verify(deep)
    assert seen.findings == ()
    assert seen.is_whole
    assert seen.objects == len(trained.named()) + 2  # the two objects at the source
    everything = sum(item.size for item in trained.lake.list() if item.key in trained.named())
    assert (seen.bytes == everything) == deep


@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.5, 0.81, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_named_first(trained, kind, place):
    key = key_of(trained, kind)
    flip(trained.lake, key, place)
    seen = trained.verify()
    assert not seen.is_whole
    assert (seen.findings[0].kind, seen.findings[0].uri) == ("damaged", trained.lake.uri_of(key))


def test_every_kind_of_object_is_spoiled_here(trained):
    prefixes = {prefix.format(**trained.recipes) for prefix in KINDS.values()}
    shapes = {key.translate(str.maketrans("", "", "0123456789abcdef")) for key in trained.named()}
    spoiled = {
        key.translate(str.maketrans("", "", "0123456789abcdef"))
        for key in trained.named()
        if any(key.startswith(prefix) for prefix in prefixes)
    }
    assert spoiled == shapes


@pytest.mark.parametrize("kind", set(KINDS) - {"the metrics", "the curves", "a manifest of an earlier revision"})
@pytest.mark.parametrize("deep", [False, True])
def test_a_deleted_object_is_named_first(trained, kind, deep):
    key = key_of(trained, kind)
    trained.lake.delete([key])
    seen = trained.verify(deep)
    assert not seen.is_whole
    named = trained.lake.uri_of(key)
    if kind.startswith("a manifest of a copied") or kind.startswith("a manifest of a referenced"):
        named = named.rpartition("/")[0]  # which revision it was nobody knows
    assert (seen.findings[0].kind, seen.findings[0].uri) == ("missing", named)


def test_a_run_that_was_evaluated_before_curves_were_kept_is_whole(trained):
    trained.lake.delete([key_of(trained, "the curves")])
    assert trained.verify().is_whole


def test_a_deleted_manifest_below_the_highest_is_a_gap(trained):
    key = key_of(trained, "a manifest of an earlier revision")
    trained.lake.delete([key])
    seen = trained.verify()
    assert [(found.kind, found.uri) for found in seen.findings] == [("gap", trained.lake.uri_of(key))]
    assert not seen.is_whole


def test_metrics_that_are_gone_are_told_as_an_evaluation_that_broke_off(trained):
    trained.lake.delete([f"runs/{RUN}/metrics.json"])
    seen = trained.verify()
    assert [(found.kind, found.uri) for found in seen.findings] == [
        ("unfinished", f"{trained.run.folder}/metrics.json")
    ]
    assert seen.is_whole


@pytest.mark.parametrize("kind", ["a copied shard", "clips", "clips of an earlier revision", "training records"])
def test_an_added_part_is_named_and_breaks_nothing(trained, kind):
    key = key_of(trained, kind).rpartition("/")[0] + "/another.bin"
    trained.lake.put(key, b"litter")
    seen = trained.verify()
    assert [(found.kind, found.uri) for found in seen.findings] == [("unlisted", trained.lake.uri_of(key))]
    assert seen.is_whole


@pytest.mark.parametrize("key", ["model/weights-0123456789ab.npz", "model/more.bin", "stray"])
def test_an_added_file_of_a_run_is_named_and_breaks_nothing(trained, key):
    trained.lake.put(f"runs/{RUN}/{key}", b"more")
    seen = trained.verify()
    assert [(found.kind, found.uri) for found in seen.findings] == [("unlisted", f"{trained.run.folder}/{key}")]
    assert seen.is_whole


def test_the_parts_of_a_revision_without_manifest_are_unfinished_work(trained):
    key = f"features/d/{trained.recipes['features']}/000000/r001/part.tfrecord"
    trained.lake.put(key, b"half")
    seen = trained.verify()
    assert [(found.kind, found.uri) for found in seen.findings] == [("uncommitted", trained.lake.uri_of(key))]
    assert seen.is_whole


@pytest.mark.parametrize("name", ["_manifests/000000/r001.json", "_manifests/000001/r002.json"])
def test_an_added_manifest_that_is_another_s_copy_is_named(trained, name):
    folder = f"clips/d/{trained.recipes['clips']}"
    trained.lake.put(f"{folder}/{name}", trained.lake.get(f"{folder}/_manifests/000000/r000.json"))
    seen = trained.verify()
    assert (seen.findings[0].kind, seen.findings[0].uri) == ("mismatch", trained.lake.uri_of(f"{folder}/{name}"))


def test_a_manifest_far_above_the_others_leaves_gaps(trained):
    folder = f"clips/d/{trained.recipes['clips']}"
    trained.lake.put(f"{folder}/_manifests/000000/r003.json", b"{}")
    kinds = [(found.kind, found.uri.rpartition("/")[2]) for found in trained.verify().findings]
    assert kinds == [("damaged", "r003.json"), ("gap", "r001.json"), ("gap", "r002.json")]


def test_the_first_broken_link_comes_with_the_path_to_it(trained):
    clips = key_of(trained, "clips")
    flip(trained.lake, clips, 0.5)
    found = trained.verify().findings[0]
    steps = [uri.removeprefix(trained.lake.uri + "/") for uri in found.chain]
    assert steps == [
        f"runs/{RUN}/spec.json",
        f"runs/{RUN}/metrics.json",
        f"runs/{RUN}/model/model.json",
        f"runs/{RUN}/records.json",
        f"features/d/{trained.recipes['features']}/_manifests/000000/r000.json",
        f"clips/d/{trained.recipes['clips']}/_manifests/000000/r000.json",
    ]
    assert str(found).startswith(f"damaged: {trained.lake.uri_of(clips)}: expected the SHA-256")


def test_broken_links_come_before_notes(trained):
    trained.lake.put(f"runs/{RUN}/stray", b"")
    (trained.scratch / "source" / "s-000000.tar").unlink()
    flip(trained.lake, key_of(trained, "training records"), 0.5)
    assert [found.kind for found in trained.verify().findings] == ["damaged", "source_changed", "unlisted"]


def test_a_flipped_byte_of_a_part_is_found_by_a_deep_look_only(trained):
    flip(trained.lake, key_of(trained, "clips"), 0.5)
    assert trained.verify(deep=False).findings == ()


def test_a_shortened_part_is_found_without_reading_it(trained):
    key = key_of(trained, "clips")
    trained.lake.put(key, trained.lake.get(key)[:-1])
    seen = trained.verify(deep=False)
    assert [(found.kind, found.uri) for found in seen.findings] == [("damaged", trained.lake.uri_of(key))]


@pytest.mark.parametrize(("change", "message"), [("write", "changed since: it was 80 bytes"), ("delete", "gone since")])
def test_a_source_that_changed_is_told_and_breaks_nothing(trained, change, message):
    if change == "write":
        trained.source.put("s-000001.tar", b"another")
    else:
        trained.source.delete(["s-000001.tar"])
    seen = trained.verify()
    assert seen.is_whole
    assert [(found.kind, found.uri) for found in seen.findings] == [
        ("source_changed", trained.source.uri_of("s-000001.tar"))
    ]
    assert message in seen.findings[0].message


def test_a_sealed_model_of_other_records_is_named(trained):
    key = f"runs/{RUN}/model/model.json"
    model = ModelManifest.from_json(trained.lake.get(key))
    trained.lake.put(key, model.model_copy(update={"records": "0" * 12}).to_json())
    found = trained.verify().findings[0]
    assert (found.kind, found.uri) == ("mismatch", trained.lake.uri_of(key))


@pytest.mark.parametrize("name", ["metrics.json", "predictions.json", "curves.json"])
def test_sealed_measurements_of_another_model_are_named(trained, name):
    kind = {"metrics.json": MetricsReport, "predictions.json": Predictions, "curves.json": LabelCurves}[name]
    key = f"runs/{RUN}/{name}"
    value = kind.from_json(trained.lake.get(key))
    trained.lake.put(key, value.model_copy(update={"inputs": "0" * 12}).to_json())
    found = trained.verify().findings[0]
    assert (found.kind, found.uri) == ("mismatch", trained.lake.uri_of(key))


@pytest.mark.parametrize("stage", ["clips", "features"])
def test_a_sealed_manifest_of_other_content_breaks_the_link_to_it(trained, stage):
    key = f"{stage}/d/{trained.recipes[stage]}/_manifests/000000/r000.json"
    manifest = Manifest.from_json(trained.lake.get(key))
    trained.lake.put(key, manifest.model_copy(update={"tools": {"ffmpeg": "0"}}).to_json())
    found = trained.verify().findings[0]
    assert (found.kind, found.uri) == ("mismatch", trained.lake.uri_of(key))
    assert "expected the SHA-256" in found.message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"samples_in": 3}, "counts"),
        ({"recipe": {"other": 1}}, "mismatch"),
        ({"videos": ()}, "counts"),
        ({"dataset": "other"}, "mismatch"),
    ],
)
def test_a_sealed_manifest_that_contradicts_itself_is_named(trained, change, kind):
    folder = f"clips/d/{trained.recipes['clips']}"
    key = f"{folder}/_manifests/000000/r000.json"
    manifest = Manifest.from_json(trained.lake.get(key))
    trained.lake.put(key, manifest.model_copy(update=change).to_json())
    seen = trained.verify(uri=trained.lake.uri_of(folder))
    assert (seen.findings[0].kind, seen.findings[0].uri) == (kind, trained.lake.uri_of(key))


TARGETS: dict[str, Callable[[TrainedRun], str]] = {
    "spec": lambda run: f"{run.run.folder}/spec.json",
    "model": lambda run: f"{run.run.folder}/model/model.json",
    "features": lambda run: run.lake.uri_of(f"features/d/{run.recipes['features']}"),
    "clips": lambda run: run.lake.uri_of(f"clips/d/{run.recipes['clips']}"),
    "all clips": lambda run: run.lake.uri_of("clips/d"),
    "raw": lambda run: run.lake.uri_of("raw/d/"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_each_kind_of_target_is_walked_back_to_the_source(trained, target):
    uri = TARGETS[target](trained)
    assert trained.verify(uri=uri).findings == ()
    broken = key_of(trained, "a copied shard")
    flip(trained.lake, broken, 0.5)
    assert [found.uri for found in trained.verify(uri=uri).findings] == [trained.lake.uri_of(broken)]


def test_a_dataset_is_walked_at_all_its_stages_each_part_read_once(trained):
    seen = verify(trained.lake.uri, "d", how=Verifying(deep=True))
    assert seen.findings == ()
    parts = {
        key: trained.lake.head(key).size for key in trained.named() if "_manifests" not in key and "runs" not in key
    }
    assert seen.bytes >= sum(parts.values())
    for key in parts:
        flip(trained.lake, key, 0.5)
    found = verify(trained.lake.uri, "d", how=Verifying(deep=True)).findings
    assert sorted(item.uri for item in found) == sorted(map(trained.lake.uri_of, parts))


def test_an_object_of_no_shard_is_named(trained):
    folder = f"clips/d/{trained.recipes['clips']}"
    for name in ("stray.tar", "_index.parquet"):
        trained.lake.put(f"{folder}/{name}", b"")
    seen = trained.verify(uri=trained.lake.uri_of(folder))
    assert [(found.kind, found.uri) for found in seen.findings] == [
        ("unlisted", trained.lake.uri_of(f"{folder}/stray.tar"))
    ]


def test_a_model_that_was_never_trained_is_missing(trained):
    names = ("model/model.json", "metrics.json", "predictions.json")
    trained.lake.delete([f"runs/{RUN}/{name}" for name in names])
    assert trained.verify().is_whole
    seen = trained.verify(uri=f"{trained.run.folder}/model/model.json")
    assert (seen.findings[0].kind, seen.findings[0].uri) == ("missing", f"{trained.run.folder}/model/model.json")


def test_a_dataset_that_is_not_there_is_missing(lake):
    seen = verify(lake.uri, "nothing")
    assert [found.kind for found in seen.findings] == ["missing"]


def test_what_is_no_target_is_refused(lake):
    with pytest.raises(BadRequestError, match="expected …/runs/<run>"):
        verify(lake.uri_of("elsewhere"))


def test_progress_is_told(trained, monkeypatch):
    monkeypatch.setattr("shardmill.jobs.verify.ledger.TELL_SECONDS", 0.0)
    lines: list[str] = []
    verify(trained.run.folder, how=Verifying(deep=True, say=lines.append))
    assert lines[-1].endswith("MB read")
    assert lines[-1].startswith(f"{len(trained.named()) + 2} objects")


@pytest.fixture
def on_s3(tmp_path) -> TrainedRun:
    from moto.s3.models import s3_backends

    from shardmill.localcloud.cluster_table import ClusterTable
    from shardmill.localcloud.seed import ACCESS_KEY, client
    from shardmill.localcloud.server import REGION, CloudServer

    s3_backends["123456789012"]["aws"].reset()
    holdings = Holdings({}, frozenset(), frozenset())
    server = CloudServer(EmrApi(ClusterTable(), lambda: holdings, REGION), tmp_path / "s3", 0)
    s3 = client("s3", server.endpoint)
    for bucket in ("lake", "source"):
        s3.create_bucket(Bucket=bucket)
    settings = StoreSettings(
        endpoint_url=server.endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=ACCESS_KEY
    )
    yield TrainedRun("s3://lake/folder", "s3://source", tmp_path, settings)
    server.close()
    s3_backends["123456789012"]["aws"].reset()


def test_a_run_on_s3_is_verified_and_what_is_broken_in_it_named(on_s3):
    assert on_s3.verify().findings == ()
    spoiled = [key_of(on_s3, kind) for kind in ("the weights", "clips", "a manifest of features")]
    for key in spoiled:
        flip(on_s3.lake, key, 0.5)
    on_s3.source.put("s-000000.tar", os.urandom(80))
    seen = on_s3.verify()
    assert {found.uri for found in seen.findings if found.is_broken} == set(map(on_s3.lake.uri_of, spoiled))
    assert [found.kind for found in seen.findings if not found.is_broken] == ["source_changed"]
    assert seen.findings[0].uri == on_s3.lake.uri_of(spoiled[0])


def test_the_hash_that_is_expected_is_that_of_the_bytes(trained):
    key = key_of(trained, "the weights")
    flip(trained.lake, key, 0.5)
    found = hashlib.sha256(trained.lake.get(key)).hexdigest()
    assert trained.verify().findings[0].message.endswith(f"found {found}")
