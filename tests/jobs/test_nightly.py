"""Nights do exactly what is due, with real videos, and say what is fresh."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

import pytest
from jobs.night_lab import (
    ANYWHERE,
    CHANGED,
    DONE,
    DUE,
    NEW,
    OLD_RECIPE,
    REJECTS,
    do,
    drop_a_video,
    make_due,
    make_source,
    small,
)

from shardmill import stages
from shardmill.adapters import lake as commits
from shardmill.adapters.access import Access
from shardmill.adapters.label_tables import TABLE
from shardmill.core.costs import BudgetError
from shardmill.core.page_text import size_text
from shardmill.core.planning import BadRequestError
from shardmill.core.report import TaskOutcome
from shardmill.core.tar_header import DamagedTarError
from shardmill.jobs.collect_garbage import collect_garbage
from shardmill.jobs.plan import done_line, find_fresh, keep_announced, plan_run
from shardmill.jobs.report import write_report
from shardmill.jobs.verify import verify
from shardmill.specs.garbage import GarbageSpec
from shardmill.stages import whole_shards


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source(tmp_path_factory.mktemp("nights"))


@pytest.fixture(scope="module")
def night(source, tmp_path_factory):
    """A lake in which six of ten shards are due, and what the night did."""
    lake = (tmp_path_factory.mktemp("lake") / "lake").as_uri()
    make_due(source, lake)
    planned = plan_run(small(source, lake), "night", ANYWHERE)
    opened = stages.open_run(planned.spec_uri, lambda connection: ANYWHERE)
    lines: list[str] = []
    for batch in planned.batches:
        stages.through(opened, batch, lines.append)
    return planned, opened, lines


def test_a_night_does_exactly_what_is_due_and_says_why(night):
    planned, _, lines = night
    assert planned.plan.numbers == DUE
    why = {shard.shard: shard.todo for shard in planned.plan.shards}
    assert all(why[shard]["raw"] == "new" for shard in NEW)
    assert why[CHANGED]["clips"] == "the source changed"
    assert why[OLD_RECIPE]["clips"] == "made by another recipe"
    assert why[REJECTS]["clips"] == "rejects of revision 0 may pass now"
    assert sorted(line[:17] for line in lines if ": did (" in line) == [f"shard {shard:06d}: did" for shard in DUE]


def test_a_night_touches_no_shard_that_is_done(night):
    _, opened, _ = night
    asked = opened.run.video
    revisions = {
        shard: commits.latest_revision(opened.lake, "clips", asked.dataset, asked.split_recipe.hash, shard)
        for shard in range(10)
    }
    assert {shard: found.manifest.revision for shard, found in revisions.items()} == {
        **dict.fromkeys((*DONE, OLD_RECIPE, *NEW), 0),
        CHANGED: 1,
        REJECTS: 1,
    }
    assert revisions[REJECTS].manifest.rejects == () or all(
        reject.reason != "time_out" for reject in revisions[REJECTS].manifest.rejects
    )


def test_behind_it_all_is_fresh_and_the_next_night_has_nothing_to_do(night, source):
    _, opened, _ = night
    fresh = find_fresh(opened.lake, opened.run, Access())
    assert (fresh.count, fresh.missing, fresh.shards) == (10, {}, "000000..000009")
    following = plan_run(small(source, opened.run.asked.lake), "next")
    assert (list(following.batches), following.plan.numbers) == ([], ())
    assert following.plan.notes[-1] == "nothing is due: all 10 shards of the range are up to date"
    assert find_fresh(opened.lake, following.run, Access()).digest == fresh.digest


def test_its_report_is_written_and_counts_what_it_did(night):
    _, opened, _ = night
    find_fresh(opened.lake, opened.run, Access())
    uri = write_report(opened.lake, opened.run, ())
    page = opened.lake.get(uri.removeprefix(f"{opened.lake.uri}/")).decode()
    assert "verdict succeeded" in page and "max_shards" in page
    assert opened.plan.notes[-1] in page and "10 of 10 shards are fresh" in page


def test_its_report_holds_what_was_planned_against_what_happened(night):
    _, opened, _ = night
    rows = cost_rows(report_of(opened, took=12.0))
    assert rows["ingest"][:2] == ["4 shards", "4"] and rows["split"][:2] == ["6 shards", "6"]
    size = size_text(sum(one.source.size for one in opened.plan.shards))
    assert rows["split"][2:4] == [size, size] and rows["split"][4] not in ("–", "0 B")
    videos = sum(len(clips_of(opened, shard).videos) for shard in DUE)
    assert rows["videos"][:2] == ["–", str(videos)]
    assert rows["from start to report"][5] != "–" and rows["from start to report"][6] == "12 s"
    assert rows["storage, a month"][7:] == ["0.00", "0.00"]
    assert "6 of 6" in report_of(opened)


def test_the_report_of_a_night_without_work_says_that_there_was_none_and_why(night, source):
    _, opened, _ = night
    lake = opened.run.asked.lake
    for run in ("idle-before", "idle"):
        idle = stages.open_run(plan_run(small(source, lake), run, ANYWHERE).spec_uri, lambda connection: ANYWHERE)
        find_fresh(idle.lake, idle.run, Access())
        time.sleep(1.01)  # the one before is told by the second in which it was planned
    page = report_of(idle)
    assert "Nothing was to be done. All 10 shards of the range are up to date." in page
    assert "nothing is due: all 10 shards of the range are up to date" in page
    assert "The run has no plan" not in page and "Planned, and what happened" not in page
    assert "Fresh shards: 10 then and 10 now" in page, "it is held against the night before"
    capped = plan_run(small(source, lake, max_hours=1e-9, crf=29.0, shards="000005"), "above", ANYWHERE)
    above = report_of(stages.open_run(capped.spec_uri, lambda connection: ANYWHERE))
    assert "No shard was taken, though some are due: left: 1 shard, alone more than max_hours" in above


def report_of(opened, took=None):
    """Write a report as Airflow's task does, and read it."""
    uri = write_report(opened.lake, opened.run, (TaskOutcome("shards_0", "success", 9.0),), took=took)
    return opened.lake.get(uri.removeprefix(f"{opened.lake.uri}/")).decode()


