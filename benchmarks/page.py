"""A notebook page that is watched: when each token is on the screen, what comes over the websocket, what a frame costs.

A token counts as shown when the frame that has it was drawn: its script, style, layout and paint are done, and the task
that follows them on the page's main thread runs. What the compositor takes after that is not seen. The page's clock is
set by that of the server: of many questions over loopback the one with the quickest answer, so the error is at most
half its round trip.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))
from lab import CHROMIUM_ARGUMENTS, Lab, Page, chromium

WATCH = """([index, selector]) => {
  let root = null;
  const shown = () => {
    if (!root || !root.isConnected) {
      const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[index];
      const found = cell ? [...cell.querySelectorAll(selector)] : [];
      root = found[found.length - 1] ?? null;
    }
    for (let node = root; node; ) {
      if (node.nodeType === 3) {
        const found = /z([0-9a-z]{4,5})\\s*$/.exec(node.data.slice(-16));
        if (found) return parseInt(found[1], 36);
      }
      if (node.lastChild) {
        node = node.lastChild;
      } else {
        while (node && node !== root && !node.previousSibling) node = node.parentNode;
        node = !node || node === root ? null : node.previousSibling;
      }
    }
    return -1;
  };
  const watch = {at: [], last: [], frames: [], longest: 0, shown};
  let waiting = -1, drawn = -1, told = -1, inFrame = false, began = 0, running = true;
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const now = performance.now();
    inFrame = false;
    if (drawn > told) {
      watch.at.push(now);
      watch.last.push(drawn);
      watch.frames.push(now - began);
      told = drawn;
    }
  };
  const frame = () => {
    if (!running) return;
    requestAnimationFrame(frame);
    inFrame = true;
    began = performance.now();
    drawn = Math.max(drawn, waiting);
    channel.port2.postMessage(0);
  };
  requestAnimationFrame(frame);
  const observer = new MutationObserver(() => {
    waiting = shown();
    if (inFrame) drawn = Math.max(drawn, waiting);
  });
  observer.observe(document.body, {subtree: true, childList: true, characterData: true});
  const tasks = new PerformanceObserver(list => {
    for (const task of list.getEntries()) watch.longest = Math.max(watch.longest, task.duration);
  });
  tasks.observe({entryTypes: ['longtask']});
  watch.stop = () => { running = false; observer.disconnect(); tasks.disconnect(); };
  watch.told = () => told;
  window.watch = watch;
}"""

CLOCK = """async url => {
  let best = [Infinity, 0];
  for (let n = 0; n < 60; n++) {
    const before = performance.now();
    const there = Number(await (await fetch(url)).text());
    const after = performance.now();
    if (after - before < best[0]) best = [after - before, there / 1e6 - (before + after) / 2];
  }
  return best;
}"""

HASH = """async selector => {
  const found = [...document.querySelectorAll(selector)];
  const text = found[found.length - 1].textContent.replace(/\\s+/g, '');
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, '0')).join('');
}"""

DELTA = re.compile(rb'"op": ?"(append|frame)"')
SYNC = re.compile(rb'"op": ?"sync"')
LOAD = "%load_ext tokenstream_magic"
PEER_SETUP = """
import http.client, json
from IPython.display import Markdown, display
import ipywidgets
def tokens(model):
    connection = http.client.HTTPConnection("127.0.0.1", {port})
    connection.request("POST", "/v1/chat/completions", json.dumps({{"model": model, "stream": True}}))
    response = connection.getresponse()
    try:
        for line in response:
            if line.startswith(b"data: {{"):
                piece = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if piece:
                    yield piece
    finally:
        response.close()
        connection.close()
def shown(model, before):
    text, count = "", 0
    for piece in tokens(model):
        text, count = text + piece, count + 1
        if count >= before:
            yield text
"""
PEERS = {
    "Markdown": """
handle = display(Markdown(""), display_id=True)
for text in shown({model!r}, {before}):
    handle.update(Markdown(text))
""",
    "print": """
before = 0
for text in shown({model!r}, {before}):
    print(text[before:], end="", flush=True)
    before = len(text)
""",
    "HTML": """
widget = ipywidgets.HTML()
display(widget)
for text in shown({model!r}, {before}):
    widget.value = text
