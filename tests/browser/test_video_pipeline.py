"""A person's way through Airflow: the form with a mistake, the form without, the run, the report, a clip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from browser.airflow_ui import AirflowUi, Form
from browser.pictures import Pictures
from browser.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]
DAG = "video_pipeline"
RUN_SECONDS = 2400
"""Within which a run of the sample ends; it takes four minutes on two cores."""
SECTIONS = ["What", "Data", "Split", "Features", "Where", "Train", "Guards", "Notify"]
PLAYED_SECONDS = 0.3
POLL_MS, POLLS = 200, 100
UNDER_THE_POINTER = "([x, y]) => document.elementFromPoint(x, y)?.tagName"


def play(page, clip) -> None:
    """Press the button of a clip as a person does, at the left of its controls."""
    clip.scroll_into_view_if_needed()
    box = clip.bounding_box()
    button = (box["x"] + 26, box["y"] + box["height"] - 50)
    assert page.evaluate(UNDER_THE_POINTER, button) == "VIDEO"
    page.mouse.click(*button)


def seconds_played(page, clip) -> float:
    """Wait until a clip has come some way; give how far it is."""
    for _ in range(POLLS):
        told = clip.evaluate("clip => [clip.currentTime, clip.error && clip.error.message]")
        assert told[1] is None, told
        if told[0] > PLAYED_SECONDS:
            break
        page.wait_for_timeout(POLL_MS)
    return float(told[0])


def test_a_form_is_corrected_its_run_watched_and_a_clip_of_the_report_played(
    browser: Callable[[], AbstractContextManager[AirflowUi]], pictures: Pictures, traffic: Traffic
) -> None:
    with browser() as ui:
        ui.open_dag(DAG)
        form = ui.open_form()
        assert [name for name in form.sections() if name != "Advanced Options"] == SECTIONS
        mend_a_mistake(form, pictures)
        assert form.started().startswith("manual")
        assert ui.wait_for_run(RUN_SECONDS) == "Success"
        pictures.take(ui.page, "grid")

        ui.open_task("report")
        report = ui.follow("Report")
        assert report.get_by_text("Succeeded").first.is_visible()
        pictures.take(report, "report")
        clips = report.locator("video")
        assert clips.count() >= 6
        play(report, clips.first)
        assert seconds_played(report, clips.first) > PLAYED_SECONDS
        report.locator("#videos").evaluate("section => section.scrollIntoView()")
        pictures.take(report, "report-clips")

        ui.page.bring_to_front()
        folder = ui.follow("Folder in the lake")
        assert folder.get_by_role("link", name="spec.json").is_visible()
        folder.get_by_role("link", name="report.html").click()
        folder.get_by_text("How good the model is").wait_for()

    assert len(traffic.urls) > 20
    assert traffic.outside() == []
    assert traffic.connected()
    assert traffic.connected_outside() == []


def mend_a_mistake(form: Form, pictures: Pictures) -> None:
    """Send a form with a wrong field, read what is said of it, and send the form once more with a right one."""
    form.open_section("What")
    pictures.take(form.page, "form")
    form.open_section("What")

    form.open_section("Split")
    form.fill("clip_seconds", "0")
    form.send()
    refused = form.refusal()
    assert "1 field to be mended, and nothing was started:" in refused
    assert "clip_seconds: expected a number above 0 and of at most 60, found 0" in refused
    assert "in the form: Split, Clip length (seconds)" in refused
    pictures.take(form.page, "form-mistake")
    assert "/runs/" not in form.page.url

    form.fill("clip_seconds", "2")
    form.send()
