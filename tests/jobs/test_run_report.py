"""The report of a run, made from a small lake: whole runs, failed ones, hostile names."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from shardmill.adapters import lake as commits
from shardmill.adapters import playable
from shardmill.adapters.report_page import render
from shardmill.adapters.store import Store
from shardmill.core import layout
from shardmill.core.page_making import Told, make_page
from shardmill.core.page_text import size_text
from shardmill.core.report import Found
from shardmill.core.side_costs import STORAGE
from shardmill.jobs.report import TaskOutcome, summarise, write_report
from shardmill.specs.curves import LabelCurve, LabelCurves, PrecisionRecall
from shardmill.specs.manifest import Manifest, Part, Reject, SourceObject, Video
from shardmill.specs.records import (
    EpochLoss,
    LabelScore,
    MetricsReport,
    ModelManifest,
    Predictions,
    RecordPart,
    RecordSet,
    VideoPrediction,
)
from shardmill.specs.result import RunResult
from shardmill.specs.run import (
    PlannedCluster,
    PlannedCost,
    PlannedShard,
    PlannedStage,
    RunClusters,
    RunLabels,
    RunPlan,
    RunSpec,
)
from shardmill.specs.spent import RunSpent, SpentCluster, SpentStep
from shardmill.specs.training_run import TrainingHistory
from shardmill.specs.video_pipeline import VideoPipelineSpec

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil.example/x onerror=alert(1)>"
HOSTILE_KEY = '--<b onclick=alert(1)>"&amp;'
LABELS = ("people", "sport", f"label {HOSTILE}")
DIGEST = "abcdef012345"
SOURCE = SourceObject(uri="file:///source/s-000000.tar", size=9, version="v")
DONE = [TaskOutcome(name, "success", 2.5) for name in ("plan", "split_0", "split_1", "train", "evaluate")]


def clip_bytes(level: int) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        for step in range(4):
            picture = np.full((128, 256, 3), level + step, np.uint8)
            picture[40:80, 20 + 30 * step : 60 + 30 * step] = (250, 160, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class RunOnDisk:
    """A lake with one run in it, made stage by stage."""

    def __init__(self, folder: Path, *, shards: int = 2, videos: int = 3) -> None:
        self.folder = folder
        self.lake = Store(f"file://{folder}/lake", create=True)
        self.run = RunSpec(
            run="video_pipeline.manual-1",
            started="2026-11-21T01:00:00+00:00",
            asked=VideoPipelineSpec(lake=self.lake.uri, source=f"file://{folder}/source", dataset="d", epochs=3),
        )
        self.keys = {shard: [f"vid{shard}{n}____" for n in range(videos)] for shard in range(shards)}
        self.keys[0][0] = HOSTILE_KEY
        self.recipes = {
            "raw": "",
            "clips": self.run.asked.split_recipe.hash,
            "features": self.run.asked.feature_recipe(DIGEST).hash,
        }

    def put(self, name, value) -> None:
        self.lake.put(f"runs/{self.run.run}/{name}", value.to_json())

    def commit(self, stage, shard, parts, **fields) -> None:
        recipe = self.recipes[stage]
        values = {"samples_in": 1, **fields}
        commits.commit(
            self.lake,
            Manifest(
                stage=stage,
                dataset="d",
                shard=shard,
                revision=0,
                recipe_hash=recipe,
                source=SOURCE,
                parts=parts,
                tools={"ffmpeg": "9.0.2"},
                **values,
            ),
        )

    def plan(self) -> None:
        self.put("spec.json", self.run)
        self.put("plan.json", RunPlan(shards=tuple(PlannedShard(shard=n, source=SOURCE) for n in self.keys)))

    def ingest(self) -> None:
        for shard in self.keys:
            self.commit(
                "raw",
                shard,
                (Part(name=f"raw/d/{shard:06d}/r000/d-{shard:06d}.tar", size=8_000_000, sha256="0" * 64, samples=1),),
            )

    def split(self) -> None:
        for shard, keys in self.keys.items():
            path = self.folder / f"{shard}.tar"
            with tarfile.open(path, "w") as tar:
                for level, key in enumerate(keys):
                    for number in range(4):
                        add_member(tar, f"{key}/{number:06d}.mp4", clip_bytes(30 + 40 * level))
                        add_member(tar, f"{key}/{number:06d}.info.json", b"{}")
            with tarfile.open(path) as tar:
                places = {one.name: (one.offset_data, one.size) for one in tar}
            folder = layout.part_folder(layout.stage_folder("clips", "d", self.recipes["clips"]), shard, 0)
            sha256 = commits.file_sha256(path)
            name = f"{folder}/d-clips-{shard:06d}-000000-{sha256[:12]}.tar"
            published = Part(name=name, size=path.stat().st_size, sha256=sha256, samples=4 * len(keys))
            commits.put_part(self.lake, published, path)
            rejects = [Reject(key=HOSTILE, reason="not_a_video", message=f"found {HOSTILE}", detail="moov not found")]
            rejects = rejects if shard == 0 else []
            self.commit(
                "clips",
                shard,
                (published,),
                samples_in=len(keys) + len(rejects),
                rejects=tuple(rejects),
                videos=tuple(self.video(key, places) for key in keys),
            )

    @staticmethod
    def video(key: str, places: dict[str, tuple[int, int]]) -> Video:
        offsets, sizes = zip(*(places[f"{key}/{number:06d}.mp4"] for number in range(4)), strict=True)
        return Video(key=key, clips=4, frames=16, seconds=3.2, offsets=offsets, sizes=sizes)

    def featurize(self) -> None:
        self.put("labels.json", RunLabels(digest=DIGEST, vocabulary=LABELS, videos=6, labelled=6))
        for shard, keys in self.keys.items():
            part = Part(name=f"f/{shard}.tfrecord", size=5000, sha256="1" * 64, samples=len(keys), subset="train")
            videos = tuple(Video(key=key, clips=4, frames=4, labels=(LABELS[0],)) for key in keys)
            self.commit("features", shard, (part,), samples_in=len(keys), videos=videos)
        # Of these, there are more than were made: the report has to see that.
        parts = [(RecordPart(uri="file:///x", sha256="1" * 64, records=count),) for count in (4, 6)]
        self.put("records.json", RecordSet(vocabulary=LABELS, max_frames=4, train=parts[0], validation=parts[1]))

    def featurize_again(self) -> None:
        """Freeze what a later run on the same records does."""
        self.put("labels.json", RunLabels(digest=DIGEST, vocabulary=LABELS, videos=6, labelled=6))

    def train(self) -> None:
        history = [
            EpochLoss(
                epoch=n, loss=0.7 / (n + 1), validation_loss=0.8 / (n + 1), worker_losses=() if n == 0 else (0.5, 0.4)
            )
            for n in range(4)
        ]
        self.put(
            "model/model.json",
            ModelManifest(
                inputs="i",
                model_version=1,
                training=self.run.asked.training,
                vocabulary=LABELS,
                records="r",
                train_records=4,
                label_counts=(3, 2, 1),
                weights="model/w.npz",
                weights_sha256="2" * 64,
                parameters=1234,
                trainer="elephas 7.3.0 synchronous",
                history=tuple(history),
                seconds=12.5,
                examples_per_second=99.0,
            ),
        )

    def evaluate(self) -> None:
        scores = [
            LabelScore(label=label, average_precision=0.9 - n / 10, positives=n, training_positives=4 - n)
            for n, label in enumerate(LABELS)
        ]
        gaps = {
            "gap": 0.93,
            "gap_rgb_only": 0.7,
            "gap_audio_only": 0.6,
            "gap_shuffled_frames": 0.8,
            "gap_constant": 0.3,
        }
        rest = {"map": 0.91, "hit_at_1": 0.92, "perr": 0.9, "loss": 0.1}
        self.put("metrics.json", MetricsReport(inputs="i", videos=6, labels=tuple(scores), **gaps, **rest))
        listed = {
            key: VideoPrediction(labels=(LABELS[2],), top=((LABELS[n % 3], 0.8), (LABELS[(n + 1) % 3], 0.4)))
            for n, key in enumerate(key for keys in self.keys.values() for key in keys)
        }
        self.put("predictions.json", Predictions(inputs="i", videos=6, listed=listed))


STAGES = ("plan", "ingest", "split", "featurize", "train", "evaluate")


def run_until(folder: Path, last: str) -> RunOnDisk:
    made = RunOnDisk(folder)
    for stage in STAGES[: STAGES.index(last) + 1]:
        getattr(made, stage)()
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_until(tmp_path_factory.mktemp("whole"), "evaluate")


class Reader(HTMLParser):
    """Collects what a browser would act on, and the text that it would show."""

    VOID = frozenset({"meta", "img", "rect", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.style = ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.text += " "

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text += data


def read_page(made: RunOnDisk, tasks=(), failure="") -> tuple[str, Reader]:
    uri = write_report(made.lake, made.run, tasks, failure=failure)
    assert uri == f"{made.lake.uri}/runs/{made.run.run}/report.html"
    page = made.lake.get(f"runs/{made.run.run}/report.html").decode()
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return page, reader


def test_the_report_of_a_whole_run_shows_its_numbers(whole):
    _, page = read_page(whole, DONE)

    assert "✓ Succeeded" in page.text
    assert "0.930" in page.text and "0.130 above the best ablation" in page.text
    assert "Only 6 validation videos" in page.text
    assert "not_a_video" in page.text
    assert "split × 2" in re.sub(r"\s+", " ", page.text)
    assert page.text.count("✓ right") == 2 and page.text.count("✗ wrong") == 4
    assert "right for 2 of 6 videos." in page.text
    assert len([tag for tag, _ in page.elements if tag == "video"]) == 6
    assert "Worst" in page.text and "Best" in page.text
    assert page.text.count("✓ equal") == 4 + 4 and "✗ 6 expected" in page.text
    assert "epochs" in page.text and "not the default" in page.text


def test_ablations_that_were_not_made_and_records_that_were_not_read_are_no_bars_and_a_number(tmp_path):
    made = run_until(tmp_path, "evaluate")
    measured = MetricsReport.from_json(made.lake.get(f"runs/{made.run.run}/metrics.json"))
    left_out = {"gap_shuffled_frames": None, "gap_audio_only": None}
    made.put("metrics.json", measured.model_copy(update={**left_out, "rejected": 17}))
    _, page = read_page(made)
    assert "picture only" in page.text and "label frequencies" in page.text
    assert "sound only" not in page.text and "order shuffled" not in page.text
    assert "17validation records not read" in re.sub(r"\s*\n\s*", "", page.text)
    summary = summarise(made.lake, made.run)
    assert (summary.gap_shuffled_frames, summary.gap_rgb_only) == (None, 0.7)


def test_of_thousands_of_labels_those_with_the_most_videos_are_shown(tmp_path):
    made = run_until(tmp_path, "evaluate")
    measured = MetricsReport.from_json(made.lake.get(f"runs/{made.run.run}/metrics.json"))
    labels = [
        LabelScore(label=f"label-{n}.", average_precision=0.5, positives=n, training_positives=1) for n in range(3862)
    ]
    made.put("metrics.json", measured.model_copy(update={"labels": tuple(labels)}))
    text, page = read_page(made)
    assert "label-3861." in page.text and "label-3362." in page.text and "label-3361." not in page.text
    assert "3\u202f362 more labels" in page.text
    assert len(text) < 1_000_000


def planned_clusters(**changed) -> RunClusters:
    cluster = PlannedCluster(
        work="train",
        request={"ReleaseLabel": "emr-7.13.0"},
        usd_an_hour=2.0,
        lines=("3 × c",),
        unknown=("a.b",),
        hours=(0.25, 1.5),
        rests_on="frames",
    )
    stored = PlannedCost(what=STORAGE, amount=(1, 4), unit="GiB", usd=(0.5, 2.0), rests_on="bytes")
    values = {"clusters": (cluster,), "max_hours": 6, "prices": "us-east-1", "costs": (stored,)}
    return RunClusters(**(values | changed))


def spent_cluster(**changed) -> SpentCluster:
    values = {"work": "train", "id": "j-1", "state": "TERMINATED", "created": "a", "ended": "b", "hours": 0.75}
    values |= {"usd": 1.25, "steps": (SpentStep(name="train r1", state="COMPLETED", hours=0.5),)}
    return SpentCluster(**(values | changed))


def cost_cells(page: str) -> list[list[str]]:
    """The rows of the table of costs, cell by cell."""
    table = page[page.index("Planned, and what happened") :].partition("</table>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table.split("<tr")[3:]]
    return [[re.sub(r"(<[^>]+>|\s)+", " ", cell).strip() for cell in row] for row in cells]


def test_the_report_shows_what_the_run_came_to_beside_what_was_planned(tmp_path):
    made = run_until(tmp_path, "plan")
    made.put("clusters.json", planned_clusters())
    second = spent_cluster(id="j-2", hours=0.25, usd=0.5, steps=(), unknown=("c",))
    made.put("spent.json", RunSpent(clusters=(spent_cluster(), second), looked="now"))
    text, page = read_page(made, [TaskOutcome("split_0", "success", 1800.0), TaskOutcome("split_1", "success", 1800.0)])
    assert "1 cluster, 1.00 to 14.00 USD, and what has no price" in page.text
    none = ["–"] * 5
    assert cost_cells(text) == [
        ["split nothing was to be done", *none, "–", "1 h 00 min", "–", "–"],
        [
            "cluster to train j-1 TERMINATED; j-2 TERMINATED, no price for c",
            *(*none, "15 – 90 min", "1 h 00 min", "0.50 – 3.00", "1.75"),
        ],
        ["step train r1 COMPLETED", *none, "–", "30 min 00 s", "–", "–"],
        [f"{STORAGE} 0 GiB are there", *none, "–", "–", "0.50 – 2.00", "0.00"],
        ["together, as far as it is known", *[""] * 7, "1.00 – 5.00", "1.75"],
    ]
    assert "no price known for a.b" in page.text


def test_the_report_of_a_run_that_made_no_cluster_shows_the_plan_alone(tmp_path):
    made = run_until(tmp_path, "plan")
    made.put("clusters.json", planned_clusters(costs=()))
    text, _ = read_page(made)
    (row, _) = cost_cells(text)
    assert row[7:] == ["–", "0.50 – 3.00", "–"]
    assert "none is known" in row[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "1.00 – 5.00 USD, as far as prices are known"),
        ({"clusters": ()}, "0.50 – 2.00 USD"),
        ({"usd_an_hour": 0.0, "costs": ()}, "not known: no prices"),
    ],
)
def test_the_head_says_where_prices_are_missing_in_what_a_run_is_expected_to_cost(tmp_path, changed, said):
    made = run_until(tmp_path, "plan")
    planned = planned_clusters(**{name: value for name, value in changed.items() if name != "usd_an_hour"})
    if "usd_an_hour" in changed:
        cluster = planned.clusters[0].model_copy(update={"usd_an_hour": changed["usd_an_hour"]})
        planned = planned.model_copy(update={"clusters": (cluster,)})
    made.put("clusters.json", planned)
    text, _ = read_page(made)
    assert f"<dt>expected to cost</dt> <dd>{said}</dd>" in text


@pytest.mark.parametrize("unknown", [(), ("c",)])
def test_the_head_says_where_prices_are_missing_in_what_the_clusters_cost(tmp_path, unknown):
    made = run_until(tmp_path, "plan")
    made.put("clusters.json", planned_clusters())
    made.put("spent.json", RunSpent(clusters=(spent_cluster(unknown=unknown),), looked="now"))
    text, _ = read_page(made)
    missing = ", as far as prices are known" if unknown else ""
    assert f"<dt>clusters cost</dt> <dd>1.25 USD{missing}</dd>" in text


def test_a_cluster_that_was_alive_when_the_report_was_written_is_said_to_be(tmp_path):
    made = run_until(tmp_path, "plan")
    made.put("clusters.json", planned_clusters(costs=()))
    made.put("spent.json", RunSpent(clusters=(spent_cluster(state="WAITING", ended=""),), looked="now"))
    _, page = read_page(made)
    assert "j-1 WAITING, alive when this was written" in page.text


def test_what_was_to_be_done_and_is_stored_now_is_counted(tmp_path):
    made = RunOnDisk(tmp_path)
    todo = {0: {"raw": "new", "clips": "new"}, 1: {}}
    shards = tuple(PlannedShard(shard=n, source=SOURCE, todo=todo[n]) for n in made.keys)
    made.put("plan.json", RunPlan(shards=shards))
    made.ingest()
    made.split()
    part = made.lake.list("clips/d")
    clips = next(item.size for item in part if item.key.endswith(".tar"))
    stages = (
        PlannedStage(stage="ingest", shards=1, bytes=9, why={"new": 1}),
        PlannedStage(stage="split", shards=2, bytes=18, why={"changed": 1, "new": 1}),
    )
    made.put("clusters.json", planned_clusters(stages=stages))
    text, _ = read_page(made)
    row = next(row for row in cost_cells(text) if row[0].startswith(STORAGE))
    stored = f"{(8_000_000 + clips) / 2**30:,.3g} GiB are there"
    assert row[0] == f"{STORAGE} {stored}", "of the first shard only"
    ingest, split = cost_cells(text)[:2]
    assert ingest[:6] == ["ingest 1 new", "1 shard", "1", "9 B", "9 B", "8 MB"]
    assert split[:6] == ["split 1 changed, 1 new", "2 shards", "1", "18 B", "9 B", size_text(clips)]


def test_a_shard_of_another_version_of_its_source_is_not_counted_as_done(tmp_path):
    made = RunOnDisk(tmp_path)
    now = SOURCE.model_copy(update={"version": "w"})
    todo = {"raw": "changed", "clips": "changed", "features": "changed"}
    shards = (PlannedShard(shard=0, source=now, todo=todo), PlannedShard(shard=1, source=SOURCE, todo=todo))
    made.put("plan.json", RunPlan(shards=shards))
    made.ingest()
    made.split()
    made.featurize()
    stages = tuple(
        PlannedStage(stage=n, shards=2, bytes=18, why={"changed": 2}) for n in ("ingest", "split", "features")
    )
    made.put("clusters.json", planned_clusters(stages=stages))
    text, _ = read_page(made)
    assert [row[1:3] for row in cost_cells(text)[:3]] == [["2 shards", "1"], ["2 shards", "1"], ["2 shards", "0"]], (
        "these records name no manifest of clips as theirs"
    )


def test_a_plan_of_an_earlier_version_still_has_a_report(tmp_path):
    made = run_until(tmp_path, "plan")
    cluster = {
        "work": "train",
        "request": {"ReleaseLabel": "emr-7.13.0"},
        "usd_an_hour": 2.0,
        "lines": [],
        "unknown": [],
    }
    old = {"clusters": [cluster], "max_hours": 6.0, "prices": "us-east-1"}
    made.lake.put(f"runs/{made.run.run}/clusters.json", json.dumps(old).encode())
    _, page = read_page(made)
    assert "1 cluster, 0.00 to 12.00 USD" in page.text


def test_whoever_wrote_the_prices_or_the_reasons_writes_no_markup(tmp_path):
    made = run_until(tmp_path, "plan")
    made.put("clusters.json", planned_clusters(prices=HOSTILE, not_checked=(HOSTILE,)))
    made.put("spent.json", RunSpent(clusters=(spent_cluster(state=HOSTILE),), looked="now"))
    text, page = read_page(made)
    assert "<script" not in text and not [tag for tag, _ in page.elements if tag == "img"]
    assert page.text.count("<script>alert('x')</script>") >= 3


def test_nothing_from_data_becomes_markup(whole):
    page, read = read_page(whole, [*DONE, TaskOutcome(HOSTILE, HOSTILE, 1.0)], failure=HOSTILE)

    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "iframe", "object", "link", "base", "form", "embed"})
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in read.elements if "style" in attributes]
    ids = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    links = [attributes["href"] for _, attributes in read.elements if "href" in attributes]
    assert links and all(link[0] == "#" and link[1:] in ids for link in links), "to places of the page alone"
    clips = [attributes for tag, attributes in read.elements if tag == "video"]
    assert clips and all(clip["src"].startswith("data:video/mp4;base64,") for clip in clips)
    assert all(clip["poster"].startswith("data:image/jpeg;base64,") for clip in clips)
    assert not [attributes for tag, attributes in read.elements if "src" in attributes and tag != "video"]
    assert read.text.count("<script>alert('x')</script>") >= 5
    assert "<script" not in page


def test_the_page_may_load_nothing_and_its_style_is_the_one_it_allows(whole):
    _, page = read_page(whole)

    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "img-src data:",
        "media-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "prefers-color-scheme: dark" in page.style
    assert "url(" not in page.style and "@import" not in page.style


def test_of_many_shards_the_manifests_are_listed_once_a_stage_and_the_page_is_the_same(whole, monkeypatch):
    before, _ = read_page(whole, DONE)
    listed: list[str] = []
    listing = Store.list
    monkeypatch.setattr(Store, "list", lambda store, prefix="": listed.append(prefix) or listing(store, prefix))
    monkeypatch.setattr("shardmill.jobs.report.MANY", 1)
    after, _ = read_page(whole, DONE)
    assert after == before
    folders = [prefix for prefix in listed if prefix.rstrip("/").endswith("_manifests")]
    assert len(folders) == len(set(folders)) == 3
    assert not [prefix for prefix in listed if "/_manifests/0" in prefix], "none is listed by itself"


def test_a_report_can_be_made_again_and_is_then_the_same(whole):
    assert read_page(whole, DONE)[0] == read_page(whole, DONE)[0]


@pytest.mark.parametrize("last", STAGES[:-1])
def test_a_failed_run_names_the_task_and_its_message_first(tmp_path, last):
    made = run_until(tmp_path, last)
    tasks = [
        TaskOutcome("plan", "success", 1.0),
        TaskOutcome("train", "failed", 3.0),
        TaskOutcome("end", "upstream_failed"),
    ]

    _, page = read_page(made, tasks, failure="step s-1 is FAILED: ValueError: 2 > 1")

    assert "✗ Failed" in page.text and "not evaluated" in page.text
    at = page.text.index("The task train failed")
    assert at < page.text.index("ValueError: 2 > 1") < page.text.index("Counts, reconciled")
    assert "✗ not reached" in page.text


def test_a_run_without_any_file_but_its_spec_has_a_report(tmp_path):
    _, page = read_page(RunOnDisk(tmp_path), [TaskOutcome("plan", "failed", None)])

    assert "It left no message" in page.text
    assert "it stopped before it knew its shards" in page.text


def test_clips_that_cannot_be_read_leave_a_report_without_pictures(tmp_path):
    made = run_until(tmp_path, "evaluate")
    for path in (tmp_path / "lake" / "clips").rglob("*.tar"):
        path.unlink() if "000000" in path.name else path.write_bytes(path.read_bytes()[:700])

    _, page = read_page(made, DONE)

    assert page.text.count("no clip could be read") == 6


def test_the_summary_of_a_whole_run_has_every_number(whole):
    uri = write_report(whole.lake, whole.run, DONE)

    assert asdict(summarise(whole.lake, whole.run)) == {
        "shards": 2,
        "videos": 6,
        "clips": 24,
        "rejects": 1,
        "gap": 0.93,
        "gap_rgb_only": 0.7,
        "gap_audio_only": 0.6,
        "gap_shuffled_frames": 0.8,
        "gap_constant": 0.3,
        "map": 0.91,
        "hit_at_1": 0.92,
        "perr": 0.9,
        "report": uri,
    }


def test_the_summary_of_a_run_that_failed_early_is_null_where_unknown(tmp_path):
    made = run_until(tmp_path, "ingest")

    found = asdict(summarise(made.lake, made.run))

    assert found.pop("shards") == 2
    assert len(found) == 12 and set(found.values()) == {None}
    assert "null" in json.dumps(found)


def clips_of(page: Reader) -> dict[str, bytes]:
    """The clips that the page holds, by what they are called."""
    videos = [attributes for tag, attributes in page.elements if tag == "video"]
    return {one["aria-label"]: base64.b64decode(one["src"].partition(",")[2], validate=True) for one in videos}


def test_each_clip_of_the_page_is_that_of_its_video_and_plays(whole):
    _, page = read_page(whole)
    found = clips_of(page)
    for shard in whole.keys:
        for level, key in enumerate(whole.keys[shard]):
            clip = found[f"a clip of video {key}"]
            assert clip == clip_bytes(30 + 40 * level)
            with av.open(io.BytesIO(clip), mode="r") as container:
                frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
            assert len(frames) == 4 and any((one != frames[0]).any() for one in frames[1:]), "something moves"


def test_clips_are_read_one_by_one_not_with_the_parts_they_lie_in(whole, monkeypatch):
    read = []
    real = Store.get_range
    monkeypatch.setattr(
        Store, "get_range", lambda self, key, start, length: read.append(length) or real(self, key, start, length)
    )
    read_page(whole)
    assert len(read) == 6 and max(read) < 5_000


def again(made: RunOnDisk, name: str, started: str, **asked) -> RunOnDisk:
    """Another run on the same lake, whose record is written."""
    other = RunOnDisk(made.folder)
    values = {**made.run.asked.model_dump(), **asked}
    other.run = RunSpec(run=name, started=started, asked=VideoPipelineSpec.model_validate(values))
    other.put("spec.json", other.run)
    return other


def section(page: Reader, heading: str) -> str:
    """The text of a section, up to the next."""
    return re.sub(r"\s+", " ", page.text.partition(f"{heading}\n")[2][:6000])


def test_a_run_is_held_against_the_one_before_of_its_data_set(tmp_path):
    first = run_until(tmp_path, "evaluate")
    read_page(first, DONE)
    failed = again(first, "failed-1", "2026-11-21T02:00:00+00:00", epochs=9)
    again(first, "dry-1", "2026-11-21T02:30:00+00:00", dry_run=True)
    again(first, "other-data", "2026-11-21T02:40:00+00:00", dataset="e")
    again(first, "later", "2026-11-22T02:00:00+00:00")
    first.lake.put("runs/broken/spec.json", b"{}")
    second = again(first, "second-1", "2026-11-21T03:00:00+00:00", epochs=4)
    second.plan()
    second.featurize_again()
    measured = MetricsReport.from_json(first.lake.get(f"runs/{first.run.run}/metrics.json"))
    second.put("metrics.json", measured.model_copy(update={"gap": 0.95}))

    _, page = read_page(second, DONE)

    told = section(page, "Since the run before")
    assert f"Held against {first.run.run}, planned 2026-11-21 01:00 UTC; 1 run between them left no metrics." in told
    assert "epochs 3 4" in told
    assert "The same 2 shards, unchanged at the source." in told
    assert "GAP@20 0.930 0.950 +0.020" in told
    assert "clips 24 24 ±0" in told
    assert failed.run.run not in told and "failed-1" not in page.text
    assert "+0.020 since the run before" in page.text


def test_a_first_run_says_that_there_is_none_before(whole):
    assert "This is the first run of this data set in the lake." in read_page(whole)[1].text


def kept_of(made: RunOnDisk) -> RunResult:
    return RunResult.from_json(made.lake.get(f"runs/{made.run.run}/result.json"))


def test_what_a_run_came_to_is_kept_for_the_next(whole):
    whole.lake.delete([f"runs/{whole.run.run}/result.json"])
    write_report(whole.lake, whole.run, DONE, took=61.0)
    kept = kept_of(whole)
    assert (kept.state, kept.took, kept.rejects) == ("succeeded", 61.0, {"clips, not_a_video": 1})
    assert kept.counts["clips"] == 24 and kept.counts["bytes of records"] == 10_000
    assert kept.seconds["split"] == 5.0


def test_a_report_that_is_made_again_keeps_the_time_that_the_work_took(tmp_path):
    made = run_until(tmp_path, "train")
    failed = [TaskOutcome("train", "failed", 9.0)]
    write_report(made.lake, made.run, failed, took=5.0)
    assert (kept_of(made).state, kept_of(made).took) == ("failed", 5.0)
    made.evaluate()
    write_report(made.lake, made.run, DONE, took=60.0)
    write_report(made.lake, made.run, [TaskOutcome("train", "success", 0.1)], took=99.0)
    assert (kept_of(made).state, kept_of(made).took, kept_of(made).seconds["train"]) == ("succeeded", 60.0, 2.5)
    made.put("spent.json", RunSpent(clusters=(spent_cluster(),), looked="now"))
    write_report(made.lake, made.run, DONE, took=61.0)
    assert (kept_of(made).usd, kept_of(made).took) == (1.25, 61.0), "what it came to is another"
    made.lake.put(f"runs/{made.run.run}/result.json", b"{damaged")
    write_report(made.lake, made.run, DONE, took=62.0)
    assert kept_of(made).took == 62.0


def test_a_training_that_broke_off_shows_the_epochs_that_it_came_to(tmp_path):
    made = run_until(tmp_path, "featurize")
    epochs = [EpochLoss(epoch=n, loss=0.5, validation_loss=0.4, validation_gap=0.3 + n / 10) for n in range(3)]
    made.put("history.json", TrainingHistory(inputs="i", epochs=tuple(epochs)))
    tasks = [TaskOutcome("train", "failed", 9.0), TaskOutcome("evaluate", "upstream_failed")]
    _, page = read_page(made, tasks, failure="train: worker 1 was lost")
    assert "As far as it came." in page.text and "Scores by epoch" in page.text
    lines = [attributes for tag, attributes in page.elements if tag == "polyline"]
    assert [len(line["points"].split()) for line in lines] == [3, 3, 3]
    assert "not evaluated" in page.text and "worker 1 was lost" in page.text
    kept = RunResult.from_json(made.lake.get(f"runs/{made.run.run}/result.json"))
    assert kept.state == "failed" and kept.counts["epochs"] == 2


def test_a_dry_run_says_that_nothing_was_begun_and_what_it_would_cost(tmp_path):
    made = RunOnDisk(tmp_path)
    made = again(made, "dry-1", "2026-11-21T02:30:00+00:00", dry_run=True)
    made.plan()
    made.put("clusters.json", planned_clusters())
    tasks = [
        TaskOutcome("plan", "success", 1.0),
        TaskOutcome("budget", "success", 1.0),
        TaskOutcome("train", "skipped"),
    ]
    _, page = read_page(made, tasks)
    assert "Planned only: nothing was begun" in page.text and "5.00" in page.text
    assert "USD expected at most" in page.text and "✗" not in page.text
    assert ("details", {"open": None}) in page.elements, "the plan in words is there to be read"


def test_the_curves_of_the_page_are_those_that_evaluation_kept(tmp_path):
    made = run_until(tmp_path, "evaluate")
    best = PrecisionRecall(threshold=0.7, precision=1.0, recall=0.5)
    last = PrecisionRecall(threshold=0.2, precision=0.75, recall=1.0)
    curve = LabelCurve(label=LABELS[1], positives=2, points=(best, last), best=best)
    made.put("curves.json", LabelCurves(inputs="i", videos=6, together=None, labels=(curve,)))
    text, page = read_page(made)
    drawn = re.findall(r'<polyline class="series s1" points="([^"]+)"', text.partition('class="curves"')[2])
    assert drawn == ["0,0 50,0 100,25"], "precision upwards, recall to the right, in a square of 100"
    assert "sport" in section(page, "Label by label")
    assert "0.700 1.000 0.500" in section(page, "Label by label")


def test_the_whole_page_stays_small_enough_to_be_sent(whole):
    assert len(read_page(whole, DONE)[0]) < 200_000
    assert 18 * (playable.MAX_BYTES + 12_000) * 4 / 3 < 4_000_000, "18 videos of the largest size"


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (0, "70 more shards without rejects, complete and in balance, are left out"),
        (3, "67 more shards without rejects, complete and in balance, are left out"),
        (65, "5 more shards with rejects, unfinished or out of balance are left out, and 5 with nothing of that"),
        (70, "10 more shards with rejects, unfinished or out of balance are left out."),
    ],
)
def test_of_many_shards_it_is_said_what_kind_are_left_out(odd, says):
    plan = RunPlan(shards=tuple(PlannedShard(shard=n, source=SOURCE) for n in range(70)))
    reject = Reject(key="k", reason="damaged", message="m")

    def manifest(stage, n):
        rejects = (reject,) if stage == "clips" and n < odd else ()
        values = {"stage": stage, "dataset": "d", "shard": n, "revision": 0, "source": SOURCE, "parts": ()}
        return Manifest(**values, samples_in=1 if stage == "raw" else len(rejects), rejects=rejects)

    stages = {stage: {n: manifest(stage, n) for n in range(70)} for stage in ("raw", "clips", "features")}
    run = RunSpec(run="r", started="2026-11-21T01:00:00+00:00", asked=VideoPipelineSpec())
    page = render(make_page(Found(run, plan=plan, manifests=stages), Told(), ())).decode()
    assert says in page