""",
}
NAMES = {
    "ours": "%%stream",
    "Markdown": "update_display(Markdown(all))",
    "print": "print(flush=True)",
    "HTML": "ipywidgets HTML.value",
}
SELECTORS = {
    "ours": ".ts-Stream > .ts-Answer",
    "Markdown": ".jp-RenderedMarkdown",
    "print": ".jp-OutputArea-output pre",
    "HTML": ".widget-html-content",
}


def cell(way: str, model: str, before: int, source: Source, flags: str = "-n") -> str:
    """A cell that shows the tokens of ``model`` in a way of ``NAMES``; of the first ``before``, a peer draws only the last."""
    if way == "ours":
        return f"%%stream {model} --base-url {source.base_url} {flags}\nGo on."
    return PEERS[way].format(model=model, before=before)


class Watched:
    """One notebook page; cell 0 is the set-up, the others what was given."""

    def __init__(self, browser: Browser, lab: Lab, source: Source, cells: Sequence[str], name: str = "live.ipynb") -> None:
        self.source = source
        lab.write(name, ["\n".join([LOAD, PEER_SETUP.format(port=source.port)]), *cells])
        self.context = browser.new_context(viewport={"width": 1100, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.session = self.context.new_cdp_session(self.page)
        self.notebook = Page(self.page, lab).open(name)
        self.notebook.run_done(0, 60_000)
        self.error, self.offset = self.page.evaluate(CLOCK, f"http://127.0.0.1:{source.port}/clock")
        self._bytes = self._messages = 0

    def watch(self, index: int, way: str) -> None:
        """From here on notes what a cell shows, and when."""
        self.page.evaluate(WATCH, [index, SELECTORS[way]])

    def wait_shown(self, number: int, timeout: float = 120.0) -> bool:
        """Whether a token was shown in time."""
        try:
            self.page.wait_for_function("number => window.watch.told() >= number", arg=number, polling=100, timeout=1000 * timeout)
        except Exception:  # Playwright's own timeout error
            return False
        return True

    def output(self, index: int) -> str:
        """What a cell shows, for a run that went wrong."""
        return str(self.notebook.cell(index).inner_text())[-1500:]

    def lags(self, sent: array[int], begin: int) -> list[float]:
        """For each token from ``begin`` on that was shown: ms from sent to shown."""
        at, last = self.page.evaluate("() => [window.watch.at, window.watch.last]")
        lags, known = [], begin
        for moment, number in zip(at, last, strict=True):
            there = moment + self.offset
            lags += [there - stamp / 1e6 for stamp in sent[known : number + 1]]
            known = max(known, number + 1)
        return lags

    def frames(self, begin: int) -> list[float]:
        """Ms of the main thread from the start of a frame to its end, of those that showed a token from ``begin`` on."""
        frames, last = self.page.evaluate("() => [window.watch.frames, window.watch.last]")
        return [frame for frame, number in zip(frames, last, strict=True) if number >= begin]

    def longest_task(self) -> float:
        """Ms; 0 when none took longer than 50."""
        return float(self.page.evaluate("() => window.watch.longest"))

    def unwatch(self) -> None:
        self.page.evaluate("() => window.watch.stop()")

    @contextmanager
    def wire(self) -> Iterator[dict[str, int]]:
        """Counts the bytes that come over the websocket, all and those of the ``deltas``; ``messages`` of them, ``syncs`` the page asked for."""
        counted = {"bytes": 0, "deltas": 0, "messages": 0, "syncs": 0}

        def received(event: dict[str, Any]) -> None:
            data = _payload(event)
            counted["bytes"] += len(data)
            if DELTA.search(data):
                counted["deltas"] += len(data)
                counted["messages"] += 1

        def sent(event: dict[str, Any]) -> None:
            counted["syncs"] += SYNC.search(_payload(event)) is not None

        heard = {"Network.webSocketFrameReceived": received, "Network.webSocketFrameSent": sent}
        for name, hear in heard.items():
            self.session.on(name, hear)
        self.session.send("Network.enable")
        yield counted
        self.session.send("Network.disable")
        for name, hear in heard.items():
            self.session.remove_listener(name, hear)

    def processor(self) -> float:
        """Ms of processor time of the page's main thread so far."""
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(1000 * float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

    def close(self) -> None:
        """Ends the kernel too: it would go on and take its share of the machine."""
        self.page.evaluate("""async () => {
          const services = window.jupyterapp.serviceManager;
          await services.sessions.shutdownAll();
        }""")
        self.context.close()


def _payload(event: dict[str, Any]) -> bytes:
    data = event["response"]["payloadData"]
    return base64.b64decode(data) if event["response"]["opcode"] == 2 else data.encode()


@contextmanager
def laboratory() -> Iterator[tuple[Browser, Lab, Source]]:
    """A browser, a JupyterLab and a server."""
    root = Path(tempfile.mkdtemp())
    (root / "config").mkdir()
    (root / "config" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    lab = Lab(root, {"TOKENSTREAM_DATABASE": str(root / "transcripts.db"), "TOKENSTREAM_CONFIG": str(root / "none.toml")})
    source = Source()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
            yield browser, lab, source
            browser.close()
    finally:
        source.close()
        lab.close()
