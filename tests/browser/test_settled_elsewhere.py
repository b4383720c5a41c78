"""The settled bundle where our view is not: nbconvert HTML, and a JupyterLab with the extension switched off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from harness import MIME
from lab import Lab, Page
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(240)

ANSWER = """# Rivers
There are **three** of them, and `code`:

- the Nile
  - and its delta
1. the Amazon

```python
print("<b>not bold</b>")
```
It costs $5, not $6."""

HOSTILE = [
    "<img src=x onerror=\"document.title='pwned'\">",
    "<script>document.title='pwned'</script>",
    "![image](http://127.0.0.1:9/leak.png)",
    "![image][ref]\n\n[ref]: http://127.0.0.1:9/leak.png",
    "[link](javascript:document.title='pwned')",
    "<a href=\"javascript:document.title='pwned'\">x</a>",
    "<svg onload=\"document.title='pwned'\">",
    "<style>@import 'http://127.0.0.1:9/leak.css'</style>",
    "<iframe srcdoc=\"<script>parent.document.title='pwned'</script>\">",
    "$\\href{javascript:document.title='pwned'}{x}$ and \\(\\style{background:url(http://127.0.0.1:9/leak)}{x}\\)",
    "```mermaid\ngraph TD; A-->B\n```",
    "```\n</code></pre><img src=x onerror=\"document.title='pwned'\">\n```",
    "&lt;img src=x onerror=\"document.title='pwned'\"&gt;",
    "\\<img src=x onerror=\"document.title='pwned'\">",
    "`<img src=x onerror=\"document.title='pwned'\">",
    "<http://127.0.0.1:9/leak> http://127.0.0.1:9/leak www.leak.example",
    "| a |\n|---|\n| ![i](http://127.0.0.1:9/leak) |",
    "<button data-commandlinker-command='x' class='jp-Dialog'>Stop</button>",
]


@pytest.fixture(scope="module")
def saved(server: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook executed without a page: one answer to read, and hostile ones."""
    server.scripts["rivers"] = server.scripts["hello"].saying(ANSWER)
    for number, payload in enumerate(HOSTILE):
        server.scripts[f"hostile-{number}"] = server.scripts["hello"].saying(payload)
    names = ["rivers", *(f"hostile-{n}" for n in range(len(HOSTILE))), "cut", "unauthorized"]
    cells = [f"%%stream {name} --base-url {server.base_url} -n\nGo on." for name in names]
    notebook = new_notebook(cells=[new_code_cell(source) for source in ["%load_ext tokenstream_magic", *cells]])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=60).execute()
    path = tmp_path_factory.mktemp("saved") / "saved.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def lab_without_us(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("without")
    config = root / "config" / "labconfig"
    config.mkdir(parents=True)
    (config / "page_config.json").write_text(json.dumps({"disabledExtensions": {"tokenstream-magic": True}}))
    running = Lab(root)
    (running.notebooks / "saved.ipynb").write_bytes(saved.read_bytes())
    yield running
    running.close()


def test_nbconvert_html_reads_well_and_does_nothing(saved: Path, browser: Browser) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(saved)]
    subprocess.run(command, check=True, capture_output=True)
    page = browser.new_page()
    asked: list[str] = []
    page.route(
        "**/*",
        lambda route: (
            (asked.append(route.request.url), route.fulfill(status=204)) if "file:" not in route.request.url else route.continue_()
        ),
    )
    page.goto(saved.with_suffix(".html").as_uri())
    outputs = page.locator(".jp-OutputArea-output")
    assert_reads_well(outputs.nth(0))
    assert "truncated" in outputs.nth(len(HOSTILE) + 1).inner_text()
    assert "Incorrect API key provided" in outputs.nth(len(HOSTILE) + 2).inner_text()
    assert_inert(page, asked)
    page.close()


def test_a_jupyterlab_without_the_extension_reads_well_and_does_nothing(lab_without_us: Lab, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1100, "height": 3000})
    opened = context.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    page = Page(opened, lab_without_us).open("saved.ipynb")
    assert opened.locator(".ts-Stream").count() == 0
    outputs = opened.locator(".jp-OutputArea-output")
    outputs.nth(0).locator("li").first.wait_for()
    assert_reads_well(outputs.nth(0))
    assert_inert(opened, asked)
    # a cell that was just run is trusted: the worst case
    for index in range(1, len(HOSTILE) + 2):
        page.cell(index).locator(".cm-content").first.scroll_into_view_if_needed()
    opened.evaluate("() => document.querySelectorAll('.jp-OutputArea-output').length")
    assert_inert(opened, asked)
    context.close()


