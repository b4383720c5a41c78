"""OpenAI Responses, ``stream: true``, as OpenAI, Azure, OpenRouter, llama.cpp and others speak it.

A stream of events named by ``type``, each about an item of the output; the last one is ``response.completed``,
``response.incomplete`` or ``response.failed`` and carries the whole response, usage included. OpenAI sends no ``[DONE]``.
Fields: https://platform.openai.com/docs/api-reference/responses-streaming; dialects: the project's wire notes, section 1.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

NAME = "openai-responses"
FRAMING = EventStreamFraming
MODELS = "/models"
ACCEPT = "text/event-stream, application/json;q=0.5"
ATTACHMENTS = parts.IMAGES | {parts.PDF}
JSON_MODE = True
LACKS = frozenset({"seed", "stop"})

# our name for a request field -> this protocol's
FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning",
}

_NOT_AS_THEY_ARE = (
    "seed",
    "stop",
    "logprobs",
    "reasoning_effort",
    "schema",
    "json",
    "tool",
)  # Responses has no seed and no stop, and other shapes for the rest
_LOGPROBS = "message.output_text.logprobs"
_MOST_ITEMS = 4096

# an event's name before ".delta" or ".done" -> the field of ".done" that holds the whole text, the event its text becomes
_TEXTS: dict[str, tuple[str, type[Text | Reasoning | Refusal]]] = {
    "response.output_text": ("text", Text),
    "response.refusal": ("refusal", Refusal),
    "response.reasoning_text": ("text", Reasoning),
    "response.reasoning_summary_text": ("text", Reasoning),
}
_ARGUMENTS = {"response.function_call_arguments": "arguments", "response.custom_tool_call_input": "input"}
_PARTS = {  # the type of a part of an item -> the events that stream it
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning_text": "response.reasoning_text",
    "summary_text": "response.reasoning_summary_text",
}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}  # the type of an item -> where its arguments are
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_SILENT = {  # these say nothing that another event does not say
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.content_part.added",
    "response.content_part.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
}


def request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """The request for ``messages`` (``{"role", "content"}`` each). ``options`` are named in :data:`FIELDS` or go as they are."""
    system = [m["content"] for m in messages if _is_system(m)]
    body: dict[str, Any] = {"model": model, "input": [item for m in messages if not _is_system(m) for item in _items(m)], "stream": True}
    if system:
        body["instructions"] = "\n\n".join(system)
    body.update({FIELDS.get(name, name): value for name, value in options.items() if name not in _NOT_AS_THEY_ARE})
    if "reasoning_effort" in options:
        body["reasoning"] = {**mapping(options.get("reasoning")), "effort": options["reasoning_effort"]}
    logprobs = options.get("logprobs")
    if isinstance(logprobs, int) and logprobs is not False:
        included = body.get("include")
        body["include"] = [*(included if isinstance(included, list) else ()), _LOGPROBS]
        if logprobs is not True:
            body["top_logprobs"] = logprobs
    if "schema" in options:
        schema = options["schema"]
        wanted = {"type": "json_schema", "name": "answer", "schema": schema, "strict": parts.is_strict(schema)}
        body["text"] = {**mapping(options.get("text")), "format": wanted}
    elif "json" in options:
        body["text"] = {**mapping(options.get("text")), "format": {"type": "json_object"}}
    if "tool" in options:
        body["tools"] = [{"type": "function", **tool, "strict": False} for tool in mappings(options["tool"])]
    return Request("/responses", body, {"Accept": ACCEPT})


def _items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input items of a message: tool calls and their results are items of their own."""
    if message.get("role") == "tool":
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": message.get("content")}]
    written = {name: value for name, value in message.items() if name != "tool_calls"}
    if "content" in message:
        kind = "output_text" if message.get("role") == "assistant" else "input_text"
        written["content"] = parts.contents(message["content"], _attachment, lambda text: {"type": kind, "text": text})
        if kind == "output_text" and isinstance(message["content"], str):  # llama.cpp knows an answer only in its full spelling
            written |= {"type": "message", "content": [{"type": kind, "text": message["content"]}] if message["content"] else ""}
    called = [
        {"type": "function_call", "call_id": identifier, "name": name, "arguments": arguments}
        for identifier, name, arguments in parts.calls(message)
    ]
    return [*([written] if written.get("content") or not called else []), *called]