def cost_rows(page):
    """Give the cells of the table of what was planned and what happened, by the first words of each row."""
    table = page[page.index("Planned, and what happened") :].partition("</table>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)(?:<div.*?)?</t[hd]>", row, re.DOTALL) for row in table.split("<tr")[3:]]
    return {row[0]: row[1:] for row in [[re.sub(r"(<[^>]+>|\s)+", " ", cell).strip() for cell in row] for row in cells]}


def clips_of(opened, shard):
    asked = opened.run.video
    return commits.latest_revision(opened.lake, "clips", asked.dataset, asked.split_recipe.hash, shard).manifest


def test_its_recipes_are_referred_to_while_it_may_be_at_work(night):
    _, opened, _ = night
    asked = opened.run.video
    collected: list[str] = []
    records = asked.feature_recipe(opened.plan.labels).hash
    spec = GarbageSpec(lake=asked.lake, recipes=f"{asked.split_recipe.hash} {records}", older_than_hours=1)
    collect_garbage(spec, None, collected.append)
    for folder in (f"clips/sample/{asked.split_recipe.hash}", f"features/sample/{records}"):
        assert f"left alone {folder}: named, but the run before refers to it" in collected


def test_a_night_is_verified_and_a_table_of_other_labels_is_found(night):
    _, opened, _ = night
    keep_announced(opened.lake, opened.run.run, find_fresh(opened.lake, opened.run, Access()))
    found = verify(opened.run.folder)
    assert found.is_whole and not [one for one in found.findings if "announced" in one.uri]
    key = f"runs/night/{TABLE}"
    content = opened.lake.get(key)
    opened.lake.put(key, content.replace(b"sunset", b"sunrise"))
    (broken,) = [one for one in verify(opened.run.folder).findings if one.is_broken]
    opened.lake.put(key, content)
    assert broken.kind == "damaged" and "of the plan" in broken.message


def test_a_plan_of_a_night_stays_as_it_was_frozen(night, source):
    planned, opened, _ = night
    assert plan_run(small(source, opened.run.asked.lake), "night").plan == planned.plan


def test_the_oldest_come_first_and_the_others_wait_with_the_cap_that_was_reached(source, tmp_path):
    planned = plan_run(small(source, (tmp_path / "lake").as_uri(), shards="000005..000009", max_shards=4), "r")
    assert planned.plan.numbers == (6, 7, 8, 9), "a higher number is older here"
    assert planned.plan.notes[-1] == ("left: 1 shard, waiting for another night, for max_shards = 4 is reached: 000005")


