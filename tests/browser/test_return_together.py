"""Two people in one notebook, with jupyter-collaboration: both see one stream, either stops it, the file has it once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import MIME
from lab import Lab, Page
from playwright.sync_api import Browser
from support import collaboration_path

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

SETTLED = """mime => {
    const outputs = window.jupyterapp.shell.currentWidget.content.model.cells.get(1).outputs;
    return outputs.length === 1 && outputs.get(0).toJSON().data[mime].status === 'settled';
}"""


@pytest.fixture
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("together")
    environment = {"TOKENSTREAM_DATABASE": str(root / "transcripts.db"), "TOKENSTREAM_CONFIG": str(root / "none.toml")}
    running = Lab(root, environment, packages=collaboration_path())
    yield running
    running.close()


def test_two_clients_see_one_stream(together: Lab, browser: Browser, server: MockServer) -> None:
    together.write("shared.ipynb", ["%load_ext tokenstream_magic", f"%%stream endless --base-url {server.base_url}\nTell me a story."])
    first, second = (Page(browser.new_context(viewport={"width": 1100, "height": 900}).new_page(), together) for _ in range(2))
    first.open("shared.ipynb").run_done(0)
    assert first.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.collaborative")
    first.run(1)
    first.wait_text(1, 50)
    exchange = server.exchanges[-1]
    second.open("shared.ipynb", kernel=False)
    second.wait_state(1, "streaming")
    length = len(second.wait_text(1, 100))
    first.wait_text(1, length)
    second.cell(1).get_by_role("button", name="Stop", exact=True).click()
    for client in (first, second):
        client.wait_state(1, "stopped")
        client.page.wait_for_function(SETTLED, arg=MIME)
        assert client.stream(1).count() == 1
    assert exchange.closed.wait(10)
    assert first.text(1) == second.text(1)
    assert "".join(server.scripts["endless"].pieces).startswith(first.text(1))
    second.command("docmanager:save")
    settled = wait_saved(together, "shared.ipynb")
    assert [output["data"][MIME]["text"].strip() for output in settled] == [second.text(1)]
    for client in (first, second):
        client.page.context.close()


def wait_saved(lab: Lab, notebook: str) -> list[dict[str, Any]]:
    """The outputs in the file, once they are settled: the server writes it when it sees fit."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(json.JSONDecodeError):  # read while it is written
            outputs = json.loads((lab.notebooks / notebook).read_text())["cells"][1]["outputs"]
            if outputs and outputs[0]["data"][MIME]["status"] == "settled":
                return list(outputs)
        time.sleep(0.1)
    raise RuntimeError("the settled output was never saved")
