"""``decode``: captured bytes to the Transcript a live run would have left, offline and without a clock."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.fold import Fold
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.version import __version__
from tokenstream_magic.wire.events import Content, Event, Failure, Terminator, Verdict
from tokenstream_magic.wire.failures import failure_of_response
from tokenstream_magic.wire.framing import FramingError
from tokenstream_magic.wire.protocols import PROTOCOLS, StreamDecoder
from tokenstream_magic.wire.recognise import recognise


def decode(body: bytes | str | Iterable[bytes], protocol: str = "auto", *, think_tags: str | None = None) -> Transcript:
    """The transcript of a captured response body, or of its reads in order.

    ``protocol`` is one of the wire's protocols, or ``auto`` to recognise it from the body. There are no times: every
    figure that needs a clock is None. Raises BadRequest for an unknown protocol, or a body that ``auto`` does not
    recognise; whatever else is in the body is the transcript's outcome. ``think_tags="tagged"`` takes a text between
    ``<think>`` tags as reasoning, ``"open"`` also one that begins inside.
    """
    reads = [body.encode("utf-8", "replace")] if isinstance(body, str) else [body] if isinstance(body, bytes) else list(body)
    name = _protocol(protocol, reads)
    if think_tags not in (None, "tagged", "open"):
        raise BadRequest('think_tags is "tagged" or "open".')
    transcript = Transcript(protocol=name, package_version=__version__)
    fold, decoder = Fold(transcript, think_tags), PROTOCOLS[name].Decoder()
    try:
        verdict = _not_a_stream(b"".join(reads), decoder, fold) if _looks_whole(reads) else _stream(reads, name, decoder, fold)
    except FramingError as error:
        failure = Failure(str(error), type="frame_too_large")
        verdict = Verdict("truncated" if fold.pieces else "failed", failure.message, failure)
    list(fold.rest())
    fold.settle(verdict, None)
    transcript.timing = Timing(chunks=len(transcript.timeline), server=transcript.timing.server)
    transcript.model = transcript.resolved_model or ""
    return transcript


def _protocol(protocol: str, reads: list[bytes]) -> str:
    if protocol == "auto":
        found = recognise(b"".join(reads))
        if found is None and not b"".join(reads).strip():
            raise BadRequest("The body is empty.", f"To judge an answer that never came, name its protocol: {', '.join(PROTOCOLS)}.")
        if found is None:
            raise BadRequest("The body is in no protocol that can be recognised.", f"Name it: {', '.join(PROTOCOLS)}.")
        return found
    if protocol not in PROTOCOLS:
        raise BadRequest(f"There is no protocol {protocol!r}.", f"Known: {', '.join(PROTOCOLS)}, auto.")
    return protocol


def _stream(reads: list[bytes], name: str, decoder: StreamDecoder, fold: Fold) -> Verdict:
    framing = PROTOCOLS[name].FRAMING()
    for number, read in enumerate(reads, 1):
        for piece in framing.feed(read):
            if not _take(decoder.decode(piece), fold, number):
                return decoder.verdict()
    for piece in framing.end():
        _take(decoder.decode(piece), fold, len(reads))
    return decoder.verdict()


def _not_a_stream(body: bytes, decoder: StreamDecoder, fold: Fold) -> Verdict:
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    try:
        events = decoder.whole(json.loads(text))
    except (ValueError, RecursionError):
        events = []
    if events:
        fold.transcript.diagnostics.append("the body is a whole answer and not a stream")
        _take(events, fold, 1)
        return decoder.verdict()
    failure = failure_of_response(200, "text/html" if text.startswith("<") else "application/json", text)
    return Verdict("failed", failure.message, failure)


def _looks_whole(reads: list[bytes]) -> bool:
    """A page, or one JSON value alone: what a server sends instead of a stream."""
    text = b"".join(reads).removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith((b"<!", b"<h", b"<H", b"<?")):
        return True
    if not text.startswith((b"{", b"[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _take(events: list[Event], fold: Fold, read: int) -> bool:
    for event in events:
        if isinstance(event, Content):
            for _ in fold.content(event, 0, read):
                pass
        else:
            fold.fact(event, 0)
            if isinstance(event, Terminator):
                return False
    return True
