"""Every field of a transcript from elsewhere, checked: types, ranges, sizes, and the agreement of the timeline with the text."""
# ruff: noqa: D102 - what the methods do, the class says

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from itertools import accumulate
from typing import Any, NoReturn

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.plain import DEPTH, plain, plain_text
from tokenstream_magic.record import FORMATS, Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import Timing, measure
from tokenstream_magic.timing.timeline import CHANNELS, CHOICE_BITS, CHOICE_SHIFT, KEPT_ALIVE, LATER, MOMENTS, Displayed, Timeline

TEXT_LIMIT = 16 * 1024 * 1024
MOST_EVENTS = 2_000_000
MOST_CHOICES = 1024
MOST_INDEX = MOST_CHOICES * 1024
MOST_FLAGS = MOST_INDEX << 8 | 0xFF
MOST_LISTED = 10_000
MOST_COUNTED = 1 << 32
SHORT = 4096  # characters of a name
LARGEST = (1 << 53) - 1  # of whole numbers
LARGEST_NUMBER = 1e15
YEARS = (1970, 2200)  # a machine without a clock of its own begins in the first
LONGEST_NS = 30 * 86_400 * 10**9
SETTLED = ("complete", "stopped", "truncated", "failed")
CAUSES = ("button", "interrupt", "api", "limit:time", "limit:tokens", "crash")

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
DERIVED = ("text", "reasoning", "refusal", "finish_reason")
FIGURES = [f.name for f in fields(Timing) if f.name != "server"]
_WHOLE = ("chunks", "stalls")


class Unfit(BadRequest):
    """What is in the file is no transcript of ours."""


