"""Replay: a kept stream played again through the same sinks, without a network.

A :class:`Replay` is a Run whose events come from a transcript and not from a server: it is shown, stopped and awaited as
any other. Played to its end it leaves what the original left; its figures are the original's or, delivered another way
(``as_``), those that would have been, and never those of the playback. It says what it is a replay of and is not kept.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from time import monotonic_ns
from typing import Any

from tokenstream_magic.endpoint import Endpoint
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.run import Run, Sink
from tokenstream_magic.timing.counterfactual import Way, way
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.timeline import MOMENTS, Timeline
from tokenstream_magic.transport.seam import Read
from tokenstream_magic.transport.watch import Limits
from tokenstream_magic.wire.events import Event, Reasoning, Refusal, Text, ToolCall, Verdict
from tokenstream_magic.wire.protocols import PROTOCOLS

FASTEST = 1e6
AT_ONCE = 256  # pieces played without a pause before other streams get their turn

_TEXTUAL: dict[str, type[Text | Reasoning | Refusal]] = {"text": Text, "reasoning": Reasoning, "refusal": Refusal}
_AFTERWARDS = ("closed", "server_busy", "server_idle")  # no part of what is played
_INSTANT = ("instant", "instantly", "inf", "max")
_PLAYED = "id created_at notebook cell_id execution_count tags note parent_id conversation_id replayed growing timeline timing kept_wire wire_source".split()


@dataclass(frozen=True)
class Playback:
    """What to play and how: ``speed`` is a factor, infinite for at once; ``way`` another delivery, None for its own.

    ``another_prompt``: the cell it is played in asks something else than what was sent.
    """

    original: Transcript
    speed: float = 1.0
    way: Way | None = None
    another_prompt: bool = False

    @property
    def timeline(self) -> Timeline:
        """When everything is played, before ``speed``."""
        return self.original.timeline if self.way is None else self.way.of(self.original.timeline, self.original.usage.output_tokens)

    def about(self) -> dict[str, Any]:
        """What a replay says of itself."""
        speed = "instant" if math.isinf(self.speed) else self.speed
        about: dict[str, Any] = {"of": self.original.id, "speed": speed, **({"as": str(self.way)} if self.way else {})}
        return {**about, "note": "the prompt here is not the one that was sent"} if self.another_prompt else about


def playback(original: Transcript, speed: float | str = 1.0, as_: str | None = None, *, another_prompt: bool = False) -> Playback:
    """How to play a transcript: ``speed`` 2 is twice as fast, ``instant`` at once; ``as_`` another delivery. Raises BadRequest."""
    if original.outcome == "running":
        raise BadRequest(f"{original.id} is still streaming.", "Replay it when it has ended.")
    return Playback(original, speed_of(speed), None if as_ is None else way(as_), another_prompt)


def speed_of(said: float | str) -> float:
    """A speed: a number above 0, ``2x``, ``x2``, or ``instant``. Raises BadRequest."""
    text = str(said).strip().lower()
    if text in _INSTANT:
        return math.inf
    try:
        speed = float(text.removeprefix("x").removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not speed > 0 or math.isinf(speed):
        raise BadRequest(f"{one_line(said)!r} is no speed.", "Examples: --speed 2, --speed 0.5, --speed instant.")
    return min(speed, FASTEST)


class Replay(Run):
    """Plays a transcript. ``where`` are the fields of the cell it is played in."""

    def __init__(
        self, played: Playback, sinks: Sequence[Sink] = (), *, where: Mapping[str, Any] | None = None, limits: Limits | None = None
    ) -> None:
        original = played.original
        protocol = original.protocol if original.protocol in PROTOCOLS else "openai-chat"
        endpoint = Endpoint(original.endpoint or "replay", protocol=protocol)
        limits = Limits(None, None, limits.time, limits.tokens, 0) if limits is not None else Limits(None, None, retries=0)
        transcript = Transcript(
            parent_id=original.id, conversation_id=original.conversation_id or original.id, replayed=played.about(), **(where or {})
        )
        for name in _FACTS:
            setattr(transcript, name, copy.deepcopy(getattr(original, name)))
        super().__init__(Plan(endpoint, original.model, original.messages, original.options, limits), transcript, sinks)
        self.playback = played
        self._began_at = 0
        self._timeline = played.timeline
        self._played_out = False

    async def _stream(self) -> Verdict:
        """Every piece at its time. The stamps are those of the timeline, counted from now."""
        original, speed, timeline = self.playback.original, self.playback.speed, self._timeline
        self._began_at = self.transcript.timeline.requested = monotonic_ns()
        self.report("waiting", {"replay": original.id})
        done = 0
        for number, (offset, read, event) in enumerate(pieces(original, timeline)):
            await self._until(offset / speed, pause=number % AT_ONCE == AT_ONCE - 1)
            self.take([event], Read(b"", self._began_at + offset, read))
            done = offset
        ends = (getattr(timeline, name) for name in MOMENTS if name not in _AFTERWARDS)
        end = max((at - timeline.origin for at in ends if at is not None), default=0)
        await self._until(max(end, done) / speed, pause=False)
        for event in rest(original, timeline):
            self.take([event], Read(b"", self._began_at + done, timeline.reads))
        self._played_out = True
        return Verdict(original.outcome)

    async def _until(self, offset: float, *, pause: bool) -> None:
        """Sleeps until ``offset`` ns of the playback have passed."""
        left = self._began_at + offset - monotonic_ns()
        if left > 0:
            await asyncio.sleep(left / 1e9)
            self.check_stopped()
        elif pause:
            await asyncio.sleep(0)

    def _settle(self, verdict: Verdict) -> None:
        original, transcript = self.playback.original, self.transcript
        if not self._played_out:  # it was cut short itself: what was played is what there is
            if self._stop is not None:
                cause, at = self._stop
                passed = at - self._began_at
                self._stop = (cause, self._began_at + (0 if math.isinf(self.playback.speed) else round(passed * self.playback.speed)))
            self._reached()
            super()._settle(verdict)
            return
        for channel, text, choice in self.fold.rest():
            self._tell("content", channel, text, choice)
        for name in _OUTCOME:
            setattr(transcript, name, copy.deepcopy(getattr(original, name)))
        transcript.timeline, transcript.growing = self._timeline, None
        usage = original.usage
        transcript.timing = (
            copy.deepcopy(original.timing)
            if self.playback.way is None
            else measure(self._timeline, usage.output_tokens, usage.reasoning_tokens, dict(original.timing.server))
        )
        self._tell("end")
        self.future.set_result(transcript)

    def _reached(self) -> None:
        """The single stamps as far as the playback came."""
        timeline, mine = self._timeline, self.transcript.timeline
        last = mine.last or self._began_at
        for name in MOMENTS[1:]:
            at = getattr(timeline, name)
            if at is not None and self._began_at + at - timeline.origin <= last:
                setattr(mine, name, self._began_at + at - timeline.origin)
        mine.reads = mine.fresh_reads


_OUTCOME = ("choices", "outcome", "stop_cause", "error", "usage", "diagnostics")
_FACTS = [field.name for field in fields(Transcript) if field.name not in (*_PLAYED, *_OUTCOME)]


def pieces(original: Transcript, timeline: Timeline) -> Iterator[tuple[int, int, Event]]:
    """The content of a transcript in the pieces of a timeline: ns from the request, the read, and the event."""
    texts = _Texts(original)
    for stamp in timeline:
        for event in texts.take(stamp.choice, stamp.channel, stamp.characters):
            yield stamp.offset_ns, stamp.read, event


def rest(original: Transcript, timeline: Timeline) -> Iterator[Event]:
    """What of the content the timeline says nothing about."""
    texts = _Texts(original)
    for stamp in timeline:
        for _ in texts.take(stamp.choice, stamp.channel, stamp.characters):
            pass
    yield from texts.rest()


class _Texts:
    """The texts of a transcript, taken from the front."""

    def __init__(self, original: Transcript) -> None:
        self._choices: dict[int, Choice] = {choice.index: choice for choice in original.choices}
        self._taken: dict[tuple[int, str], int] = {}
        self._named: set[tuple[int, int]] = set()

    def take(self, index: int, channel: str, characters: int) -> Iterator[Event]:
        """The next ``characters`` on a channel of a choice; of tool calls one event a call."""
        choice = self._choices.get(index)
        start = self._taken.get((index, channel), 0)
        self._taken[index, channel] = start + characters
        if channel in _TEXTUAL:
            text = getattr(choice, channel)[start : start + characters] if choice is not None else ""
            yield _TEXTUAL[channel](text, index)
            return
        yield from self._calls(index, choice, start, start + characters)

    def _calls(self, index: int, choice: Choice | None, start: int, stop: int) -> Iterator[Event]:
        place, said = 0, False
        for number, call in enumerate(choice.tool_calls if choice is not None else ()):
            arguments = str(call.get("arguments") or "")
            part = arguments[max(0, start - place) : max(0, stop - place)]
            fresh = (index, number) not in self._named
            # a call opens with the piece that reaches it; the name comes before the arguments
            if part or (fresh and (place < stop or (place == stop and not said))):
                self._named.add((index, number))
                said = True
                yield ToolCall(number, call.get("id") if fresh else None, call.get("name") if fresh else None, part, index)
            place += len(arguments)
        if not said:
            yield ToolCall(0, None, None, "", index)

    def rest(self) -> Iterator[Event]:
        """What is left of every text."""
        for index, choice in self._choices.items():
            for channel, kind in _TEXTUAL.items():
                left = getattr(choice, channel)[self._taken.get((index, channel), 0) :]
                if left:
                    yield kind(left, index)
            size = sum(len(str(call.get("arguments") or "")) for call in choice.tool_calls)
            start = self._taken.get((index, "tool"), 0)
            if choice.tool_calls and (start < size or any((index, n) not in self._named for n in range(len(choice.tool_calls)))):
                yield from self._calls(index, choice, start, max(size, start))
