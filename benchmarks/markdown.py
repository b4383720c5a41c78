"""Main-thread work per frame while Markdown grows, in a real JupyterLab in headless Chromium.

Each text grows in 1,500 frames to its full length in our view, and in the same page JupyterLab's own Markdown renderer
draws it anew with every update, as ``update_display(Markdown(all))`` does; the peer is measured at its full length only,
a few times, for all of its frames would take hours. A frame's work is the script and the layout it asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import print_table, quantile
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from lab import CHROMIUM_ARGUMENTS, Lab, Page, chromium

FRAMES = 1500
BAR_MS = 4.0
MIME = "application/vnd.tokenstream.transcript+json"
WORDS = "the sea keeps a slow and patient time that no harbour clock has ever quite agreed with".split()

DRAW = """async ([mime, text, frames, peer]) => {
  const plugins = window.jupyterapp.pluginRegistry._plugins;
  const rendermime = plugins.get('@jupyterlab/rendermime-extension:plugin').service;
  const host = document.createElement('div');
  host.style.cssText = 'position:fixed;inset:40px;z-index:9;overflow:auto;background:var(--jp-layout-color1)';
  document.body.appendChild(host);
  const frame = () => new Promise(requestAnimationFrame);
  const draw = async (renderer, type, shown) => {
    const data = type === mime ? {status: 'live', model_id: 'none', model: 'bench', text: shown} : shown;
    const model = rendermime.createModel({data: {[type]: data}, trusted: true});
    const before = performance.now();
    await renderer.renderModel(model);
    void host.scrollHeight;
    (renderer.node.querySelector('.ts-Stream > .ts-Answer, .ts-Columns .ts-Answer') ?? renderer.node).scrollHeight;
    return performance.now() - before;
  };
  const ours = rendermime.createRenderer(mime);
  host.appendChild(ours.node);
  const work = [];
  let late = 0;
  const observer = new PerformanceObserver(list => { for (const task of list.getEntries()) late = Math.max(late, task.duration); });
  observer.observe({entryTypes: ['longtask']});
  for (let n = 1; n <= frames; n++) {
    await frame();
    work.push(await draw(ours, mime, text.slice(0, Math.ceil(text.length * n / frames))));
  }
  await frame();
  await frame();
  observer.disconnect();
  const answers = [...ours.node.querySelectorAll('.ts-Answer')].filter(node => !node.closest('[hidden], details'));
  const copy = answers[answers.length - 1].cloneNode(true);
  copy.querySelectorAll('.ts-CodeBar').forEach(node => node.remove());
  const shown = copy.textContent;
  ours.dispose();
  host.replaceChildren();
  const again = [];
  if (peer) {
    const theirs = rendermime.createRenderer('text/markdown');
    host.appendChild(theirs.node);
    for (let n = 0; n < peer; n++) {
      await frame();
      again.push(await draw(theirs, 'text/markdown', text.slice(0, text.length - peer + n)));
    }
    theirs.dispose();
  }
  host.remove();
  return {work, late, shown, again};
}"""


def prose() -> tuple[str, str]:
    """100,000 tokens of what models write: headings, emphasis, lists, code, tables."""
    pick = random.Random(7)
    text, shown = [], []
    count = 0
    while count < 100_000:
        words = [pick.choice(WORDS) for _ in range(60)]
        strong = " ".join(words[10:12])
        plain = " ".join(words)
        text.append(f"## Part {len(text)}\n\n{' '.join(words[:10])} **{strong}** {' '.join(words[12:])}.\n\n")
        shown.append(f"Part {len(text) - 1} {plain}.")
        text.append(f"- one *item*\n- {' '.join(words[:9])}\n\n```python\nfor n in range(3):\n    print('{words[0]}')\n```\n\n")
        shown.append(f"one item {' '.join(words[:9])} for n in range(3): print('{words[0]}')")
        text.append(f"| a | b |\n|---|--:|\n| {words[1]} | {words[2]} |\n\n")
        shown.append(f"a b {words[1]} {words[2]}")
        count += 150
    return "".join(text), " ".join(shown)


def same(text: str) -> tuple[str, str]:
    return text, text


def cases() -> dict[str, Callable[[], tuple[str, str]]]:
    """Texts, and what of them is shown."""
    line = "    total = total + values[index] * 3  # a line of code\n"
    row = "| cell {n} | words | 12.5 |\n"
    item = "- item {n} with a few words\n"
    depth = "".join("  " * level + "- x\n" for level in range(1500))
    return {
        "prose, 100k tokens": prose,
        "code, 1M characters": lambda: ("```python\n" + line * 18_200 + "```\n", line * 18_200),
        "one line, 500k characters": lambda: same("words without an end " * 24_000),
        "table, 5,000 rows": lambda: (
            "| a | b | c |\n|---|---|---|\n" + "".join(row.format(n=n) for n in range(5000)),
            "a b c " + "".join(row.format(n=n) for n in range(5000)).replace("|", " "),
        ),
        "list, 10,000 items": lambda: (
            "".join(item.format(n=n) for n in range(10_000)),
            "".join(item.format(n=n)[2:] for n in range(10_000)),
        ),
        "list, 1,500 deep": lambda: (depth, depth),
    }


def digest(text: str) -> str:
    return hashlib.sha256(re.sub(r"[\s-]+", "", text).encode()).hexdigest()


def measure(page: Any, text: str, peer: int) -> dict[str, Any]:
    """The work of each frame by the clock, and per frame by the processor time of the page's main thread, painting included."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        return next(
            float(metric["value"]) for metric in session.send("Performance.getMetrics")["metrics"] if metric["name"] == "TaskDuration"
        )

    before = spent()
    result: dict[str, Any] = page.evaluate(DRAW, [MIME, text, FRAMES, 0])
    result["processor"] = 1000 * (spent() - before) / FRAMES
    result["again"] = page.evaluate(DRAW, [MIME, text, 1, peer])["again"] if peer else []
    return result


