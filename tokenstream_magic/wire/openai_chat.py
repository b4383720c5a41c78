"""OpenAI Chat Completions, ``stream: true``, as llama.cpp, vLLM, Groq and many others speak it.

A stream of ``chat.completion.chunk`` objects ended by ``data: [DONE]``. ``finish_reason`` is not the end (usage
follows it), an empty ``choices`` list is legal, and errors arrive inside a 200 response. Fields and dialects:
https://platform.openai.com/docs/api-reference/chat-streaming and the table in the project's wire notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenstream_magic.wire import citations, logprobs, parts
from tokenstream_magic.wire.calls import Calls
from tokenstream_magic.wire.decoding import MessageDecoder
from tokenstream_magic.wire.events import (
    Event,
    Failure,
    Finish,
    KeepAlive,
    Progress,
    Reasoning,
    Refusal,
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
from tokenstream_magic.wire.framing import EventStreamFraming
from tokenstream_magic.wire.values import integer, json_text, mappings, string

NAME = "openai-chat"
FRAMING = EventStreamFraming
MODELS = "/models"
MOST_CHOICES = 128
_RARE = frozenset(("error", "type", "error_type", "error_message", "x_groq", "timings", "prompt_progress", "citations"))
ACCEPT = "text/event-stream, application/json;q=0.5"
AUDIO = {"audio/wav": "wav", "audio/mpeg": "mp3"}
ATTACHMENTS = parts.IMAGES | {parts.PDF} | AUDIO.keys()
JSON_MODE = True
LACKS: frozenset[str] = frozenset()

# our name for a request field -> this protocol's
FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "stop": "stop",
    "reasoning_effort": "reasoning_effort",
}


def request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """The request for ``messages`` (``{"role", "content"}`` each). ``options`` are named in :data:`FIELDS` or go as they are."""
    body: dict[str, Any] = {"model": model, "messages": [_message(m) for m in messages], "stream": True}
    body["stream_options"] = {"include_usage": True}
    for name, value in options.items():
        if name == "logprobs" and isinstance(value, int) and not isinstance(value, bool):
            body["logprobs"], body["top_logprobs"] = True, value
        elif name == "schema":
            wanted = {"name": "answer", "schema": value, "strict": parts.is_strict(value)}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        elif name == "json":
            body["response_format"] = {"type": "json_object"}
        elif name == "tool":
            body["tools"] = parts.functions(value)
        else:
            body[FIELDS.get(name, name)] = value
    return Request("/chat/completions", body, {"Accept": ACCEPT})


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its attachments in this protocol's spelling. The name of a tool is in its call, not in its result."""
    written = {name: value for name, value in message.items() if name != "name" or message.get("role") != "tool"}
    if "content" in message:
        written["content"] = parts.contents(message["content"], _attachment, lambda text: {"type": "text", "text": text})
    return written


def _attachment(part: Mapping[str, Any]) -> dict[str, Any]:
    media_type = part["media_type"]
    if media_type in AUDIO:
        return {"type": "input_audio", "input_audio": {"data": part["data"], "format": AUDIO[media_type]}}
    if media_type in parts.IMAGES:
        return {"type": "image_url", "image_url": {"url": parts.data_url(part)}}
    return {"type": "file", "file": {"filename": part["name"], "file_data": parts.data_url(part)}}


def authorization(key: str) -> dict[str, str]:
    """The header that carries the key."""
    return {"Authorization": f"Bearer {key}"}


