"""The quickstart notebook in a real JupyterLab with the real local model: stream, Stop, save, reopen."""

from __future__ import annotations

import json
import shutil

import pytest
from harness import MIME
from lab import Lab, Page
from support import REPOSITORY

pytestmark = pytest.mark.timeout(300)


def code_cells(notebook: dict) -> dict[str, int]:
    """The index of each cell by its first line."""
    return {"".join(cell["source"]).split("\n")[0]: index for index, cell in enumerate(notebook["cells"])}


def test_the_quickstart_streams_stops_and_is_there_again_when_reopened(lab: Lab, page: Page) -> None:
    path = lab.notebooks / "quickstart.ipynb"
    shutil.copyfile(REPOSITORY / "notebooks" / "quickstart.ipynb", path)
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace(" --token-limit 40", " --max-tokens 3000")
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    path.write_text(json.dumps(notebook))
    where = code_cells(notebook)
    sky = where["%%stream local --temperature 0 --seed 1"]
    story = where["%%stream local --temperature 0 --seed 1 --max-tokens 3000"]
    page.open("quickstart.ipynb")
    page.run_done(where["%load_ext tokenstream_magic"])

    page.run(sky)
    lengths = watch(page, sky)
    assert len(lengths) >= 5, lengths
    page.wait_state(sky, "complete")
    page.wait_done(sky)
    assert page.text(sky).startswith("The sky")
    assert page.stream(sky).get_by_role("button", name="Stop").count() == 0

    page.run(story)
    page.wait_state(story, "streaming")
    grown = watch(page, story, steps=5)
    assert len(grown) >= 5
    page.stream(story).get_by_role("button", name="Stop").click()
    page.wait_state(story, "stopped", timeout=5000)
    page.wait_done(story)
    partial = page.text(story)
    # how far it came before the press is the machine's matter: every length seen was text that stayed
    assert len(partial) >= grown[0]
    assert partial[:20] == "The story of a lighthouse"[: len(partial)][:20]
    assert "stopped by you" in page.stream(story).inner_text()

    after = story + 2
    page.run_done(after)
    assert "stopped because of button" in page.cell(after).inner_text()
    page.save()

    saved = json.loads(path.read_text())["cells"][story]["outputs"]
    (output,) = saved
    assert output["data"][MIME]["text"] == partial
    assert output["data"][MIME]["outcome"] == "stopped"
    assert output["metadata"]["tokenstream"]["timing"]["stop_latency_ms"] > 0
    assert "application/vnd.jupyter.widget-view+json" not in output["data"]

    page.open("quickstart.ipynb")
    page.wait_state(story, "stopped")
    assert page.text(story) == partial
    assert page.stream(sky).get_attribute("data-state") == "complete"


def watch(page: Page, cell: int, steps: int = 10_000) -> list[int]:
    """The different lengths the answer had before it was settled, as the page drew them."""
    return page.page.evaluate(
        """([index, steps]) => new Promise(done => {
            const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[index];
            const lengths = [];
            const look = () => {
                const view = cell.querySelector('.ts-Stream');
                const state = view && view.dataset.state;
                const length = view ? view.querySelector(':scope > .ts-Answer').textContent.length : 0;
                if (state === 'streaming' && length && length !== lengths.at(-1)) lengths.push(length);
                if (lengths.length >= steps || ['complete', 'stopped', 'failed', 'truncated'].includes(state)) done(lengths);
                else requestAnimationFrame(look);
            };
            look();
        })""",
        [cell, steps],
    )
