"""From the click on Stop in the page to the server seeing the connection close, in a real JupyterLab in headless Chromium.

The click is the browser's own, stamped when it was made; the server's stamp is of the same clock (``page.py``). Ours with
a kernel that is idle (``--bg``), that awaits the ``%%stream`` cell, that is blocked by another cell (a sleep, and a loop
that never lets go), in a stall, and with a hundred streams. Beside the cell that computes, the same press sends a word to
another kernel, which has nothing to do: what the page, the server and the machine take with nothing of ours. The peer is a cell that prints from a plain ``http.client``,
stopped by JupyterLab's own interrupt button: flowing and in a stall. A button whose callback sets a flag, as chat widgets
have it, is not heard at all while such a cell runs.
"""

from __future__ import annotations

import argparse
import os
import random

from page import Watched, cell, laboratory
from peers import print_table, quantile
from source import Source

ROUNDS = 25
P50, P99 = 10.0, 30.0
COMPUTES = "another cell computes"

# an element's place, and from then on the moment of the next press of the button
AIM = """([index, selector, kind]) => {
  const cells = document.querySelectorAll('.jp-Notebook .jp-Cell');
  const found = [...(index === null ? document : cells[index]).querySelectorAll(selector)].filter(node => node.offsetParent);
  const node = found[found.length - 1];
  if (!node) return null;
  node.scrollIntoView({block: 'nearest'});
  window.pressed = null;
  document.addEventListener(kind, event => { window.pressed = event.timeStamp; }, {capture: true, once: true});
  const box = node.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""
STOP = ".ts-Stop:not([hidden])"
INTERRUPT = (
    '.jp-NotebookPanel-toolbar [data-jp-item-name="interrupt"] jp-button, .jp-NotebookPanel-toolbar [data-jp-item-name="interrupt"] button'
)
SHOWN = "index => /z0000[3-9a-z]|z000[1-9a-z]/.test(document.querySelectorAll('.jp-Notebook .jp-Cell')[index].textContent.slice(-4000))"
OTHER = """async () => {
  const {baseUrl, token} = JSON.parse(document.getElementById('jupyter-config-data').textContent);
  const headers = {Authorization: `token ${token}`, 'Content-Type': 'application/json'};
  const kernel = await (await fetch(`${baseUrl}api/kernels`, {method: 'POST', headers, body: '{}'})).json();
  const address = new URL(`${baseUrl}api/kernels/${kernel.id}/channels?session_id=floor&token=${token}`, location.href);
  const socket = new WebSocket(address.href.replace(/^http/, 'ws'));
  await new Promise(done => { socket.onopen = done; });
  let sent = 0;
  window.ask = () => new Promise(done => {
    const id = `floor-${++sent}`;
    const header = {msg_id: id, msg_type: 'execute_request', session: 'floor', username: '', version: '5.3', date: new Date().toISOString()};
    const content = {code: '', silent: true, store_history: false, allow_stdin: false, stop_on_error: false,
      user_expressions: {at: '__import__("time").monotonic_ns()'}};
    socket.onmessage = ({data}) => {
      const answer = typeof data === 'string' ? JSON.parse(data) : {};
      if (answer.channel === 'shell' && answer.parent_header.msg_id === id)
        done(Number(answer.content.user_expressions.at.data['text/plain']));
    };
    socket.send(JSON.stringify({channel: 'shell', header, parent_header: {}, metadata: {}, content, buffers: []}));
  });
  for (let n = 0; n < 5; n++) await window.ask();
}"""
ASK = """() => {
  window.answer = null;
  document.addEventListener('click', event => {
    window.answer = window.ask().then(there => [event.timeStamp, there]);
  }, {capture: true, once: true});
}"""
HUNDRED = """
from tokenstream_magic import api
runs = [api.start("Go on.", "n100000-r10", base_url={url!r}, log=False) for _ in range(99)]
"""


def click(page: Watched, index: int | None, selector: str, exchange: int) -> float:
    """Ms from the press to the close."""
    kind = "click" if selector == STOP else "pointerdown"  # JupyterLab's own buttons act on the press
    place = page.page.evaluate(AIM, [index, selector, kind])
    if place is None:
        raise SystemExit(f"nothing to click: {selector}\n{page.output(1)}")
    page.page.mouse.click(*place, delay=70)  # as long as a finger rests on it; the click is when it lets go
    closed = page.source.closed(exchange)
    pressed = page.page.evaluate("() => window.pressed")
    return closed / 1e6 - (pressed + page.offset)


def measure(page: Watched, source: Source, rounds: int, *, blocker: int | None = None, ours: bool = True) -> list[float]:
    """Runs cell 1, lets it flow a while, stops it, and waits until it has ended; so many times."""
    times = []
    for _ in range(rounds):
        exchange = source.count()
        page.notebook.run(1)
        while source.count() <= exchange:
            page.page.wait_for_timeout(20)
        page.page.wait_for_function(SHOWN, arg=1)
        if blocker is not None:
            page.notebook.run(blocker)
            page.page.wait_for_timeout(300)  # until the kernel is in the middle of it
        page.notebook.cell(1).locator(".jp-InputPrompt").first.click()  # or the press would first make it the active cell
        page.page.wait_for_timeout(random.uniform(100, 300))
        times.append(click(page, 1 if ours else None, STOP if ours else INTERRUPT, exchange))
        if ours:
            page.notebook.wait_state(1, "stopped")
        for index in {1, blocker or 1}:
            page.notebook.wait_done(index)
        page.page.wait_for_timeout(300)
    return times


def bare(page: Watched, source: Source, rounds: int) -> list[float]:
    """Ms from a press to another kernel having the word of it, while a stream flows and this kernel computes."""
    page.page.evaluate(OTHER)
    exchange, times = source.count(), []
    page.notebook.run(1)
    while source.count() <= exchange:
        page.page.wait_for_timeout(20)
    for _ in range(rounds):
        page.notebook.run(2)
        page.page.wait_for_timeout(300 + random.uniform(100, 300))
        page.page.evaluate(ASK)
        page.notebook.cell(1).locator(".jp-InputPrompt").first.click(delay=70)
        pressed, there = page.page.evaluate("() => window.answer")
        times.append(there / 1e6 - (pressed + page.offset))
        page.notebook.wait_done(2)
    place = page.page.evaluate(AIM, [1, STOP, "click"])
    page.page.mouse.click(*place)
    page.notebook.wait_state(1, "stopped")
    return times


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", help="a part of the name of the rows to measure")
    asked = parser.parse_args()
    rounds = asked.rounds
    rows, missed = [], []
    with laboratory() as (browser, lab, source):
        flowing, stalled = "n100000-r80", "n20-r80-stall"
        sleep, spin = "import time; time.sleep(2.5)", "import time\nend = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass"
        hundred = HUNDRED.format(url=source.base_url)
        streams = {
            "kernel idle": (cell("ours", flowing, 0, source, "-n --bg"), None, None),
            "cell awaited": (cell("ours", flowing, 0, source), None, None),
            "another cell sleeps": (cell("ours", flowing, 0, source, "-n --bg"), sleep, None),
            COMPUTES: (cell("ours", flowing, 0, source, "-n --bg"), spin, None),
            "mid-stall": (cell("ours", stalled, 0, source), None, None),
            "100 streams": (cell("ours", flowing, 0, source), None, hundred),
            "interrupt, print(flush=True)": (cell("print", flowing, 0, source), None, None),
            "interrupt, mid-stall": (cell("print", stalled, 0, source), None, None),
        }
        peers: dict[str, float] = {}
        for number, (name, (source_of_cell, other, before)) in reversed(list(enumerate(streams.items()))):
            ours = not name.startswith("interrupt")
            if ours and asked.only and asked.only not in name:
                continue
            cells = [source_of_cell, other or before or "1"]
            page = Watched(browser, lab, source, cells, f"stop-{number}.ipynb")
            if before:
                page.notebook.run_done(2)
                page.page.wait_for_timeout(2000)
            times = measure(page, source, rounds if ours else min(rounds, 12), blocker=2 if other else None, ours=ours)
            nothing = bare(page, source, rounds) if name == COMPUTES else []
            page.close()
            print(f"  {name}: {' '.join(f'{time:.0f}' for time in times)}", flush=True)
            p50, p99 = quantile(times, 50), quantile(times, 99)
            if not ours:
                peers["stall" if "stall" in name else "flow"] = p50
            elif p50 > P50 or p99 > P99:
                missed.append(f"{name}: p50 {p50:.1f}, p99 {p99:.1f}")
            peer = peers["stall" if "stall" in name else "flow"]
            if nothing:
                told = [f"{figure:.1f}" for figure in (min(nothing), quantile(nothing, 50), quantile(nothing, 99))]
                rows.append(["  a word to an idle kernel meanwhile", str(len(nothing)), *told, "", ""])
            rows.append([name, str(len(times)), f"{min(times):.1f}", f"{p50:.1f}", f"{p99:.1f}", f"{peer:.1f}", f"{peer / p50:.1f}"])
    print_table(["click to close", "n", "least, ms", "p50", "p99", "interrupt button, p50", "ratio"], rows)
    print(f"bar: p50 at most {P50:.0f} ms, p99 at most {P99:.0f} ms: {'met' if not missed else 'MISSED by ' + '; '.join(missed)}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
