"""Timing in a real JupyterLab: the strip, the figures, the tint, replay from the file, choices and columns."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from harness import MIME
from lab import Lab, Page

from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

LOAD = "%load_ext tokenstream_magic"
COMPARE = """
from tokenstream_magic import api
from tokenstream_magic.display import views

async def compare(names, base, together):
    shown = views.columns(names)
    shown.open()
    runs = []
    for name, sink in zip(names, shown.sinks):
        runs.append(api.start("Tell me a story", name, view=sink, base_url=base))
        if not together:
            await api.finished(runs[-1])
    for run in runs:
        await api.finished(run)
    shown.settle()
"""
SECONDS = {"ttfb_ms", "ttft_ms", "ttfa_ms", "e2e_ms", "tpot_ms", "icl_p50_ms", "icl_p95_ms", "icl_max_ms", "stop_latency_ms"}


@pytest.fixture
def notebook(lab: Lab, server: MockServer, request: pytest.FixtureRequest) -> str:
    server.scripts["paused"] = Script(words("First some words, 🙂 then"), first=0.1, gap=0.02, reasoning=words("Let me think."))
    server.scripts["two"] = Script(words("One answer of two."), choices=(words("Another answer of two."),), gap=0.02)
    server.scripts["likely"] = Script(words("Very likely words."), logprobs=(-0.1, -2.0), top_logprobs=2, gap=0.02)
    name = re.sub(r"\W+", "-", request.node.name)[:60] + ".ipynb"
    flags = {"likely": "--logprobs 2"}
    cells = [f"%%stream {s} --base-url {server.base_url} {flags.get(s, '')}\nHi" for s in ("paused", "two", "likely", "endless")]
    columns = [f"await compare({names}, {server.base_url!r}, {together})" for names, together in COLUMNS]
    lab.write(name, [LOAD, *cells, COMPARE, *columns])
    return name


COLUMNS = [(["story", "hello"], False), (["endless", "story"], True)]


def saved(lab: Lab, notebook: str, cell: int) -> tuple[dict[str, Any], dict[str, Any]]:
    (output,) = json.loads((lab.notebooks / notebook).read_text())["cells"][cell]["outputs"]
    return output["data"][MIME], output["metadata"]["tokenstream"]


def in_words(name: str, value: Any) -> str:
    """A figure as the panel is meant to say it, worked out here a second time."""
    if value is None:
        return "—unknown"
    if name in SECONDS:
        if value < 9.95:
            return f"{value:.1f} ms"
        return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.2f} s"
    if name.endswith("per_second"):
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{100 * value:.1f} %" if name == "stall_ratio" else str(value)


def close(said: str, meant: str) -> bool:
    """Equal, or a half rounded the other way."""
    if said == meant:
        return True
    (a, *unit), (b, *other) = said.split(" "), meant.split(" ")
    return unit == other and abs(float(a) - float(b)) <= 10 ** -len(a.partition(".")[2]) * 1.01


def test_the_figures_are_the_transcripts_and_the_tint_is_its_text(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(1)
    page.wait_state(1, "complete")
    page.save()
    data, about = saved(lab, notebook, 1)
    view = page.stream(1)
    label = view.get_by_role("img").get_attribute("aria-label")
    assert re.fullmatch(r"Timeline: first text after \d+ ms, no stalls, longest gap \d+ ms, last text after \d+ ms", label)
    assert view.get_by_text("Thought for").count() == 1
    summary = view.locator(".ts-Panel > summary")
    summary.focus()
    page.page.keyboard.press("Enter")
    for name, value in about["timing"].items():
        if name != "server":
            row = view.locator(f'[data-figure="{name}"]')
            assert close(row.locator("dd").text_content(), in_words(name, value)), name
            assert len(row.get_attribute("title")) > 20
    assert view.locator('[data-figure="id"] dd').inner_text() == about["id"]
    view.get_by_label("Tint the text by the gap before it").check()
    pieces = view.locator(".ts-Tinted .ts-Piece")
    assert "".join(pieces.all_text_contents()) == data["text"]
    runs = about["timeline"]["flag_runs"]
    assert pieces.count() == sum(count for flags, count in zip(runs[::2], runs[1::2], strict=True) if flags & 7 == 0)
    pieces.nth(2).hover()
    page.page.wait_for_function("() => /^gap \\d/.test(document.querySelector('.ts-TintReadout').textContent)")
    view.get_by_label("Tint the text by the gap before it").uncheck()
    assert page.text(1).strip() == data["text"]


def test_how_likely_a_token_was_is_told_where_the_reader_points(page: Page, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(3)
    page.wait_state(3, "complete")
    view = page.stream(3)
    view.locator(".ts-Panel > summary").click()
    view.get_by_label("Tint the text by the gap before it").check()
    view.locator(".ts-Piece[data-piece='1']").hover()
    likely = "“ likely” logprob -2.000 (13.5 %), “"
    page.page.wait_for_function("words => document.querySelector('.ts-TintReadout').textContent.includes(words)", arg=likely)


def test_a_saved_stream_plays_again_without_a_kernel(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(1)
    page.wait_state(1, "complete")
    whole = page.text(1)
    page.save()
    page.open(notebook, kernel=False)
    page.wait_state(1, "complete")
    view = page.stream(1)
    view.get_by_role("button", name="Replay").evaluate("""button => {
      button.click();
      button.closest('.ts-Stream').querySelector('.ts-Play[aria-label="Pause"]').click();  // it plays for a quarter of a second
    }""")
    bar = view.get_by_role("group", name="Replay")
    bar.get_by_role("button", name="Play", exact=True).wait_for()
    position = bar.get_by_role("slider", name="Position")
    position.press("Home")
    position.press("PageUp")
    half = "document.querySelector('.ts-Stream > .ts-Answer').textContent.trim()"
    for _ in range(8):
        position.press("PageUp")
    shown = page.page.evaluate(f"() => {half}")
    assert 0 < len(shown) < len(whole)
    assert whole.startswith(shown)
    assert view.locator('.ts-Head[data-kind="replay"]').is_visible()
    bar.get_by_role("button", name="16×").click()
    bar.get_by_role("button", name="Play", exact=True).click()
    page.wait_state(1, "complete")
    assert page.text(1) == whole
    assert not bar.is_visible()


def test_two_choices_stand_side_by_side(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(2)
    page.wait_state(2, "complete")
    columns = page.stream(2).locator(".ts-Choice")
    assert [text.split("\n")[0] for text in columns.all_inner_texts()] == ["choice 1 · finish reason stop", "choice 2 · finish reason stop"]
    assert [text.strip() for text in columns.locator(".ts-Answer:visible").all_inner_texts()] == [
        "One answer of two.",
        "Another answer of two.",
    ]
    left, right = (columns.nth(n).bounding_box() for n in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"] + 1


def test_models_side_by_side_take_their_turns_and_share_one_axis(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(5)
    page.run(6)
    cell = page.cell(6)
    cell.locator('.ts-Stream[data-state="streaming"]').first.wait_for()
    assert cell.locator(".ts-Words").nth(1).inner_text() == "waiting its turn"
    assert cell.get_by_role("button", name="Stop", exact=True).count() == 2
    assert cell.get_by_role("button", name="Stop all").count() == 1
    page.wait_done(6)
    cell.locator(".ts-Stream[data-state='complete']").nth(1).wait_for()
    page.save()
    data, about = saved(lab, notebook, 6)
    assert [column["text"] for column in data["columns"]] == [
        text.strip() for text in cell.locator(".ts-Stream > .ts-Answer").all_inner_texts()
    ]
    assert len(about["columns"]) == 2
    axes = cell.locator(".ts-Timeline > svg").evaluate_all("nodes => nodes.map(node => node.getAttribute('viewBox'))")
    assert axes[0] == axes[1]
    page.open(notebook, kernel=False)
    cell.locator(".ts-Stream[data-state='complete']").nth(1).wait_for()
    cell.get_by_role("button", name="Replay").click()
    cell.locator(".ts-Stream[data-state='streaming']").first.wait_for()
    cell.get_by_role("button", name="End replay").click()
    assert cell.locator(".ts-Stream[data-state='complete']").count() == 2


def test_one_button_stops_all_columns(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run_done(5)
    count = len(server.exchanges)
    page.run(7)
    cell = page.cell(7)
    cell.locator('.ts-Stream[data-state="streaming"]').nth(1).wait_for()
    cell.get_by_role("button", name="Stop all").click()
    cell.locator('.ts-Stream[data-state="stopped"]').nth(1).wait_for()
    assert all(exchange.closed.wait(3) for exchange in server.exchanges[count : count + 2])
    page.wait_done(7)
    assert cell.get_by_role("button", name=re.compile("Stop")).count() == 0


def test_a_page_that_comes_back_settles_the_columns(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(5)
    page.run(7)
    cell = page.cell(7)
    cell.locator('.ts-Stream[data-state="streaming"]').nth(1).wait_for()
    page.save()
    page.open(notebook, kernel=False)
    cell.locator('.ts-Stream[data-state="streaming"]').first.wait_for(timeout=20_000)
    cell.get_by_role("button", name="Stop all").click()
    cell.locator('.ts-Stream[data-state="stopped"]').first.wait_for(timeout=10_000)
    cell.get_by_role("button", name="Replay").wait_for(timeout=10_000)
    page.save()
    data, _ = saved(lab, notebook, 7)
    assert data["columns"][0]["outcome"] == "stopped"
    assert len(data["columns"][0]["text"]) > 20
