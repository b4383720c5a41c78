"""The Transcript: what a run leaves behind, whatever its outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.wire.events import Outcome

if TYPE_CHECKING:
    from tokenstream_magic.timing.diagnosis import Diagnosis
    from tokenstream_magic.wire.kept import Wire

FORMATS = ("markdown", "text", "json", "code")

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """A ULID: 26 characters that sort by time (https://github.com/ulid/spec)."""
    return ulid(time.time_ns() // 1_000_000, os.urandom(10))


def ulid(milliseconds: int, entropy: bytes) -> str:
    """The ULID of a time since the epoch and ten bytes."""
    number = (max(0, milliseconds) & (1 << 48) - 1) << 80 | int.from_bytes(entropy, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(timezone.utc)


@dataclass
class Choice:
    """One of the answers when several were asked for (``n`` > 1)."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """The sources it points to: ``{kind, url, title, quote, start, end}`` each."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """How likely its tokens were: ``{token, logprob, alternatives: [[token, logprob], ...]}`` each."""


@dataclass
class Usage:
    """Token counts; ``source`` is ``reported`` by the server, ``counted`` by a tokenizer, or None when unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    source: str | None = None


@dataclass
class Transcript:
    """One run's saved record, with the fields of INTERFACE §4.

    ``outcome`` is ``complete``, ``stopped``, ``truncated`` or ``failed`` (``running`` only while live);
    ``stop_cause`` is ``button``, ``interrupt``, ``api``, ``limit:time``, ``limit:tokens``, ``crash`` or None;
    ``error`` is ``{type, status, code, message}`` or None; times in ``timing`` are ms, None when unknown.
    ``host`` is the machine it ran on when that was another one, ``clock_offset_ms`` how much that machine's wall clock was ahead.
    ``diagnostics`` are one-line notes about the stream, such as why it counts as truncated.
    """

    id: str = field(default_factory=new_id)
    created_at: datetime = field(default_factory=now)
    model: str = ""
    resolved_model: str | None = None
    endpoint: str = ""
    protocol: str = ""
    prompt: str = ""
    system: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    outcome: Outcome = "running"
    stop_cause: str | None = None
    error: dict[str, Any] | None = None
    usage: Usage = field(default_factory=Usage)
    timing: Timing = field(default_factory=Timing)
    timeline: Timeline = field(default_factory=Timeline, repr=False)
    diagnostics: list[str] = field(default_factory=list)
    conversation_id: str | None = None
    parent_id: str | None = None
    notebook: str | None = None
    cell_id: str | None = None
    execution_count: int | None = None
    tags: list[str] = field(default_factory=list)
    note: str | None = None
    request_id: str | None = None
    system_fingerprint: str | None = None
    package_version: str | None = None
    host: str | None = None
    clock_offset_ms: float | None = None
    format: str | None = field(default=None, repr=False, compare=False)
    """How the answer is drawn: ``markdown`` (None too), ``text``, ``json`` or ``code``. A wish about the view, not a fact: the store leaves it out."""
    replayed: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """Of a replay, which is not kept: ``of`` (the id), ``speed``, ``as`` (another delivery)."""
    growing: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    """While the outcome is ``running``: what has arrived so far on a channel."""

    kept_wire: Wire | None = field(default=None, repr=False, compare=False)
    """The wire of a run that was asked to keep it, keys masked; of a transcript from the store it is loaded by :attr:`wire`."""
    wire_source: Callable[[str], Wire | None] | None = field(default=None, repr=False, compare=False)
    """Where the wire is, for a transcript that came from the store without it."""

    presenter: ClassVar[Callable[[Transcript], tuple[dict[str, Any], dict[str, Any]]] | None] = None
    """Draws a transcript for a notebook; the display room sets it, so that a record needs to know no display."""

    is_drawn: ClassVar[Callable[[Transcript], bool] | None] = None
    """Whether the cell that asks for it as its value has it on show already; the display room sets it too."""

    def _of_first_choice(self, name: str, empty: Any) -> Any:
        if self.growing is not None and isinstance(empty, str):
            return self.growing(name)
        return getattr(self.choices[0], name) if self.choices else empty

    @property
    def wire(self) -> Wire | None:
        """The raw reads with their stamps and the headers, keys masked: of a run with ``--wire``, once it has ended. Raises StoreError."""
        if self.kept_wire is None and self.wire_source is not None:
            self.kept_wire = self.wire_source(self.id)
            self.wire_source = None
        return self.kept_wire

    @property
    def text(self) -> str:
        """The answer (of the first choice)."""
        return str(self._of_first_choice("text", ""))

    @property
    def reasoning(self) -> str:
        """What the model thought aloud (for the first choice)."""
        return str(self._of_first_choice("reasoning", ""))

    @property
    def refusal(self) -> str:
        """The model's refusal (of the first choice)."""
        return str(self._of_first_choice("refusal", ""))

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Tool calls of the first choice: ``{id, name, arguments}`` each, ``arguments`` as JSON text."""
        calls: list[dict[str, Any]] = self._of_first_choice("tool_calls", [])
        return calls

    @property
    def finish_reason(self) -> str | None:
        """Why the model says it ended (the first choice)."""
        reason: str | None = self._of_first_choice("finish_reason", None)
        return reason

    def plot(self, kind: str = "timeline", **how: Any) -> Any:
        """A picture (matplotlib): ``timeline``, ``reading`` (the text beside a reader) or ``gaps``. Raises BadRequest."""
        from importlib import import_module  # by name: a record knows no experiments, and nothing is drawn unless asked for

        return import_module("tokenstream_magic.experiments").drawn(self, kind, **how)

    def replay(self, speed: float | str = 1.0, as_: str | None = None) -> Transcript:
        """Plays it again, without a network, with its own timing, ``speed`` times as fast or at once (``"instant"``).

        ``as_`` is another delivery: ``buffered``, ``unstreamed``, ``smooth:TOKENS_PER_SECOND`` or ``delay:MS``. Shows itself and returns
        the transcript of the replay. Raises BadRequest.
        """
        from importlib import import_module

        played: Transcript = import_module("tokenstream_magic.api").stream("", replay=self, speed=speed, as_=as_)
        return played

    def rerun(self, model: str | None = None, **flags: Any) -> Transcript:
        """Sends it again, to another ``model`` or with other flags than before, and returns the new transcript. Raises BadRequest."""
        from importlib import import_module

        api, asking = import_module("tokenstream_magic.api"), import_module("tokenstream_magic.asking")
        answered: Transcript = api.answer(asking.again(self, model, **flags))
        return answered

    def export(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Writes it to a file, in the form its ending names: jsonl, json, csv, md, html, parquet, sse. Raises BadRequest."""
        from importlib import import_module

        written: Path = import_module("tokenstream_magic.exchange").export([self], path, force=force)
        return written

    @property
    def diagnosis(self) -> Diagnosis:
        """Whether streaming helped in this run, and what went wrong with it."""
        from tokenstream_magic.timing.diagnosis import diagnose  # nobody waits for it who does not ask

        return diagnose(self)

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"<Transcript {self.id} {self.model} {self.outcome}: {shown!r}>"

    def _ipython_display_(self) -> None:
        """Nothing, where the answer has just shown itself. IPython takes the error for: as ever, by ``_repr_mimebundle_``."""
        if Transcript.is_drawn is None or not Transcript.is_drawn(self):
            raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        if Transcript.presenter is None:
            return {"text/plain": repr(self)}
        return Transcript.presenter(self)
