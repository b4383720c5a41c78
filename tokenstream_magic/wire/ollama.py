"""Ollama's native streams: NDJSON from ``/api/chat`` and, to read, from ``/api/generate``.

A line is a piece of the answer; the line with ``done: true`` is the last and carries the counts and the durations. An
error is a line of its own inside a 200 response. Fields: https://docs.ollama.com/api/chat, https://docs.ollama.com/api/generate
and the table in the project's wire notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenstream_magic.wire import logprobs, parts
from tokenstream_magic.wire.calls import MOST_CALLS
from tokenstream_magic.wire.decoding import MessageDecoder
from tokenstream_magic.wire.events import (
    Event,
    Finish,
    KeepAlive,
    Reasoning,
    Request,
    Served,
    ServerTiming,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
    Verdict,
)
from tokenstream_magic.wire.failures import find_failure
from tokenstream_magic.wire.lines import LinesFraming
from tokenstream_magic.wire.values import integer, json_text, mapping, mappings, string

NAME = "ollama"
FRAMING = LinesFraming
MODELS = "/tags"
ACCEPT = "application/x-ndjson, application/json;q=0.5"
ATTACHMENTS = parts.IMAGES - {"image/gif"}
JSON_MODE = True
LACKS: frozenset[str] = frozenset()

# our name for a request field -> this protocol's, inside ``options``
FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "num_predict",
    "seed": "seed",
    "stop": "stop",
}


# most models that think can only be told whether to; some take a level
_SWITCHES = {"none": False, "false": False, "true": True}


def request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """The request for ``messages`` (``{"role", "content"}`` each). ``options`` named in :data:`FIELDS` go into ``options``.

    ``reasoning_effort`` is Ollama's ``think``; the rest stands at the top as it is.
    """
    body: dict[str, Any] = {"model": model, "messages": [_message(m) for m in messages], "stream": True}
    sampling: dict[str, Any] = {}
    for name, value in options.items():
        if name in FIELDS:
            # a single stop text is refused: the server wants a list
            sampling[FIELDS[name]] = [value] if name == "stop" and isinstance(value, str) else value
        elif name == "options" and isinstance(value, Mapping):
            sampling.update(value)
        elif name == "logprobs" and isinstance(value, int) and not isinstance(value, bool):
            body["logprobs"], body["top_logprobs"] = True, value
        elif name in ("schema", "json"):
            body["format"] = value if name == "schema" else "json"
        elif name == "tool":
            body["tools"] = parts.functions(value)
        elif name == "reasoning_effort":
            body["think"] = _SWITCHES.get(str(value).lower(), value)
        else:
            body[name] = value
    if sampling:
        body["options"] = sampling
    return Request("/chat", body, {"Accept": ACCEPT})


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message: text is one text, images stand beside it, and the arguments of calls are objects."""
    if message.get("role") == "tool":
        return {"role": "tool", "tool_name": message.get("name"), "content": message.get("content")}
    written = dict(message)
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        attached = [part for part in content if parts.is_attachment(part)]
        texts = [parts.text_of(part) if parts.is_attachment(part) else part["text"] for part in content if _is_ours(part)]
        if attached or len(texts) == len(content):
            written["content"] = "\n\n".join(text for text in texts if text)
        images = [part["data"] for part in attached if parts.text_of(part) is None]
        if images:
            written["images"] = images
    if parts.calls(message):
        written["tool_calls"] = [
            {"function": {"name": name, "arguments": parts.arguments(arguments)}} for _, name, arguments in parts.calls(message)
        ]
    return written


def _is_ours(part: Any) -> bool:
    return parts.is_attachment(part) or parts.is_text(part)


def authorization(key: str) -> dict[str, str]:
    """The header that carries the key: a local server wants none, Ollama's cloud does."""
    return {"Authorization": f"Bearer {key}"}


class Decoder(MessageDecoder):
    """Lines of one stream into events; ``verdict`` says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = 0  # lines that were part of an answer
        self._calls = 0
        self._terminated = False

    UNIT = "line"
    OBJECTS = b'"tool_calls"'

    def _said(self) -> bool:
        return bool(self.characters or self._calls)

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer that was sent in one JSON object: the server ignored ``stream``."""
        if not isinstance(message, Mapping):
            return []
        if not isinstance(message.get("message"), Mapping) and not isinstance(message.get("response"), str):
            return []
        events: list[Event] = [event for event in self._message(message) if not isinstance(event, Terminator)]
        # ``done: false`` is the only line of a stream that broke off
        self._terminated = self._terminated or ("done" not in message and bool(self.characters or self._calls))
        return events

    def _judge(self) -> Verdict:
        """How the stream ended, judged at its end: only a line with ``done: true`` makes an answer complete."""
        if self._terminated:
            return self._complete()
        if not self._lines:
            return self._empty()
        return Verdict("truncated", f"ended without done after {self.characters} characters")

    def _message(self, message: Any) -> list[Event]:
        failure = find_failure(message)
        if not isinstance(message, Mapping):
            return [self._fail(failure) if failure else Unknown(type(message).__name__)]
        events: list[Event] = []
        if any(name in message for name in ("message", "response", "thinking", "done")):
            self._line(message, events)
        elif failure is None:
            events.append(Unknown("line"))
        if failure is not None:
            events.append(self._fail(failure))
        return events or [KeepAlive()]

    def _line(self, line: Mapping[str, Any], events: list[Event]) -> None:
        self._lines += 1
        served = Served(string(line.get("model")) or self._served.model)
        if served != self._served:
            self._served = served
            events.append(served)
        inner = mapping(line.get("message"))
        for thinking in (inner.get("thinking"), line.get("thinking")):  # chat, generate
            if isinstance(thinking, str) and thinking:
                self.characters += len(thinking)
                events.append(Reasoning(thinking))
        for text in (inner.get("content"), line.get("response")):
            if isinstance(text, str) and text:
                self.characters += len(text)
                events.append(Text(text))
        events += logprobs.listed(line.get("logprobs"))
        events += [self._tool_call(call) for call in mappings(inner.get("tool_calls"))]
        if line.get("done") is True:
            self._last(line, events)

    def _tool_call(self, call: Mapping[str, Any]) -> Event:
        """Every call comes whole, so each is a new one: its id may be missing and its index is 0 in older servers."""
        if self._calls >= MOST_CALLS:
            return Unknown("tool call")
        function = mapping(call.get("function"))
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = json_text(arguments)
        self._calls += 1
        return ToolCall(self._calls - 1, string(call.get("id")), string(function.get("name")), arguments or "")

    def _last(self, line: Mapping[str, Any], events: list[Event]) -> None:
        """The last line. Counts and durations (ns) that are zero are left out by the server: those stay unknown."""
        self._terminated = True
        reason = string(line.get("done_reason"))
        if reason:
            events.append(Finish(reason))
        usage = Usage(integer(line.get("prompt_eval_count")), integer(line.get("eval_count")))
        if usage != Usage():
            events.append(usage)
        durations = {name: value for name, value in line.items() if name.endswith("_duration")}
        if durations:
            events.append(ServerTiming(durations))
        events.append(Terminator())
