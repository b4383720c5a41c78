"""The protocols by name, all of one shape: ``request``, ``authorization`` and a ``Decoder``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tokenstream_magic.wire import anthropic, gemini, ollama, openai_chat, openai_responses
from tokenstream_magic.wire.events import Event, Request, Verdict
from tokenstream_magic.wire.framing import Piece


class StreamDecoder(Protocol):
    """Pieces of one stream into events."""

    characters: int

    def decode(self, piece: Piece) -> list[Event]:
        """The events of one piece."""

    def whole(self, message: Any) -> list[Event]:
        """The events of an answer that came in one JSON object instead of a stream."""

    def verdict(self) -> Verdict:
        """How the stream ended."""


class Framing(Protocol):
    """Reads into pieces."""

    def feed(self, read: bytes) -> list[Piece]:
        """The pieces that the bytes of one read complete."""

    def end(self) -> list[Piece]:
        """What the stream left unfinished."""


class WireProtocol(Protocol):
    """What one protocol module offers. ``MODELS`` is the path that lists what a server serves.

    ``ATTACHMENTS`` are the media types it takes beside text, ``JSON_MODE`` whether it can be asked for JSON without a schema.
    ``LACKS`` are those of our names for request fields for which it has no field: ``request`` leaves them out.
    """

    NAME: str
    MODELS: str
    ATTACHMENTS: frozenset[str]
    JSON_MODE: bool
    LACKS: frozenset[str]

    @property
    def FRAMING(self) -> Callable[..., Framing]:  # noqa: N802 - the modules' constant
        """Makes what cuts a body of this protocol into pieces, of at most so many bytes when it is given a number."""

    def request(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
        """The request to send."""

    def authorization(self, key: str) -> dict[str, str]:
        """The header that carries the key."""

    def Decoder(self) -> StreamDecoder:  # noqa: N802 - the modules' class, called to make one
        """A decoder for one stream."""


PROTOCOLS: dict[str, WireProtocol] = {protocol.NAME: protocol for protocol in (openai_chat, openai_responses, anthropic, gemini, ollama)}
"""Every protocol we speak."""