def test_a_limit_in_usd_without_prices_is_refused(source, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text(
        '{"region": "r", "as_of": "now", "source": "a", "instance_hour": {}, "emr_hour": {}, "put_thousand": 0.01}'
    )
    asked = small(source, (tmp_path / "lake").as_uri(), prices=prices.as_uri())
    notes = plan_run(asked, "free").plan.notes
    assert any("no price known for storage_gib_month, get_thousand" in note for note in notes), notes
    with pytest.raises(BudgetError, match="max_usd: no price known for storage_gib_month, get_thousand"):
        plan_run(asked.model_copy(update={"max_usd": 1.0}), "limited")


def test_a_killed_batch_goes_on_with_the_shard_that_it_was_at(source, tmp_path, monkeypatch):
    asked = small(source, (tmp_path / "lake").as_uri(), shards="000000..000002")
    planned = plan_run(asked, "r")
    opened = stages.open_run(planned.spec_uri)

    done: list[int] = []
    describing = whole_shards.describing

    def dying(*arguments):
        work = describing(*arguments)

        def one(shard: int):
            if shard == 1 and not done:
                done.append(shard)
                raise KeyboardInterrupt
            return work(shard)

        return one

    monkeypatch.setattr(whole_shards, "describing", dying)
    with pytest.raises(KeyboardInterrupt):
        stages.through(opened, (0, 1, 2), lambda line: None)
    lines: list[str] = []
    assert stages.through(opened, (0, 1, 2), lines.append) == "did 2 of 3 shards"
    assert any(line.startswith("shard 000000: nothing to do") for line in lines)


def test_labels_are_asked_for_by_their_field():
    from pydantic import ValidationError

    from shardmill.specs.shard_runs import NightlySpec

    with pytest.raises(ValidationError, match="labels: expected a label table"):
        NightlySpec(labels="")
    assert NightlySpec().labels


def test_a_night_that_may_do_nothing_says_what_is_left_and_why(source, tmp_path):
    lake = (tmp_path / "lake").as_uri()
    planned = plan_run(small(source, lake, shards="000005..000006", max_hours=1e-9), "r")
    assert list(planned.batches) == []
    assert planned.summary == (
        "nothing is done tonight; left: 2 shards, alone more than max_hours = 1e-09: raise it: 000006 000005"
    )
    assert planned.plan.above_caps == dict.fromkeys((5, 6), "max_hours = 1e-09")
    some = plan_run(small(source, lake, shards="000005..000006", max_shards=1), "some")
    assert some.summary.endswith("left: 1 shard, waiting for another night, for max_shards = 1 is reached: 000005")


def test_a_damaged_shard_takes_no_other_shards_place_and_is_given_up_until_its_source_changes(tmp_path):
    changing, lake = make_source(tmp_path), (tmp_path / "lake").as_uri()
    bad = changing / "sample-000009.tar"
    content = bad.read_bytes()
    bad.write_bytes(b"no tar" * 200)
    os.utime(bad, (1, 1))
    asked = small(changing, lake, shards="000007..000009", max_shards=1)

    def night(run):
        planned = plan_run(asked, run, ANYWHERE)
        opened = stages.open_run(planned.spec_uri, lambda connection: ANYWHERE)
        for _ in range(2):  # a task is tried again
            for batch in planned.batches:
                with suppress(DamagedTarError):
                    stages.through(opened, batch, lambda line: None)
        return planned.plan

    assert [night(str(number)).numbers for number in range(5)] == [(9,), (8,), (7,), (9,), (9,)]
    given_up = night("5")
    assert given_up.numbers == ()
    assert given_up.notes[-1].startswith("left: 1 shard, not tried again, for it failed in 3 nights: DamagedTarError: ")
    assert given_up.notes[-1].endswith(": 000009")
    assert plan_run(asked.model_copy(update={"max_reject_share": 0.5}), "other").plan.numbers == (9,), "asked otherwise"
    bad.write_bytes(content)
    assert plan_run(asked, "mended").plan.numbers == (9,)


def test_what_was_made_of_an_older_source_is_not_counted_as_done(tmp_path):
    changing, lake = make_source(tmp_path), (tmp_path / "lake").as_uri()
    done = do(small(changing, lake, shards="000000..000001"), "first")
    assert done_line(done.lake, done.run).startswith("2 of 2 shards have records: ")
    drop_a_video(changing / "sample-000001.tar")
    planned = plan_run(small(changing, lake, shards="000000..000001"), "second")
    assert planned.plan.numbers == (1,)
    assert done_line(done.lake, planned.run).startswith("0 of 1 shards have records: 0 videos, 0 clips")


def test_a_label_table_that_is_not_there_is_named(source, tmp_path):
    asked = small(source, (tmp_path / "lake").as_uri(), labels=f"{source.as_uri()}/absent.csv")
    with pytest.raises(BadRequestError, match=r"^labels: "):
        plan_run(asked, "r")


def test_a_shard_that_cannot_be_done_is_missing_by_name(source, tmp_path):
    lake = (tmp_path / "lake").as_uri()
    opened = do(small(source, lake, shards="000000..000001"), "r")
    wider = plan_run(small(source, lake, shards="000000..000002"), "wider")
    fresh = find_fresh(opened.lake, wider.run, Access())
    assert (fresh.count, fresh.shards) == (2, "000000..000001")
    assert fresh.missing == {2: "raw: new, clips: new, features: its clips are to be made first"}
