"""Keys taken out of a kept wire, in its headers and its bodies. Every byte keeps its place: a mask is as long as what it hides.

A key may be in one piece of a body, or spread over the frames of a stream, a few characters each: then the answer is put
together first, and what of it is a key is masked in the frames it came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from tokenstream_magic.redaction import Redactor
from tokenstream_magic.wire.events import Event, Reasoning, Refusal, Text, ToolCall
from tokenstream_magic.wire.kept import Exchange, Headers, Wire
from tokenstream_magic.wire.lines import LinesFraming
from tokenstream_magic.wire.listed import walk
from tokenstream_magic.wire.protocols import PROTOCOLS

MASK = "***"

# headers whose values are secrets whatever they look like: the well-known ones, and what others are named after
_SECRET = re.compile(
    r"(?:^|[-_])(?:auth|authorization|api-?key|apikey|key|token|secret|cookie2?|password|credentials?|session|signature)$", re.IGNORECASE
)
_IN_QUERY = re.compile(
    r"([?&](?:key|api[-_]?key|access[-_]?token|token|secret|password|sig|signature|x-goog-signature|code)=)[^&#\s]+", re.IGNORECASE
)
_OUTSIDE = re.compile(r'["\n\r]')
_STARS = re.compile(r"\*+")


def mask(wire: Wire, secrets: Iterable[str]) -> int:
    """Masks ``secrets`` and whatever looks like a key, in place; how much was found in the bodies."""
    redactor = Redactor(secrets)
    for exchange in wire.exchanges:
        request, response = exchange.request, exchange.response
        request.url = mask_url(request.url, redactor)
        request.headers = mask_headers(request.headers, redactor)
        if response is not None:
            response.headers = mask_headers(response.headers, redactor)
    in_bytes = Redactor(form for secret in redactor.values for form in forms(secret))
    found = 0
    for attempt in dict.fromkeys(exchange.attempt for exchange in wire.exchanges):
        found += _bodies([each for each in wire.exchanges if each.attempt == attempt], wire.protocol, in_bytes, redactor)
    return found


def mask_url(url: str, redactor: Redactor) -> str:
    """A URL without keys, wherever in it they are."""
    return _IN_QUERY.sub(rf"\g<1>{MASK}", redactor.text(url))


def mask_headers(headers: Headers, redactor: Redactor) -> Headers:
    """Headers without keys; those that are named after secrets are masked whatever they hold."""
    return [(name, MASK if _SECRET.search(name) else redactor.text(value)) for name, value in headers]


def forms(secret: str) -> set[str]:
    """A secret as it may stand in a body: as it is, in JSON, in a URL; each read byte by byte."""
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe="")}
    return {form.encode("utf-8", "surrogatepass").decode("latin-1") for form in forms}


def _bodies(exchanges: list[Exchange], protocol: str, in_bytes: Redactor, redactor: Redactor) -> int:
    """Masks the bodies of one attempt, which may go on from one to the next."""
    whole = b"".join(exchange.body for exchange in exchanges).decode("latin-1")
    body, found = bytearray(whole, "latin-1"), 0
    for start, end in _masked(whole, in_bytes):
        hidden = whole[start:end]
        # a pattern that reaches over the end of a JSON string has found no key
        if any(value in hidden for value in in_bytes.values) or not _OUTSIDE.search(hidden):
            body[start:end] = b"*" * (end - start)
            found += 1
    _put(exchanges, body)
    strands: dict[tuple[str, int, int], list[tuple[str, int, int]]] = {}
    for piece in walk(exchanges, protocol):
        for event in piece.events:
            strand = strand_of(event)
            if strand is not None:
                strands.setdefault(strand[0], []).append((strand[1], piece.start, piece.end))
    by_line = PROTOCOLS[protocol].FRAMING is LinesFraming if protocol in PROTOCOLS else False
    for pieces in strands.values():
        spans = list(_masked("".join(text for text, _, _ in pieces), redactor))
        if not spans:
            continue
        found += len(spans)
        place = 0
        for text, start, end in pieces:
            stars = {at - place for begin, stop in spans for at in range(max(begin, place), min(stop, place + len(text)))}
            if stars:
                hidden = "".join("*" if at in stars else letter for at, letter in enumerate(text))
                replace(body, start, end, text, hidden, by_line=by_line)
            place += len(text)
    _put(exchanges, body)
    return found


def _masked(text: str, redactor: Redactor) -> Iterator[tuple[int, int]]:
    """From where to where the redactor hides something."""
    hidden = redactor.text(text)
    if hidden == text:
        return
    for stars in _STARS.finditer(hidden):
        if text[stars.start() : stars.end()] != stars[0]:
            yield stars.span()


def strand_of(event: Event) -> tuple[tuple[str, int, int], str] | None:
    """To which of the texts that frames make together an event adds, and what."""
    if isinstance(event, ToolCall):
        return ("tool", event.choice, event.call), event.arguments
    if isinstance(event, (Text, Reasoning, Refusal)):
        return (type(event).__name__, event.choice, 0), event.text
    return None


def replace(body: bytearray, start: int, end: int, text: str, hidden: str, *, by_line: bool) -> None:
    """Hides a piece of text in the frame that brought it, where it stands as a JSON string; else the frame as a whole."""
    frame = bytes(body[start:end])
    for strict in (True, False) if b'"bytes"' not in frame else ():  # logprobs tell a token by its bytes too
        said, unsaid = (json.dumps(words, ensure_ascii=strict).encode("utf-8", "surrogatepass") for words in (text, hidden))
        if len(said) == len(unsaid) and said in frame:
            body[start:end] = frame.replace(said, unsaid)
            return
    for line in re.finditer(rb"[^\r\n]+", frame):
        size = len(line[0])
        blank = b"{" + b" " * (size - 2) + b"}" if by_line and size > 1 else b":" + b"*" * (size - 1)
        body[start + line.start() : start + line.end()] = blank


def _put(exchanges: list[Exchange], body: bytearray) -> None:
    position = 0
    for exchange in exchanges:
        size = len(exchange.body)
        exchange.body = bytes(body[position : position + size])
        position += size
