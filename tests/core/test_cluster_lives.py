from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shardmill.core.cluster_lives import MOST_CLUSTERS, ClusterLife, agreed_deadline, why_no_other

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=3)


def life(number: int, *, code: str = "INSTANCE_FAILURE", message: str = "core nodes lost", up: bool = True, **more):
    made = NOW - timedelta(hours=2) + timedelta(minutes=10 * number)
    values = {
        "state": "TERMINATED_WITH_ERRORS",
        "created": made,
        "ready": made + timedelta(minutes=3) if up else None,
        "ended": made + timedelta(minutes=9),
        "tags": {"deadline": LATER.isoformat()},
    }
    return ClusterLife(f"j-{number}", code=code, message=message, **(values | more))


def test_a_cluster_that_lost_its_nodes_is_made_again_until_the_same_deadline():
    lives = [life(1)]
    assert why_no_other(lives, NOW) == ""
    assert agreed_deadline(lives) == LATER


def test_there_is_a_limit_to_clusters_that_came_up_and_died():
    lives = [life(number) for number in range(MOST_CLUSTERS)]
    assert why_no_other(lives[:-1], NOW) == ""
    assert "as 3 clusters did" in why_no_other(lives, NOW)


def test_clusters_that_never_came_up_cost_little_and_do_not_count():
    assert why_no_other([life(number, up=number == 0) for number in range(9)], NOW) == ""


def test_those_of_an_earlier_deadline_do_not_count():
    before = {"deadline": (NOW - timedelta(days=1)).isoformat()}
    lives = [life(number, tags=before) for number in range(MOST_CLUSTERS)]
    assert why_no_other([*lives, life(9)], NOW) == ""


def test_none_is_made_when_the_time_is_nearly_up():
    assert why_no_other([life(1)], LATER - timedelta(minutes=4)).startswith("max_hours: ")


def test_what_a_person_ended_stays_ended():
    found = why_no_other([life(1, code="USER_REQUEST", message="Terminated by user request")], NOW)
    assert "someone" in found
    assert "clear the task" in found


def test_a_surplus_that_was_ended_does_not_look_like_a_persons_wish():
    lives = [life(1, ended=NOW), life(2, code="USER_REQUEST", message="", ended=NOW - timedelta(hours=1))]
    assert why_no_other(lives, NOW) == ""


def test_an_idle_cluster_may_be_made_again():
    assert why_no_other([life(1, code="USER_REQUEST", message="Auto-terminated: idle for 900 seconds")], NOW) == ""


def test_a_run_without_any_cluster_before_is_told_to_clear_the_task_that_makes_it():
    assert "clear the task that creates it" in why_no_other([], NOW)


def test_a_life_in_words_has_the_reason_and_the_finer_codes():
    words = life(1, error_codes=("INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ",)).words
    assert words.startswith("cluster j-1 is TERMINATED_WITH_ERRORS (INSTANCE_FAILURE: INTERNAL_ERROR_EC2_")
