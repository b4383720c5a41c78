"""Lines in the very form in which they are written here, checked in one go.

Nearly every line of a file that is brought in has every field of :func:`tokenstream_magic.exchange.portable.to_data`, of the
type it is written with. Such a line is read with a faster parser, and all of it is checked as
:func:`tokenstream_magic.exchange.portable.from_data` checks it. Whatever is not quite so, or could be read in two ways, is left
to that: it decides, and says what is wrong. So what is accepted here would be accepted there, as the same transcript.
"""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import accumulate, repeat
from operator import itemgetter, mul
from typing import Any

import orjson

from tokenstream_magic.exchange.checks import (
    CAUSES,
    FIGURES,
    LARGEST,
    LARGEST_NUMBER,
    LONGEST_NS,
    MOST_CHOICES,
    MOST_COUNTED,
    MOST_EVENTS,
    MOST_INDEX,
    MOST_LISTED,
    SETTLED,
    SHORT,
    TEXT_LIMIT,
    ULID,
    YEARS,
    Check,
    Unfit,
)
from tokenstream_magic.exchange.portable import SCHEMA
from tokenstream_magic.plain import ITEMS
from tokenstream_magic.record import FORMATS, Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import Timing, measure
from tokenstream_magic.timing.timeline import MOMENTS, Timeline

_FIELDS = (
    *"schema id created_at outcome".split(),
    *"model resolved_model endpoint protocol notebook cell_id conversation_id request_id system_fingerprint host".split(),
    *"package_version prompt system template note text reasoning refusal finish_reason".split(),
    *"messages options variables stop_cause format error diagnostics tags parent_id execution_count clock_offset_ms".split(),
    *"choices usage timing timeline".split(),
)
_OF_CHOICE = "index text reasoning refusal tool_calls finish_reason annotations logprobs".split()
_OF_USAGE = "input_tokens output_tokens reasoning_tokens cached_input_tokens source".split()
_fields, _of_choice, _of_usage = itemgetter(*_FIELDS), itemgetter(*_OF_CHOICE), itemgetter(*_OF_USAGE)
_of_call, _figures, _moments = itemgetter("id", "name", "arguments"), itemgetter(*FIGURES), itemgetter(*MOMENTS)
_of_timeline = itemgetter("version", "delta_ns", "characters", "flag_runs", "moments_ns", "reads", "keep_alives")

_TOO_LARGE = 1 << 63  # from here on, what was written as a whole number may have been read as another
_LEVELS = 16  # of what is plain data all through; deeper may be too deep
_FLAGS = [bytes((flags,)) for flags in range(256)]
_ANSWER = b"\x00\x80"  # the flags of text of the first choice, which begins a read or does not
_NOTHING = type(None)
_RARE = Check("")  # checks what few lines have; what it says is not seen


class _Doubt(Exception):
    """Not quite as it is written here; which does not mean that it is wrong."""


def transcript(line: bytes) -> Transcript | None:
    """The transcript of a line; None when :func:`tokenstream_magic.exchange.portable.from_data` has to look at it."""
    if len(line) > TEXT_LIMIT or (b"\\" in line and b"\\u0000" in line):
        return None  # so no text in the others is too long or has a NUL, and the parser takes no half of a surrogate pair
    try:
        return _transcript(orjson.loads(line))
    except (_Doubt, Unfit, LookupError, ValueError):
        return None


