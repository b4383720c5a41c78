"""Which view a run gets: live in a notebook page, one settled output where nobody watches, text in a terminal."""

from __future__ import annotations

import contextlib
import queue
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tokenstream_magic import catalog
from tokenstream_magic.display.bundle import settled, settled_columns
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.display.notes import notes
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Growing
from tokenstream_magic.run import Run, Sink


class View(Sink, Protocol):
    """A sink that shows a run. ``open`` and ``settle`` are called on the thread of the cell, the rest while it runs."""

    def open(self, run: Run) -> None:
        """Puts the view where the cell's output is."""

    def wait(self, run: Run) -> None:
        """Blocks the cell's thread until the run has ended, doing there what must not be done on the stream thread."""

    def tick(self, *, awaited: bool) -> None:
        """Called on the cell's thread now and then while the run goes on; ``awaited``: the kernel is free meanwhile."""

    def settle(self, run: Run) -> None:
        """Leaves the settled bundle in its place."""


class Quiet:
    """Shows nothing while it runs."""

    def open(self, run: Run) -> None:
        """Nothing to open."""

    def wait(self, run: Run) -> None:
        """Nothing to do meanwhile."""
        run.wait()

    def tick(self, *, awaited: bool) -> None:
        """Nothing to look after."""

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
    """Growing text; the answer to standard output, what happens around it to standard error.

    The stream thread only hands pieces over; writing, which a full pipe or a held terminal can block, is done by
    whoever waits.
    """

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[str | Mapping[str, Any] | None] = queue.SimpleQueue()
        self._column_open = False
        self._bar: Any = None
        self._masked: Growing | None = None

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """The progress of a fetch."""
        if state == "fetching":
            self._pieces.put(detail)

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """Text as it comes; reasoning and other choices are left to the transcript."""
        if channel in ("text", "refusal") and choice == 0:
            if self._masked is None:
                self._masked = Growing(catalog.redactor())
            self._pieces.put(self._masked.feed(text))

    def end(self, run: Run) -> None:
        """Nothing more will come."""
        if self._masked is not None:
            self._pieces.put(self._masked.end())
        self._pieces.put(None)

    def wait(self, run: Run) -> None:
        """Writes until the end. A reader who went away ends the run: nobody would see the rest."""
        while (piece := self._pieces.get()) is not None:
            try:
                self._write(piece)
            except BrokenPipeError:
                run.stop("api")
        run.wait()

    def settle(self, run: Run) -> None:
        """Writes what came after the wait, or before there was one; ends the line and says how it went."""
        with contextlib.suppress(queue.Empty, BrokenPipeError):
            while True:
                piece = self._pieces.get_nowait()
                if piece is not None:
                    self._write(piece)
        if self._bar is not None:
            self._bar.close()
        if self._column_open:
            print(flush=True)
        print("\n".join([summary(run.transcript), *notes(run.transcript)]), file=sys.stderr, flush=True)

    def _write(self, piece: str | Mapping[str, Any]) -> None:
        if not isinstance(piece, str):
            self._progress(piece)
            return
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not piece:
            return
        self._column_open = not piece.endswith("\n")
        sys.stdout.write(for_terminal(piece))
        sys.stdout.flush()

    def _progress(self, detail: Mapping[str, Any]) -> None:
        from tqdm.auto import tqdm

        if self._bar is None:
            self._bar = tqdm(total=detail["total"], unit="B", unit_scale=True, desc=str(detail["what"]), leave=False)
        self._bar.update(detail["done"] - self._bar.n)


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
    if transcript.replayed is not None:
        parts.append(f"replay of {transcript.replayed['of']}")
    return f"[{transcript.model}: {' · '.join(parts)}]"


def show(transcript: Transcript) -> None:
    """Publishes a finished transcript as an output of the running cell, or prints it where there is no notebook."""
    if front_end() in ("none", "terminal"):
        print(transcript._repr_mimebundle_()[0]["text/plain"])
        return
    from IPython.display import publish_display_data

    data, metadata = settled(transcript)
    publish_display_data(data, metadata)


