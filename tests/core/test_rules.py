"""The rules by which workers combine what they learned, and the learning rate that goes with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.label_weights import balanced_weights
from shardmill.core.learning_rates import learning_rate
from shardmill.core.rules import RULES, Rule, Shared
from shardmill.specs.training import TrainSpec

AVERAGING = ("local_sgd", "allreduce", "one_shot_average")


def rule_of(trainer: str, **asked: object) -> Rule:
    return RULES[trainer](TrainSpec.model_validate({"trainer": trainer, **asked}))


@pytest.mark.parametrize("trainer", AVERAGING)
@given(counts=st.lists(st.integers(0, 5000), min_size=1, max_size=9).filter(any), seed=st.integers(0, 99))
def test_what_is_taken_is_the_mean_over_examples(trainer: str, counts: list[int], seed: int) -> None:
    rule = rule_of(trainer)
    own = np.random.default_rng(seed).normal(size=(len(counts), 4)).astype(np.float32)
    total = sum(rule.contribute(vector, count) for vector, count in zip(own, counts, strict=True))
    expected = np.average(own.astype(np.float64), axis=0, weights=counts)
    assert rule.take(np.asarray(total, np.float32), sum(counts)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("trainer", AVERAGING)
def test_a_worker_without_examples_adds_nothing_whatever_it_holds(trainer: str) -> None:
    assert not rule_of(trainer).contribute(np.array([np.nan, np.inf, 1], np.float32), 0).any()


@pytest.mark.parametrize("trainer", AVERAGING)
def test_nothing_can_be_taken_where_nobody_had_an_example(trainer: str) -> None:
    with pytest.raises(ValueError, match="needs examples, found 0"):
        rule_of(trainer).take(np.zeros(3, np.float32), 0)


@pytest.mark.parametrize("trainer", list(RULES))
def test_contributing_leaves_the_workers_own_as_it_was(trainer: str) -> None:
    own = np.ones(3, np.float32)
    rule_of(trainer).contribute(own, 5)
    assert own.tolist() == [1, 1, 1]


def test_local_sgd_exchanges_after_its_steps_and_at_the_end() -> None:
    rule = rule_of("local_sgd", average_every=3)
    assert [rule.is_due(steps, True) for steps in (1, 2, 3)] == [False, False, True]
    assert rule.is_due(0, False)
    assert (rule.shares, rule.keeps_own) == (Shared.STATE, False)


def test_allreduce_exchanges_gradients_after_every_step() -> None:
    rule = rule_of("allreduce")
    assert rule.is_due(1, True)
    assert (rule.shares, rule.keeps_own) == (Shared.GRADIENT, False)


def test_one_shot_averaging_waits_for_the_end_and_keeps_its_own_until_then() -> None:
    rule = rule_of("one_shot_average")
    assert not rule.is_due(10**6, True)
    assert rule.is_due(0, False)
    assert rule.keeps_own


def test_every_trainer_but_elephas_is_a_rule() -> None:
    assert {*RULES, "elephas"} == set(TrainSpec.model_fields["trainer"].annotation.__args__)


def rates(**asked: object) -> list[float]:
    spec = TrainSpec.model_validate({"learning_rate": 0.1, **asked})
    return [learning_rate(spec, progress) for progress in (0.0, 0.2, 0.5, 0.9, 1.0)]


def test_schedules_go_down_as_they_say() -> None:
    assert rates() == [0.1] * 5
    assert rates(schedule="step") == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert rates(schedule="cosine") == pytest.approx([0.1, 0.0904508, 0.05, 0.0024472, 0.0], abs=1e-6)


@pytest.mark.parametrize(("scale", "factor"), [("no", 1), ("linear", 4), ("sqrt", 2)])
def test_a_rate_that_grows_with_the_workers_is_reached_after_a_warm_up(scale: str, factor: int) -> None:
    assert rates(scale_learning_rate=scale, workers=4)[:2] == pytest.approx([0.1, 0.1 * factor])


def test_one_worker_alone_keeps_its_rate() -> None:
    assert rates(scale_learning_rate="linear", workers=4, trainer="single") == pytest.approx([0.1] * 5)


def test_balanced_labels_count_as_much_where_they_are_as_where_they_are_not() -> None:
    positives = np.array([50, 10, 1, 0, 100])
    weights = balanced_weights(positives, 100)
    assert weights == pytest.approx([1, 9, 99, 1, 1])
    assert balanced_weights(np.array([1]), 10_000)[0] == 100
