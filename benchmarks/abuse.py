"""What hostile answers do: scripts run, requests sent, and how long they hold the page, at every place an answer is read.

The corpus is that of ``tests/browser/corpus.py``. Each payload as a live answer in pieces of one and of five characters, as
the settled output it leaves, in the saved and signed (so trusted) notebook opened with our extension and without it, and
in nbconvert's HTML. The peer in the same run is the answer as ``text/markdown`` as it came, as chat clients for notebooks
show it, in the same JupyterLab and in nbconvert. A script that runs writes to the window's name; every request that is not
to the notebook's own server is refused and counted. The bombs are drawn as they grow, in 100 pieces or as many as asked
for; what JupyterLab itself does with them counts too: it reads the Markdown of an output for its table of contents. Then
the tab is hidden and shown again, for which the page has to lay out anew all that it is to show.

Bar: no script, no request, at least 60 payloads; the list, the formulas, a million characters of code, a line without end,
dollars and headings make no task longer than 200 ms of the processor. By the clock a task takes longer when the machine
has other work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook, new_output
from peers import print_table
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))
from corpus import BOMBS, CORPUS, HIT
from lab import CHROMIUM_ARGUMENTS, Lab, Page, chromium

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

MIME = "application/vnd.tokenstream.transcript+json"
LONGEST = 200.0
SHOWN = 33  # JupyterLab folds away what is more than 50 outputs
BARRED = (
    *("a list 1,500 deep", "5,000 formulas", "a million characters of code", "a line of code without end", "a line without end"),
    *("300,000 dollars", "20,000 headings"),
)
# what is cheap for us, and was minutes for JupyterLab's table of contents
OTHERS = {
    "300,000 dollars": "$ " * 300_000,
    "20,000 headings": "# a heading of `x`\n" * 20_000,
    "a list of 40,000": "- words of `code` and more\n" * 40_000,
    "a table of 20,000 rows": "| a | b | c |\n|---|---|---|\n" + "| some words here | and `more` of them | 12345 |\n" * 20_000,
}
OWN = re.compile(r"https://(cdnjs\.cloudflare\.com|cdn\.jsdelivr\.net)/")  # what nbconvert's template itself asks for

RUN = """
for name in {names!r}:
    await tokenstream_magic.astream("Go", name, base_url={url!r}, no_log=True)
"""
FOREIGN = """() => [...document.querySelectorAll('.ts-Answer *')].filter(node => !node.closest('mjx-container') &&
  (/^(img|script|iframe|style|link|form|input|video|audio|object|embed|svg|math|meta|base)$/.test(node.localName) ||
   [...node.attributes].some(({name}) => /^on|^(src|srcset|srcdoc|action|ping)$/.test(name)))).length"""


def payloads() -> list[str]:
    """The corpus; each writes its own number when it runs."""
    return [payload.replace(HIT, f"window.name+='ran-{number};'") for number, payload in enumerate(CORPUS)]


class Longest(NamedTuple):
    """The longest task, in ms: of the processor, and by the clock, where what else the machine does counts too."""

    processor: float
    clock: float


class Guarded:
    """A page whose requests to anywhere else are refused and kept, and the scripts that ran in it."""

    def __init__(self, page: Any, home: str) -> None:
        self.page = page
        self.away: set[str] = set()
        self.ran: set[str] = set()

        def guard(route: Any, request: Any) -> None:
            if request.url.startswith((home, "data:", "blob:")):
                route.continue_()
            else:
                if not OWN.match(request.url):
                    self.away.add(request.url)
                route.abort()

        page.route("**/*", guard)
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":  # the page's own, when it is left unsaved
            self.ran.add(f"dialog {dialog.message}")
        with contextlib.suppress(Exception):  # the page was closed meanwhile
            dialog.dismiss()

    def look(self) -> tuple[int, int]:
        """How many payloads ran, and how many requests were sent."""
        self.page.wait_for_timeout(1500)
        self.ran |= set(re.findall(r"ran-\d+", self.page.evaluate("() => window.name")))
        return len(self.ran), len(self.away)


class Tasks:
    """The tasks of a page's main thread, as Chromium traces them."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._events: list[dict[str, Any]] = []
        self._is_complete = False
        self._session = page.context.new_cdp_session(page)
        self._session.on("Tracing.dataCollected", lambda part: self._events.extend(part["value"]))
        self._session.on("Tracing.tracingComplete", self._complete)
        categories = "disabled-by-default-devtools.timeline,__metadata"
        self._session.send("Tracing.start", {"categories": categories, "transferMode": "ReportEvents"})

    def longest(self) -> Longest:
        """The longest so far; then no more are watched."""
        self.page.evaluate("() => 0")  # a task that is not over would not be told of
        self._session.send("Tracing.end")
        while not self._is_complete:
            self.page.wait_for_timeout(50)
        named = [event for event in self._events if event["name"] == "thread_name"]
        main = {(event["pid"], event["tid"]) for event in named if event["args"]["name"] == "CrRendererMain"}
        tasks = [event for event in self._events if event["name"] == "RunTask" and (event["pid"], event["tid"]) in main]
        return Longest(*(max((task.get(time, 0) / 1000 for task in tasks), default=0.0) for time in ("tdur", "dur")))

    def _complete(self, _event: Any) -> None:
        self._is_complete = True


