"""The live view of several runs: a column each, in one output that is settled when all are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from IPython.display import display

from tokenstream_magic.display.bundle import live_columns, problem, settled_columns
from tokenstream_magic.display.live import LiveView, on_stream_thread
from tokenstream_magic.display.masked import masked, unnamed
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run


class LiveColumns:
    """Several runs side by side in one output: a column a model, in the order of ``models``.

    ``sinks`` are views, one a column, to give to the runs (``api.start(..., view=columns.sinks[0])`` or as a sink of a
    Run). ``open`` publishes the output; a column whose run has not begun waits its turn. A Stop pressed before that
    ends the run as soon as it starts. ``settle`` leaves the transcripts.
    """

    def __init__(self, models: Sequence[str], hidden: bool = False) -> None:
        self.sinks: list[LiveColumn] = [LiveColumn(self, model, hidden) for model in models]
        self.is_over = False
        self._handle: Any = None
        self._bundle: dict[str, Any] | None = None

    def open(self, runs: Sequence[Run] = ()) -> None:
        """Publishes the output, once. ``runs`` that exist already are bound to the sinks in order."""
        for sink, run in zip(self.sinks, runs, strict=False):
            sink.open(run)
        if self._handle is None:
            columns = [sink.column() for sink in self.sinks]
            self._handle = display(live_columns(columns), raw=True, display_id=True)

    def settle(self, transcripts: Sequence[Transcript] | None = None) -> None:
        """Replaces the output by the transcripts: those of the columns, unless others are given."""
        self.is_over = True  # before the transcripts are read: what they learn later is told beside
        data, metadata = settled_columns(transcripts if transcripts is not None else [sink.transcript for sink in self.sinks])
        self._bundle = {"data": data, "metadata": metadata}
        if self._handle is not None:
            self._handle.update(data, metadata=metadata, raw=True)
        for sink in self.sinks:
            on_stream_thread(sink.settled)

    def bundle(self) -> dict[str, Any] | None:
        """The settled output, once there is one."""
        return self._bundle

    def output(self) -> dict[str, Any]:
        """The output as it is now."""
        return self._bundle or {"data": live_columns([sink.column() for sink in self.sinks]), "metadata": {}}


class LiveColumn(LiveView):
    """The view of one column."""

    def __init__(self, columns: LiveColumns, model: str, hidden: bool = False) -> None:
        super().__init__()
        self._hidden = hidden
        self._columns = columns
        self._status = "queued"
        self._meta = {"model": model}
        self.stopped = False

    @property
    def transcript(self) -> Transcript:
        """What the column shows; of a run that never began, one that was stopped."""
        if self._run is not None:
            return self._run.transcript
        return Transcript(model=str(self._meta["model"]), outcome="stopped", stop_cause="button" if self.stopped else "api")

    def attach(self, run: Run) -> None:
        """The same, under the column's own name where the model's is hidden."""
        name = self._meta["model"]
        super().attach(run)
        if self._hidden:
            self._meta["model"] = name

    def column(self) -> dict[str, Any]:
        """The column as the live output names it."""
        model = self._model or self.connect()
        return {"model_id": model.model_id, "stream_id": self._meta.get("stream_id", ""), "model": self._meta["model"]}

    def open(self, run: Run) -> None:
        """Binds the run; the output is there, or comes with :meth:`LiveColumns.open`."""
        self.attach(run)
        if self.stopped:
            run.stop("button")

    @property
    def _is_over(self) -> bool:
        return self._columns.is_over and super()._is_over

    def settle(self, run: Run) -> None:
        """All columns are settled together."""

    def bundle(self) -> dict[str, Any] | None:
        """The settled output of all columns."""
        return self._columns.bundle()

    def output(self) -> dict[str, Any]:
        """The output of all columns."""
        return self._columns.output()

    def begin(self, run: Run) -> None:
        """It is this column's turn."""
        if self._run is None:
            self.open(run)
        with self._lock:
            self._status = "starting"
        borne: dict[str, Any] = {name: self._meta[name] for name in ("timeout", "idle") if name in self._meta}
        self.tell({"op": "state", "state": "starting", "stream_id": run.id, **borne})

    def end(self, run: Run) -> None:
        """This one is over, and says why if something went wrong; the output is settled with the last."""
        wrong = problem(masked(run.transcript))
        told = {"problem": unnamed(wrong, run.transcript) if self._hidden else wrong} if wrong else {}
        with self._lock:
            self._status = run.transcript.outcome
            self._meta = {**self._meta, **told}
        self.tell({"op": "state", "state": run.transcript.outcome, **told})

    def settled(self) -> None:
        """The output is settled."""
        self._say_settled(self.transcript.outcome)

    def stop(self) -> None:
        """The page's Stop; of a run that has not begun it is remembered."""
        self.stopped = True
        if self._run is None:
            on_stream_thread(lambda: self.tell({"op": "stopping"}))
        super().stop()
