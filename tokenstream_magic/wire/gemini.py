"""Gemini, ``:streamGenerateContent?alt=sse``, as Google's Generative Language API and Vertex speak it.

Every frame is a whole ``GenerateContentResponse`` with the next parts of each candidate. Nothing marks the end: an answer is
whole when every candidate was given a ``finishReason`` and the body ended between two frames. Errors come as a bare JSON
object behind the frames. Without ``alt=sse`` the same responses come as one JSON array. Fields:
https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse; dialects: the project's wire notes, section 1.5.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tokenstream_magic.wire import citations, logprobs, parts
from tokenstream_magic.wire.calls import MOST_CALLS
from tokenstream_magic.wire.decoding import MessageDecoder
from tokenstream_magic.wire.events import (
    Event,
    Failure,
    Finish,
    KeepAlive,
    Reasoning,
    Refusal,
    Request,
    Served,
    Text,
    ToolCall,
    Unknown,
    Usage,
    Verdict,
)
from tokenstream_magic.wire.failures import failure_of_text, find_failure
from tokenstream_magic.wire.framing import Comment, EventStreamFraming, Frame, Piece
from tokenstream_magic.wire.values import integer, json_text, loads, mapping, mappings, string

NAME = "gemini"
FRAMING = EventStreamFraming
MODELS = "/models"
MOST_CHOICES = 128
ACCEPT = "text/event-stream, application/json;q=0.5"
ATTACHMENTS = (parts.IMAGES - {"image/gif"}) | {parts.PDF, "audio/wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/aiff"}
JSON_MODE = True
LACKS: frozenset[str] = frozenset()

# our name for a request field -> this protocol's, in generationConfig
FIELDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "max_tokens": "maxOutputTokens",
    "seed": "seed",
    "stop": "stopSequences",
}

_NO_REASON = "FINISH_REASON_UNSPECIFIED"  # the zero of the enum: some translators write it out
_ABOUT = ("thought", "thoughtSignature", "partMetadata", "videoMetadata")  # say something about a part, hold none
_ENDINGS = ("STOP", "MAX_TOKENS")
_OBJECTS = b'"functionCall"'
_BETWEEN = " \t\r\n,[]"  # what stands between the objects of an array
_SIGNING = re.compile(r"\bgemini-[3-9]")
_UNSIGNED = "skip_thought_signature_validator"  # these models refuse a call without a signature, except under this word of the API's
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,3})\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_MOST_STEPS = 32


def request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """The request for ``messages`` (``{"role", "content"}`` each). ``options`` are named in :data:`FIELDS` or go as they are."""
    body: dict[str, Any] = {"contents": _contents(model, messages)}
    system = [part for m in messages if m.get("role") == "system" for part in _parts(m.get("content"))]
    if system:
        body["systemInstruction"] = {"parts": system}
    config: dict[str, Any] = {}
    for name, value in options.items():
        if name == "logprobs":
            if value is not False and value is not None:
                config["responseLogprobs"] = True
            if isinstance(value, int) and not isinstance(value, bool):
                config["logprobs"] = value
        elif name == "reasoning_effort":
            config["thinkingConfig"] = {**mapping(config.get("thinkingConfig")), **_thinking(value)}
        elif name == "stop":
            config["stopSequences"] = [value] if isinstance(value, str) else value
        elif name in FIELDS:
            config[FIELDS[name]] = value
        elif name == "schema":
            config["responseMimeType"], config["responseJsonSchema"] = "application/json", value
        elif name == "json":
            config["responseMimeType"] = "application/json"
        elif name == "tool":
            declared = [
                {"name": tool.get("name"), "description": tool.get("description"), "parametersJsonSchema": tool.get("parameters")}
                for tool in mappings(value)
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        elif name == "generationConfig" and isinstance(value, Mapping):
            config.update(value)
        else:
            body[name] = value
    if config:
        body["generationConfig"] = config
    path = quote(model if "/" in model else f"models/{model}", safe="/@-._~")  # a "?" in a name must not begin a query
    return Request(f"/{path}:streamGenerateContent?alt=sse", body, {"Accept": ACCEPT})


def _thinking(effort: Any) -> dict[str, Any]:
    """How hard to think: a level, or a number of tokens; ``none`` is no token, ``auto`` the model's own choice (-1)."""
    budgets = {"none": 0, "auto": -1}
    text = str(effort).strip()
    if text.lower() in budgets or text.lstrip("-").isdecimal():
        return {"thinkingBudget": budgets[text.lower()] if text.lower() in budgets else int(text)}
    return {"thinkingLevel": text.upper()}


