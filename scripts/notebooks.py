"""Executes the example notebooks in place, so that their saved outputs are those of the code beside them.

``python scripts/notebooks.py [NAME ...]``: the named notebooks, or all. Each has a new database and settings of its own, no
keys and no configuration, so that a reader's machine is not in what is saved; what tells of this machine is refused.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def main(names: list[str]) -> None:
    """Executes the named notebooks, or all."""
    found = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"There is no notebook {unknown[0]}. There are: {', '.join(found)}.")
    for name in names or found:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as private:
            try:
                notebook = executed(found[name], private)
            except CellExecutionError as error:
                sys.exit(f"{name}: {error.ename}: {error.evalue}\n\n{error}"[:4000])
            told = traces(notebook, private)
        if told:
            sys.exit("\n".join([f"{name}: its outputs tell of this machine:", *told]))
        nbformat.write(notebook, found[name])
        print(f"{name}: {time.monotonic() - began:.0f} s, {found[name].stat().st_size / 1024:.0f} KiB", flush=True)


def executed(path: Path, private: str) -> Any:
    """The notebook with the outputs of this run, in an environment of its own below ``private``."""
    notebook = nbformat.read(path, as_version=4)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    environment |= {
        "TOKENSTREAM_DATABASE": f"{private}/transcripts.db",
        "TOKENSTREAM_CONFIG": f"{private}/tokenstream.toml",
        "IPYTHONDIR": private,
    }
    client = NotebookClient(
        notebook, timeout=600, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute(env=environment)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def traces(notebook: Any, private: str) -> list[str]:
    """What the outputs tell of the machine they were made on: its paths, names and ports, with what stands around them."""
    names = {private, str(NOTEBOOKS.parent), str(Path.home()), sys.prefix, tempfile.gettempdir(), socket.gethostname(), getpass.getuser()}
    known = "|".join(re.escape(name) for name in names if len(name) > 1 and name != "localhost")
    tells = re.compile(rf"(?<![\w/-])(?:{known})(?![\w-])|(?:127\.0\.0\.1|localhost|tcp://[\w.]+):\d+")
    outputs = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    outputs = re.sub(r"[A-Za-z0-9+/]{200,}", "", outputs)  # pictures
    return [outputs[max(0, found.start() - 60) : found.end() + 20] for found in tells.finditer(outputs)]


if __name__ == "__main__":
    main(sys.argv[1:])