@contextmanager
def guarded(browser: Browser, home: str) -> Iterator[Guarded]:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    yield Guarded(context.new_page(), home)
    context.close()


def notebook_of(outputs: list[dict[str, Any]]) -> Any:
    """A notebook that shows these bundles."""
    cells = [new_code_cell("1", execution_count=1, outputs=[new_output("display_data", data=data)]) for data in outputs]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    return notebook


def place(lab: Lab, name: str, notebook: Any) -> None:
    """Saves a notebook as one that was run here: signed, so that its outputs are trusted."""
    nbformat.write(notebook, lab.notebooks / name)
    NotebookNotary(data_dir=str(lab.root / "data")).sign(nbformat.read(lab.notebooks / name, 4))


def opened(browser: Browser, lab: Lab, name: str, wait: str) -> tuple[int, int, int]:
    """Opens a notebook and scrolls through it: scripts, requests, and nodes in our view that have no business there."""
    with guarded(browser, lab.address) as watched:
        page = Page(watched.page, lab).open(name, kernel=False)
        watched.page.wait_for_selector(wait, state="attached")
        for cell in page.page.locator(".jp-Notebook .jp-Cell").all()[::6]:
            cell.scroll_into_view_if_needed()
        ran, away = watched.look()
        return ran, away, int(watched.page.evaluate(FOREIGN))


def live(browser: Browser, lab: Lab, server: MockServer, size: int) -> tuple[int, int, int, Any]:
    """Every payload as a stream of its own, in pieces; the page is looked at all the while. Leaves the saved notebook."""
    names = []
    for number, payload in enumerate(payloads()):
        names.append(f"p{size}-{number}")
        pieces = tuple(payload[at : at + size] for at in range(0, len(payload), size))
        server.scripts[names[-1]] = Script(pieces, gap=0.002 if len(pieces) < 1000 else 0)
    name = f"live-{size}.ipynb"
    parts = [names[at : at + SHOWN] for at in range(0, len(names), SHOWN)]
    cells = [RUN.format(names=part, url=server.base_url) for part in parts]
    lab.write(name, ["%load_ext tokenstream_magic\nimport tokenstream_magic", *cells])
    foreign = 0
    with guarded(browser, lab.address) as watched:
        page = Page(watched.page, lab).open(name)
        page.run_done(0)
        done = "() => document.querySelectorAll('.ts-Stream[data-state=complete]').length"
        arrived = 0
        for index, part in enumerate(parts, 1):
            page.run(index)
            arrived += len(part)
            for _ in range(1200):
                foreign = max(foreign, int(watched.page.evaluate(FOREIGN)))
                if watched.page.evaluate(done) >= arrived:
                    break
                watched.page.wait_for_timeout(50)
            else:
                raise SystemExit(f"{watched.page.evaluate(done)} of {arrived} answers arrived: {page.cell(index).inner_text()[-500:]}")
            page.wait_done(index)
        ran, away = watched.look()
        page.save()
    kept = nbformat.read(lab.notebooks / name, 4)
    outputs = [output for cell in kept.cells[1:] for output in cell.outputs]
    said = [output["data"][MIME]["text"] for output in outputs]
    if said != payloads():
        raise SystemExit("what was saved is not what was said")
    return ran, away, foreign, notebook_of([dict(output["data"]) for output in outputs])


def converted(browser: Browser, notebook: Any, root: Path, name: str) -> tuple[int, int]:
    """The notebook as HTML."""
    path = root / name
    nbformat.write(notebook, path)
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", str(path)], check=True, capture_output=True)
    html = path.with_suffix(".html")
    with guarded(browser, html.as_uri()) as watched:
        watched.page.goto(html.as_uri())
        return watched.look()