def _attachment(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["media_type"] in parts.IMAGES:
        return {"type": "input_image", "image_url": parts.data_url(part), "detail": "auto"}
    return {"type": "input_file", "filename": part["name"], "file_data": parts.data_url(part)}


def authorization(key: str) -> dict[str, str]:
    """The header that carries the key."""
    return {"Authorization": f"Bearer {key}"}


class _Items:
    """Which item of the output an event is about: by its index, else by its id, else the one that is open.

    GitHub Copilot changes an item's id between its events and some servers send no index (wire notes, failure 57).
    """

    def __init__(self) -> None:
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._indexed: set[int] = set()  # items that have an index
        self._count = 0
        self._open = False  # the last item may go on

    def place(self, index: int | None, identifier: str | None, *, opens: bool = False, closes: bool = False) -> int:
        """The number of the item. ``opens``: what is not known is a new one, whatever is open; ``closes``: it is the last event of it."""
        item = self._by_index.get(index) if index is not None else None
        if item is None:
            item = self.known(identifier)
            if index is not None and item in self._indexed:  # one id for several items: the index tells them apart
                item = None
        if item is None:
            new = opens or not self._open or (index is not None and self._count - 1 in self._indexed)
            self._count += new and self._count < _MOST_ITEMS
            item = self._count - 1
        if index is not None and len(self._by_index) < _MOST_ITEMS:
            self._by_index.setdefault(index, item)
            self._indexed.add(item)
        if identifier is not None and len(self._by_id) < _MOST_ITEMS:
            self._by_id.setdefault(identifier, item)
        if item == self._count - 1:
            self._open = not closes
        return item

    def known(self, identifier: str | None) -> int | None:
        """The item that was sent under this id."""
        return self._by_id.get(identifier) if identifier is not None else None


class _Call:
    """What was said of one tool call: its id and name are handed on once."""

    __slots__ = ("arguments", "id", "name", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id: str | None = None
        self.name: str | None = None
        self.arguments = False


class Decoder(MessageDecoder):
    """Frames of one stream into events; ``verdict`` says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._ended = False
        self._items = _Items()
        self._calls: dict[int, _Call] = {}
        self._call_ids: dict[str, int] = {}
        self._seen: dict[tuple[int, str], set[int | None]] = {}  # item and kind of text -> its parts of which text came
        self.place: int | None = None  # the number of the last event
        self.after = -1  # events up to this number were decoded before the stream was resumed

    @property
    def response_id(self) -> str | None:
        """The server's name of the response, by which it can be cancelled and resumed."""
        return self._served.response_id

    def _done(self) -> list[Event]:
        # OpenRouter sends one after the end; before it, it ends nothing
        return [KeepAlive() if self._ended else Unknown("[DONE]")]

    def _said(self) -> bool:
        return bool(self.characters or self._calls)

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer that was sent in one JSON object: the server ignored ``stream``."""
        if not isinstance(message, Mapping) or not isinstance(message.get("output"), list):
            return []
        events: list[Event] = []
        self._server(message, events)
        status = message.get("status")
        if status in ("in_progress", "queued", "cancelled"):
            self._begun = True
            self._output(message, events)
        else:
            self._end(f"response.{status}", message, events)
        return events

    def _judge(self) -> Verdict:
        """How the stream ended, judged at its end: by the event that ends a response, by an error, or by neither."""
        if self._ended:
            return self._complete()
        if not self._begun and not self._said():
            return self._empty()
        return Verdict("truncated", f"ended without response.completed after {self.characters} characters")

    def _message(self, message: Any) -> list[Event]:
        failure = find_failure(message)
        if not isinstance(message, Mapping):
            return [self._fail(failure) if failure else Unknown(type(message).__name__)]
        number = integer(message.get("sequence_number"))
        if number is not None:
            if number <= self.after:
                return [KeepAlive()]
            self.place = number
        # the name is in the data; a server that leaves it out may still name the event on its line
        kind = string(message.get("type")) or self._event
        events: list[Event] = []
        response = mapping(message.get("response"))
        self._server(response, events)
        stem, _, step = kind.rpartition(".")
        self._begun = self._begun or kind.startswith("response.")
        if kind in _ENDS:
            self._end(kind, response, events, failure)
            return events
        if stem in _TEXTS and step in ("delta", "done"):
            self._text(stem, step, message, events)
        elif stem in _ARGUMENTS and step in ("delta", "done"):
            self._arguments(stem, step, message, events)
        elif kind == "response.output_text.annotation.added":
            events += citations.listed([message.get("annotation")])
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(step, message, events)
        elif failure is None and kind not in _SILENT:
            events.append(Unknown(kind[:80]))
        usage = _usage(response.get("usage"))
        if usage is not None:
            events.append(usage)
        if failure is not None:
            events.append(self._fail(failure))
        return events or [KeepAlive()]

    def _server(self, response: Mapping[str, Any], events: list[Event]) -> None:
        served = Served(
            string(response.get("model")) or self._served.model,
            response_id=self._served.response_id or string(response.get("id")),
        )
        if served != self._served:
            self._served = served
            events.append(served)

    def _end(self, kind: str, response: Mapping[str, Any], events: list[Event], failure: Failure | None = None) -> None:
        """The event that ends a response, or a whole response: what it says about the end, after what was not streamed of it."""
        self._begun = True
        self._output(response, events)
        usage = _usage(response.get("usage"))
        if usage is not None:
            events.append(usage)
        reason = string(mapping(response.get("incomplete_details")).get("reason"))
        failure = failure or find_failure({"error": response.get("error")})
        if failure is None and "failed" in (kind.removeprefix("response."), response.get("status")):
            failure = Failure("the server ended the response as failed", type="server_error")
        if failure is not None:
            events.append(self._fail(failure))
        elif not self._ended:
            events.append(Finish(reason or ("incomplete" if kind == "response.incomplete" else "stop")))
        self._ended = True
        events.append(Terminator())

    def _output(self, response: Mapping[str, Any], events: list[Event]) -> None:
        """The items of a whole response of which nothing was streamed.

        An item is known by its id; ids may change, so one that is not known counts only when nothing of its kind came.
        """
        if self._ended:
            return
        streamed = {kind for _, kind in self._seen}
        called = bool(self._calls)
        for item in mappings(response.get("output")):
            identifier = string(item.get("id"))
            known = self._items.known(identifier)
            if known is None and string(item.get("type")) in _CALLS:
                known = self._call_ids.get(str(item.get("call_id")))
                if known is None and called:
                    continue
            place = self._items.place(None, identifier, opens=True) if known is None else known
            self._whole_item(place, item, events, streamed if known is None else set())

    def _whole_item(self, place: int, item: Mapping[str, Any], events: list[Event], streamed: set[str]) -> None:
        kind = string(item.get("type")) or ""
        if kind in _CALLS:
            self._call(place, item, item.get(_CALLS[kind]), events, whole=True)
            return
        known = {stem for at, stem in self._seen if at == place} | streamed
        for number, part in enumerate([*mappings(item.get("summary")), *mappings(item.get("content"))]):
            stem = _PARTS.get(str(part.get("type")))
            if stem is None:
                events.append(Unknown(str(part.get("type"))[:80]))
            elif stem not in known:
                self._add(place, stem, number, part.get(_TEXTS[stem][0]), events)
                events += logprobs.listed(part.get("logprobs"))
            events += citations.listed(part.get("annotations"))

    def _text(self, stem: str, step: str, message: Mapping[str, Any], events: list[Event]) -> None:
        place = self._items.place(integer(message.get("output_index")), string(message.get("item_id")))
        field = "summary_index" if stem == "response.reasoning_summary_text" else "content_index"
        part = integer(message.get(field))
        if step == "delta":
            self._add(place, stem, part, message.get("delta"), events)
            events += logprobs.listed(message.get("logprobs"))
            return
        seen = self._seen.get((place, stem))
        # the whole text again, unless no delta of this part came
        if not seen or not (part is None or part in seen or None in seen):
            self._add(place, stem, part, message.get(_TEXTS[stem][0]), events)

    def _add(self, place: int, stem: str, part: int | None, text: Any, events: list[Event]) -> None:
        if isinstance(text, str) and text:
            self._seen.setdefault((place, stem), set()).add(part)
            self.characters += len(text)
            events.append(_TEXTS[stem][1](text))

    def _item(self, step: str, message: Mapping[str, Any], events: list[Event]) -> None:
        item = mapping(message.get("item"))
        index, identifier = integer(message.get("output_index")), string(item.get("id"))
        place = self._items.place(index, identifier, opens=step == "added", closes=step == "done")
        if step == "done":
            self._whole_item(place, item, events, set())
        elif string(item.get("type")) in _CALLS:  # arguments that are here already come again
            self._call(place, item, None, events)

    def _arguments(self, stem: str, step: str, message: Mapping[str, Any], events: list[Event]) -> None:
        place = self._items.place(integer(message.get("output_index")), string(message.get("item_id")))
        arguments = message.get("delta") if step == "delta" else message.get(_ARGUMENTS[stem])
        self._call(place, {"name": message.get("name")}, arguments, events, whole=step == "done")

    def _call(self, place: int, item: Mapping[str, Any], arguments: Any, events: list[Event], *, whole: bool = False) -> None:
        """A piece of the call that is item ``place``; ``whole`` arguments count only when no piece of them came."""
        call = self._calls.get(place)
        new = call is None
        if call is None:
            if len(self._calls) >= MOST_CALLS:
                events.append(Unknown("tool call"))
                return
            call = self._calls[place] = _Call(len(self._calls))
        identifier = string(item.get("call_id")) or string(item.get("id")) if call.id is None else None
        name = string(item.get("name")) if call.name is None else None
        call.id, call.name = call.id or identifier, call.name or name
        if identifier is not None:
            self._call_ids.setdefault(identifier, place)
        if arguments is not None and not isinstance(arguments, str):
            arguments = json_text(arguments)
        if not arguments or (whole and call.arguments):
            arguments = ""
        call.arguments = call.arguments or bool(arguments)
        if new or identifier or name or arguments:
            events.append(ToolCall(call.position, identifier, name, arguments))


def _is_system(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "system" and isinstance(message.get("content"), str)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    return Usage(
        integer(usage.get("input_tokens")),
        integer(usage.get("output_tokens")),
        integer(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
        integer(mapping(usage.get("input_tokens_details")).get("cached_tokens")),
    )
