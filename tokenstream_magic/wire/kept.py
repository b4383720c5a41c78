"""The wire as it was: the requests of a run, what came back and when, kept when it is asked for with ``--wire``.

A :class:`Tap` gathers while the run goes on; it costs a copy of the bytes and three numbers a read. What it gathered
becomes a :class:`Wire` only masked (:mod:`tokenstream_magic.wire.masking`).
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tokenstream_magic.wire.listed import Listed

LIMIT = 32 * 1024 * 1024
"""Bytes of body that are kept of one run, all its attempts together."""
MOST_READS = 1_000_000

_MAGIC = b"TSW1"
_HEAD_LIMIT = 64 * 1024 * 1024  # the numbers of a million reads, as text
_HEAD = struct.Struct(">I")

Headers = list[tuple[str, str]]


class Taken(NamedTuple):
    """One network read: its bytes, when they came (ns since the request of the answer) and its number, from 1."""

    data: bytes
    offset_ns: int
    number: int


@dataclass
class Request:
    """A request: method, URL and headers, masked. Its body is in the transcript: messages and options."""

    method: str
    url: str
    headers: Headers = field(default_factory=list)


@dataclass
class Response:
    """The status and the headers of a response, masked."""

    status: int
    headers: Headers = field(default_factory=list)


@dataclass
class Exchange:
    """One request with what came back; ``response`` is None when nothing did.

    ``attempt`` counts from 0: a retry is another one, coming back to an answer that broke off is not. ``sent_ns`` is when
    the request was written, on the clock of the reads. ``whole``: the response was no stream. ``renewed``: the framing
    begins anew here, and an unfinished frame before it is sent again. The reads are a body and, for each, where it ends,
    when it came (ns) and its number: :attr:`reads` puts them together.
    """

    attempt: int
    request: Request
    response: Response | None = None
    sent_ns: int | None = None
    whole: bool = False
    renewed: bool = False
    body: bytes = b""
    ends: array[int] = field(default_factory=lambda: array("q"), repr=False)
    stamps: array[int] = field(default_factory=lambda: array("q"), repr=False)
    numbers: array[int] = field(default_factory=lambda: array("q"), repr=False)

    @property
    def reads(self) -> Iterator[Taken]:
        """The reads, in order."""
        start = 0
        for end, at, number in zip(self.ends, self.stamps, self.numbers, strict=True):
            yield Taken(self.body[start:end], at, number)
            start = end


@dataclass
class Wire:
    """What went over the wire in one run, keys masked; ``left_out`` are the bytes beyond :data:`LIMIT` that were not kept."""

    protocol: str
    exchanges: list[Exchange] = field(default_factory=list)
    left_out: int = 0
    tab: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """What a page shows of it, once that was worked out."""

    @property
    def answer(self) -> list[Exchange]:
        """The exchanges of the last attempt: one, unless the connection broke and the answer was resumed."""
        last = self.exchanges[-1].attempt if self.exchanges else 0
        return [exchange for exchange in self.exchanges if exchange.attempt == last]

    @property
    def request(self) -> Request | None:
        """The last attempt's request."""
        return self.answer[0].request if self.exchanges else None

    @property
    def response(self) -> Response | None:
        """What came back to it."""
        return self.answer[0].response if self.exchanges else None

    @property
    def reads(self) -> list[Taken]:
        """The reads of the last attempt."""
        return [read for exchange in self.answer for read in exchange.reads]

    @property
    def size(self) -> int:
        """Bytes of all bodies that are kept."""
        return sum(len(exchange.body) for exchange in self.exchanges)

    def body(self) -> bytes:
        """The body of the answer as it came: what ``.sse`` files hold and :func:`~tokenstream_magic.decode` reads.

        Transfer and content coding are undone. Where an answer was resumed, a frame that broke off and was sent again is there once.
        """
        answer = self.answer
        if not any(exchange.renewed for exchange in answer):
            return b"".join(exchange.body for exchange in answer)
        from tokenstream_magic.wire.listed import walk

        whole = b"".join(exchange.body for exchange in answer)
        lost = [(piece.start, piece.end) for piece in walk(answer, self.protocol) if piece.kind == "lost"]
        kept, start = [], 0
        for begin, end in lost:
            kept.append(whole[start:begin])
            start = end
        return b"".join([*kept, whole[start:]])

    def frames(self) -> list[Listed]:
        """Every frame, comment and stray line of every attempt: when it came, in which read, and what it became."""
        from tokenstream_magic.wire.listed import listed

        return listed(self)

    def pack(self) -> bytes:
        """Compressed, for the store. :func:`unpack` reads it."""
        head = json.dumps(
            {
                "protocol": self.protocol,
                "left_out": self.left_out,
                "exchanges": [_plain(exchange) for exchange in self.exchanges],
            },
            ensure_ascii=False,
        ).encode("utf-8", "replace")
        bodies = b"".join(exchange.body for exchange in self.exchanges)
        return _MAGIC + zlib.compress(_HEAD.pack(len(head)) + head + bodies, 6)


def unpack(packed: bytes) -> Wire:
    """The wire of :meth:`Wire.pack`. Raises ValueError when it is damaged, or unpacks to more than was ever packed."""
    try:
        if packed[:4] != _MAGIC:
            raise ValueError("not a kept wire")
        stream = zlib.decompressobj()
        raw = stream.decompress(packed[4:], LIMIT + _HEAD_LIMIT)
        if not stream.eof:
            raise ValueError("cut off, or larger than a wire can be")
        (size,) = _HEAD.unpack_from(raw)
        head = json.loads(raw[_HEAD.size : _HEAD.size + size])
        position = _HEAD.size + size
        wire = Wire(str(head["protocol"]), left_out=int(head["left_out"]))
        for plain in head["exchanges"]:
            exchange, length = _from_plain(plain)
            exchange.body = raw[position : position + length]
            if len(exchange.body) != length or (exchange.ends and exchange.ends[-1] != length):
                raise ValueError("the bytes of a read are missing")
            position += length
            wire.exchanges.append(exchange)
    except (zlib.error, struct.error, KeyError, TypeError, IndexError, OverflowError, RecursionError, AttributeError) as error:
        raise ValueError(f"the kept wire is damaged: {error}") from None
    return wire


