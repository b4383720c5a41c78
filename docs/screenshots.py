"""Takes the pictures of every state of the view, in light and dark: ``make screenshots``.

All go to ``.cache/screenshots`` to be looked at; the two that the README shows go to ``docs/images``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "browser")]

from lab import CHROMIUM_ARGUMENTS, Lab, Page, chromium
from playwright.sync_api import Playwright, sync_playwright

from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer

SHOTS = REPOSITORY / ".cache" / "screenshots"
IMAGES = REPOSITORY / "docs" / "images"
IN_README = {"streaming-light": "streaming.png", "stopped-dark": "stopped.png"}

SKY = "%%stream local --temperature 0 --seed 1\nWhy is the sky blue? Answer in three sentences."
STORY = "%%stream local --temperature 0 --seed 1 --max-tokens 2000\nTell me a very long story about a lighthouse keeper."


def main() -> None:
    """Takes all pictures."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, MockServer({"late": Script(words("Here it is."), first=60)}) as server:
        for theme in ("light", "dark"):
            take(playwright, server, theme)
    for name, image in IN_README.items():
        shutil.copyfile(SHOTS / f"{name}.png", IMAGES / image)
    print(f"{len(list(SHOTS.glob('*.png')))} pictures in {SHOTS}")


def take(playwright: Playwright, server: MockServer, theme: str) -> None:
    """Takes the pictures of one theme."""
    root = Path(tempfile.mkdtemp(prefix="screenshots-"))
    lab = Lab(root, {"TOKENSTREAM_DATABASE": str(root / "transcripts.db")}, dark=theme == "dark")
    away = [f"%%stream {name} --base-url {server.base_url}\nTell me a story." for name in ("late", "unauthorized", "cut")]
    lab.write("tour.ipynb", ["%load_ext tokenstream_magic", SKY, STORY, *away])
    browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
    opened = browser.new_page(viewport={"width": 900, "height": 760}, device_scale_factor=2)
    page = Page(opened, lab, single=True)

    def shot(name: str) -> None:
        opened.wait_for_timeout(400)
        opened.screenshot(path=SHOTS / f"{name}-{theme}.png")

    try:
        page.open("tour.ipynb").run_done(0)
        page.run(1)
        page.wait_state(1, "complete")
        page.wait_done(1)
        page.run(2)
        opened.wait_for_function("() => [...document.querySelectorAll('.ts-Stream > .ts-Answer')].at(-1).textContent.length > 700")
        shot("streaming")
        page.stream(2).get_by_role("button", name="Stop").hover()
        shot("hover")
        page.stream(2).get_by_role("button", name="Stop").click()
        page.wait_state(2, "stopped")
        opened.mouse.move(10, 400)
        shot("stopped")
        page.run(3)
        page.wait_state(3, "waiting")
        opened.wait_for_timeout(1200)
        shot("waiting")
        page.stream(3).get_by_role("button", name="Stop").click()
        page.wait_done(3)
        page.run_done(4)
        page.run_done(5)
        shot("failed")
        page.save()
        page.open("tour.ipynb", kernel=False)
        page.wait_state(2, "stopped")
        shot("reopened")
        opened.set_viewport_size({"width": 480, "height": 760})
        shot("narrow")
    finally:
        browser.close()
        lab.close()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
