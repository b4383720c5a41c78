"""Executes the example notebooks in place, so that their saved outputs are those of the code beside them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main(names: list[str]) -> None:
    """Executes the named notebooks, or all."""
    with tempfile.TemporaryDirectory() as private:
        os.environ["TOKENSTREAM_DATABASE"] = f"{private}/transcripts.db"
        os.environ["IPYTHONDIR"] = private
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            if names and path.stem not in names:
                continue
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
            notebook.metadata["language_info"] = {"name": "python"}
            nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
