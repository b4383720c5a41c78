"""One JupyterLab for all browser tests, and a fresh browser page for each."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from lab import CHROMIUM_ARGUMENTS, Lab, Page, chromium
from playwright.sync_api import Browser, sync_playwright
from support import CACHE

from tokenstream_magic.mock.server import MockServer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed browser test leaves a picture."""
    report = yield
    item.failed = report.failed
    return report


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("lab")
    running = Lab(root, {"TOKENSTREAM_DATABASE": str(root / "transcripts.db"), "TOKENSTREAM_CONFIG": str(root / "none.toml")})
    yield running
    running.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture
def page(lab: Lab, browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield Page(opened, lab)
    if getattr(request.node, "failed", False):
        CACHE.mkdir(exist_ok=True)
        opened.screenshot(path=CACHE / f"failed-{request.node.name[:80]}.png")
    context.close()
    lab.end_sessions()
    assert problems == []