class Check:
    """Checks values one by one, and says where the first wrong one is. A method is a kind of value, and gives it as transcripts have it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def fail(self, problem: str, advice: str = "Nothing was imported.") -> NoReturn:
        raise Unfit(f"{self._where} {problem}.", advice)

    def depth(self, data: Any) -> None:
        level: list[Any] = [{name: value for name, value in data.items() if name != "timeline"}]  # whose columns are checked one by one
        for _ in range(DEPTH):
            level = [
                item for value in level for item in (value.values() if isinstance(value, dict) else value) if isinstance(item, (dict, list))
            ]
            if not level:
                return
        self.fail(f"is nested deeper than {DEPTH} levels")

    def transcript(self, data: Mapping[str, Any]) -> Transcript:
        known = {name: rule(self, name, data[name]) for name, rule in _RULES.items() if data.get(name) is not None}
        for name in ("id", "created_at", "outcome"):
            if name not in known:
                self.fail(f"has no {name}")
        transcript = Transcript(**{name: value for name, value in known.items() if name not in DERIVED})
        transcript.choices = self.choices(data, known)
        transcript.timeline = self.timeline(data.get("timeline"))
        self.agreement(transcript.timeline, transcript.choices)
        transcript.usage = self.usage(data.get("usage"))
        transcript.timing = self.timing(data.get("timing"), transcript.timeline, transcript.usage)
        return transcript

    def text(self, name: str, value: Any, limit: int = TEXT_LIMIT) -> str:
        if not isinstance(value, str):
            self.fail(f"has a {name} that is no text")
        if len(value) > limit:
            self.fail(f"has a {name} of more than {limit} characters")
        return plain_text(value)

    def mapping(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(f"has {name} that are no object")
        found: dict[str, Any] = plain(value)
        return found

    def whole(self, name: str, value: Any, most: int = LARGEST) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.fail(f"has a {name} that is no whole number from 0 to {most}")
        return value

    def number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            self.fail(f"has a {name} that is no number")
        return float(value)

    def listed(self, name: str, value: Any, most: int = MOST_LISTED) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            self.fail(f"has {name} that are no list of at most {most}")
        return value

    def one_of(self, name: str, value: Any, allowed: tuple[str, ...]) -> str:
        if value not in allowed:
            self.fail(f"has {'an' if name[0] in 'aeiou' else 'a'} {name} that is none of {', '.join(allowed)}")
        return str(value)

    def date(self, name: str, value: Any) -> datetime:
        try:
            at = datetime.fromisoformat(self.text(name, value, 40).replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"has a {name} that is no date")
        if at.tzinfo is None or not YEARS[0] <= at.year <= YEARS[1]:
            self.fail(f"has a {name} without a time zone, or of no year we know")
        return at.astimezone(timezone.utc)

    def identifier(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not ULID.fullmatch(value):
            self.fail(f"has a {name} that is no transcript id")
        return value

    def messages(self, name: str, value: Any) -> list[dict[str, Any]]:
        for message in self.listed(name, value):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                self.fail("has a message without a role")
            if not isinstance(message.get("content"), (str, list, type(None))):
                self.fail("has a message whose content is neither text nor parts")
        found: list[dict[str, Any]] = plain(value)
        return found

    def texts(self, name: str, value: Any) -> list[str]:
        return [self.text(name, item) for item in self.listed(name, value)]

    def error(self, name: str, value: Any) -> dict[str, Any]:
        given = self.mapping(name, value)
        if given.keys() - {"type", "status", "code", "message"}:
            self.fail("has an error with fields that no error has")
        kinds = {"type": (str,), "status": (int,), "code": (str, int), "message": (str,)}
        for part, kind in kinds.items():
            if given.get(part) is not None and not isinstance(given[part], kind):
                self.fail(f"has an error whose {part} is wrong")
        return {part: given.get(part) for part in kinds}

    def choices(self, data: Mapping[str, Any], known: Mapping[str, Any]) -> list[Choice]:
        given = self.listed("choices", data.get("choices") or [], MOST_CHOICES)
        choices = [self.choice(one) for one in given]
        if len({choice.index for choice in choices}) != len(choices):
            self.fail("has two choices of one index")
        if not choices and any(known.get(name) for name in DERIVED):
            return [Choice(**{name: known[name] for name in DERIVED if name in known})]
        for name in DERIVED:
            if choices and name in known and known[name] != (getattr(choices[0], name) or known[name][:0]):
                self.fail(f"has a {name} that is not that of its first choice")
        return choices

    def choice(self, given: Any) -> Choice:
        if not isinstance(given, dict) or given.keys() - {f.name for f in fields(Choice)}:
            self.fail("has a choice that is none")
        found = Choice(self.whole("choice index", given.get("index", 0), MOST_INDEX))
        for name in ("text", "reasoning", "refusal", "finish_reason"):
            if given.get(name) is not None:
                setattr(found, name, self.text(name, given[name]))
        for call in self.listed("tool calls", given.get("tool_calls") or []):
            if not isinstance(call, dict) or call.keys() - {"id", "name", "arguments"}:
                self.fail("has a tool call that is none")
            kept = {name: None if call.get(name) is None else self.text(name, call[name]) for name in ("id", "name", "arguments")}
            found.tool_calls.append({**kept, "arguments": kept["arguments"] or ""})
        for source in self.listed("annotations", given.get("annotations") or []):
            found.annotations.append(self.mapping("annotations", source))
        for token in self.listed("logprobs", given.get("logprobs") or [], MOST_EVENTS):
            found.logprobs.append(self.logprob(token))
        return found

    def logprob(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict) or given.keys() - {"token", "logprob", "alternatives"}:
            self.fail("has a log probability that is none")
        others = []
        for pair in self.listed("alternatives", given.get("alternatives") or [], 1000):
            if not isinstance(pair, list) or len(pair) != 2:
                self.fail("has an alternative that is no token with its log probability")
            others.append([self.text("token", pair[0]), self.number("logprob", pair[1])])
        return {
            "token": self.text("token", given.get("token")),
            "logprob": self.number("logprob", given.get("logprob")),
            "alternatives": others,
        }

    def usage(self, given: Any) -> Usage:
        if given is None:
            return Usage()
        names = {f.name for f in fields(Usage)}
        if not isinstance(given, dict) or given.keys() - names:
            self.fail("has a usage that is none")
        counts = {name: self.whole(name, given[name]) for name in names - {"source"} if given.get(name) is not None}
        source = given.get("source")
        return Usage(**counts, source=None if source is None else self.one_of("usage source", source, ("reported", "counted")))

    def timing(self, given: Any, timeline: Timeline, usage: Usage) -> Timing:
        told = given or {}
        if not isinstance(told, dict) or told.keys() - {*FIGURES, "server"}:
            self.fail("has a timing that is none")
        server = self.mapping("server figures", told.get("server") or {})
        figures = {name: self.number(name, told[name]) for name in FIGURES if told.get(name) is not None}
        if len(timeline) and timeline.requested is not None and (timeline.last or 0) > timeline.requested:
            return measure(timeline, usage.output_tokens, usage.reasoning_tokens, server)
        if any(value < 0 for value in figures.values()):
            self.fail("has a figure below 0")
        whole = {name: self.whole(name, int(figures[name])) for name in _WHOLE if name in figures}
        return Timing(**{**figures, **whole}, server=server)  # type: ignore[arg-type]

    def timeline(self, given: Any) -> Timeline:
        timeline = Timeline(requested=0)
        if given is None:
            return timeline
        if not isinstance(given, dict) or given.get("version") != 1:
            self.fail("has a timeline of a form that is not known")
        runs = given.get("flag_runs")
        flags = given.get("flags") if runs is None else self.spread(self.listed("timeline flag runs", runs, 2 * MOST_EVENTS))
        columns = {
            name: self.listed(f"timeline {name}", column, MOST_EVENTS)
            for name, column in (("characters", given.get("characters")), ("flags", flags))
        }
        exact = given.get("delta_ns")
        steps = self.listed("timeline steps", exact if exact is not None else given.get("delta_us"), MOST_EVENTS)
        if not len(steps) == len(columns["characters"]) == len(columns["flags"]):
            self.fail("has a timeline whose columns are of different lengths")
        for column in (steps, *columns.values()):
            if set(map(type, column)) - {int}:
                self.fail("has a timeline entry that is no whole number")
        if steps and not (min(columns["characters"]) >= 0 and max(columns["characters"]) < 1 << 32):
            self.fail("has a timeline entry that cannot be")
        if any(not 0 <= flags <= MOST_FLAGS or flags & LATER for flags in set(columns["flags"])):
            self.fail("has a timeline entry that cannot be")
        if any(flags > 0xFF and flags >> CHOICE_SHIFT & CHOICE_BITS < CHOICE_BITS for flags in set(columns["flags"])):
            self.fail("has a timeline entry that cannot be")
        at = list(accumulate(steps if exact is not None else [step * 1000 for step in steps]))
        if at and not -LONGEST_NS <= min(at) <= max(at) <= LONGEST_NS:
            self.fail("has a timeline entry that cannot be")
        later = [flags >> 8 for flags in columns["flags"] if flags > 0xFF]
        timeline.fill(at, columns["characters"], bytes([f if f <= 0xFF else f & 0xFF | LATER for f in columns["flags"]]), later)
        self.moments(timeline, given)
        self.beside(timeline, given)
        return timeline

    def beside(self, timeline: Timeline, given: Mapping[str, Any]) -> None:
        """What stands beside the events and moments."""
        timeline.reads = self.whole("number of reads", given.get("reads", timeline.fresh_reads), MOST_COUNTED)
        timeline.keep_alives = self.whole("number of keep-alives", given.get("keep_alives", 0), MOST_COUNTED)
        alive, displayed = given.get("keep_alive_ns"), given.get("displayed_us")
        if alive is not None:
            offsets = self.listed("keep-alives", alive, KEPT_ALIVE)
            if set(map(type, offsets)) - {int} or any(abs(at) > LONGEST_NS for at in offsets):
                self.fail("has a keep-alive that cannot be")
            timeline.keep_alive_offsets = offsets
        if displayed is not None:
            if not isinstance(displayed, dict) or displayed.keys() != set(Displayed._fields):
                self.fail("has figures of a display that are none")
            timeline.displayed = Displayed(**{name: self.whole(f"display {name}", value) for name, value in displayed.items()})

    def spread(self, runs: list[Any]) -> list[int]:
        """The flags of each event, of flags and how many events in a row have them, in turn."""
        if len(runs) % 2 or set(map(type, runs)) - {int} or min(runs[1::2], default=0) < 0 or sum(runs[1::2]) > MOST_EVENTS:
            self.fail("has timeline flag runs that cannot be")
        return [flags for flags, count in zip(runs[::2], runs[1::2], strict=True) for _ in range(count)]

    def moments(self, timeline: Timeline, given: Mapping[str, Any]) -> None:
        exact = given.get("moments_ns")
        moments, scale = (exact, 1.0) if exact is not None else (given.get("moments_ms") or {}, 1e6)
        if not isinstance(moments, dict) or moments.keys() - set(MOMENTS):
            self.fail("has a timeline with moments that are not known")
        for name, value in moments.items():
            if value is not None and name != "requested":
                at = (
                    value
                    if scale == 1.0 and isinstance(value, int) and not isinstance(value, bool)
                    else round(self.number(name, value) * scale)
                )
                if not -LONGEST_NS <= at <= LONGEST_NS:
                    self.fail(f"has a timeline whose moment {name} cannot be")
                setattr(timeline, name, at)
        if exact is not None and exact.get("requested") is None:
            timeline.requested = None

    def agreement(self, timeline: Timeline, choices: Sequence[Choice]) -> None:
        """The timeline says of no text that there is more of it than there is."""
        counted = timeline.characters()
        last = max((index for index, _ in counted), default=0)
        shared = CHOICE_BITS if last == CHOICE_BITS else MOST_INDEX  # in older files all that come later are the fifteenth
        sizes: dict[tuple[int, str], int] = {}
        for choice in choices:
            index = min(choice.index, shared)
            for channel in CHANNELS:
                arguments = sum(len(call["arguments"]) for call in choice.tool_calls)
                size = arguments if channel == "tool" else len(getattr(choice, channel))
                sizes[index, channel] = sizes.get((index, channel), 0) + size
        for key, characters in counted.items():
            if characters > sizes.get(key, 0):
                self.fail("has a timeline that does not match its text")


_Rule = Callable[[Check, str, Any], Any]


def _limited(limit: int) -> _Rule:
    return lambda check, name, value: check.text(name, value, limit)


_SHORT = _limited(SHORT)
_RULES: dict[str, _Rule] = {
    "id": Check.identifier,
    "created_at": Check.date,
    **dict.fromkeys(("model", "resolved_model", "endpoint", "protocol", "notebook", "cell_id", "conversation_id"), _SHORT),
    **dict.fromkeys(("request_id", "system_fingerprint", "host", "finish_reason"), _SHORT),
    "package_version": _limited(32),
    **dict.fromkeys(("prompt", "system", "template", "note", "text", "reasoning", "refusal"), _limited(TEXT_LIMIT)),
    "messages": Check.messages,
    "options": Check.mapping,
    "variables": lambda check, name, value: {key: check.text(name, item) for key, item in check.mapping(name, value).items()},
    "outcome": lambda check, name, value: check.one_of(name, value, SETTLED),
    "stop_cause": lambda check, name, value: check.one_of(name, value, CAUSES),
    "format": lambda check, name, value: check.one_of(name, value, FORMATS),
    "error": Check.error,
    "diagnostics": Check.texts,
    "tags": Check.texts,
    "parent_id": Check.identifier,
    "execution_count": lambda check, name, value: check.whole(name, value, 1 << 31),
    "clock_offset_ms": Check.number,
}
SAME = [name for name in _RULES if name not in ("created_at", *DERIVED)]
"""The fields that are written as they are."""