def show_list(found: Sequence[Transcript], text: str) -> None:
    """Publishes a list of transcripts as a table with ``text`` beside it, or prints the text where there is no notebook."""
    if not found or front_end() in ("none", "terminal"):
        print(text)
        return
    from IPython.display import publish_display_data

    from tokenstream_magic.display import listing

    publish_display_data(*listing.bundle(found, text))


def print_text(text: str) -> None:
    """Prints a list or a message of ours."""
    print(text)


class Columns(Protocol):
    """Several runs in one output, side by side. ``sinks`` are views, one a column, for the runs."""

    @property
    def sinks(self) -> Sequence[View]:
        """One view a column, in the order of the models."""

    def open(self, runs: Sequence[Run] = ()) -> None:
        """Puts the columns where the cell's output is; ``runs`` that exist already are bound to the sinks in order."""

    def settle(self, transcripts: Sequence[Transcript] | None = None) -> None:
        """Leaves the settled bundle in its place: the columns' transcripts, unless others are given."""


class SettledColumns:
    """One output at the end, where nobody watches; text in a terminal."""

    def __init__(self, models: Sequence[str]) -> None:
        self.sinks = [_Kept(model) for model in models]

    def open(self, runs: Sequence[Run] = ()) -> None:
        """Nothing to open."""
        for sink, run in zip(self.sinks, runs, strict=False):
            sink.open(run)

    def settle(self, transcripts: Sequence[Transcript] | None = None) -> None:
        """Publishes the bundle, or prints its plain form."""
        shown = transcripts if transcripts is not None else [sink.transcript for sink in self.sinks]
        data, metadata = settled_columns(shown)
        if front_end() in ("none", "terminal"):
            print(data["text/plain"], flush=True)
            for each in shown:
                for note in notes(each):
                    print(f"[{one_line(for_terminal(each.model))}] {note}", file=sys.stderr, flush=True)
            return
        from IPython.display import publish_display_data

        publish_display_data(data, metadata)


class _Kept(Quiet):
    """Remembers its run."""

    def __init__(self, model: str) -> None:
        self.transcript = Transcript(model=model, outcome="stopped", stop_cause="api")

    def open(self, run: Run) -> None:
        """The run of this column."""
        self.transcript = run.transcript

    def begin(self, run: Run) -> None:
        """The same, for a run that was given this sink only."""
        self.transcript = run.transcript


def columns(models: Sequence[str], hidden: bool = False) -> Columns:
    """The view of several runs for whoever is watching: ``models`` name the columns.

    ``hidden``: they are called by these names whatever their runs say, until ``settle`` is given other transcripts.

    ::

        shown = views.columns(["local", "openai/some-model"])
        shown.open()                       # one output, each column "waiting its turn"
        for sink, model in zip(shown.sinks, models):
            run = api.start(prompt, model, view=sink)
            ...                            # one after the other, or all at once
        shown.settle()                     # the transcripts, side by side
    """
    if front_end() == "live":
        from tokenstream_magic.display.live_columns import LiveColumns

        return LiveColumns(models, hidden)
    return SettledColumns(models)


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
    running = shell()
    if running is None:
        return "none"
    kernel = getattr(running, "kernel", None)
    if kernel is None:
        return "terminal"
    parent = kernel.get_parent() or {}
    # nbval, nbclient and papermill cannot ask their user anything and say so; a page can
    return "headless" if parent.get("content", {}).get("allow_stdin") is False else "live"


def where() -> dict[str, Any]:
    """The notebook, cell and execution count of the running cell, as far as the front end tells."""
    running = shell()
    if running is None:
        return {}
    import os

    kernel = getattr(running, "kernel", None)
    parent = (kernel.get_parent() or {}) if kernel is not None else {}
    return {
        "notebook": os.environ.get("JPY_SESSION_NAME"),
        "cell_id": (parent.get("metadata") or {}).get("cellId"),
        # some versions of IPython count a cell when it begins, others when it has ended: the display hook knows which
        "execution_count": running.displayhook.prompt_count,
    }


def shell() -> Any:
    """IPython's shell; None where there is none."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
