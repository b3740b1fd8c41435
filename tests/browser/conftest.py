"""A headless Chromium, Debian's, against the stack as `make up` starts it.

`make test-browser` makes the environment that has Playwright. Where it or the browser is missing, the tests are
skipped, and say what is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from browser.airflow_ui import AirflowUi
from browser.pictures import Pictures, keep_the_end
from browser.traffic import Traffic
from stack_process import stack_process

from shardmill.laptop.airflow import USER, keys
from shardmill.laptop.stack import StackAddress

PROJECT = Path(__file__).resolve().parents[2]
WINDOW = {"width": 1400, "height": 1000}
PATIENCE_MS = 180_000
"""Within which a page answers a click, on a machine that does much else too."""
NOWHERE = "http://127.0.0.1:1/"
"""Where nobody answers."""
OFF = (
    "AutofillServerCommunication",
    "AimEnabled",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
)
"""Services of the browser that ask its maker, and what Playwright turns off: of two such lists the last counts."""
SWITCHES = [
    # Chromium refuses to have one as root.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    f"--disable-features={','.join(OFF)}",
    f"--gaia-url={NOWHERE}",
    f"--gcm-checkin-url={NOWHERE}",
]


def _missing() -> str:
    # Behind the packages that are there already: what both have is theirs.
    packages = PROJECT / ".local/browser/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    if str(packages) not in sys.path:
        sys.path.append(str(packages))
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: run `make test-browser`"
    if shutil.which("chromium") is None:
        return "no Chromium is installed (Debian: apt install chromium)"
    return ""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StackAddress, Path]]:
    before = list(sys.path)
    try:
        yield from _stack(tmp_path_factory)
    finally:
        sys.path[:] = before  # what other tests import is what the project locks


def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StackAddress, Path]]:
    if missing := _missing():
        pytest.skip(missing)
    with stack_process(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    return Traffic(tmp_path / "net-log.json")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Where screenshots go: into the folder that SHARDMILL_SCREENSHOTS names, else nowhere that stays."""
    folder = Path(os.environ.get("SHARDMILL_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(exist_ok=True)
    return Pictures(folder)


@pytest.fixture
def browser(stack: tuple[StackAddress, Path], traffic: Traffic) -> Callable[[], AbstractContextManager[AirflowUi]]:
    """Opens Airflow in a browser for a with block, with somebody logged in; all that the browser asks for is kept."""

    @contextmanager
    def opened() -> Iterator[AirflowUi]:
        from playwright.sync_api import sync_playwright

        address, state = stack
        switches = [*SWITCHES, f"--log-net-log={traffic.net_log}"]
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=switches)
            context = chromium.new_context(viewport=WINDOW, color_scheme="light", timezone_id="UTC", locale="en-GB")
            context.set_default_timeout(PATIENCE_MS)
            context.on("request", lambda request: traffic.asked_for(request.url))
            ui = AirflowUi(context.new_page(), address.url)
            try:
                ui.log_in(USER, keys(state)["password"])
                yield ui
            except BaseException:
                keep_the_end(context, traffic.net_log.parent)
                raise
            finally:
                chromium.close()

    return opened
