"""What evaluation keeps of scored videos, and its report."""

from __future__ import annotations

import numpy as np
import pytest

from shardmill.core import evaluation
from shardmill.core.evaluation import Evaluation, Found, listed_of, metrics_of, report_of
from shardmill.specs.record_rejects import RecordReject, RejectTally
from shardmill.specs.records import ModelManifest
from shardmill.specs.training import TrainSpec

VOCABULARY = ("red", "tone", "rising", "falling")
TRUTH = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 1]], np.float32)
RIGHT, WRONG = TRUTH, 1 - TRUTH
IDS = ("a", "b", "c")


def manifest() -> ModelManifest:
    return ModelManifest(
        inputs="abc",
        model_version=1,
        training=TrainSpec(),
        vocabulary=VOCABULARY,
        records="def",
        train_records=60,
        label_counts=(30, 30, 30, 30),
        weights="model/weights-0.npz",
        weights_sha256="0",
        parameters=1,
        trainer="by hand",
        history=(),
        seconds=1.0,
        examples_per_second=1.0,
    )


def found_of(*workers: list[Found]) -> dict[str, bytes]:
    """What the workers found, added up by name."""
    added: dict[str, Found] = {}
    for found in workers:
        for one in found:
            added[one.name] = added[one.name] + one if one.name in added else one
    return {name: one.content for name, one in added.items()}


def worker(rows: list[int], rejects: RejectTally | None = None, **scores: np.ndarray) -> list[Found]:
    kept = Evaluation(manifest())
    kept.add([IDS[row] for row in rows], TRUTH[rows], {name: table[rows] for name, table in scores.items()})
    return kept.found(rejects or RejectTally())


SCORES = {"full": RIGHT, "rgb_only": WRONG, "audio_only": RIGHT, "shuffled_frames": WRONG}


def test_the_report_holds_each_ablation_and_label() -> None:
    report = report_of(metrics_of(found_of(worker([0, 1, 2], **SCORES))), manifest(), rejected=2)
    assert (report.gap, report.map, report.hit_at_1, report.perr) == (1.0, 1.0, 1.0, 1.0)
    assert report.gap_audio_only == 1.0
    assert report.gap_rgb_only == report.gap_shuffled_frames < 0.7
    assert 0.3 < report.gap_constant < 0.9
    assert (report.videos, report.rejected, report.gap_margin, report.map_margin) == (3, 2, 0, 0)
    assert [label.positives for label in report.labels] == [2, 2, 1, 2]


def test_it_makes_no_difference_how_many_workers_scored() -> None:
    together = found_of(worker([0, 1, 2], **SCORES))
    apart = found_of(worker([2], **SCORES), worker([0, 1], **SCORES))
    assert report_of(metrics_of(apart), manifest(), 0) == report_of(metrics_of(together), manifest(), 0)
    assert listed_of(apart) == listed_of(together)
    assert list(listed_of(apart)) == list(IDS)


def test_ablations_that_were_not_scored_are_not_in_the_report() -> None:
    report = report_of(metrics_of(found_of(worker([0, 1], full=RIGHT))), manifest(), 0)
    assert (report.gap_rgb_only, report.gap_audio_only, report.gap_shuffled_frames) == (None, None, None)
    assert report.gap_constant < report.gap


def test_labels_are_ranked_one_by_one_for_the_whole_input_only() -> None:
    measured = metrics_of(found_of(worker([0, 1, 2], **SCORES)))
    assert {name for name, found in measured.items() if found.map is not None} == {"full"}


def test_predictions_list_the_best_labels_beside_the_true_ones() -> None:
    listed = listed_of(found_of(worker([0, 1, 2], **SCORES)))
    assert listed["b"].labels == ("tone", "falling")
    assert [label for label, score in listed["b"].top if score == 1.0] == ["tone", "falling"]
    assert len(listed["b"].top) == 4


def test_only_the_first_videos_by_id_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MOST_LISTED", 5)
    ids = [f"v{number:02d}" for number in np.random.default_rng(0).permutation(40)]
    workers = []
    for share in (ids[:22], ids[22:]):
        kept = Evaluation(manifest())
        for video in share:
            kept.add([video], TRUTH[:1], {"full": RIGHT[:1]})
        workers.append(kept.found(RejectTally()))
    assert list(listed_of(found_of(*workers))) == [f"v{number:02d}" for number in range(5)]


def test_what_two_workers_lost_at_one_place_adds_up() -> None:
    bad = RecordReject(file="file:///part", offset=7, reason="damaged")
    cut = RecordReject(file="file:///part", offset=9, reason="cut", records=3)
    rest = cut.model_copy(update={"records": 10})
    found = found_of(
        worker([0], RejectTally(rejects=(bad, cut)), **SCORES), worker([1], RejectTally(rejects=(rest,)), **SCORES)
    )
    assert RejectTally.model_validate_json(found["rejects"]).count == 1 + 3 + 10


def test_videos_without_any_label_are_not_measured() -> None:
    kept = Evaluation(manifest())
    kept.add(["a"], np.zeros((1, 4), np.float32), {"full": RIGHT[:1]})
    with pytest.raises(ValueError, match="split without labels, as YouTube-8M's `test` is, cannot be evaluated"):
        report_of(metrics_of(found_of(kept.found(RejectTally()))), manifest(), 0)