def bombs(browser: Browser, lab: Lab, server: MockServer, named: Sequence[str], pieces: int) -> list[tuple[str, Longest, Longest, Longest]]:
    """The longest task of the page while a bomb is drawn live, when its notebook is opened again, and when its tab is shown again."""
    figures = []
    for number, (what, text) in enumerate({**BOMBS, **OTHERS}.items()):
        if named and not any(name in what for name in named):
            continue
        size = -(-len(text) // pieces)
        server.scripts[f"bomb-{number}"] = Script(tuple(text[at : at + size] for at in range(0, len(text), size)), gap=0.03)
        name = f"bomb-{number}.ipynb"
        lab.write(name, ["%load_ext tokenstream_magic", f"%%stream bomb-{number} --base-url {server.base_url} -n\nGo"])
        with guarded(browser, lab.address) as watched:
            page = Page(watched.page, lab).open(name)
            page.run_done(0)
            watched.page.wait_for_timeout(500)
            tasks = Tasks(watched.page)
            page.run(1)
            page.wait_state(1, "complete", timeout=120_000)
            watched.page.wait_for_timeout(2500)  # formulas are typeset after it
            growing = tasks.longest()
            page.save()
        with guarded(browser, lab.address) as watched:
            page = Page(watched.page, lab).open(name, kernel=False)
            watched.page.wait_for_selector(".ts-Stream .ts-Answer > *", state="attached")
            # without the notebook's own start: the same output drawn again
            watched.page.wait_for_timeout(1000)
            tasks = Tasks(watched.page)
            watched.page.evaluate(
                """async mime => {
              const rendermime = window.jupyterapp.pluginRegistry._plugins.get('@jupyterlab/rendermime-extension:plugin').service;
              const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
              const data = cells.get(1).outputs.get(0).toJSON().data;
              const renderer = rendermime.createRenderer(mime);
              document.querySelector('.jp-Notebook').appendChild(renderer.node);
              await new Promise(requestAnimationFrame);
              await renderer.renderModel(rendermime.createModel({data, trusted: true}));
            }""",
                MIME,
            )
            watched.page.wait_for_timeout(2500)
            settled = tasks.longest()
            hide = "hidden => { window.jupyterapp.shell.currentWidget.setHidden(hidden) }"
            watched.page.evaluate(hide, True)
            watched.page.wait_for_timeout(500)
            tasks = Tasks(watched.page)
            watched.page.evaluate(hide, False)
            watched.page.wait_for_timeout(2500)
            figures.append((what, growing, settled, tasks.longest()))
    return figures


def main() -> None:
    """Prints the counts and the longest tasks."""
    parser = argparse.ArgumentParser(description="What hostile answers do.")
    parser.add_argument("part", nargs="?", choices=["payloads", "bombs"], help="this alone")
    parser.add_argument("only", nargs="*", help="of the bombs those whose name has this in it")
    parser.add_argument("--pieces", type=int, default=100, help="in how many pieces a bomb comes (default: %(default)s)")
    asked = parser.parse_args()
    parts = [asked.part] if asked.part else ["payloads", "bombs"]
    root = Path(tempfile.mkdtemp())
    labs = []
    for name, config in (("with", {}), ("without", {"disabledExtensions": {"tokenstream-magic": True}})):
        home = root / name
        (home / "config" / "labconfig").mkdir(parents=True)
        (home / "config" / "labconfig" / "page_config.json").write_text(json.dumps(config))
        (home / "config" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
        labs.append(Lab(home, {"TOKENSTREAM_DATABASE": str(home / "t.db"), "TOKENSTREAM_CONFIG": str(home / "none.toml")}))
    ours, stock = labs
    missed = []
    try:
        with MockServer() as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
            if "payloads" in parts:
                missed += _payloads(browser, ours, stock, server, root)
            if "bombs" in parts:
                figures = bombs(browser, ours, server, asked.only, asked.pieces)
                rows = [[what, *(f"{time:.0f}" for longest in each for time in longest)] for what, *each in figures]
                clock = "by the clock"
                print_table(["longest task, ms", "growing", clock, "settled", clock, "shown again", clock], rows)
                held = {what: max(longest.processor for longest in each) for what, *each in figures if what in BARRED}
                missed += [f"{what}: {time:.0f} ms" for what, time in held.items() if time > LONGEST]
            browser.close()
    finally:
        for lab in labs:
            lab.close()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(
        f"bar: no script, no request, no foreign node; no task over {LONGEST:.0f} ms: {'met' if not missed else 'MISSED by ' + '; '.join(missed)}"
    )


def _shown(ran: int, away: int) -> str:
    return f"{ran} scripts, {away} requests"


def _payloads(browser: Browser, ours: Lab, stock: Lab, server: MockServer, root: Path) -> list[str]:
    raw = notebook_of([{"text/markdown": payload, "text/plain": payload} for payload in payloads()])
    place(stock, "raw.ipynb", raw)
    in_lab = opened(browser, stock, "raw.ipynb", ".jp-RenderedMarkdown p")[:2]
    # an attachment that is not there is an error to nbconvert
    convertible = [{"text/markdown": payload} for payload in payloads() if "attachment:" not in payload]
    in_html = converted(browser, notebook_of(convertible), root, "raw.ipynb")
    rows, saved = [], None
    for size in (1, 5):
        ran, away, foreign, saved = live(browser, ours, server, size)
        rows.append([f"live, {size} character{'s' * (size > 1)} a piece, then settled", ran, away, foreign, _shown(*in_lab)])
    place(ours, "saved.ipynb", saved)
    place(stock, "saved.ipynb", saved)
    rows.append(["reopened with our extension", *opened(browser, ours, "saved.ipynb", ".ts-Answer > *"), _shown(*in_lab)])
    rows.append(["reopened without it", *opened(browser, stock, "saved.ipynb", ".jp-RenderedMarkdown p"), _shown(*in_lab)])
    rows.append(["nbconvert HTML", *converted(browser, saved, root, "saved.ipynb"), 0, _shown(*in_html)])
    print(f"{len(CORPUS)} payloads")
    print_table(["", "scripts run", "requests", "foreign nodes", "text/markdown as it came"], [[str(part) for part in row] for row in rows])
    return [f"{row[0]}: {row[1:4]}" for row in rows if any(row[1:4])]


if __name__ == "__main__":
    main()
