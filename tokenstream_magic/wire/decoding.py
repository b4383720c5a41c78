"""What the decoders of all protocols do alike: take pieces apart, keep the first failure, judge the end.

A protocol adds ``_message`` (one JSON message into events), ``_said`` (whether anything was answered) and ``_judge``
(how a stream ended in which nothing failed).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

from tokenstream_magic.wire.events import Event, Failure, KeepAlive, Served, Text, Unknown, Verdict
from tokenstream_magic.wire.failures import failure_of_text
from tokenstream_magic.wire.framing import Comment, Frame, Piece
from tokenstream_magic.wire.template import Template, learn
from tokenstream_magic.wire.values import loads

_LESSON = 8  # a stream whose chunks all differ is not learned from more often than this many chunks


class MessageDecoder(ABC):
    """Pieces of one stream into events; ``verdict`` says how it ended. ``characters`` counts what was answered."""

    UNIT = "frame"
    OBJECTS = b""
    """The name under which this protocol sends arguments as objects: their numbers are parsed with all their digits."""
    TEXT_AT: tuple[str | int, ...] = ()
    """Where the text is in a chunk that repeats the one before it but for that text; empty where chunks do not."""

    def __init__(self) -> None:
        self.characters = 0
        self._served = Served()
        self._failure: Failure | None = None
        self._undecodable = 0
        self._event = "message"
        self._template: Template | None = None
        self._untaught = _LESSON

    def decode(self, piece: Piece) -> list[Event]:
        """The events of one piece. Never raises on what a server sends."""
        if not isinstance(piece, Frame):
            return [KeepAlive()] if isinstance(piece, Comment) else self._stray(piece.text)
        data, event = piece.raw, piece.event
        template = self._template
        if template is not None and event == template.event and (text := template.text(data)) is not None:
            self.characters += len(text)
            return [Text(text, template.choice)]
        self._event = event
        if not data.startswith(b"{"):
            if data.startswith(b"[DONE]"):
                return self._done()
            if data.startswith(b":"):  # a comment that something on the way wrote as data
                return [KeepAlive()]
        try:
            message = json.loads(piece.data) if self.OBJECTS and self.OBJECTS in data else loads(data)
            events = self._message(message)
            if self.TEXT_AT:
                self._learn(data, message, events)
        except (ValueError, RecursionError):
            events = self._values(piece.data, terminated=piece.terminated)
        if event == "error" and self._failure is None:
            events.append(self._fail(Failure(piece.data, type="server_error")))
        return events

    def verdict(self) -> Verdict:
        """How the stream ended, judged at its end: an error, something unreadable, or what the protocol says."""
        if self._failure is not None:
            return Verdict("failed", self._failure.message, self._failure)
        if self._undecodable:
            lost = f"{self._undecodable} {self.UNIT}{'s' if self._undecodable > 1 else ''} of the stream could not be read"
            if self._said():
                return Verdict("truncated", f"{lost}: the answer may not be whole")
            return Verdict("failed", lost, Failure(lost, type="undecodable"))
        return self._judge()

    @abstractmethod
    def _message(self, message: Any) -> list[Event]:
        """The events of one JSON message."""

    @abstractmethod
    def _said(self) -> bool:
        """Whether anything was answered."""

    @abstractmethod
    def _judge(self) -> Verdict:
        """How a stream ended in which nothing failed and all could be read."""

    def _done(self) -> list[Event]:
        """``[DONE]`` where it is not the protocol's own: gateways in front of several protocols add it to all."""
        return [Unknown("[DONE]")]

    def _stray(self, text: str) -> list[Event]:
        failure = failure_of_text(text)
        return [self._fail(failure)] if failure else [Unknown("stray line")]

    def _values(self, data: str, *, terminated: bool) -> list[Event]:
        """Two JSON values in one frame: a gateway put its error behind an unfinished event. Or nothing that can be read."""
        events: list[Event] = []
        decoder, position = json.JSONDecoder(), 0
        try:
            while position < len(data):
                message, position = decoder.raw_decode(data, position)
                events += self._message(message)
                while data[position : position + 1].isspace():
                    position += 1
        except (ValueError, RecursionError):
            if terminated and self._event != "error":
                events.append(self._unreadable())
        return events

    def _learn(self, raw: bytes, message: Any, events: list[Event]) -> None:
        """Takes a chunk as the template of the next ones: at once after one that was different, else now and then."""
        if len(events) != 1 or type(events[0]) is not Text:
            self._template, self._untaught = None, _LESSON
            return
        self._untaught += 1
        if self._untaught >= _LESSON:
            self._untaught = 0
            self._template = learn(raw, message, self.TEXT_AT, self._event, events[0].choice)

    def _unreadable(self) -> Unknown:
        self._undecodable += 1
        return Unknown(f"undecodable {self.UNIT}")

    def _fail(self, failure: Failure) -> Failure:
        self._failure = self._failure or failure
        return failure

    def _complete(self, note: str = "") -> Verdict:
        return Verdict("complete", note if self._said() else "the server ended the answer without any text")

    def _empty(self) -> Verdict:
        return Verdict("failed", "empty stream", Failure("the server closed an empty stream", type="empty_stream"))
