"""Anthropic Messages, ``stream: true``, as Anthropic and the gateways that copy it speak it.

A message of numbered blocks, each opened, filled by deltas and closed, ended by ``message_stop``. Events are told apart
by ``data.type``: gateways leave the ``event:`` line out. Errors arrive inside a 200 response. Events and fields:
https://platform.claude.com/docs/en/build-with-claude/streaming and the table in the project's wire notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenstream_magic.wire import citations, parts
from tokenstream_magic.wire.calls import Calls
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
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
    Verdict,
)
from tokenstream_magic.wire.failures import find_failure
from tokenstream_magic.wire.framing import EventStreamFraming
from tokenstream_magic.wire.values import integer, json_text, mapping, mappings, string

NAME = "anthropic"
FRAMING = EventStreamFraming
MODELS = "/models"
ACCEPT = "text/event-stream, application/json;q=0.5"
ATTACHMENTS = parts.IMAGES | {parts.PDF}
JSON_MODE = False
LACKS = frozenset({"seed", "logprobs"})
VERSION = "2023-06-01"
MAX_TOKENS = 1024  # the API has no default of its own: a request without it is refused

# our name for a request field -> this protocol's
FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "stop": "stop_sequences",
}

# these stand in output_config; and the API refuses a request with a field it does not know
_NOT_AS_THEY_ARE = LACKS | {"reasoning_effort", "schema"}

# blocks in which the model calls a tool, whoever runs it
_CALLING = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})

_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """The request for ``messages`` (``{"role", "content"}`` each). ``options`` are named in :data:`FIELDS` or go as they are.

    System messages go into ``system``. What the API does not have (:data:`LACKS`) is left out.
    """
    body: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS}
    system = [message.get("content") for message in messages if message.get("role") == "system"]
    if any(system):
        body["system"] = _system(system)
    body["messages"] = _messages(messages)
    body["stream"] = True
    for name, value in options.items():
        if name == "stop" and isinstance(value, str):
            body["stop_sequences"] = [value]
        elif name == "tool":
            body["tools"] = [
                {"name": tool.get("name"), "description": tool.get("description"), "input_schema": tool.get("parameters")}
                for tool in mappings(value)
            ]
        elif name not in _NOT_AS_THEY_ARE:
            body[FIELDS.get(name, name)] = value
    if "reasoning_effort" in options:
        body["output_config"] = {**mapping(body.get("output_config")), "effort": options["reasoning_effort"]}
    if "schema" in options:
        wanted = {"type": "json_schema", "schema": options["schema"]}
        body["output_config"] = {**mapping(body.get("output_config")), "format": wanted}
    return Request("/messages", body, {"Accept": ACCEPT, "anthropic-version": VERSION})


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns: calls are blocks of the assistant's, and the results of one turn's calls share a turn of the user's."""
    turns: list[dict[str, Any]] = []
    after_result = False
    for message in messages:
        role = message.get("role")
        if role == "system":
            continue
        if role == "tool":
            result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": message.get("content")}
            if after_result:
                turns[-1]["content"].append(result)
            else:
                turns.append({"role": "user", "content": [result]})
            after_result = True
            continue
        after_result = False
        turn = {name: value for name, value in message.items() if name != "tool_calls"}
        if "content" in message:
            turn["content"] = parts.contents(message["content"], _attachment, lambda text: {"type": "text", "text": text})
        called = [
            {"type": "tool_use", "id": identifier, "name": name, "input": parts.arguments(arguments)}
            for identifier, name, arguments in parts.calls(message)
        ]
        if called:
            said = turn.get("content")
            blocks = [{"type": "text", "text": said}] if isinstance(said, str) and said else list(said or [])
            turn["content"] = [*blocks, *called]
        turns.append(turn)
    return turns


def _attachment(part: Mapping[str, Any]) -> dict[str, Any]:
    source = {"type": "base64", "media_type": part["media_type"], "data": part["data"]}
    if part["media_type"] in parts.IMAGES:
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": part["name"]}


