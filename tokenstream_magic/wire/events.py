"""The vocabulary every protocol decodes to, and the verdict on how a stream ended.

Events are plain values. ``choice`` is the index of the answer they belong to (``n`` > 1), 0 otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Union

from tokenstream_magic.plain import whole_text

Outcome = Literal["running", "complete", "stopped", "truncated", "failed"]


@dataclass(slots=True)
class Text:
    """A piece of the answer."""

    text: str
    choice: int = 0


@dataclass(slots=True)
class Reasoning:
    """A piece of what the model thinks before or between its answers."""

    text: str
    choice: int = 0


@dataclass(slots=True)
class Refusal:
    """A piece of the model's refusal to answer."""

    text: str
    choice: int = 0


@dataclass(slots=True)
class ToolCall:
    """A piece of a tool call: ``id`` and ``name`` come once, ``arguments`` (JSON text) grows.

    ``call`` is the position of the call among the calls of its choice.
    """

    call: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0


@dataclass(slots=True)
class Annotation:
    """A source the answer points to: an address, a title or the words quoted from it.

    ``start`` and ``end`` are what the server says about the place: mostly characters of the answer, for a ``kind`` that
    names a document a place in that document.
    """

    kind: str
    url: str | None = None
    title: str | None = None
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    choice: int = 0


@dataclass(slots=True)
class Token:
    """A token with the natural logarithm of its probability, and the likeliest ones in its place with theirs."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class Logprobs:
    """How likely the tokens of a piece of the answer were."""

    tokens: list[Token]
    choice: int = 0


@dataclass(slots=True)
class Served:
    """Who answered: the model the server names, its fingerprint, the id of the response."""

    model: str | None = None
    system_fingerprint: str | None = None
    response_id: str | None = None


@dataclass(slots=True)
class Usage:
    """Token counts as the server reports them, cumulative: the last one replaces those before it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None


@dataclass(slots=True)
class ServerTiming:
    """The server's own figures, as sent (llama.cpp ``timings``, Groq ``x_groq.usage`` and the like)."""

    figures: dict[str, Any]


@dataclass(slots=True)
class Progress:
    """The server is still reading the prompt: ``done`` of ``total`` tokens."""

    done: int
    total: int


@dataclass(slots=True)
class Finish:
    """The model says why it ended this choice. Not the end of the stream: usage may follow."""

    reason: str
    choice: int = 0


@dataclass(slots=True)
class Failure:
    """An error the server reports, in the stream or instead of it."""

    message: str
    type: str | None = None
    status: int | None = None
    code: str | int | None = None


@dataclass(slots=True)
class Terminator:
    """The protocol's own end marker (``[DONE]``). Nothing after it belongs to this answer."""


@dataclass(slots=True)
class KeepAlive:
    """The server is alive and says nothing: a comment, a ping, an empty delta."""


@dataclass(slots=True)
class Unknown:
    """Something this protocol does not define. Counted, kept by name, never the end of a stream."""

    name: str


Event = Union[
    Text, Reasoning, Refusal, ToolCall, Annotation, Logprobs, Served, Usage, ServerTiming, Progress, Finish, Failure, Terminator,
    KeepAlive, Unknown,
]  # fmt: skip
"""Anything a decoder hands on."""

Content = (Text, Reasoning, Refusal, ToolCall)
"""The events that carry what the model generated: these, and only these, are progress."""


@dataclass(slots=True)
class Verdict:
    """How a stream ended and why, in one line when there is something to say."""

    outcome: Outcome
    note: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class Request:
    """What a protocol asks a server: a path below the endpoint's base URL, headers without keys, a JSON body."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class SurrogateJoiner:
    r"""Puts UTF-16 surrogate pairs together that a server split over two deltas.

    Some servers cut a character outside the BMP into ``\ud83d`` and ``\ude00`` in separate JSON strings
    (wire.md, failure 58). A trailing high surrogate is held until the next piece; a lone one becomes U+FFFD.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The part of ``text`` that is whole; what was held before comes first."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._held, text = text[-1], text[:-1]
        return whole_text(text)

    def end(self) -> str:
        """What was still held: U+FFFD for half a character, or nothing."""
        held, self._held = self._held, ""
        return whole_text(held)