class Decoder(MessageDecoder):
    """Frames of one stream into events; ``verdict`` says how it ended."""

    TEXT_AT = ("choices", 0, "delta", "content")

    def __init__(self) -> None:
        super().__init__()
        self._finished: set[int] = set()
        self._choices: set[int] = set()
        self._terminated = False
        self._cited: Any = None  # the addresses come again with every chunk
        self._calls: dict[int, Calls] = {}

    def _done(self) -> list[Event]:
        self._terminated = True
        return [Terminator()]

    def _said(self) -> bool:
        return bool(self.characters or self._calls)

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer that was sent in one JSON object: the server ignored ``stream``."""
        if not isinstance(message, Mapping) or not isinstance(message.get("choices"), list):
            return []
        message = dict(message)
        message["choices"] = [
            {**choice, "delta": choice.get("message") or choice.get("delta") or {}}
            for choice in message["choices"]
            if isinstance(choice, Mapping)
        ]
        events = self._message(message)
        self._terminated = self._terminated or bool(self._finished or self.characters)
        return events

    def _judge(self) -> Verdict:
        """How the stream ended, judged at its end: terminator, finish reason, error, or neither."""
        if self._terminated or (self._finished and self._finished >= self._choices):
            return self._complete("" if self._terminated else "ended without [DONE], after a finish reason")
        if not self._said() and not self._choices:
            return self._empty()
        return Verdict("truncated", f"ended without finish_reason or [DONE] after {self.characters} characters")

    def _message(self, message: Any) -> list[Event]:
        if not isinstance(message, dict):
            failure = find_failure(message)
            return [self._fail(failure) if failure else Unknown(type(message).__name__)]
        usual = self._usual(message)
        if usual is not None:
            return [usual]
        events: list[Event] = []
        rare = not _RARE.isdisjoint(message)
        failure = find_failure(message) if rare or message.get("object") == "error" else None
        if not self._is_served_by(message):
            self._served_by(message, events)
        if rare:
            self._server(message, events)
        choices = message.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    if "error" in choice:
                        failure = failure or find_failure({"error": choice["error"]})
                    self._choice(choice, events)
        elif not failure and not events and not message.get("usage"):
            events.append(Unknown(str(message.get("object", "message"))[:80]))
        usage = message.get("usage")
        if usage is not None:
            counted = _usage(usage)
            if counted is not None:
                events.append(counted)
            cost = usage.get("cost") if isinstance(usage, dict) else None
            if isinstance(cost, (int, float)) and not isinstance(cost, bool):
                events.append(ServerTiming({"cost": cost}))  # OpenRouter's, in its credits
        if failure is not None:
            events.append(self._fail(failure))
        return events or [KeepAlive()]

    def _usual(self, message: dict[str, Any]) -> Text | None:
        """The text of a chunk that says nothing else, which nearly every chunk is; None when it must be taken apart."""
        try:
            (choice,) = message["choices"]
            delta = choice["delta"]
            text, index = delta["content"], choice["index"]
            served = self._served
            if (
                type(text) is not str
                or not text
                or len(delta) != 1
                or type(index) is not int
                or index not in self._choices
                or choice.get("finish_reason") is not None
                or choice.get("logprobs")
                or "error" in choice
                or message.get("usage")
                or message.get("model") != served.model
                or message.get("system_fingerprint") != served.system_fingerprint
                or not _RARE.isdisjoint(message)
                or message.get("object") == "error"
            ):
                return None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        self.characters += len(text)
        return Text(text, index)

    def _is_served_by(self, message: dict[str, Any]) -> bool:
        served = self._served
        return (
            message.get("model") == served.model
            and message.get("system_fingerprint") == served.system_fingerprint
            and served.response_id is not None
        )

    def _served_by(self, message: dict[str, Any], events: list[Event]) -> None:
        served = Served(
            string(message.get("model")) or self._served.model,
            string(message.get("system_fingerprint")) or self._served.system_fingerprint,
            self._served.response_id or string(message.get("id")),
        )
        if served != self._served:
            self._served = served
            events.append(served)

    def _server(self, message: Mapping[str, Any], events: list[Event]) -> None:
        timings = message.get("timings")
        if isinstance(timings, Mapping):
            events.append(ServerTiming(dict(timings)))
        groq = message.get("x_groq")
        if isinstance(groq, Mapping) and isinstance(groq.get("usage"), Mapping):
            events.append(ServerTiming(dict(groq["usage"])))
        if message.get("citations") != self._cited:
            self._cited = message.get("citations")
            events += citations.addresses(self._cited)
        progress = message.get("prompt_progress")
        if isinstance(progress, Mapping):
            events.append(Progress(integer(progress.get("processed")) or 0, integer(progress.get("total")) or 0))

    def _choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        index = choice.get("index")
        if type(index) is not int or index < 0:
            index = 0
        if index >= MOST_CHOICES:
            events.append(Unknown("choice index"))
            return
        self._choices.add(index)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, index, events)
        events += logprobs.of_choice(choice.get("logprobs"), index)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            if reason == "error":
                events.append(self._fail(Failure("the server ended the answer with an error", type="server_error")))
            if index not in self._finished:
                self._finished.add(index)
                events.append(Finish(reason, index))

    def _delta(self, delta: dict[str, Any], index: int, events: list[Event]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, Mapping):
            reasoning = reasoning.get("content")
        if not reasoning:  # OpenRouter's: parts of text or summaries, others are for the server alone
            details = mappings(delta.get("reasoning_details"))
            reasoning = "".join(text for part in details if (text := string(part.get("text")) or string(part.get("summary"))))
        if isinstance(reasoning, str) and reasoning:
            self.characters += len(reasoning)
            events.append(Reasoning(reasoning, index))
        content = delta.get("content")
        if isinstance(content, str):
            if content:
                self.characters += len(content)
                events.append(Text(content, index))
        elif isinstance(content, list):
            self._parts(content, index, events)
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self.characters += len(refusal)
            events.append(Refusal(refusal, index))
        events += citations.listed(delta.get("annotations"), index)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            events += [self._tool_call(call, index) for call in calls if isinstance(call, Mapping)]

    def _parts(self, parts: list[Any], index: int, events: list[Event]) -> None:
        for part in parts:  # Mistral: content as a list of thinking and text parts
            if not isinstance(part, Mapping):
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                texts = [p.get("text") for p in inner if isinstance(p, Mapping)] if isinstance(inner, list) else [inner]
                made: list[Event] = [Reasoning(t, index) for t in texts if isinstance(t, str) and t]
            else:
                made = [Text(part["text"], index)] if isinstance(part.get("text"), str) and part["text"] else []
            for event in made:
                self.characters += len(event.text)  # type: ignore[union-attr]
            events += made

    def _tool_call(self, call: Mapping[str, Any], choice: int) -> ToolCall:
        """Which call a piece belongs to: a new id opens one; without an id it goes on with its index, or with the last.

        Servers number calls from 0 or 1, give every call the index 0, or give none (wire notes, failure 53).
        """
        calls = self._calls.setdefault(choice, Calls())
        identifier, index = string(call.get("id")), integer(call.get("index"))
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = json_text(arguments)
        return ToolCall(calls.place(identifier, index), identifier, string(function.get("name")), arguments or "", choice)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    output = usage.get("completion_tokens_details")
    prompt = usage.get("prompt_tokens_details")
    return Usage(
        integer(usage.get("prompt_tokens")),
        integer(usage.get("completion_tokens")),
        integer(output.get("reasoning_tokens")) if isinstance(output, Mapping) else None,
        integer(prompt.get("cached_tokens")) if isinstance(prompt, Mapping) else None,
    )
