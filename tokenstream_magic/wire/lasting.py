"""Answers a server goes on with when the connection is gone: how to end them there, and how to come back to them.

Closing the socket ends an answer everywhere else. Two servers have lasting ones, both only when asked for: OpenAI
Responses with ``background: true``, where the response's id names the answer and the ``sequence_number`` of its events the
place in it; and llama.cpp with a conversation id of our own making, where the place is the number of bytes of the body.
The first goes on with a fresh frame, the second in the middle of one. No other protocol has either, so nothing else is
ever asked to go on. Measured: the project's wire notes, sections 1.2, 1.3 and 1.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from tokenstream_magic.wire import openai_chat, openai_responses
from tokenstream_magic.wire.events import Request

CONVERSATION = "X-Conversation-Id"

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,256}")  # what a server sends goes into a path only when it can only be a name


@dataclass(frozen=True, slots=True)
class Errand:
    """A request about an answer: a method and a path below the endpoint's base URL."""

    method: str
    path: str
    accept: str = "application/json"


class Lasting(Protocol):
    """One answer that lasts. ``mid_frame``: coming back goes on where the bytes broke off, and not with a fresh frame."""

    mid_frame: bool

    def received(self, size: int) -> None:
        """So many bytes of the body were read."""

    def cancel(self) -> Errand | None:
        """How to end it at the server; None while the server has not named it."""

    def resume(self) -> Errand | None:
        """How to come back to the place reached; None when there is no way back."""

    def is_over(self, status: int) -> bool:
        """Whether this status, in answer to :meth:`cancel`, means that nothing goes on."""


class Background:
    """A response of OpenAI Responses with ``background: true``."""

    mid_frame = False

    def __init__(self, decoder: openai_responses.Decoder) -> None:
        self._decoder = decoder

    def received(self, size: int) -> None:
        """Bytes do not count here: the events are numbered."""

    def cancel(self) -> Errand | None:
        """``POST /responses/{id}/cancel``."""
        name = self._name()
        return Errand("POST", f"/responses/{name}/cancel") if name else None

    def resume(self) -> Errand | None:
        """``GET /responses/{id}``, streamed, from the event behind the last one that was decoded."""
        name, place = self._name(), self._decoder.place
        if name is None or place is None:
            return None
        self._decoder.after = place  # a server that begins too early doubles nothing
        return Errand("GET", f"/responses/{name}?stream=true&starting_after={place}", openai_responses.ACCEPT)

    def is_over(self, status: int) -> bool:
        """Only a success is: a response that is not found may be another account's, or not stored yet."""
        return 200 <= status < 300

    def _name(self) -> str | None:
        name = self._decoder.response_id
        return name if name is not None and _IDENTIFIER.fullmatch(name) else None


class Conversation:
    """An answer of llama.cpp to a request with a conversation id."""

    mid_frame = True

    def __init__(self, identifier: str) -> None:
        self._identifier = quote(identifier, safe="")
        self._bytes = 0

    def received(self, size: int) -> None:
        """The place is counted in bytes of the body, keep-alives included."""
        self._bytes += size

    def cancel(self) -> Errand | None:
        """``DELETE /stream?conv_id=``."""
        return Errand("DELETE", f"/stream?conv_id={self._identifier}")

    def resume(self) -> Errand | None:
        """``GET /stream?conv_id=&from=``."""
        return Errand("GET", f"/stream?conv_id={self._identifier}&from={self._bytes}", openai_chat.ACCEPT)

    def is_over(self, status: int) -> bool:
        """A success; or 404, from a server that has no conversations, so that closing the connection ended the answer."""
        return 200 <= status < 300 or status == 404


def ask_to_last(protocol: str, request: Request, identifier: str) -> None:
    """Makes ``request`` one for an answer that lasts, in the protocols that have such. ``identifier`` is unique to it."""
    if protocol == openai_responses.NAME:
        request.body.setdefault("background", True)
    elif protocol == openai_chat.NAME:
        request.headers[CONVERSATION] = identifier


def lasting(request: Request, decoder: Any) -> Lasting | None:
    """How to end or resume the answer to ``request`` that ``decoder`` reads; None when it ends with its connection."""
    if isinstance(decoder, openai_responses.Decoder):
        return Background(decoder) if request.body.get("background") is True else None
    identifier = request.headers.get(CONVERSATION)
    return Conversation(identifier) if identifier else None
