"""Fold: events into a Transcript.

Text is kept in pieces and joined when asked for, so a stream of n tokens costs n, not n squared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from tokenstream_magic.errors import one_line, redact
from tokenstream_magic.plain import plain, plain_text
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.timeline import CHANNELS
from tokenstream_magic.wire.events import (
    Annotation,
    Event,
    Finish,
    KeepAlive,
    Logprobs,
    Reasoning,
    Refusal,
    Served,
    ServerTiming,
    SurrogateJoiner,
    Terminator,
    Text,
    Token,
    ToolCall,
    Unknown,
    Usage as UsageEvent,
    Verdict,
)
from tokenstream_magic.wire.think import ThinkTags

_CHANNEL = {Text: 0, Reasoning: 1, Refusal: 2, ToolCall: 3}

UNKNOWN_NAMES = 50
SERVER_TEXT = 500
MOST_ANNOTATIONS = 1000

Arrived = tuple[str, str, int]
"""Channel, text and choice of a piece of content."""


@dataclass(slots=True)
class _Call:
    """A tool call as it grows."""

    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


class Fold:
    """Builds one transcript from the events of its run."""

    def __init__(self, transcript: Transcript, think_tags: str | None = None) -> None:
        """``think_tags``: None leaves tags in the text, ``tagged`` takes what is between them as reasoning, ``open`` also from the start."""
        self.transcript = transcript
        self._think_tags = think_tags
        self._thinking: dict[int, ThinkTags] = {}
        self._annotations: dict[int, dict[tuple[object, ...], Annotation]] = {}
        self._tokens: dict[int, list[Token]] = {}
        transcript.growing = self.text
        self.pieces = 0
        self._texts: dict[tuple[int, int], list[str]] = {}
        self._joiners: dict[tuple[int, int], SurrogateJoiner] = {}
        self._calls: dict[int, list[_Call]] = {}
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
        if channel == 0 and self._think_tags is not None:
            thinking = self._thinking.get(choice)
            if thinking is None:
                thinking = self._thinking[choice] = ThinkTags(inside=self._think_tags == "open")
            for is_reasoning, part in thinking.feed(text):
                yield from self._add(int(is_reasoning), choice, part, at, read)
        else:
            yield from self._add(channel, choice, text, at, read)

    def _add(self, channel: int, choice: int, text: str, at: int, read: int) -> Iterator[Arrived]:
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
        if isinstance(event, Logprobs):
            self._tokens.setdefault(event.choice, []).extend(event.tokens)
        elif isinstance(event, Annotation):
            told = self._annotations.setdefault(event.choice, {})
            key = (event.kind, event.url, event.title, event.quote, event.start, event.end)
            if len(told) < MOST_ANNOTATIONS:  # servers name a source again with the whole text at the end
                told.setdefault(key, event)
        elif isinstance(event, Served):
            if transcript.resolved_model and event.model and event.model != transcript.resolved_model and self.pieces:
                transcript.diagnostics.append(
                    one_line(f"the model changed from {transcript.resolved_model} to {event.model}")[:SERVER_TEXT]
                )
            transcript.resolved_model = event.model or transcript.resolved_model
            transcript.system_fingerprint = event.system_fingerprint or transcript.system_fingerprint
            transcript.request_id = transcript.request_id or event.response_id
        elif isinstance(event, UsageEvent):
            timeline.usage = at
            transcript.usage = merge_usage(transcript.usage, event)
        elif isinstance(event, ServerTiming):
            self._server.update(event.figures)
        elif isinstance(event, Finish):
            # some servers say STOP with every chunk: the last reason is the one that holds
            timeline.finished = at
            self._finish[event.choice] = event.reason
        elif isinstance(event, Terminator):
            timeline.finished = timeline.finished or at
            timeline.ended = timeline.ended or at
        elif isinstance(event, KeepAlive):
            timeline.alive(at)
        elif isinstance(event, Unknown):
            name = event.name if event.name in self._unknown or len(self._unknown) < UNKNOWN_NAMES else "others"
            self._unknown[name] = self._unknown.get(name, 0) + 1

    def text(self, channel: str = "text", choice: int = 0) -> str:
        """What has arrived on a channel so far. Safe from any thread."""
        return "".join(self._texts.get((choice, CHANNELS.index(channel)), ()))

    def calls(self, choice: int = 0) -> Iterator[tuple[str | None, list[str]]]:
        """The tool calls of a choice so far: the name, and the pieces of the arguments, of each. On the stream thread."""
        return ((call.name, call.arguments) for call in self._calls.get(choice, ()))

    def rest(self) -> Iterator[Arrived]:
        """What was held back for a tag or a character that never came whole."""
        for choice, thinking in self._thinking.items():
            for is_reasoning, part in thinking.rest():
                channel = int(is_reasoning)
                self._texts.setdefault((choice, channel), []).append(part)
                yield CHANNELS[channel], part, choice
        for (choice, channel), joiner in self._joiners.items():
            text = joiner.end()
            if text:
                self._texts[choice, channel].append(text)
                yield CHANNELS[channel], text, choice

    def settle(self, verdict: Verdict, stop: tuple[str, int] | None, secrets: Sequence[str] = ()) -> None:
        """Writes the outcome, the choices and the figures. ``stop`` is the cause and the ns of a stop, if that ended it.

        What a server says about itself is made plain data here, and ``secrets`` in it are masked before it is cut.
        """

        def clean(text: str | None) -> str | None:
            return None if text is None else redact(plain_text(text), secrets)[:SERVER_TEXT]

        transcript = self.transcript
        if stop is not None:
            transcript.stop_cause, transcript.timeline.stop_requested = stop
        for name in ("resolved_model", "system_fingerprint", "request_id"):
            setattr(transcript, name, clean(getattr(transcript, name)))
        transcript.choices, transcript.growing = self._choices(clean), None
        note = verdict.note
        if verdict.failure is not None:
            failure = asdict(verdict.failure)
            transcript.error = {
                name: clean(failure[name]) if isinstance(failure[name], str) else plain(failure[name])
                for name in ("type", "status", "code", "message")
            }
            note = "" if note == verdict.failure.message else note
        notes = [note] if note else []
        notes += [f"{count} x unknown: {name}" for name, count in self._unknown.items()]
        transcript.diagnostics += [clean(text) or "" for text in notes]
        usage = transcript.usage
        server = json.loads(redact(json.dumps(plain(self._server)), secrets))
        transcript.timing = measure(transcript.timeline, usage.output_tokens, usage.reasoning_tokens, server)
        transcript.outcome = verdict.outcome

    def _call(self, event: ToolCall) -> str:
        calls = self._calls.setdefault(event.choice, [])
        while len(calls) <= event.call:
            calls.append(_Call())
        call = calls[event.call]
        call.id = call.id or event.id
        call.name = call.name or event.name
        call.arguments.append(event.arguments)
        return event.arguments

    def _source(self, annotation: Annotation) -> dict[str, object]:
        about = asdict(annotation)
        del about["choice"]
        return {name: plain_text(value) if isinstance(value, str) else value for name, value in about.items()}

    def _choices(self, clean: Callable[[str | None], str | None]) -> list[Choice]:
        indexes = {0} | {choice for choice, _ in self._texts} | set(self._finish)
        return [
            Choice(
                index,
                self.text("text", index),
                self.text("reasoning", index),
                self.text("refusal", index),
                [
                    {"id": clean(call.id), "name": clean(call.name), "arguments": plain_text("".join(call.arguments))}
                    for call in self._calls.get(index, ())
                ],
                clean(self._finish.get(index)),
                [self._source(annotation) for annotation in self._annotations.get(index, {}).values()],
                [
                    {"token": plain_text(t.token), "logprob": t.logprob, "alternatives": [[plain_text(a), p] for a, p in t.alternatives]}
                    for t in self._tokens.get(index, ())
                ],
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