class Tap:
    """Gathers the wire of a run on the stream thread. ``left_out`` counts bytes beyond the limit."""

    def __init__(self, protocol: str, limit: int = LIMIT) -> None:
        self.left_out = 0
        self._protocol = protocol
        self._limit = limit
        self._size = self._reads = 0
        self._exchanges: list[tuple[Exchange, bytearray]] = []
        self.news: deque[tuple[Any, ...]] = deque()
        self._told: Callable[[], None] | None = None

    def follow(self, told: Callable[[], None]) -> None:
        """From here on everything is in ``news`` too, for another thread to take; ``told`` is called after each."""
        self._told = told

    def _tell(self, *news: Any) -> None:
        if self._told is not None:
            self.news.append(news)
            self._told()

    def begin(self, attempt: int, method: str, url: str, headers: Mapping[str, str], *, renewed: bool = False) -> None:
        """A request is about to be sent; ``headers`` are those we set ourselves."""
        exchange = Exchange(attempt, Request(method, url, list(headers.items())), renewed=renewed)
        self._exchanges.append((exchange, bytearray()))
        self._tell("begin", attempt, method, url, list(headers.items()), renewed)

    def sent(self, at: int | None, headers: Iterable[tuple[str, str]] | None) -> None:
        """When the request was written (monotonic ns), and all its headers where the client tells them."""
        exchange, _ = self._exchanges[-1]
        exchange.sent_ns = at
        if headers is not None:
            exchange.request.headers = headers = list(headers)
        self._tell("sent", at, headers)

    def answered(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """The response's head is there."""
        self._exchanges[-1][0].response = Response(status, kept := list(headers))
        self._tell("answered", status, kept)

    def whole(self) -> None:
        """The response is no stream."""
        self._exchanges[-1][0].whole = True
        self._tell("whole")

    def take(self, data: bytes, at: int, number: int) -> None:
        """The bytes of a read; pieces of one read become one again."""
        exchange, body = self._exchanges[-1]
        same = bool(exchange.numbers) and exchange.numbers[-1] == number and exchange.stamps[-1] == at
        fits = 0 if self.left_out else max(0, self._limit - self._size)  # with a gap in it what comes later would be no stream
        if not same and self._reads >= MOST_READS:
            fits = 0
        self.left_out += max(0, len(data) - fits)
        if fits <= 0:
            return
        body += data[:fits]
        self._tell("take", data[:fits], at, number)
        self._size += min(len(data), fits)
        if same:
            exchange.ends[-1] = len(body)
            return
        self._reads += 1
        exchange.ends.append(len(body))
        exchange.stamps.append(at)
        exchange.numbers.append(number)

    def gathered(self, origin: int) -> Wire:
        """All of it, unmasked, on a clock that begins at ``origin`` (monotonic ns). The tap is empty then."""
        wire = Wire(self._protocol, left_out=self.left_out)
        for exchange, body in self._exchanges:
            exchange.body = bytes(body)
            exchange.stamps = array("q", (at - origin for at in exchange.stamps))
            exchange.sent_ns = exchange.sent_ns - origin if exchange.sent_ns is not None else None
            wire.exchanges.append(exchange)
        self._exchanges, self._told = [], None
        self.news.clear()
        return wire


def _plain(exchange: Exchange) -> dict[str, Any]:
    response = exchange.response
    return {
        "attempt": exchange.attempt,
        "request": [exchange.request.method, exchange.request.url, exchange.request.headers],
        "response": [response.status, response.headers] if response is not None else None,
        "sent_ns": exchange.sent_ns,
        "whole": exchange.whole,
        "renewed": exchange.renewed,
        "size": len(exchange.body),
        "ends": _steps(exchange.ends),
        "stamps": _steps(exchange.stamps),
        "numbers": _steps(exchange.numbers),
    }


def _from_plain(plain: Mapping[str, Any]) -> tuple[Exchange, int]:
    method, url, headers = plain["request"]
    exchange = Exchange(int(plain["attempt"]), Request(str(method), str(url), _headers(headers)))
    if plain["response"] is not None:
        status, headers = plain["response"]
        exchange.response = Response(int(status), _headers(headers))
    exchange.sent_ns = plain["sent_ns"]
    exchange.whole, exchange.renewed = bool(plain["whole"]), bool(plain["renewed"])
    exchange.ends, exchange.stamps, exchange.numbers = (_sums(plain[name]) for name in ("ends", "stamps", "numbers"))
    if not len(exchange.ends) == len(exchange.stamps) == len(exchange.numbers):
        raise ValueError("the reads of an exchange do not fit together")
    return exchange, int(plain["size"])


def _headers(found: Any) -> Headers:
    return [(str(name), str(value)) for name, value in found]


def _steps(numbers: array[int]) -> list[int]:
    """What each is more than the one before: small numbers, which compress."""
    return [now - before for now, before in zip(numbers, [0, *numbers], strict=False)]


def _sums(steps: Iterable[int]) -> array[int]:
    made, total = array("q"), 0
    for step in steps:
        total += step
        made.append(total)
    return made
