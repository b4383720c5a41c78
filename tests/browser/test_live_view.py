"""The live view in a real JupyterLab, against a scripted server."""

from __future__ import annotations

import json
import re

import pytest
from harness import MIME
from lab import Lab, Page

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

LOAD = "%load_ext tokenstream_magic"


def stream(server: MockServer, script: str, flags: str = "") -> str:
    return f"%%stream {script} --base-url {server.base_url} {flags}\nTell me a story."


@pytest.fixture
def notebook(lab: Lab, server: MockServer, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"\W+", "-", request.node.name)[:60] + ".ipynb"
    scripts = [stream(server, script) for script in ("endless", "silent", "hello", "unauthorized")]
    lab.write(name, [LOAD, *scripts, "1 + 1"])
    return name


def stop_button(page: Page, cell: int):
    return page.stream(cell).get_by_role("button", name="Stop", exact=True)


def test_the_reader_sees_waiting_then_text_then_the_end(page: Page, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_state(2, "waiting")
    waiting = page.stream(2).locator(".ts-Words")
    assert re.match(r"waiting for the first token \d+\.\d s", waiting.inner_text())
    assert page.stream(2).get_by_role("status").inner_text() == "waiting for the first token"
    region = page.cell(2).get_by_role("region", name=re.compile("silent"))
    assert region.get_by_role("button").count() == 1
    stop_button(page, 2).click()
    page.wait_state(2, "stopped")
    page.run_done(3)
    page.wait_state(3, "complete")
    assert page.text(3) == "Hello there."
    assert re.search(r"[\d.]+ ms first token 3 tokens", page.stream(3).inner_text().replace("\n", " "))
    page.run_done(4)
    assert "Incorrect API key provided" in page.stream(4).locator(".ts-Problem").inner_text()


def test_stop_is_reached_with_the_keyboard_and_keeps_its_place(page: Page, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(1)
    page.wait_state(1, "streaming")
    button = stop_button(page, 1)
    before = button.bounding_box()
    page.page.wait_for_function(
        "() => document.querySelector('.ts-Stream > .ts-Answer').textContent.length > 400",
    )
    assert button.bounding_box() == before
    page.page.keyboard.press("Escape")
    for _ in range(12):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("() => document.activeElement.textContent") == "Stop":
            break
    assert page.page.evaluate("() => document.activeElement.className") == "ts-Stop"
    count = len(server.exchanges)
    page.page.keyboard.press("Enter")
    page.wait_state(1, "stopped", timeout=5000)
    assert server.exchanges[count - 1].closed.wait(2)
    page.run_done(5)


def test_the_text_follows_its_tail_only_while_the_reader_is_there(page: Page, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run(1)
    page.wait_state(1, "streaming")
    grown = "extra => { const a = document.querySelector('.ts-Stream > .ts-Answer'); return a.scrollHeight > a.clientHeight + extra }"
    page.page.wait_for_function(grown, arg=60, timeout=60_000)
    at_end = "() => { const a = document.querySelector('.ts-Stream > .ts-Answer'); return a.scrollHeight - a.scrollTop - a.clientHeight }"
    assert page.page.evaluate(at_end) < 30
    page.page.evaluate("() => { document.querySelector('.ts-Stream > .ts-Answer').scrollTop = 0 }")
    height = page.page.evaluate("() => document.querySelector('.ts-Stream > .ts-Answer').scrollHeight")
    page.page.wait_for_function("h => document.querySelector('.ts-Stream > .ts-Answer').scrollHeight > h + 20", arg=height, timeout=60_000)
    assert page.page.evaluate("() => document.querySelector('.ts-Stream > .ts-Answer').scrollTop") == 0
    stop_button(page, 1).click()
    page.wait_state(1, "stopped")


def test_a_notebook_saved_and_reloaded_in_the_middle_of_a_stream_goes_on(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    count = len(server.exchanges)
    page.run(1)
    page.wait_state(1, "streaming")
    page.page.wait_for_function("() => document.querySelector('.ts-Stream > .ts-Answer').textContent.length > 100")
    page.save()
    (output,) = json.loads((lab.notebooks / notebook).read_text())["cells"][1]["outputs"]
    assert output["data"][MIME]["status"] == "live"
    assert output["data"][MIME]["text"].startswith("The lighthouse had been dark")
    assert "".join(output["data"]["text/plain"]) == output["data"][MIME]["text"]
    page.open(notebook, kernel=False)
    page.wait_state(1, "streaming", timeout=20_000)
    page.page.wait_for_function(
        "n => document.querySelector('.ts-Stream > .ts-Answer').textContent.length > n", arg=len(output["data"][MIME]["text"])
    )
    stop_button(page, 1).click()
    page.wait_state(1, "stopped", timeout=5000)
    assert server.exchanges[count].closed.wait(2)
    sent = "".join(server.scripts["endless"].pieces)
    assert len(page.text(1)) > 100
    assert sent.startswith(page.text(1))
    page.save()
    (output,) = json.loads((lab.notebooks / notebook).read_text())["cells"][1]["outputs"]
    assert output["data"][MIME]["outcome"] == "stopped"


def test_the_kernel_dying_in_a_stream_is_said_and_the_text_stays(page: Page, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run(1)
    page.wait_state(1, "streaming")
    page.page.wait_for_function("() => document.querySelector('.ts-Stream > .ts-Answer').textContent.length > 100")
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("0")
    page.page.keyboard.press("0")
    page.page.locator(".jp-Dialog button.jp-mod-accept").click()
    page.wait_state(1, "lost", timeout=20_000)
    assert page.text(1).startswith("The lighthouse had been dark")
    assert page.stream(1).get_by_role("button", name="Stop").count() == 0


def test_what_a_model_says_is_only_ever_text(page: Page, lab: Lab, server: MockServer) -> None:
    payload = (
        "<img src=x onerror=\"document.title='pwned'\"> <script>document.title='pwned'</script> ![i](http://127.0.0.1:9/leak) "
        "[l](javascript:alert(1)) <button class='jp-Dialog'>Stop</button> $\\href{javascript:alert(1)}{x}$"
    )
    server.scripts["hostile"] = server.scripts["hello"].saying(payload)
    lab.write("hostile.ipynb", [LOAD, stream(server, "hostile")])
    requests: list[str] = []
    page.page.on("request", lambda request: requests.append(request.url))
    page.open("hostile.ipynb").run_done(0)
    page.run_done(1)
    page.wait_state(1, "complete")
    assert page.text(1) == payload
    assert page.stream(1).locator("img, script, a, iframe").count() == 0
    assert page.stream(1).locator(".ts-Answer").get_by_role("button").count() == 0
    assert page.stream(1).get_by_role("button", name="Stop").count() == 0
    page.save()
    page.open("hostile.ipynb")
    page.wait_state(1, "complete")
    assert page.text(1) == payload
    assert "pwned" not in page.page.title()
    assert [url for url in requests if "leak" in url] == []