def _transcript(data: Any) -> Transcript:
    if type(data) is not dict or len(data) != len(_FIELDS):
        raise _Doubt
    (
        schema, id, created, outcome,
        model, resolved, endpoint, protocol, notebook, cell, conversation, request, fingerprint, host,
        version, prompt, system, template, note, text, reasoning, refusal, finish,
        messages, options, variables, cause, form, error, diagnostics, tags, parent, count, offset,
        choices, usage, timing, timeline,
    ) = _fields(data)  # fmt: skip
    if (
        schema != SCHEMA
        or outcome not in SETTLED
        or (cause is not None and cause not in CAUSES)
        or (form is not None and form not in FORMATS)
    ):
        raise _Doubt
    for short in (model, resolved, endpoint, protocol, notebook, cell, conversation, request, fingerprint, host, finish):
        if short is not None and (type(short) is not str or len(short) > SHORT):
            raise _Doubt
    for long in (prompt, system, template, note, text, reasoning, refusal):
        if long is not None and type(long) is not str:
            raise _Doubt
    answers = _choices(choices)
    if answers:
        first = answers[0]
        if (
            (text is not None and text != first.text)
            or (reasoning is not None and reasoning != first.reasoning)
            or (refusal is not None and refusal != first.refusal)
            or (finish is not None and finish != (first.finish_reason or ""))
        ):
            raise _Doubt
    elif text or reasoning or refusal or finish:
        raise _Doubt
    counts = _usage(usage)
    stamps = _timeline(timeline, answers)
    return Transcript(  # by position: names would take longer than all checks of short texts
        _id(id),
        _date(created),
        model or "",
        resolved,
        endpoint or "",
        protocol or "",
        prompt or "",
        system,
        _messages(messages),
        _object(options),
        template,
        _variables(variables),
        answers,
        outcome,
        cause,
        None if error is None else _RARE.error("", error),
        counts,
        _timing(timing, stamps, counts),
        stamps,
        _texts(diagnostics),
        conversation,
        None if parent is None else _id(parent),
        notebook,
        cell,
        None if count is None else _RARE.whole("", count, 1 << 31),
        _texts(tags),
        note,
        request,
        fingerprint,
        None if version is None else _RARE.text("", version, 32),
        host,
        None if offset is None else _RARE.number("", offset),
        form,
    )


def _id(value: Any) -> str:
    if type(value) is not str or ULID.fullmatch(value) is None:
        raise _Doubt
    return value


def _date(value: Any) -> datetime:
    if type(value) is not str or len(value) > 40:
        raise _Doubt
    at = datetime.fromisoformat(value)
    if at.tzinfo is not timezone.utc or not YEARS[0] <= at.year <= YEARS[1]:
        raise _Doubt
    return at


def _texts(value: Any) -> list[str]:
    if type(value) is not list or (value and (len(value) > MOST_LISTED or {*map(type, value)} != {str})):
        raise _Doubt
    return value


def _variables(value: Any) -> dict[str, str]:
    if type(value) is not dict or (value and (len(value) > ITEMS or {*map(type, value.values())} != {str})):
        raise _Doubt
    return value


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict or (value and not _same(value, _LEVELS)):
        raise _Doubt
    return value


def _messages(value: Any) -> list[dict[str, Any]]:
    if type(value) is not list or len(value) > MOST_LISTED:
        raise _Doubt
    for message in value:
        if type(message) is not dict or type(message.get("role")) is not str:
            raise _Doubt
        content = type(message.get("content"))
        if content is str and len(message) == 2:
            continue
        if content not in (str, list, _NOTHING) or not _same(message, _LEVELS):
            raise _Doubt
    return value


def _same(value: Any, levels: int) -> bool:
    """Whether :func:`tokenstream_magic.plain.plain` would change nothing, and the number could be no larger whole one."""
    kind = type(value)
    if kind is str or kind is bool or kind is _NOTHING:
        return True
    if kind is int or kind is float:
        return bool(-_TOO_LARGE < value < _TOO_LARGE)
    if levels <= 0 or len(value) > ITEMS:
        return False
    return all(map(_same, value.values() if kind is dict else value, repeat(levels - 1)))


def _choices(value: Any) -> list[Choice]:
    if type(value) is not list or len(value) > MOST_CHOICES:
        raise _Doubt
    found = [_choice(one) for one in value]
    if len(found) > 1 and len({choice.index for choice in found}) != len(found):
        raise _Doubt
    return found


