"""Which view a run gets: live in a notebook page, one settled output where nobody watches, text in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tokenstream_magic.display.bundle import settled
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run, Sink


class View(Sink, Protocol):
    """A sink that shows a run. ``open`` and ``settle`` are called on the thread of the cell, the rest while it runs."""

    def open(self, run: Run) -> None:
        """Puts the view where the cell's output is."""

    def settle(self, run: Run) -> None:
        """Leaves the settled bundle in its place."""


class Quiet:
    """Shows nothing while it runs."""

    def open(self, run: Run) -> None:
        """Nothing to open."""

    def settle(self, run: Run) -> None:
        """Nothing to leave."""

    def begin(self, run: Run) -> None:
        """Nothing to show."""

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """Nothing to show."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """Nothing to show."""

    def end(self, run: Run) -> None:
        """Nothing to show."""


class Settled(Quiet):
    """One output at the end: for nbval, nbclient and papermill, which know no live view."""

    def settle(self, run: Run) -> None:
        """Publishes the settled bundle."""
        show(run.transcript)


class Terminal(Quiet):
    """Growing text; the answer to standard output, what happens around it to standard error."""

    def __init__(self, around: bool = True) -> None:
        self._around = around
        self._column_open = False
        self._bar: Any = None

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """A progress bar while the model is fetched."""
        if state == "fetching" and self._around:
            from tqdm.auto import tqdm

            if self._bar is None:
                self._bar = tqdm(total=detail["total"], unit="B", unit_scale=True, desc=str(detail.get("what", "fetching")), leave=False)
            self._bar.update(detail["done"] - self._bar.n)
        elif self._bar is not None:
            self._bar.close()
            self._bar = None

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """Text as it comes; reasoning and other choices are left to the transcript."""
        if channel in ("text", "refusal") and choice == 0:
            self._column_open = not text.endswith("\n")
            sys.stdout.write(for_terminal(text))
            sys.stdout.flush()

    def settle(self, run: Run) -> None:
        """Ends the line and says how it went."""
        if self._bar is not None:
            self._bar.close()
        if self._column_open:
            print(flush=True)
        if self._around:
            print(summary(run.transcript), file=sys.stderr, flush=True)


def summary(transcript: Transcript) -> str:
    """One line on a transcript: outcome, TTFT, tokens, rate, total."""
    from tokenstream_magic.display.bundle import in_words

    timing, tokens = transcript.timing, transcript.usage.output_tokens
    parts = [one_line(for_terminal(in_words(transcript) or transcript.outcome))]
    if timing.ttft_ms is not None:
        parts.append(f"first token {timing.ttft_ms:.0f} ms")
    if tokens is not None:
        parts.append(f"{tokens} tokens")
        if timing.decode_tokens_per_second is not None:
            parts.append(f"{timing.decode_tokens_per_second:.1f} tokens/s")
    elif timing.chunks:
        parts.append(f"{timing.chunks} chunks")
    if timing.e2e_ms is not None:
        parts.append(f"{timing.e2e_ms / 1000:.2f} s")
    return f"[{transcript.model}: {' · '.join(parts)}]"


def show(transcript: Transcript) -> None:
    """Publishes a finished transcript as an output of the running cell, or prints it where there is no notebook."""
    if front_end() in ("none", "terminal"):
        print(transcript._repr_mimebundle_()[0]["text/plain"])
        return
    from IPython.display import publish_display_data

    data, metadata = settled(transcript)
    publish_display_data(data, metadata)


def print_text(text: str) -> None:
    """Prints a list or a message of ours."""
    print(text)


def choose() -> View:
    """The view for whoever is watching this process now."""
    kind = front_end()
    if kind == "live":
        from tokenstream_magic.display.live import LiveView

        return LiveView()
    views: dict[str, Callable[[], View]] = {"headless": Settled, "terminal": Terminal, "none": Quiet}
    return views[kind]()


def front_end() -> str:
    """``live`` in a kernel with a page, ``headless`` in one without, ``terminal`` in IPython, ``none`` elsewhere."""
    shell = _shell()
    if shell is None:
        return "none"
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "terminal"
    parent = kernel.get_parent() or {}
    # nbval, nbclient and papermill cannot ask their user anything and say so; a page can
    return "headless" if parent.get("content", {}).get("allow_stdin") is False else "live"


def where() -> dict[str, Any]:
    """The notebook, cell and execution count of the running cell, as far as the front end tells."""
    shell = _shell()
    if shell is None:
        return {}
    import os

    kernel = getattr(shell, "kernel", None)
    parent = (kernel.get_parent() or {}) if kernel is not None else {}
    return {
        "notebook": os.environ.get("JPY_SESSION_NAME"),
        "cell_id": (parent.get("metadata") or {}).get("cellId"),
        "execution_count": shell.execution_count,
    }


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
