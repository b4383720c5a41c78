"""Fold: events into a Transcript.

Text is kept in pieces and joined when asked for, so a stream of n tokens costs n, not n squared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.timeline import CHANNELS
from tokenstream_magic.wire.events import (
    Event,
    Finish,
    KeepAlive,
    Reasoning,
    Refusal,
    Served,
    ServerTiming,
    SurrogateJoiner,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage as UsageEvent,
    Verdict,
)

_CHANNEL = {Text: 0, Reasoning: 1, Refusal: 2, ToolCall: 3}

Arrived = tuple[str, str, int]
"""Channel, text and choice of a piece of content."""


class Fold:
    """Builds one transcript from the events of its run."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.pieces = 0
        self._texts: dict[tuple[int, int], list[str]] = {}
        self._joiners: dict[tuple[int, int], SurrogateJoiner] = {}
        self._calls: dict[int, list[dict[str, str | None]]] = {}
        self._finish: dict[int, str] = {}
        self._server: dict[str, object] = {}
        self._unknown: dict[str, int] = {}

    def content(self, event: Event, at: int, read: int) -> Iterator[Arrived]:
        """Takes a content event that arrived at ``at`` (ns) in read number ``read``; yields what can be shown of it."""
        channel, choice = _CHANNEL[type(event)], event.choice  # type: ignore[union-attr]
        if isinstance(event, ToolCall):
            text = self._call(event)
        else:
            text = event.text  # type: ignore[union-attr]
        self.pieces += 1
        key = (choice, channel)
        joiner = self._joiners.get(key)
        if joiner is None:
            joiner = self._joiners[key] = SurrogateJoiner()
            self._texts[key] = []
        text = joiner.feed(text)
        self.transcript.timeline.add(at, channel, len(text), read, choice)
        if text:
            self._texts[key].append(text)
            yield CHANNELS[channel], text, choice

    def fact(self, event: Event, at: int) -> None:
        """Takes an event that carries no content."""
        transcript, timeline = self.transcript, self.transcript.timeline
        if isinstance(event, Served):
            transcript.resolved_model = event.model or transcript.resolved_model
            transcript.system_fingerprint = event.system_fingerprint or transcript.system_fingerprint
            transcript.request_id = transcript.request_id or event.response_id
        elif isinstance(event, UsageEvent):
            timeline.usage = at
            transcript.usage = merge_usage(transcript.usage, event)
        elif isinstance(event, ServerTiming):
            self._server.update(event.figures)
        elif isinstance(event, Finish):
            timeline.finished = timeline.finished or at
            self._finish.setdefault(event.choice, event.reason)
        elif isinstance(event, Terminator):
            timeline.finished = timeline.finished or at
            timeline.ended = timeline.ended or at
        elif isinstance(event, KeepAlive):
            timeline.keep_alives += 1
        elif isinstance(event, Unknown):
            self._unknown[event.name] = self._unknown.get(event.name, 0) + 1

    def text(self, channel: str = "text", choice: int = 0) -> str:
        """What has arrived on a channel so far. Safe from any thread."""
        return "".join(self._texts.get((choice, CHANNELS.index(channel)), ()))

    def rest(self) -> Iterator[Arrived]:
        """What was held back for a character that never came whole."""
        for (choice, channel), joiner in self._joiners.items():
            text = joiner.end()
            if text:
                self._texts[choice, channel].append(text)
                yield CHANNELS[channel], text, choice

    def settle(self, verdict: Verdict, note: str, stop: tuple[str, int] | None) -> None:
        """Writes the outcome, the choices and the figures. ``stop`` is the cause and the ns of a stop, if that ended it."""
        transcript = self.transcript
        if stop is not None:
            transcript.stop_cause, transcript.timeline.stop_requested = stop
        transcript.choices = self._choices()
        if verdict.failure is not None:
            failure = asdict(verdict.failure)
            transcript.error = {name: failure[name] for name in ("type", "status", "code", "message")}
        if note and (verdict.failure is None or note != verdict.failure.message):
            transcript.diagnostics.append(note)
        transcript.diagnostics += [f"{count} x unknown: {name}" for name, count in self._unknown.items()]
        usage = transcript.usage
        transcript.timing = measure(transcript.timeline, usage.output_tokens, usage.reasoning_tokens, self._server)
        transcript.outcome = verdict.outcome

    def _call(self, event: ToolCall) -> str:
        calls = self._calls.setdefault(event.choice, [])
        while len(calls) <= event.call:
            calls.append({"id": None, "name": None, "arguments": ""})
        call = calls[event.call]
        call["id"] = call["id"] or event.id
        call["name"] = call["name"] or event.name
        call["arguments"] = (call["arguments"] or "") + event.arguments
        return event.arguments

    def _choices(self) -> list[Choice]:
        indexes = {0} | {choice for choice, _ in self._texts} | set(self._finish)
        return [
            Choice(
                index,
                self.text("text", index),
                self.text("reasoning", index),
                self.text("refusal", index),
                list(self._calls.get(index, ())),
                self._finish.get(index),
            )
            for index in sorted(indexes)
        ]


def merge_usage(before: Usage, event: UsageEvent) -> Usage:
    """Usage is cumulative: what is reported later replaces what came before, field by field."""
    return Usage(
        event.input_tokens if event.input_tokens is not None else before.input_tokens,
        event.output_tokens if event.output_tokens is not None else before.output_tokens,
        event.reasoning_tokens if event.reasoning_tokens is not None else before.reasoning_tokens,
        event.cached_input_tokens if event.cached_input_tokens is not None else before.cached_input_tokens,
        "reported",
    )