def _choice(value: Any) -> Choice:
    if type(value) is not dict or len(value) != len(_OF_CHOICE):
        raise _Doubt
    index, text, reasoning, refusal, calls, finish, annotations, logprobs = _of_choice(value)
    if type(index) is not int or not 0 <= index <= MOST_INDEX:
        raise _Doubt
    if not type(text) is type(reasoning) is type(refusal) is str or (finish is not None and type(finish) is not str):
        raise _Doubt
    if not type(calls) is type(annotations) is type(logprobs) is list:
        raise _Doubt
    if calls:
        _calls(calls)
    if annotations:
        if len(annotations) > MOST_LISTED:
            raise _Doubt
        annotations = [_object(source) for source in annotations]
    if logprobs:
        logprobs = [_RARE.logprob(token) for token in _RARE.listed("", logprobs, MOST_EVENTS)]
    return Choice(index, text, reasoning, refusal, calls, finish, annotations, logprobs)


def _calls(value: list[Any]) -> None:
    if len(value) > MOST_LISTED:
        raise _Doubt
    for call in value:
        if type(call) is not dict or len(call) != 3:
            raise _Doubt
        id, name, arguments = _of_call(call)
        if type(arguments) is not str or {type(id), type(name)} - {str, _NOTHING}:
            raise _Doubt


def _usage(value: Any) -> Usage:
    if type(value) is not dict or len(value) != len(_OF_USAGE):
        raise _Doubt
    asked, answered, thought, cached, source = _of_usage(value)
    for count in (asked, answered, thought, cached):
        if count is not None and (type(count) is not int or not 0 <= count <= LARGEST):
            raise _Doubt
    if source is not None and source not in ("reported", "counted"):
        raise _Doubt
    return Usage(asked, answered, thought, cached, source)


def _timing(value: Any, timeline: Timeline, usage: Usage) -> Timing:
    if type(value) is not dict or len(value) != len(FIGURES) + 1:
        raise _Doubt
    server, figures = _object(value["server"]), _figures(value)
    if timeline.requested is None or (timeline.last or 0) <= timeline.requested:
        return _RARE.timing(value, timeline, usage)
    for figure in figures:
        if figure is not None:
            kind = type(figure)
            if (kind is not float and kind is not int) or not -LARGEST_NUMBER <= figure <= LARGEST_NUMBER:
                raise _Doubt
    return measure(timeline, usage.output_tokens, usage.reasoning_tokens, server)


def _timeline(value: Any, answers: list[Choice]) -> Timeline:
    if type(value) is not dict:
        raise _Doubt
    version, steps, characters, runs, moments, reads, keep_alives = _of_timeline(value)
    if (
        version != 1
        or not type(steps) is type(characters) is type(runs) is list
        or type(moments) is not dict
        or len(moments) != len(MOMENTS)
    ):
        raise _Doubt
    requested, *later = _moments(moments)
    if requested is not None and (type(requested) is not int or requested):
        raise _Doubt
    for at in later:
        if at is not None and (type(at) is not int or not -LONGEST_NS <= at <= LONGEST_NS):
            raise _Doubt
    timeline = Timeline(requested, *later)
    count = len(steps)
    if len(characters) != count or count > MOST_EVENTS:
        raise _Doubt
    if count:
        if {*map(type, steps), *map(type, characters)} != {int}:
            raise _Doubt
        flags, offsets = _spread(runs, count), [*accumulate(steps)]
        if not -LONGEST_NS <= min(offsets) <= max(offsets) <= LONGEST_NS:
            raise _Doubt
        timeline.fill(offsets, characters, flags)  # which refuses sizes and channels that cannot be
        if flags.strip(_ANSWER) or len(answers) != 1 or answers[0].index:
            _RARE.agreement(timeline, answers)
        elif sum(characters) > len(answers[0].text):
            raise _Doubt
    elif runs:
        raise _Doubt
    if "keep_alive_ns" in value or "displayed_us" in value:
        _RARE.beside(timeline, value)
    elif type(reads) is type(keep_alives) is int and 0 <= reads <= MOST_COUNTED and 0 <= keep_alives <= MOST_COUNTED:
        timeline.reads, timeline.keep_alives = reads, keep_alives
    else:
        raise _Doubt
    return timeline


def _spread(runs: list[Any], count: int) -> bytes:
    """The flags of each of so many events."""
    if len(runs) % 2 or {*map(type, runs)} != {int} or min(runs) < 0 or sum(runs[1::2]) != count:
        raise _Doubt
    return b"".join(map(mul, map(_FLAGS.__getitem__, runs[::2]), runs[1::2]))
