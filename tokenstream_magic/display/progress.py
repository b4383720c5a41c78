"""How far a job of many runs is: in a notebook page a live line with Stop, in a terminal a bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from tokenstream_magic.display import views

SHOWN_SECONDS = 0.2


@dataclass
class Counts:
    """Runs: in all, done, failed or truncated, stopped; and how long it took so far, in seconds."""

    total: int
    done: int = 0
    errors: int = 0
    stopped: int = 0
    elapsed: float = 0.0

    def add(self, outcome: str, elapsed: float) -> None:
        """One more run ended."""
        self.done += 1
        self.errors += outcome in ("failed", "truncated")
        self.stopped += outcome == "stopped"
        self.elapsed = elapsed

    @property
    def left(self) -> float | None:
        """Seconds until the end, at the pace so far."""
        return self.elapsed / self.done * (self.total - self.done) if self.done else None

    @property
    def words(self) -> str:
        """One line for a reader."""
        parts = [f"{self.done} of {self.total} runs"]
        if self.errors:
            parts.append(f"{self.errors} {'error' if self.errors == 1 else 'errors'}")
        if self.stopped:
            parts.append(f"{self.stopped} stopped")
        if self.left is not None and self.done < self.total:
            parts.append(f"about {duration(self.left)} left")
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words: ``4 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress(Protocol):
    """Follows a job. ``open`` and ``settle`` are called on the cell's thread, ``show`` on the job's."""

    def open(self, job: Any, counts: Counts) -> None:
        """Puts it where the cell's output is."""

    def show(self, counts: Counts) -> None:
        """A run ended."""

    def stopping(self) -> None:
        """Stop was heard. Any thread."""

    def settle(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Leaves this output in its place."""

    def finish(self, words: str) -> None:
        """Leaves only a line, or nothing: the caller has the result."""


class Nothing:
    """Where nobody watches: one output at the end."""

    def open(self, job: Any, counts: Counts) -> None:
        """Nothing to open."""

    def show(self, counts: Counts) -> None:
        """Nothing to show."""

    def stopping(self) -> None:
        """Nothing to show."""

    def settle(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Publishes what stays."""
        from IPython.display import publish_display_data

        publish_display_data(dict(data), dict(metadata))

    def finish(self, words: str) -> None:
        """Nothing to leave."""


class Bar:
    """A bar on standard error, when that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def open(self, job: Any, counts: Counts) -> None:
        """Draws an empty bar."""
        from tqdm import tqdm

        self._bar = tqdm(total=counts.total, unit="run", leave=False, disable=None)

    def show(self, counts: Counts) -> None:
        """Moves on."""
        self._bar.set_postfix_str(" · ".join(counts.words.split(" · ")[1:]), refresh=False)
        self._bar.update(counts.done - self._bar.n)

    def stopping(self) -> None:
        """Nothing to show."""

    def settle(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Prints what stays."""
        self._bar.close()
        print(data["text/plain"], flush=True)

    def finish(self, words: str) -> None:
        """Takes the bar away."""
        self._bar.close()


class Throttled:
    """Tells the page some times a second, and always of the last run."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._shown = 0.0

    def open(self, job: Any, counts: Counts) -> None:
        """Opens the live view."""
        self._live.begin_with(job, counts.words)

    def show(self, counts: Counts) -> None:
        """A new line, unless the last is too young."""
        if counts.done == counts.total or monotonic() - self._shown >= SHOWN_SECONDS:
            self._shown = monotonic()
            self._live.say(counts.words)

    def stopping(self) -> None:
        """The page is told."""
        self._live.stopping()

    def settle(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """The live view becomes what stays."""
        self._live.leave(dict(data), dict(metadata))

    def finish(self, words: str) -> None:
        """The live view becomes this line."""
        self._live.leave({"text/plain": words}, {})


def choose() -> Progress:
    """The progress for whoever is watching this process now."""
    kind = views.front_end()
    if kind == "live":
        from tokenstream_magic.display.live_job import LiveJob

        return Throttled(LiveJob())
    return Nothing() if kind == "headless" else Bar()
