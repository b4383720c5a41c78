"""The live line of a job: a live view whose text is how far the job is, with the Stop of every other stream."""

from __future__ import annotations

from typing import Any

from IPython.display import display

from tokenstream_magic.display.bundle import live
from tokenstream_magic.display.live import LiveView
from tokenstream_magic.transport import loop


class LiveJob(LiveView):
    """Shows a job, which can be stopped like a run. Its text is replaced and never grows, so it is sent as snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self._line = ""
        self._left: dict[str, Any] | None = None

    def begin_with(self, job: Any, line: str) -> None:
        """Publishes the output with its first line."""
        self._line, self._status = line, "streaming"
        self.attach(job)
        self._handle = display(live(job.transcript, self.connect().model_id, line), raw=True, display_id=True)

    def say(self, line: str) -> None:
        """Another line in the place of the last."""
        with self._lock:
            self._line = line
            self._seq += 1
        self._soon(lambda: self._tell(lambda: {"op": "snapshot", **self._state()}))

    def stopping(self) -> None:
        """Stop was heard."""
        with self._lock:
            self._status = "stopping"
        self._soon(lambda: self.tell({"op": "stopping"}))

    def leave(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """The output that stays; a page that was reloaded asks for it."""
        self._left = {"data": data, "metadata": metadata}
        if self._handle is not None:
            self._handle.update(data, metadata=metadata, raw=True)
        assert self._run is not None
        self._soon(lambda: self.end(self._run))

    def bundle(self) -> dict[str, Any] | None:
        """What stays, once it is known."""
        return self._left

    def _state(self) -> dict[str, Any]:
        with self._lock:
            empty: dict[str, Any] = {"reasoning": "", "tool_calls": [], "choices": [], "spans": []}
            return {"text": self._line, **empty, "seq": self._seq, "status": self._status, "meta": dict(self._meta)}

    def _soon(self, call: Any) -> None:
        loop.get_loop().call_soon_threadsafe(call)
