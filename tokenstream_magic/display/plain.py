"""Plain mode: growing text and a Stop button for front ends without our extension, by their own means alone.

The output is updated with the text so far, as inert Markdown and as plain text; Stop is an ipywidgets button, which
every widget front end can draw; where its click would wait for the end of the cell, a line names the interrupt instead.
Whole texts are sent, so they are sent rarely: at first four times a second, then whenever a tenth more has come, and in
any case every two seconds. Our own MIME data stays in the output: should our page turn up after all, it goes on as the
live view.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from time import monotonic
from typing import Any

from tokenstream_magic import catalog
from tokenstream_magic.display.bundle import live
from tokenstream_magic.display.inert import for_markdown
from tokenstream_magic.redaction import Growing
from tokenstream_magic.run import Run

PATIENCE = 2.0
"""Seconds in which a page with our extension says hello."""

INSTEAD = "To stop the answer, interrupt the cell (■)."

_OFTEN, _SELDOM, _GROWN = 0.25, 2.0, 1.1


def is_certain() -> bool:
    """Whether this kernel's front end is one that never has our extension: VS Code, Colab."""
    from IPython import get_ipython

    shell = get_ipython()
    return "google.colab" in sys.modules or (shell is not None and "__vsc_ipynb_file__" in shell.user_ns)


def would_have_said_hello(waited: bool) -> bool:
    """Whether a page's hello can reach the kernel now: while a cell is awaited, on ipykernel 7 and newer."""
    return waited and _ipykernel() >= (7, 0)


def would_hear_a_click(waited: bool) -> bool:
    """Whether a widget's click reaches a running cell from a page that knows no subshells, as that of VS Code: ipykernel 7.4 and newer."""
    return waited and _ipykernel() >= (7, 4)


def _ipykernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version("ipykernel"))[:2]))


class Plain:
    """Follows one run on the cell's thread, where outputs belong to the cell. Does nothing while a page of ours is there."""

    def __init__(self, run: Run, handle: Any, model_id: str) -> None:
        self._run, self._handle, self._model_id = run, handle, model_id
        self._since = monotonic()
        self._certain = is_certain()
        self._heard = False
        self._button: Any = None
        self._place: Any = None
        self._shown_at = 0.0
        self._shown = 0
        self._safe = ""
        self._masked = Growing(catalog.redactor())

    def heard(self) -> None:
        """A page with our extension is there."""
        self._heard = True

    def tick(self, *, awaited: bool) -> None:
        """Shows what has come, if it is plain mode and time to. Called often."""
        now = monotonic()
        if self._heard:
            self._withdraw()
            return
        if not self._certain and (now - self._since < PATIENCE or not would_have_said_hello(awaited)):
            return
        if self._place is None:
            self._offer(awaited)
        text = self._run.transcript.text
        waited = now - self._shown_at
        if len(text) != self._shown and (waited >= _SELDOM or (waited >= _OFTEN and len(text) >= self._shown * _GROWN)):
            self._safe += self._masked.feed(text[self._shown :])
            self._shown, self._shown_at = len(text), now
            data = live(self._run.transcript, self._model_id, self._safe)
            self._handle.update({**data, "text/markdown": for_markdown(self._safe, is_output=True)}, raw=True)

    def end(self) -> None:
        """The run is over: nothing is left to stop."""
        self._withdraw()

    def _offer(self, awaited: bool) -> None:
        from IPython.display import display

        if self._certain and not would_hear_a_click(awaited):
            self._place = display({"text/plain": INSTEAD}, raw=True, display_id=True)
            return
        import ipywidgets

        self._button = ipywidgets.Button(description="Stop", icon="stop", tooltip=f"Stop the answer of {self._run.transcript.model}")
        self._button.on_click(lambda _: self._run.stop("button"))
        self._place = display(self._button, display_id=True)

    def _withdraw(self) -> None:
        if self._button is not None:
            self._button.close()
            self._button = None
        if self._place is not None:
            self._place.update({"text/plain": ""}, raw=True)
            self._place = None
