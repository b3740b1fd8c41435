"""Airflow's pages as a person uses them: what is clicked, filled in, and read."""

from __future__ import annotations

import re
import time
from typing import Any

POLL_MS, QUICK_POLL_MS, MOST_POLLS = 2_000, 200, 300
ENDED = ("Success", "Failed")


class AirflowUi:
    """A page of Airflow in a browser."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url

    def log_in(self, user: str, password: str) -> None:
        self.page.goto(self.url)
        self.page.fill("input[name=username]", user)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.get_by_text("Active Dags").wait_for()

    def open_dag(self, dag_id: str) -> None:
        """Go to a DAG by the list of all."""
        self.page.get_by_role("link", name="Dags", exact=True).first.click()
        self.page.get_by_role("link", name=dag_id, exact=True).first.click()
        self.page.get_by_role("heading", name=dag_id).wait_for()

    def open_form(self) -> Form:
        self.page.get_by_role("button", name="Trigger").first.click()
        return Form(self.page)

    def wait_for_run(self, seconds: float) -> str:
        """Watch the page of a run until it has ended; give its state."""
        give_up = time.monotonic() + seconds
        while (state := self.run_state()) not in ENDED:
            assert time.monotonic() < give_up, f"the run is still {state} after {seconds:.0f} s"
            self.page.wait_for_timeout(POLL_MS)
        return state

    def run_state(self) -> str:
        """Read the state of a run where its page shows it, beside the run's name."""
        return str(self.page.get_by_test_id("state-badge").first.inner_text()).strip()

    def open_task(self, task: str) -> None:
        """Go from the page of a run to one of its tasks."""
        self.page.get_by_role("link", name=task, exact=True).last.click()
        self.page.get_by_role("heading", name=task).wait_for()

    def open_mapped_task(self, task: str, name: str) -> None:
        """Go from the page of a run to one of the instances of a mapped task, by the name of that."""
        self.page.get_by_role("link", name=name, exact=True).first.click()
        self.page.get_by_role("heading", name=task).wait_for()

    def clear_task(self) -> None:
        """Clear the task whose page this is, with what comes behind it, and go back to the page of its run."""
        self.page.get_by_role("button", name="to clear").first.click()
        self.page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
        self.page.get_by_role("dialog").wait_for(state="hidden")
        self.page.get_by_role("link", name=re.compile("^manual__")).first.click()
        self.page.get_by_text("Task Instances", exact=True).first.wait_for()
        for _ in range(MOST_POLLS):  # the page learns of it a moment later, or when it is over
            if self.run_state() not in ENDED:
                return
            self.page.wait_for_timeout(QUICK_POLL_MS)

    def follow(self, link: str) -> Any:
        """Follow an extra link of a task, on its tab *Details*; give the page that it opens."""
        self.page.get_by_role("tab", name="Details").or_(self.page.get_by_role("link", name="Details")).first.click()
        with self.page.context.expect_page() as opened:
            self.page.get_by_role("link", name=link, exact=True).click()
        opened.value.wait_for_load_state("load")
        return opened.value


def wait_for_notices(page: Any) -> None:
    """Wait until Airflow's notices are gone: they stay as long as the mouse rests on them."""
    page.mouse.move(5, 5)
    page.locator("[data-scope=toast][data-part=root]").first.wait_for(state="hidden")


class Form:
    """The trigger form of a DAG, opened."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.dialog = page.get_by_role("dialog")
        self.dialog.get_by_role("button", name="Advanced Options", exact=True).wait_for()

    def sections(self) -> list[str]:
        """Give the names of its sections, in order."""
        return [item.inner_text().strip() for item in self.dialog.locator("h3 button, [data-part=item-trigger]").all()]

    def open_section(self, name: str) -> None:
        self.dialog.get_by_role("button", name=name, exact=True).click()

    def field(self, name: str) -> Any:
        return self.dialog.locator(f"input[name=element_{name}]")

    def fill(self, name: str, text: str) -> None:
        """Fill in a text or a number, and leave the field."""
        self.field(name).fill(text)
        self.field(name).press("Tab")

    def switch(self, name: str) -> None:
        """Turn a switch the other way."""
        self.dialog.locator(f"label:has(input[name=element_{name}])").click()

    def send(self) -> None:
        wait_for_notices(self.page)  # that of a mistake lies on the button
        self.dialog.get_by_role("button", name="Trigger", exact=True).click()

    def refusal(self) -> str:
        """Read what is said of a form that was refused."""
        told = self.dialog.get_by_text("nothing was started")
        told.wait_for()
        told.scroll_into_view_if_needed()
        return str(told.inner_text())

    def started(self) -> str:
        """Wait for the run that the form made; give its id."""
        self.page.wait_for_url(re.compile(r"/dags/\w+/runs/"))
        wait_for_notices(self.page)
        return str(self.page.url).rpartition("/")[2]
