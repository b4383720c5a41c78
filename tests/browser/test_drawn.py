"""What the page says of its own drawing: in time on an idle page, late on one whose thread is held up, never in a hidden tab."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import Lab, Page

from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

DIAGNOSE = """
import json
from IPython.display import display
print(json.dumps({"verdict": (d := _stream.diagnosis["slow_display"]).verdict, **d.evidence}))
"""
BLOCK = "ms => { const end = performance.now() + ms; while (performance.now() < end); }"


def found(page: Page, cell: int) -> dict[str, Any]:
    """The verdict on the last stream, from a cell."""
    page.run_done(cell)
    told: dict[str, Any] = json.loads(page.cell(cell).locator(".jp-OutputArea-output").last.inner_text())
    return told


def test_a_page_that_is_held_up_is_a_slow_display_and_another_is_none(page: Page, lab: Lab, server: MockServer) -> None:
    server.scripts["steady"] = Script(words("And so it went on, word by word. " * 12), first=0.2, gap=0.03)
    ask = f"%%stream steady --base-url {server.base_url}\\nHi".replace("\\n", "\n")
    from_store = DIAGNOSE.replace("_stream.", "tokenstream_magic.transcripts.get(_stream.id).")
    lab.write("drawn.ipynb", ["import tokenstream_magic\n%load_ext tokenstream_magic", ask, DIAGNOSE, ask, DIAGNOSE, from_store])
    reports: list[str] = []
    page.page.on(
        "websocket", lambda socket: socket.on("framesent", lambda sent: reports.append(sent) if b"drawn" in _bytes(sent) else None)
    )
    page.open("drawn.ipynb").run_done(0)
    page.run_done(1)
    page.wait_state(1, "complete")
    told = found(page, 2)
    assert told["verdict"] == "clear", told
    assert told["messages"] > 20, told
    assert len(reports) <= 5, len(reports)  # in three seconds: one a second and at the end
    page.run(3)
    page.wait_state(3, "streaming")
    page.wait_text(3, 20)
    for _ in range(3):
        page.page.evaluate(BLOCK, 500)
    page.wait_done(3)
    page.wait_state(3, "complete")
    for cell in (4, 5):
        told = found(page, cell)
        assert (told["verdict"], told["max_ms"] > 300) == ("found", True), told


def _bytes(sent: Any) -> bytes:
    return sent if isinstance(sent, bytes) else str(sent).encode()
