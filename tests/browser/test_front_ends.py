"""The oldest and the other front ends we promise: a stream grows, Stop stops it, a saved notebook shows it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import MIME
from lab import Lab, Page
from playwright.sync_api import Browser
from support import front_end_path

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(300)

FRONT_ENDS = {
    "jupyterlab-4.4": ("jupyterlab", ["jupyterlab==4.4.10"]),
    "notebook-7.4": ("notebook", ["notebook==7.4.7", "notebook-shim==0.2.4", "jupyterlab==4.4.10"]),
    "notebook-7.6": ("notebook", ["notebook==7.6.*", "notebook-shim==0.2.4"]),
}


# Notebook 7.6 says this of itself, with and without our extension
OWN_FAULT = "Cannot read properties of undefined (reading 'schema')"


@pytest.fixture(scope="module", params=FRONT_ENDS)
def front_end(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    application, packages = FRONT_ENDS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    environment = {"TOKENSTREAM_DATABASE": str(root / "transcripts.db"), "TOKENSTREAM_CONFIG": str(root / "none.toml")}
    running = Lab(root, environment, packages=front_end_path(request.param, *packages), application=application)
    yield running
    running.close()


@pytest.fixture
def page(front_end: Lab, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error.stack)) if OWN_FAULT not in str(error) else None)
    yield Page(opened, front_end)
    context.close()
    assert problems == []


def test_a_stream_grows_stops_and_is_there_again(page: Page, front_end: Lab, server: MockServer) -> None:
    cells = [f"%%stream {script} --base-url {server.base_url}\nTell me a story." for script in ("endless", "hello")]
    saved: Path = front_end.write("streams.ipynb", ["%load_ext tokenstream_magic", *cells, "1 + 1"])
    page.open("streams.ipynb").run_done(0)
    count = len(server.exchanges)
    page.run(1)
    page.wait_state(1, "streaming")
    page.page.wait_for_function("() => document.querySelector('.ts-Stream > .ts-Answer').textContent.length > 200")
    page.stream(1).get_by_role("button", name="Stop", exact=True).click()
    page.wait_state(1, "stopped", timeout=5000)
    assert server.exchanges[count].closed.wait(5)
    page.run_done(2)
    page.wait_state(2, "complete")
    assert page.text(2) == "Hello there."
    page.run_done(3)
    stopped = page.text(1)
    page.save()
    outputs = [cell["outputs"] for cell in json.loads(saved.read_text())["cells"]]
    assert [len(outputs[1]), len(outputs[2])] == [1, 1]
    assert outputs[1][0]["data"][MIME]["outcome"] == "stopped"
    page.open("streams.ipynb", kernel=False)
    page.wait_state(1, "stopped")
    assert page.text(1) == stopped
    assert page.text(2) == "Hello there."
