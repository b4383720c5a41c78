"""The example notebooks as they are saved: executed, settled, and telling nothing of the machine they were made on.

What their cells print is compared by nbval (``make test``); here is what a reader without a kernel gets.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import REPOSITORY

from tokenstream_magic.display.bundle import MIME
from tokenstream_magic.mock import SCRIPTS, load

sys.path.append(str(REPOSITORY / "scripts"))

from notebooks import NOTEBOOKS, traces

FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
EXPECTED = {
    "quickstart", "streaming-explained", "compare-models", "sweep-temperature", "is-streaming-helping", "stop-and-waste", "scale-out",
}  # fmt: skip
WIDGET = "application/vnd.jupyter.widget-view+json"


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_they_are_all_there() -> None:
    assert {path.stem for path in FILES} >= EXPECTED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_saved_notebook_was_executed_in_order_and_holds_settled_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or WIDGET in output.get("data", {})]
    answers = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
    assert {answer["status"] for answer in answers} <= {"settled"}
    for cell in code(notebook):
        if cell.source.startswith("%%stream") and "--sweep" not in cell.source:
            assert len(cell.outputs) == 1, cell.source


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_saved_notebook_tells_nothing_of_its_machine(path: Path) -> None:
    assert traces(nbformat.read(path, as_version=4), "/nowhere-else") == []


def test_a_trace_is_found_when_there_is_one() -> None:
    for told in (str(Path.home() / "x.toml"), "http://127.0.0.1:41234/v1", f"{NOTEBOOKS.parent}/notebooks"):
        cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", text=f"see {told} there")])
        assert traces(nbformat.v4.new_notebook(cells=[cell]), "/nowhere-else"), told


def test_every_scripted_model_that_a_notebook_names_is_there_and_every_script_is_used() -> None:
    own = set(load(NOTEBOOKS / "scripts.toml"))
    sources = "\n".join(cell.source for path in FILES for cell in code(nbformat.read(path, as_version=4)))
    unused = [name for name in own if f"mock/{name}" not in sources and f'"{name}"' not in sources]
    assert unused == []
    assert set(re.findall(r"mock/([\w-]+)", sources)) <= own | set(SCRIPTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_between_the_notebooks_lead_somewhere(path: Path) -> None:
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (NOTEBOOKS / link).exists(), link
