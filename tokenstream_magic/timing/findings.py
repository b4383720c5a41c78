"""What a detector says, and what it is shown of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from tokenstream_magic.timing.delivery import Delivery, delivery
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.reading import Signals, Usual, signals
from tokenstream_magic.timing.shown import Shown
from tokenstream_magic.timing.timeline import Displayed, Stamp, Timeline

DOCUMENT = "docs/diagnosis.md"
UNTIMED = "The record has no times."
EMPTY = "No text came."

Verdict = Literal["found", "clear", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One detector's verdict on one run.

    ``found``: the fault is there; ``clear``: it is not; ``unknown``: this run cannot tell, ``summary`` says why. ``evidence``
    are the figures the verdict rests on, with their unit in the name, ``threshold`` what they were held against; ``advice``
    and ``link`` say what to do.
    """

    name: str
    verdict: Verdict
    summary: str
    evidence: dict[str, float | str | None] = field(default_factory=dict)
    threshold: str = ""
    advice: str = ""

    @property
    def link(self) -> str:
        """Where the fault, its signs and its remedies are described."""
        return f"{DOCUMENT}#{self.name.replace('_', '-')}"

    def as_dict(self) -> dict[str, Any]:
        """All of it by name, the link included."""
        return {**asdict(self), "link": self.link}


class Counts(Protocol):
    """The token counts of a run."""

    @property
    def output_tokens(self) -> int | None:
        """Tokens of the answer, hidden reasoning included."""

    @property
    def reasoning_tokens(self) -> int | None:
        """Those of them that were reasoning."""


class Recorded(Protocol):
    """What a diagnosis needs of a run: a Transcript has it all."""

    @property
    def protocol(self) -> str:
        """The wire protocol."""

    @property
    def timeline(self) -> Timeline:
        """The stamps."""

    @property
    def timing(self) -> Timing:
        """The figures."""

    @property
    def usage(self) -> Counts:
        """The token counts."""

    @property
    def outcome(self) -> str:
        """How it ended."""

    @property
    def stop_cause(self) -> str | None:
        """What ended it early."""

    @property
    def error(self) -> Mapping[str, Any] | None:
        """What went wrong: ``type``, ``status``, ``code``, ``message``."""

    @property
    def diagnostics(self) -> Sequence[str]:
        """Notes about the stream."""

    @property
    def finish_reason(self) -> str | None:
        """Why the model says it ended."""

    @property
    def reasoning(self) -> str:
        """What the model thought aloud."""

    @property
    def tool_calls(self) -> Sequence[Mapping[str, Any]]:
        """The tools it called."""


@dataclass
class Case:
    """A run, and what several detectors want to know of it. ``shown`` is what a display measured that the record does not hold."""

    run: Recorded
    shown: Shown | None = None
    usual: Usual | None = None

    @cached_property
    def signals(self) -> Signals:
        """What streaming did for the reader."""
        usage = self.run.usage
        stopped = self.run.outcome == "stopped"
        return signals(self.run.timeline, usage.output_tokens, usage.reasoning_tokens, stopped=stopped, usual=self.usual)

    @cached_property
    def stamps(self) -> list[Stamp]:
        """Every content event."""
        return list(self.run.timeline)

    @cached_property
    def delivery(self) -> Delivery:
        """In what portions the answer came."""
        return delivery(self.run.timeline)

    @cached_property
    def displayed(self) -> Displayed | None:
        """How far the display was behind, if one said so."""
        return self.run.timeline.displayed if self.shown is None else self.shown.displayed()

    @property
    def has_times(self) -> bool:
        """Whether there is a clock behind the record: a captured body has none."""
        return self.run.timeline.requested is not None

    @property
    def error_type(self) -> str:
        """The machine-readable name of what went wrong, in harmless characters; empty when nothing did."""
        return word((self.run.error or {}).get("type"))

    @cached_property
    def ended_after(self) -> float | None:
        """Seconds from the request to the end: when Stop was asked for, else when the body ended or the connection closed."""
        timeline = self.run.timeline
        ends = [at for at in (timeline.stop_requested, timeline.ended, timeline.closed) if at is not None]
        return (ends[0] - timeline.origin) / 1e9 if ends and self.has_times else None

    def noted(self, pattern: str) -> re.Match[str] | None:
        """The first note about the stream that matches."""
        return next((match for note in self.run.diagnostics if isinstance(note, str) and (match := re.search(pattern, note))), None)


def word(value: Any) -> str:
    """A name a server sent, so cut down that it can stand in any text: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", value)[:40].strip("-") if isinstance(value, str) else ""


def seconds(value: float) -> str:
    """A duration in words."""
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.1f} s"
