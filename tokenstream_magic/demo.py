"""The demonstration: the quickstart notebook, in JupyterLab or executed here with its answers printed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tokenstream_magic.display.bundle import MIME

_SHOWN = ("ttft_ms", "e2e_ms", "tpot_ms", "icl_p50_ms", "output_tokens_per_second", "decode_tokens_per_second", "chunks", "stop_latency_ms")


def quickstart() -> Path:
    """The quickstart notebook: the repository's, or a copy of the installed one in the current directory."""
    package = Path(__file__).resolve().parent
    in_repository = package.parent / "notebooks" / "quickstart.ipynb"
    if in_repository.is_file():
        return in_repository
    copy = Path("quickstart.ipynb").resolve()
    if not copy.exists():
        shutil.copyfile(package / "quickstart.ipynb", copy)
    return copy


def open_lab(notebook: Path) -> int:
    """Opens JupyterLab on the notebook and returns when it ends."""
    command = [sys.executable, "-m", "jupyterlab", str(notebook)]
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")
    return subprocess.call(command)


def execute(notebook: Path) -> int:
    """Executes the notebook without a page, prints every answer with its timings; 0 when the first is complete."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    document = nbformat.read(notebook, as_version=4)
    try:
        NotebookClient(document, timeout=300, resources={"metadata": {"path": str(notebook.parent)}}).execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    answers = [output for cell in document.cells for output in cell.get("outputs", ()) if MIME in output.get("data", {})]
    for output in answers:
        _print(output)
    if not answers:
        print("The notebook streamed nothing.", file=sys.stderr)
        return 1
    return 0 if answers[0]["data"][MIME]["outcome"] == "complete" else 1


def _print(output: Any) -> None:
    said = output["data"][MIME]
    timing = output.get("metadata", {}).get("tokenstream", {}).get("timing", {})
    print(f"--- {said['model']}: {said['outcome']}" + (f" ({said['stop_cause']})" if said.get("stop_cause") else ""))
    print(output["data"]["text/plain"])
    figures = [f"{name} {timing[name]}" for name in _SHOWN if timing.get(name) is not None]
    print("    " + ", ".join(figures) + "\n" if figures else "")
