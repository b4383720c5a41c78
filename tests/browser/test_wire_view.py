"""The Wire tab in a real JupyterLab: what a proxy did is seen, also in a notebook that is opened without a kernel."""

from __future__ import annotations

import json
import re

import pytest
from harness import MIME
from lab import Lab, Page

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

CHUNK = '{"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}'
STOP = '"stop"'
BODY = "".join([
    ": a proxy was here\n\n",
    *(f"data: {CHUNK % (word, 'null')}\n\n" for word in ("The", " lamp", " was <img src=x onerror=document.title=1>", " dark")),
    "upstream is tired \u202e\x1b[31m\n\n",
    f"data: {CHUNK % ('.', STOP)}\n\n",
    "data: [DONE]\n\n",
])  # fmt: skip


def test_a_reader_sees_what_a_proxy_did(page: Page, lab: Lab, server: MockServer) -> None:
    headers = {"X-Cache": "MISS <b>", "Set-Cookie": "session=secret-of-the-proxy"}
    server.scripts["held"] = Script(body=BODY.encode(), content_type="text/event-stream", headers=headers)
    server.scripts["held-not"] = Script()
    cells = [f"%%stream {name} --base-url {server.base_url} {flag}\nHi" for name, flag in (("held", "--wire"), ("held-not", ""))]
    lab.write("wire.ipynb", ["%load_ext tokenstream_magic", *cells, "%transcripts show last~1"])
    page.open("wire.ipynb").run_done(0)
    for cell in (1, 2):
        page.run_done(cell)
        page.wait_state(cell, "complete")
    assert page.stream(2).locator(".ts-Wire").is_hidden()
    check(page, 1)
    page.run_done(3)
    page.wait_state(3, "complete")
    check(page, 3)  # from the store
    page.save()
    saved = (lab.notebooks / "wire.ipynb").read_text()
    assert "secret-of-the-proxy" not in saved
    (output,) = json.loads(saved)["cells"][1]["outputs"]
    assert "wire" not in output["data"][MIME]
    assert len(output["metadata"]["tokenstream"]["wire"]["frames"]) == 8
    page.open("wire.ipynb", kernel=False)
    page.wait_state(1, "complete")
    check(page, 1)


def check(page: Page, cell: int) -> None:
    wire = page.stream(cell).locator(".ts-Wire")
    wire.locator(":scope > summary").focus()
    page.page.keyboard.press("Enter")
    assert re.match(r"Wire 6 frames in 1 read · \d+ B", wire.locator(":scope > summary").inner_text())
    rows = wire.locator(".ts-WireItem")
    rows.last.wait_for()  # the list is drawn once the disclosure says that it is open
    assert rows.count() == 8
    assert [row for row in wire.locator(".ts-WireMark").all_inner_texts() if "at once" in row] == ["6 at once"]
    assert rows.nth(0).locator(".ts-WireMark").all_inner_texts() == ["comment", "keep-alive"]
    assert rows.nth(5).get_attribute("data-kind") == "stray"
    assert "upstream is tired ⟨U+202E⟩⟨U+001B⟩[31m" in rows.nth(5).inner_text()
    for name, count in {"Comments": 1, "Stray lines": 1, "Coalesced": 6, "Text": 5, "All": 8}.items():
        button = wire.get_by_role("button", name=re.compile(f"^{name} "))
        button.press("Enter")
        assert rows.count() == count, name
        assert button.get_attribute("aria-pressed") == "true"
    wire.get_by_label("Find in frames").fill("LAMP")
    assert rows.count() == 1
    assert wire.get_by_role("status").inner_text() == "1 of 8 shown"
    rows.locator("summary").press("Enter")
    assert rows.locator("pre").inner_text().startswith('data: {"choices":[{"index":0,"delta":{"content":" lamp"}')
    wire.get_by_label("Find in frames").fill("")
    wire.locator(".ts-WireExchange > summary").press("Enter")
    answered = wire.get_by_label("Response headers").inner_text()
    assert "MISS <b>" in answered
    assert re.search(r"set-cookie\s+\*\*\*", answered)
    assert wire.locator("img, b, a, script").count() == 0
    assert page.page.title() != "1"
