"""Reads into lines: NDJSON, one JSON value a line (Ollama's native streams)."""

from __future__ import annotations

from tokenstream_magic.wire.framing import FRAME_LIMIT, Frame, FramingError, Piece, size

_BOM = b"\xef\xbb\xbf"


class LinesFraming:
    """An incremental parser of ``application/x-ndjson``: every line that is not blank is a :class:`Frame`.

    The last line of a stream needs no line end; without one it is handed over with ``terminated=False``. Any split of a
    body into reads gives the same frames. Raises :class:`FramingError` when a line passes ``frame_limit`` bytes.
    """

    def __init__(self, frame_limit: int = FRAME_LIMIT) -> None:
        self._limit = frame_limit
        self._tail: list[bytes] = []
        self._size = 0
        self._at_start = True
        self._broken: FramingError | None = None

    def feed(self, read: bytes) -> list[Piece]:
        """The lines that the bytes of one read complete; those before a line over the limit still come out."""
        if self._broken is not None:
            raise self._broken
        *whole, rest = read.split(b"\n")
        pieces: list[Piece] = []
        try:
            for line in whole:
                self._hold(line)
                self._dispatch(pieces, terminated=True)
            self._hold(rest)
        except FramingError as error:
            if not pieces:
                raise
            self._broken = error
        return pieces

    def end(self) -> list[Piece]:
        """The last line when the stream ended without closing it."""
        if self._broken is not None:
            raise self._broken
        pieces: list[Piece] = []
        self._dispatch(pieces, terminated=False)
        return pieces

    def _hold(self, part: bytes) -> None:
        if part:
            self._tail.append(part)
            self._size += len(part)
            if self._size > self._limit:
                raise FramingError(f"a line of the stream is over {size(self._limit)}")

    def _dispatch(self, pieces: list[Piece], *, terminated: bool) -> None:
        line = b"".join(self._tail).rstrip(b"\r")
        self._tail.clear()
        self._size = 0
        if self._at_start and line:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if line.strip():
            pieces.append(Frame(line, terminated=terminated))
