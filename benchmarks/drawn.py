"""What it costs a page to tell the kernel when it drew what.

The module that the view uses runs in a page of Chromium for some seconds, with a message and a frame at every chance the display
gives: the most it ever has to do. What its own calls take is added up and held against the time that passes. Best of three.

Bar: less than 1 % of the page's time and one report a second.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from peers import print_table
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from lab import CHROMIUM_ARGUMENTS, chromium

FRAMES, ROUNDS = 240, 3
SHARE, REPORTS = 1.0, 1.0
MEASURE = """async ([code, frames]) => {
  const { Drawn } = await import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
  let reports = 0, bytes = 0, took = 0;
  const timed = call => (...given) => { const began = performance.now(); call(...given); took += performance.now() - began; };
  const drawn = new Drawn(report => { bytes += JSON.stringify(report).length; reports++; });
  for (const name of ['received', 'drew', 'keep', 'tell']) drawn[name] = timed(drawn[name].bind(drawn));
  const began = performance.now();
  for (let seq = 1; seq <= frames; seq++) {
    const now = await new Promise(requestAnimationFrame);
    drawn.received(seq, now);
    drawn.drew(seq, 1, false);
  }
  return { took, passed: performance.now() - began, reports, bytes };
}"""


def main() -> None:
    """Prints the share of the page's time, the reports and their bytes."""
    code = (ROOT / "labextension" / "lib" / "drawn.js").read_text()
    found: list[dict[str, Any]]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
        page = browser.new_page()
        page.goto("about:blank")
        found = [page.evaluate(MEASURE, [code, FRAMES]) for _ in range(ROUNDS)]
        browser.close()
    best = min(found, key=lambda one: one["took"] / one["passed"])
    seconds = best["passed"] / 1000
    share, reports = 100 * best["took"] / best["passed"], best["reports"] / seconds
    rate, size = f"{FRAMES / seconds:.0f}", f"{best['bytes'] / FRAMES:.0f}"
    print_table(["frames/s", "% of the page's time", "reports/s", "bytes a frame"], [[rate, f"{share:.2f}", f"{reports:.2f}", size]])
    met = share < SHARE and reports <= REPORTS
    print(f"bar: less than {SHARE:.0f} % of the page's time, one report a second: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