def authorization(key: str) -> dict[str, str]:
    """The header that carries the key."""
    return {"x-api-key": key}


class Decoder(MessageDecoder):
    """Frames of one stream into events; ``verdict`` says how it ended."""

    TEXT_AT = ("delta", "text")

    def __init__(self) -> None:
        super().__init__()
        self._started = False  # a message_start came
        self._blocks: dict[int | None, str] = {}  # the type of the block last opened at an index
        self._inputs: dict[int | None, tuple[int, Any]] = {}  # open calls of which no argument text came: call and ``input``
        self._calls = Calls()
        self._called = False
        self._counts: dict[str, int] = {}
        self._finished = False
        self._terminated = False
        self._spliced = False

    def _said(self) -> bool:
        return bool(self.characters or self._called)

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer that was sent in one JSON object: the server ignored ``stream``."""
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
            return []
        events: list[Event] = []
        self._start(message, events)
        for index, block in enumerate(mappings(message["content"])):
            self._open(block, index, events)
            self._close(index, events)
        self._end(message, events)
        failure = find_failure(message)
        if failure is not None:
            events.append(self._fail(failure))
        self._terminated = self._terminated or bool(self._finished or self.characters)
        return events

    def _judge(self) -> Verdict:
        """How the stream ended, judged at its end: only ``message_stop`` makes an answer complete."""
        if self._terminated:
            return self._complete()
        if not self._started and not self._has_content() and not self._finished:
            return self._empty()
        return Verdict("truncated", f"ended without message_stop after {self.characters} characters")

    def _has_content(self) -> bool:
        return bool(self.characters or self._called or self._blocks)

    def _message(self, message: Any) -> list[Event]:
        failure = find_failure(message)
        if not isinstance(message, Mapping):
            return [self._fail(failure) if failure else Unknown(type(message).__name__)]
        events: list[Event] = []
        kind = message.get("type")
        if kind == "message_stop":
            self._close_all(events)
            self._terminated = True
            events.append(Terminator())
        elif self._spliced:  # what follows belongs to another answer
            events.append(Unknown("after a second message_start"))
        elif kind == "content_block_delta":
            self._delta(mapping(message.get("delta")), integer(message.get("index")), events)
        elif kind == "content_block_start":
            self._open(mapping(message.get("content_block")), integer(message.get("index")), events)
        elif kind == "content_block_stop":
            self._close(integer(message.get("index")), events)
        elif kind == "message_start":
            self._start(mapping(message.get("message")), events)
        elif kind == "message_delta":
            self._close_all(events)
            self._end({**mapping(message.get("delta")), "usage": message.get("usage")}, events)
        elif kind != "ping" and failure is None:
            events.append(Unknown((string(kind) or "message")[:80]))
        if failure is not None:
            events.append(self._fail(failure))
        return events or [KeepAlive()]

    def _start(self, message: Mapping[str, Any], events: list[Event]) -> None:
        """A message begins. Gateways that retry begin a second one in the same stream (wire notes, failure 57)."""
        identifier = string(message.get("id"))
        if self._started and identifier == self._served.response_id:
            return
        if self._started and self._has_content():
            self._spliced = True
            events.append(self._fail(Failure("the server began a second answer in the middle of the first", type="spliced")))
            return
        self._started = True
        self._counts.clear()
        self._serve(Served(string(message.get("model")), None, identifier), events)
        self._usage(message.get("usage"), events)

    def _serve(self, served: Served, events: list[Event]) -> None:
        if served != self._served:
            self._served = served
            events.append(served)

    def _open(self, block: Mapping[str, Any], index: int | None, events: list[Event]) -> None:
        self._close(index, events)  # a gateway may not close what it opened
        kind = string(block.get("type")) or "block"
        self._blocks[index] = kind
        if kind == "text":
            self._say(Text, block.get("text"), events)
            events += citations.listed(block.get("citations"))
        elif kind == "thinking":
            self._say(Reasoning, block.get("thinking"), events)
        elif kind in _CALLING:
            identifier = string(block.get("id"))
            call = self._calls.place(identifier, index)
            self._called = True
            self._inputs[index] = call, block.get("input")
            events.append(ToolCall(call, identifier, string(block.get("name"))))
        elif kind == "fallback" and string(mapping(block.get("to")).get("model")):
            self._serve(Served(block["to"]["model"], None, self._served.response_id), events)  # another model goes on
        else:
            events.append(Unknown(kind[:80]))

    def _close(self, index: int | None, events: list[Event]) -> None:
        """A block ends. Arguments come as deltas or, from some gateways, whole in the ``input`` it was opened with."""
        call, arguments = self._inputs.pop(index, (0, None))
        if isinstance(arguments, Mapping):
            events.append(ToolCall(call, arguments=json_text(arguments)))

    def _close_all(self, events: list[Event]) -> None:
        for index in list(self._inputs):
            self._close(index, events)

    def _delta(self, delta: Mapping[str, Any], index: int | None, events: list[Event]) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self._say(Text, delta.get("text"), events)
        elif kind == "thinking_delta":
            self._say(Reasoning, delta.get("thinking"), events)
        elif kind == "input_json_delta":
            self._arguments(delta.get("partial_json"), index, events)
        elif kind == "citations_delta":
            events += citations.listed([delta.get("citation")])
        elif kind != "signature_delta":  # a signature is for the server to check, nothing to show
            events.append(Unknown((string(kind) or "delta")[:80]))

    def _arguments(self, arguments: Any, index: int | None, events: list[Event]) -> None:
        if not self._called or self._blocks.get(index, "tool_use") not in _CALLING:
            events.append(Unknown("input_json_delta outside a tool call"))
            return
        if arguments is not None and not isinstance(arguments, str):
            arguments = json_text(arguments)
        if arguments:
            self._inputs.pop(index, None)
            events.append(ToolCall(self._calls.place(None, index), arguments=arguments))

    def _say(self, kind: type[Text | Reasoning | Refusal], text: Any, events: list[Event]) -> None:
        if isinstance(text, str) and text:
            self.characters += len(text)
            events.append(kind(text))

    def _end(self, message: Mapping[str, Any], events: list[Event]) -> None:
        """What is known when the model has ended: its reason, its explanation of a refusal, the usage."""
        reason = string(message.get("stop_reason"))
        if reason and not self._finished:
            self._finished = True
            if reason == "refusal":
                self._say(Refusal, mapping(message.get("stop_details")).get("explanation"), events)
            events.append(Finish(reason))
        self._usage(message.get("usage"), events)

    def _usage(self, usage: Any, events: list[Event]) -> None:
        """The counts so far: each one replaces the same one before it.

        Anthropic's ``input_tokens`` leaves out what the prompt cache read and wrote; ours, as everywhere else, is the whole
        prompt (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance).
        """
        if not isinstance(usage, Mapping):
            return
        given = {name: usage.get(name) for name in _COUNTS}
        given["thinking_tokens"] = mapping(usage.get("output_tokens_details")).get("thinking_tokens")
        self._counts.update({name: count for name, value in given.items() if (count := integer(value)) is not None})
        counts, prompt = self._counts, None
        if "input_tokens" in counts:
            prompt = sum(counts.get(name, 0) for name in _COUNTS[:3])
        found = Usage(prompt, counts.get("output_tokens"), counts.get("thinking_tokens"), counts.get("cache_read_input_tokens"))
        if found != Usage():
            events.append(found)


def _system(contents: list[Any]) -> str | list[Any]:
    """The system messages as one text, or as blocks when one of them is made of blocks."""
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(content for content in contents if content)
    blocks: list[Any] = []
    for content in contents:
        if isinstance(content, str):
            blocks += [{"type": "text", "text": content}] if content else []
        elif isinstance(content, list):
            blocks += content
    return blocks