def test_a_jupyterlab_with_the_extension_draws_what_was_saved_and_does_nothing(saved: Path, lab: Lab, page: Page) -> None:
    (lab.notebooks / "settled.ipynb").write_bytes(saved.read_bytes())
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.open("settled.ipynb", kernel=False)
    page.wait_state(1, "complete")
    answer = page.stream(1).locator(".ts-Answer").last
    assert answer.get_by_role("heading").inner_text() == "Rivers"
    assert answer.locator("li").count() == 3
    page.wait_state(len(HOSTILE) + 2, "truncated")
    page.wait_state(len(HOSTILE) + 3, "failed")
    page.page.wait_for_load_state("networkidle")
    assert [url for url in asked if "leak" in url] == []
    assert "pwned" not in page.page.title()
    answers = page.page.locator(".ts-Answer")
    assert answers.locator("img, script, iframe, style, form, a[href^='javascript'], [onerror], [onload]").count() == 0


def test_a_transcript_file_opens_as_a_document(saved: Path, lab: Lab, page: Page) -> None:
    output = nbformat.read(saved, as_version=4).cells[1].outputs[0]
    written = {**output.data[MIME], "tokenstream": output.metadata["tokenstream"]}
    (lab.notebooks / "rivers.tokenstream.json").write_text(json.dumps(written))
    (lab.notebooks / "odd.tokenstream.json").write_text('{"version": 1, "text": 7, "columns": [null, 3], "tokenstream": "?"}')
    page.page.goto(lab.url("rivers.tokenstream.json"))
    document = page.page.locator(".jp-MimeDocument .ts-Stream")
    document.get_by_role("heading", name="Rivers").wait_for()
    assert document.get_attribute("data-state") == "complete"
    assert "print(" in document.locator(".ts-Answer").last.inner_text()
    assert document.get_by_text("Timing").is_visible()
    assert document.get_by_role("button", name="Replay").is_visible()
    page.page.goto(lab.url("odd.tokenstream.json"))
    page.page.locator(".jp-MimeDocument .ts-Stream").first.wait_for()


def test_papermill_leaves_one_settled_output(saved: Path, server: MockServer, tmp_path: Path) -> None:
    papermill = pytest.importorskip("papermill")
    cells = ["%load_ext tokenstream_magic", "topic = 'lakes'", f"%%stream rivers --base-url {server.base_url}\nTell me of {{topic}}."]
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    notebook.cells[1].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    source, target = tmp_path / "asked.ipynb", tmp_path / "answered.ipynb"
    nbformat.write(notebook, source)
    papermill.execute_notebook(source, target, parameters={"topic": "rivers"}, progress_bar=False)
    (output,) = nbformat.read(target, as_version=4).cells[-1].outputs
    assert output.output_type == "display_data"
    assert output.data[MIME]["text"] == ANSWER
    assert "Tell me of rivers." in json.dumps(server.exchanges[-1].body)
    assert "widgets" not in nbformat.read(target, as_version=4).metadata


def assert_reads_well(output) -> None:
    assert output.locator("h1").inner_text().startswith("Rivers")
    assert output.locator("strong").inner_text() == "three"
    assert output.locator("ul > li").count() == 2
    assert 'print("<b>not bold</b>")' in output.locator("pre").inner_text()
    assert re.sub(r"\s+", " ", output.inner_text()).endswith("It costs $5, not $6.")
    assert output.locator("mjx-container, .MathJax").count() == 0


def assert_inert(page, asked: list[str]) -> None:
    page.wait_for_load_state("networkidle")
    assert "pwned" not in page.title()
    assert [url for url in asked if "leak" in url] == []
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.locator("img, script, iframe, svg, style, button, form, a[href^='javascript'], mjx-container").count() == 0
    assert outputs.locator("[onerror], [onload], [data-commandlinker-command]").count() == 0