def main() -> None:
    """Prints the figures of the named cases, or of all."""
    chosen = [name for name in cases() if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    root = Path(tempfile.mkdtemp())
    (root / "config").mkdir()
    (root / "config" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    lab = Lab(root)
    rows, missed = [], []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
            lab.write("empty.ipynb", ["1"])
            for name in chosen:
                text, shown = cases()[name]()
                page = browser.new_page(viewport={"width": 1100, "height": 900})
                page.set_default_timeout(600_000)
                Page(page, lab).open("empty.ipynb", kernel=False)
                # the deep list takes the tab of JupyterLab's own renderer with it
                result = measure(page, text, 0 if "deep" in name else 3)
                p50, p99 = (quantile(result["work"], percent) for percent in (50, 99))
                peer = statistics.median(result["again"]) if result["again"] else None
                first, last = (statistics.median(part) for part in (result["work"][10:160], result["work"][-150:]))
                equal = digest(result["shown"]) == digest(shown)
                if p99 > BAR_MS or not equal:
                    missed.append(name)
                rows.append(
                    [
                        name,
                        *(f"{value:.2f}" for value in (p50, p99, max(result["work"]), result["processor"])),
                        f"{last / first:.1f}",
                        f"{result['late']:.0f}",
                        f"{peer:.0f}" if peer else "-",
                        f"{peer / p99:.0f}" if peer else "-",
                        "equal" if equal else "DIFFERS",
                    ]
                )
                page.close()
            browser.close()
    finally:
        lab.close()
    header = [
        "work per frame, ms",
        "p50",
        "p99",
        "max",
        "processor, mean",
        "end / start",
        "longest task",
        "Markdown anew",
        "ratio to p99",
        "text",
    ]
    print_table(header, rows)
    print(f"load average while measured: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"bar: p99 at most {BAR_MS:.0f} ms and the text equal: {'met' if not missed else 'MISSED by ' + '; '.join(missed)}")


if __name__ == "__main__":
    main()
