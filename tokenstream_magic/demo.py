"""The demonstration: the quickstart notebook, in JupyterLab or executed here with its answers printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
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
    before = signal.getsignal(signal.SIGINT)
    if callable(before):  # Ctrl-C is JupyterLab's, which asks whether it is meant: left alone it would go on behind the shell
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(command)
    finally:
        signal.signal(signal.SIGINT, before)


def execute(notebook: Path) -> int:
    """Executes the notebook without a page, prints every answer with its timings; 0 when the first is complete."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    interrupted = False

    class Client(NotebookClient):
        """An interrupt cancels it, and it cleans up: its own handler ends the kernel, and it fails in many words because that is gone."""

        async def async_start_new_kernel(self, **how: Any) -> None:
            """The first step behind the one that installs that handler."""
            task = asyncio.current_task()

            def struck() -> None:
                nonlocal interrupted
                interrupted = True
                assert task is not None
                task.cancel()

            with contextlib.suppress(RuntimeError):  # not on Windows, and not on another thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGINT, struck)
            await super().async_start_new_kernel(stderr=said, **how)

    document = nbformat.read(notebook, as_version=4)
    before = signal.getsignal(signal.SIGINT)
    said = tempfile.TemporaryFile()  # noqa: SIM115 - what the kernel says of its own, which is of interest when it dies of it
    try:
        Client(document, timeout=300, resources={"metadata": {"path": str(notebook.parent)}}).execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException:
        if interrupted:
            raise KeyboardInterrupt from None
        said.seek(0)
        print(said.read().decode(errors="replace"), file=sys.stderr)
        raise
    finally:
        said.close()
        if callable(before):  # the loop leaves Python's
            signal.signal(signal.SIGINT, before)
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