def _contents(model: str, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns: calls are parts of the model's, and the results of one turn's calls share a turn of the user's."""
    turns: list[dict[str, Any]] = []
    after_result = False
    for message in messages:
        role = message.get("role")
        if role == "system":
            continue
        if role == "tool":
            result = {"functionResponse": {"name": message.get("name"), "response": {"result": message.get("content")}}}
            if after_result:
                turns[-1]["parts"].append(result)
            else:
                turns.append({"role": "user", "parts": [result]})
            after_result = True
            continue
        after_result = False
        called: list[dict[str, Any]] = [
            {"functionCall": {"name": name, "args": parts.arguments(arguments)}} for _, name, arguments in parts.calls(message)
        ]
        if called and _SIGNING.search(model):
            called[0]["thoughtSignature"] = _UNSIGNED
        said = [] if called and not message.get("content") else _parts(message.get("content"))
        turns.append({"role": "model" if role in ("assistant", "model") else "user", "parts": [*said, *called]})
    return turns


def _attachment(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"inlineData": {"mimeType": part["media_type"], "data": part["data"]}}


def authorization(key: str) -> dict[str, str]:
    """The header that carries the key: never the ``key=`` of the query, which ends up in logs."""
    return {"x-goog-api-key": key}


class Decoder(MessageDecoder):
    """Frames of one stream into events; ``verdict`` says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._finished: set[int] = set()
        self._choices: set[int] = set()
        self._calls: dict[int, _Calls] = {}
        self._cut = False  # the stream ended inside a frame
        self._array = False  # a JSON array was opened and not closed

    def decode(self, piece: Piece) -> list[Event]:
        """The events of one piece. Never raises on what a server sends."""
        if not isinstance(piece, Frame):
            return [KeepAlive()] if isinstance(piece, Comment) else self._stray(piece.text)
        if piece.event != "error" and _OBJECTS not in piece.raw:  # nearly every frame is one object
            try:
                return self._message(loads(piece.raw)) if piece.raw.startswith(b"{") else self._odd(piece)
            except (ValueError, RecursionError):
                pass
        return self._odd(piece)

    def _odd(self, piece: Frame) -> list[Event]:
        """A frame that is not one object, or one whose numbers are arguments and must stay exact."""
        data = piece.data
        if data.startswith("[DONE]"):  # a translator's: here it ends nothing
            return [Unknown("[DONE]")]
        if data.startswith(":"):
            return [KeepAlive()]
        events, whole = self._all_values(data)
        if not whole:
            if piece.event == "error":
                events.append(self._fail(Failure(data, type="server_error")))
            elif piece.terminated:
                events.append(self._unreadable())
            else:
                self._cut = True
        elif piece.event == "error" and self._failure is None:
            events.append(self._fail(Failure(data, type="server_error")))
        return events or ([KeepAlive()] if whole else [])

    def _said(self) -> bool:
        return bool(self.characters or self._calls)

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer sent as one JSON object, or as the whole array that comes without ``alt=sse``."""
        messages = mappings(message if isinstance(message, list) else [message])
        if not any(isinstance(m.get("candidates"), list) or isinstance(m.get("promptFeedback"), Mapping) for m in messages):
            return []
        return [event for m in messages for event in self._message(m)]

    def _judge(self) -> Verdict:
        """How the stream ended, judged at its end: every candidate finished and nothing cut off, an error, or neither."""
        if not self._choices:
            return self._empty()
        if not self._finished >= self._choices:
            return Verdict("truncated", f"ended without a finishReason after {self.characters} characters")
        if self._cut or self._array:  # a finishReason can come early: what was cut off may be a part of the answer
            return Verdict("truncated", f"ended inside {'the array' if self._array else 'a frame'} after {self.characters} characters")
        return self._complete()

    def _stray(self, text: str) -> list[Event]:
        """Lines without ``data:``: an error, a piece of the JSON array, or something else."""
        failure = failure_of_text(text)
        start = text.lstrip()
        if start.startswith(tuple("{,[]")):
            events, whole = self._all_values(start)
            self._cut = self._cut or not whole
            if failure is not None and self._failure is None:
                events = [self._fail(failure)]  # a shape that only stands outside of frames
            return events or [KeepAlive() if whole else Unknown("stray line")]
        self._cut = self._cut or "data:".startswith(text)
        return [Unknown("stray line")]

    def _all_values(self, text: str) -> tuple[list[Event], bool]:
        """The events of the JSON values in ``text``, and whether all of it could be read.

        Mostly one object; a piece of an array; or two values in one frame: a gateway put its error behind an unfinished event.
        """
        events: list[Event] = []
        decoder, position = json.JSONDecoder(), 0
        try:
            if text.isspace() or not text:
                return events, False
            while True:
                while (mark := text[position : position + 1]) and mark in _BETWEEN:
                    self._array = mark == "[" or (self._array and mark != "]")
                    position += 1
                if position >= len(text):
                    return events, True
                message, position = decoder.raw_decode(text, position)
                events += self._message(message)
        except (ValueError, RecursionError):
            return events, False

    def _message(self, message: Any) -> list[Event]:
        if not isinstance(message, Mapping):
            return [Unknown(type(message).__name__)]
        events: list[Event] = []
        failure = find_failure(message)
        served = Served(
            string(message.get("modelVersion")) or self._served.model,
            response_id=self._served.response_id or string(message.get("responseId")),
        )
        if served != self._served:
            self._served = served
            events.append(served)
        candidates = mappings(message.get("candidates"))
        for candidate in candidates:
            self._candidate(candidate, events)
        usage = _usage(message.get("usageMetadata"))
        if usage is not None:
            events.append(usage)
        feedback = mapping(message.get("promptFeedback"))
        reason = string(feedback.get("blockReason"))
        if failure is None and reason and not candidates:
            said = string(feedback.get("blockReasonMessage"))
            failure = Failure(f"the server blocked the prompt: {reason}" + (f" ({said})" if said else ""), type="blocked", code=reason)
        if failure is not None:
            events.append(self._fail(failure))
        elif not events and "candidates" not in message and "promptFeedback" not in message:
            events.append(Unknown("message"))
        return events or [KeepAlive()]

    def _candidate(self, candidate: Mapping[str, Any], events: list[Event]) -> None:
        index = integer(candidate.get("index")) or 0  # proto JSON leaves a zero out
        if index >= MOST_CHOICES:
            events.append(Unknown("choice index"))
            return
        self._choices.add(index)
        for part in mappings(mapping(candidate.get("content")).get("parts")):
            self._part(part, index, events)
        events += citations.of_candidate(candidate, index)
        events += logprobs.of_candidate(candidate.get("logprobsResult"), index)
        reason = string(candidate.get("finishReason"))
        if reason is not None and reason != _NO_REASON:
            if index in self._calls:
                events += self._calls[index].close()
            self._finished.add(index)
            said = string(candidate.get("finishMessage"))
            if said and reason not in _ENDINGS:  # why it goes no further, in words
                self.characters += len(said)
                events.append(Refusal(said, index))
            events.append(Finish(reason, index))

    def _part(self, part: Mapping[str, Any], index: int, events: list[Event]) -> None:
        text = part.get("text")
        if isinstance(text, str):
            if text:
                self.characters += len(text)
                events.append(Reasoning(text, index) if part.get("thought") is True else Text(text, index))
        elif isinstance(part.get("functionCall"), Mapping):
            events += self._calls.setdefault(index, _Calls(index)).take(part["functionCall"])
        else:
            events += [Unknown(str(name)[:80]) for name in part if name not in (*_ABOUT, "text")][:1]


class _Calls:
    """The function calls of one candidate: mostly whole; streamed ones are put together from values and their paths.

    ``{name, willContinue}`` opens one, ``{partialArgs, willContinue}`` goes on, the piece without ``willContinue`` is its last.
    Values with paths are no prefix of JSON text, so the arguments of a streamed call are handed on when it ends.
    """

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._count = 0
        self._open: tuple[str | None, str | None] | None = None  # the id and name of the call that goes on
        self._arguments: dict[str, Any] = {}

    def take(self, call: Mapping[str, Any]) -> list[Event]:
        """The events of one ``functionCall`` part."""
        events: list[Event] = []
        identifier, name = string(call.get("id")), string(call.get("name"))
        if self._open is None and not call:  # the last piece of a call that was ended by a finishReason
            return []
        open_id, open_name = self._open or (None, None)
        goes_on = self._open is not None and name in (None, open_name) and identifier in (None, open_id)
        if not goes_on:
            events += self.close()
            if self._count >= MOST_CALLS:
                return [*events, Unknown("functionCall")]
            self._count += 1
            self._open = (identifier, name)
        arguments = call.get("args")
        if isinstance(arguments, Mapping):
            self._arguments.update(arguments)
        for piece in mappings(call.get("partialArgs")):
            self._put(piece)
        shown = (None, None) if goes_on else (identifier, name)
        text = "" if call.get("willContinue") is True else self._ended()
        if isinstance(arguments, str):  # a translator's: JSON text already
            text = arguments
        return [*events, ToolCall(self._count - 1, *shown, text, self._choice)]

    def close(self) -> list[Event]:
        """What came of a call that was not ended."""
        if self._open is None:
            return []
        return [ToolCall(self._count - 1, None, None, self._ended(), self._choice)]

    def _ended(self) -> str:
        text, self._open, self._arguments = json_text(self._arguments), None, {}
        return text

    def _put(self, piece: Mapping[str, Any]) -> None:
        """Writes one value where its path says; a string at a path that has one goes on."""
        path = string(piece.get("jsonPath")) or ""
        steps = [int(number) if number else (name or one or two) for name, number, one, two in _STEP.findall(path)[:_MOST_STEPS]]
        value = next((piece[key] for key in ("stringValue", "numberValue", "boolValue") if key in piece), None)
        if not steps or isinstance(steps[0], int):
            return
        at: Any = self._arguments
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            if isinstance(at, list) and isinstance(step, int):
                at += [None] * (step + 1 - len(at))
            elif not isinstance(at, dict) or isinstance(step, int):
                return  # the path and what is there already do not agree
            held = at[step] if isinstance(at, list) else at.get(step)
            if following is None:
                at[step] = held + value if isinstance(held, str) and isinstance(value, str) else value
            elif not isinstance(held, (dict, list)):
                at[step] = [] if isinstance(following, int) else {}
            at = at[step]


def _parts(content: Any) -> list[Any]:
    """The parts of a message: a text is one, a list of ``{"type": "text"}`` becomes texts, anything else goes as it is."""
    if not isinstance(content, list):
        return [{"text": content}]
    content = parts.contents(content, _attachment, lambda text: {"text": text})
    return [{"text": part["text"]} if isinstance(part, Mapping) and part.get("type") == "text" else part for part in content]


def _usage(usage: Any) -> Usage | None:
    """Thoughts are counted apart from the answer; both are output (wire notes, 1.5)."""
    if not isinstance(usage, Mapping) or not usage:
        return None
    answer, thoughts = integer(usage.get("candidatesTokenCount")), integer(usage.get("thoughtsTokenCount"))
    return Usage(
        integer(usage.get("promptTokenCount")),
        None if answer is None and thoughts is None else (answer or 0) + (thoughts or 0),
        thoughts,
        integer(usage.get("cachedContentTokenCount")),
    )
