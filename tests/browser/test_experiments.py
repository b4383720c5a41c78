"""A sweep and a comparison in a real JupyterLab: progress and Stop while they run, table and picture when the notebook is opened again."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from lab import Lab, Page

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)


def test_a_sweep_is_watched_stopped_and_saved(page: Page, lab: Lab, server: MockServer, tmp_path) -> None:
    ask = f"--base-url {server.base_url} --protocol openai-chat"
    many = ",".join(map(str, range(60)))  # whenever the page is seen there are some left to stop
    cells = [
        "%load_ext tokenstream_magic",
        f"%%stream story --sweep x={many} --token-limit 20 {ask}\n{{x}}",
        f"%%stream length,logprobs --sweep temperature=0,1 -r 3 {ask}\nhi",
        f"%%stream length,hello --blind {ask}\nhi",
        "%stream vote A",
    ]
    lab.write("sweep.ipynb", cells)
    page.open("sweep.ipynb").run_done(0)
    page.run(1)
    region = page.cell(1).get_by_role("region", name=re.compile("sweep"))
    region.get_by_text(re.compile(r"(?<!\d)(?:[2-9]|\d\d) of 60 runs.*about \d+ s left")).wait_for(timeout=30_000)
    region.get_by_role("button", name="Stop", exact=True).click()
    page.cell(1).get_by_text(re.compile(r"of 60 runs.*\d stopped.*ended early")).wait_for(timeout=10_000)
    page.run_done(2, timeout=60_000)
    page.cell(2).locator("table").wait_for(timeout=60_000)
    page.cell(2).locator("img").wait_for()
    page.run_done(3, timeout=60_000)
    assert "127.0.0.1" not in page.cell(3).locator(".jp-OutputArea").inner_text()
    page.run_done(4)
    page.cell(3).get_by_text(re.compile("127.0.0.1/hello")).first.wait_for()
    page.save()
    page.open("sweep.ipynb", kernel=False)
    image = page.cell(2).locator("img")
    image.wait_for()
    assert image.evaluate("one => one.complete && one.naturalWidth > 300")
    assert page.cell(2).locator("table tr").count() == 5
    saved = json.loads((lab.notebooks / "sweep.ipynb").read_text())
    assert [len(cell["outputs"]) for cell in saved["cells"][1:4]] == [1, 1, 2]  # the blind one also says how to vote


def test_a_column_that_failed_says_why_while_another_goes_on(page: Page, lab: Lab, server: MockServer) -> None:
    ask = f"--base-url {server.base_url} --protocol openai-chat --max-retries 0"
    lab.write("failing.ipynb", ["%load_ext tokenstream_magic", f"%%stream unauthorized,endless -j 2 {ask}\nhi"])
    page.open("failing.ipynb").run_done(0)
    page.run(1)
    for _ in range(2):
        failed, going = (page.cell(1).get_by_role("region", name=re.compile(name)) for name in ("unauthorized", "endless"))
        failed.get_by_text(re.compile("Incorrect API key provided.*--api-key-env")).wait_for(timeout=20_000)
        going.and_(page.page.locator('[data-state="streaming"]')).wait_for(timeout=20_000)
        page.save()
        page.page.reload()  # and a page that comes only now is told too
    other = page.page.context.new_page()
    shutil.copy(lab.notebooks / "failing.ipynb", lab.notebooks / "copied.ipynb")
    try:  # and who opens the file without its kernel
        kept = Page(other, lab).open("copied.ipynb", kernel=False).cell(1).get_by_role("region", name=re.compile("unauthorized"))
        kept.get_by_text(re.compile("Incorrect API key provided.*--api-key-env")).wait_for(timeout=20_000)
        assert kept.get_attribute("data-state") == "failed"
    finally:
        other.close()
    page.cell(1).get_by_role("button", name="Stop all").click(timeout=30_000)
    page.cell(1).get_by_text("2 models").wait_for(timeout=20_000)
    assert "Incorrect API key" in failed.inner_text()
