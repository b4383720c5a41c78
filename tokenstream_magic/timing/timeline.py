"""Every stamp of a run, in nanoseconds of one monotonic clock.

A stamp is taken when the bytes arrive from the network, before they are parsed or shown; all events of one read
share its stamp. Per content event 13 bytes are kept in memory, and about five when packed or encoded. Beside the events
stand the moments of a run, the keep-alives of its silences, and how far behind the display was.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from operator import add, attrgetter, sub
from typing import Any, NamedTuple

CHANNELS = ("text", "reasoning", "refusal", "tool")
_CHANNEL_BITS = 0x07
_CHOICE_SHIFT = 3
_CHOICE_BITS = 0x0F
_NEW_READ = 0x80
_KNOWN_FLAGS = bytes(flags for flags in range(256) if flags & _CHANNEL_BITS < len(CHANNELS))
_OF_READ_BEFORE = bytes(range(_NEW_READ))
_PACKED_VERSION = 1
_ENCODED_VERSION = 5  # below 0x80, which every pack begins with
_PLAIN_VERSION = 6  # the same without zlib, which makes nothing smaller of the shortest
_SHORT_VERSION = 7  # of few events, which is written at once: numbers as machines have them
_OLD_ENCODED, _OLD_PLAIN = 3, 4  # the versions with numbers of no fixed width
_EVENTS_ONLY = 2  # the version that knew no keep-alives by their stamps, no display, and only the first moments
_ZIPPED = (_ENCODED_VERSION, _OLD_ENCODED, _EVENTS_ONLY)
_PLAIN = (_PLAIN_VERSION, _OLD_PLAIN)
_NO_WIDTH = 0xFF  # of a column with numbers of more than 64 bits
_SMALL = 1024
_SHORTEST = 128
_FEW = 24  # events
_WIDTHS = {4: "i", 8: "q"}
_NEVER = {code: -1 << 8 * width - 1 for width, code in _WIDTHS.items()}  # a moment that never came
_ENCODED_LIMIT = 1 << 28  # bytes, unpacked: some forty million events
_MOST = 45_000_000  # events
QUIET_NS = 100_000_000  # silence from which a keep-alive is worth a stamp: before, the text itself says that the server lives
KEPT_ALIVE = 1024
MOMENTS = (
    "requested", "connected", "headers", "first_byte", "first_event", "finished", "usage", "ended", "stop_requested", "closed",
    "server_busy", "server_idle",
)  # fmt: skip
_OLD_MOMENTS = MOMENTS[:10]
_moments = attrgetter(*MOMENTS)
_LAYOUT = [struct.Struct(f"<5B{count}s{count}s{len(MOMENTS)}i{count}i") for count in range(_FEW + 1)]  # of few events that took seconds
_DAMAGED = "the packed timeline is damaged"


class Stamp(NamedTuple):
    """One content event: ``offset_ns`` from the request, ``channel``, ``characters``, ``read`` (which read brought it)."""

    offset_ns: int
    channel: str
    characters: int
    read: int
    choice: int


class Displayed(NamedTuple):
    """How far the slowest page in view was behind the network, in microseconds: p50, p99 and maximum over its messages, and the last.

    ``error`` is how far off they may be, because a page has a clock of its own; ``work`` what a frame took on the page's main
    thread, on average.
    """

    messages: int
    p50: int
    p99: int
    most: int
    last: int
    error: int
    work: int


@dataclass(slots=True, eq=False)
class Timeline:
    """When everything of one run happened. Two are equal when all their offsets from the request are.

    The single stamps are monotonic nanoseconds, None when the moment never came: ``requested`` (first byte of the
    request written), ``connected``, ``headers``, ``first_byte`` (of the body), ``first_event`` (any frame),
    ``finished`` (finish reason or terminator), ``usage``, ``ended`` (end of the body), ``stop_requested``, ``closed``; and
    where a server tells what it does, when it was last seen generating after a Stop (``server_busy``) and first seen not to
    (``server_idle``). ``keep_alives`` counts them all; those in silences have stamps too, see :meth:`alive`.
    """

    requested: int | None = None
    connected: int | None = None
    headers: int | None = None
    first_byte: int | None = None
    first_event: int | None = None
    finished: int | None = None
    usage: int | None = None
    ended: int | None = None
    stop_requested: int | None = None
    closed: int | None = None
    server_busy: int | None = None
    server_idle: int | None = None
    reads: int = 0
    keep_alives: int = 0
    displayed: Displayed | None = None
    _at: array[int] = field(default_factory=lambda: array("q"))
    _characters: array[int] = field(default_factory=lambda: array("I"))
    _flags: bytearray = field(default_factory=bytearray)
    _last_read: int = -1
    _alive: array[int] | None = None  # None where no stamps were kept, as in records of older versions
    _apart: int = QUIET_NS

    def add(self, at: int, channel: int, characters: int, read: int, choice: int = 0) -> None:
        """One content event at ``at`` (monotonic ns) on ``CHANNELS[channel]``, brought by read number ``read``."""
        self._at.append(at)
        self._characters.append(characters)
        fresh = _NEW_READ if read != self._last_read else 0
        self._last_read = read
        self._flags.append(channel | min(choice, _CHOICE_BITS) << _CHOICE_SHIFT | fresh)

    def alive(self, at: int) -> None:
        """A keep-alive at ``at``. Its stamp is kept when it came in a silence; those of one moment, as a stream begins with, are one.

        Of very many, stamps are kept farther apart: never more than :data:`KEPT_ALIVE`, spread evenly.
        """
        self.keep_alives += 1
        before = self._at[-1] if self._at else self.requested
        if self._alive is None:
            self._alive = array("q")
        elif self._alive:
            before = max(self._alive[-1] + self._apart - QUIET_NS, before or 0)
        if before is not None and at - before < QUIET_NS:
            return
        self._alive.append(at)
        if len(self._alive) > KEPT_ALIVE:
            self._alive, self._apart = self._alive[::2], 2 * self._apart

    @property
    def keep_alive_offsets(self) -> list[int] | None:
        """When keep-alives came in silences, in ns from the request; None when that was not kept."""
        if self._alive is None:
            return None if self.keep_alives else []
        return [at - self.origin for at in self._alive]

    @keep_alive_offsets.setter
    def keep_alive_offsets(self, offsets: list[int] | None) -> None:
        self._alive = None if offsets is None else array("q", [self.origin + offset for offset in offsets])

    def fill(self, at: list[int], characters: list[int], flags: bytes) -> None:
        """All content events at once, in the place of those there are. Raises ValueError for what no event can be."""
        if flags.translate(None, _KNOWN_FLAGS):
            raise ValueError(_DAMAGED)
        try:
            self._at, self._characters, self._flags = array("q", at), array("I", characters), bytearray(flags)
        except OverflowError:
            raise ValueError(_DAMAGED) from None
        self._last_read = self.fresh_reads - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timeline):
            return NotImplemented
        same = self._relative() == other._relative() and self.keep_alive_offsets == other.keep_alive_offsets
        return same and self.displayed == other.displayed and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _relative(self) -> tuple[int | None, ...]:
        """The single stamps in ns from the origin, and the counts."""
        origin = self.origin
        return (*[None if at is None else at - origin for at in _moments(self)], self.reads, self.keep_alives)

    def __len__(self) -> int:
        return len(self._flags)  # appended last: what is counted is whole, also for another thread

    def __iter__(self) -> Iterator[Stamp]:
        origin = self.origin
        read = -1
        for at, characters, flags in zip(self._at, self._characters, self._flags, strict=False):
            read += flags >> 7
            channel = CHANNELS[flags & _CHANNEL_BITS]
            yield Stamp(at - origin, channel, characters, read, flags >> _CHOICE_SHIFT & _CHOICE_BITS)

    @property
    def origin(self) -> int:
        """The moment offsets count from: the first byte of the request, else the first stamp there is."""
        if self.requested is not None:
            return self.requested
        return self._at[0] if self._at else 0

    @property
    def first(self) -> int | None:
        """The first content on any channel."""
        return self._at[0] if self._at else None

    @property
    def last(self) -> int | None:
        """The last content on any channel."""
        return self._at[-1] if self._at else None

    def first_on(self, channel: int) -> int | None:
        """The first content on ``CHANNELS[channel]``."""
        for at, flags in zip(self._at, self._flags, strict=False):
            if flags & _CHANNEL_BITS == channel:
                return at
        return None

    def characters(self) -> dict[tuple[int, str], int]:
        """How many characters there are of each choice and channel."""
        counted: dict[int, int] = {}
        for flags, characters in zip(self._flags, self._characters, strict=False):
            kind = flags & ~_NEW_READ
            counted[kind] = counted.get(kind, 0) + characters
        return {(kind >> _CHOICE_SHIFT & _CHOICE_BITS, CHANNELS[kind & _CHANNEL_BITS]): n for kind, n in counted.items()}

    def gaps(self) -> list[int]:
        """Inter-chunk latencies in ns: the time from each content event to the next."""
        return list(map(sub, self._at[1:], self._at))

    def moments(self) -> dict[str, float | None]:
        """The single stamps in ms from the request, rounded to a microsecond."""
        origin = self.origin
        stamps = {name: getattr(self, name) for name in MOMENTS[1:]}
        return {name: None if at is None else round((at - origin) / 1e6, 3) for name, at in stamps.items()}

    def pack(self, start: int = 0, stop: int | None = None) -> bytes:
        """The content events from number ``start`` to ``stop`` as bytes: per event its flags, characters and ns since the event before.

        The first offset of a pack counts from the request. :func:`unpack` reads one or several packs put end to end.
        """
        out = bytearray()
        stop = len(self) if stop is None else stop
        before = self._at[start - 1] if start else self.origin
        for flags, characters, at in zip(self._flags[start:stop], self._characters[start:stop], self._at[start:stop], strict=True):
            out.append(flags)
            if characters > 0x7F:
                _varint(out, characters)
            else:
                out.append(characters)
            _varint(out, at - before if at > before else 0)
            before = max(before, at)
        return bytes(out)

    def extend(self, packed: bytes) -> None:
        """Adds the events of a pack that continues this timeline. Raises ValueError on a damaged one."""
        self.requested = self.origin if self.requested is None else self.requested
        at, position, read = self.last or self.requested, 0, self._last_read
        while position < len(packed):
            flags = packed[position]
            characters, position = _read_varint(packed, position + 1)
            delta, position = _read_varint(packed, position)
            at += delta
            if flags & _CHANNEL_BITS >= len(CHANNELS) or characters >= 1 << 32 or at >= 1 << 63:
                raise ValueError(_DAMAGED)
            read += flags >> 7
            self.add(at, flags & _CHANNEL_BITS, characters, read, flags >> _CHOICE_SHIFT & _CHOICE_BITS)

    @property
    def fresh_reads(self) -> int:
        """How many reads brought content."""
        return len(self._flags.translate(None, _OF_READ_BEFORE))

    def encode(self, stop: int | None = None) -> bytes:
        """All of it, or the first ``stop`` events, in a compact column, to the nanosecond; :func:`decode` reads it.

        One byte of version, then, behind zlib unless it is very short: a bit for each single stamp that is known, the counts, and
        the zigzag ns of those stamps from the origin; the flags of all events, their characters, and their zigzag ns since the
        event before; then the keep-alives (0 when they have no stamps, else their number plus 1, and zigzag ns from one to the
        next), and the display's figures behind a 1, or a 0. The stamps, the characters and the steps are each a width, all lowest
        bytes, all second bytes and so on: like stands beside like, so that what hardly changes costs next to nothing.

        Of few events without anything beside them, it is one byte each of version, events, reads and two widths; flags and
        characters, a byte each; then all single stamps from the origin, the least number for one that never came, and the ns since
        the event before, as signed numbers of those widths.
        """
        count = len(self) if stop is None else stop
        if count <= _FEW and not self.keep_alives and not self._alive and self.displayed is None:
            column = self._short(count)
            if column:
                return column
        out, known, moments, origin = bytearray(), 0, [], self.origin
        for place, at in enumerate(_moments(self)):
            if at is not None:
                known |= 1 << place
                moments.append(at - origin << 1 if at >= origin else (origin - at << 1) - 1)
        _varints(out, [known, self.reads, self.keep_alives, count])
        _column(out, moments)
        out += self._flags[:count]
        _column(out, self._characters[:count].tolist())
        stamps = self._at[:count].tolist()
        steps = list(map(sub, stamps, [origin, *stamps]))
        _column(out, list(map(_zigzag, steps)) if steps and min(steps) < 0 else list(map(add, steps, steps)))
        alive = self.keep_alive_offsets
        beside = [0] if alive is None else [len(alive) + 1, *map(_zigzag, map(sub, alive, [0, *alive]))]
        _varints(out, [*beside, 0] if self.displayed is None else [*beside, 1, *self.displayed])
        if len(out) < _SHORTEST:
            return bytes((_PLAIN_VERSION,)) + out
        window, memory = (10, 3) if len(out) < _SMALL else (15, 8)  # a large window costs more to set up than a short column to pack
        zipped = zlib.compressobj(1, zlib.DEFLATED, window, memory)  # more makes it hardly smaller: low bytes of times are noise
        return bytes((_ENCODED_VERSION,)) + zipped.compress(out) + zipped.flush()

    def _short(self, count: int) -> bytes:
        """The column of few events; nothing where their numbers do not fit."""
        known, stamps = _moments(self), self._at[:count].tolist()
        origin = self.requested if self.requested is not None else self.origin
        steps = map(sub, stamps, [origin, *stamps])
        never = _NEVER["i"]
        moments = [never if at is None else at - origin for at in known]
        try:
            if moments.count(never) == known.count(None):  # none came at just that distance
                characters = bytes(self._characters[:count].tolist())
                widths = (4, 4)
                return _LAYOUT[count].pack(_SHORT_VERSION, count, self.reads, *widths, self._flags[:count], characters, *moments, *steps)
        except (ValueError, struct.error):
            pass
        return self._wider(count)

    def _wider(self, count: int) -> bytes:
        """The same with numbers of more than 32 bits."""
        origin, known, stamps = self.origin, _moments(self), self._at[:count].tolist()
        try:
            moments, steps = _signed(known, origin), _numbers(list(map(sub, stamps, [origin, *stamps])))
            head = bytes((_SHORT_VERSION, count, self.reads, moments.itemsize, steps.itemsize))
            characters = bytes(self._characters[:count].tolist())
        except (ValueError, OverflowError):
            return b""
        if moments.count(_NEVER[moments.typecode]) != known.count(None):  # one came at just that distance
            return b""
        if sys.byteorder == "big":
            moments.byteswap()
            steps.byteswap()
        return b"".join((head, self._flags[:count], characters, moments, steps))

    def as_dict(self) -> dict[str, Any]:
        """The timeline for a notebook or an export: ``moments_ms``, and per event us since the one before it.

        ``flag_runs`` is flags and how many events in a row have them, in turn: an answer of one kind needs two numbers.
        """
        origin, before = self.origin, 0
        deltas = []
        for at in self._at:
            offset = (at - origin) // 1000
            deltas.append(offset - before)
            before = offset
        return {
            "version": _PACKED_VERSION,
            "moments_ms": self.moments(),
            "reads": self.reads,
            "keep_alives": self.keep_alives,
            **({"keep_alive_ns": self.keep_alive_offsets} if self.keep_alives and self._alive is not None else {}),
            **({"displayed_us": self.displayed._asdict()} if self.displayed is not None else {}),
            "delta_us": deltas,
            "characters": self._characters.tolist(),
            "flag_runs": [number for flags, same in groupby(self._flags) for number in (flags, sum(1 for _ in same))],
        }


def decode(column: bytes) -> Timeline:
    """The timeline of :meth:`Timeline.encode`, or of a pack. Raises ValueError on a damaged one."""
    if column and column[0] == _SHORT_VERSION:
        return _from_short(column)
    if not column or column[0] not in (*_PLAIN, *_ZIPPED):
        return unpack(column)
    body = column[1:] if column[0] in _PLAIN else _unzipped(column[1:])
    newest = column[0] in (_ENCODED_VERSION, _PLAIN_VERSION)
    timeline, position, known = Timeline(), 0, 0
    if newest:
        known, position = _read_varint(body, position)
        if known >> len(MOMENTS):
            raise ValueError(_DAMAGED)
    else:
        for name in _OLD_MOMENTS if column[0] == _EVENTS_ONLY else MOMENTS:
            value, position = _read_varint(body, position)
            if value:
                setattr(timeline, name, _unzigzag(value - 1))
    timeline.reads, position = _read_varint(body, position)
    timeline.keep_alives, position = _read_varint(body, position)
    count, position = _read_varint(body, position)
    if newest:
        if count > _MOST:  # of nothing but zeros a small column could have very many
            raise ValueError(_DAMAGED)
        names = [name for place, name in enumerate(MOMENTS) if known >> place & 1]
        moments, position = _read_column(body, position, len(names))
        for name, value in zip(names, moments, strict=True):
            setattr(timeline, name, _unzigzag(value))
    flags = body[position : position + count]
    position += count
    if len(flags) != count:
        raise ValueError(_DAMAGED)
    read = _read_column if newest else _read_varints
    characters, position = read(body, position, count)
    steps, position = read(body, position, count)
    alive, displayed = None, None
    if column[0] != _EVENTS_ONLY:
        alive, displayed, position = _read_beside(body, position)
    if position != len(body):
        raise ValueError(_DAMAGED)
    timeline.fill(list(accumulate([step >> 1 if not step & 1 else -(step + 1 >> 1) for step in steps])), characters, flags)
    try:
        timeline.keep_alive_offsets = alive
    except OverflowError:
        raise ValueError(_DAMAGED) from None
    timeline.displayed = displayed
    return timeline


def _from_short(column: bytes) -> Timeline:
    if len(column) < 5 or column[3] not in _WIDTHS or column[4] not in _WIDTHS:
        raise ValueError(_DAMAGED)
    count, timeline = column[1], Timeline(reads=column[2])
    behind_flags, behind_characters = 5 + count, 5 + 2 * count
    behind_moments = behind_characters + len(MOMENTS) * column[3]
    if len(column) != behind_moments + count * column[4]:
        raise ValueError(_DAMAGED)
    moments = array(_WIDTHS[column[3]], column[behind_characters:behind_moments])
    steps = array(_WIDTHS[column[4]], column[behind_moments:])
    if sys.byteorder == "big":
        moments.byteswap()
        steps.byteswap()
    for name, at in zip(MOMENTS, moments, strict=True):
        if at != _NEVER[moments.typecode]:
            setattr(timeline, name, at)
    timeline.fill(list(accumulate(steps)), list(column[behind_flags:behind_characters]), column[5:behind_flags])
    return timeline


def _read_beside(body: bytes, position: int) -> tuple[list[int] | None, Displayed | None, int]:
    """What stands behind the events: the stamps of keep-alives, the display's figures, and where they end."""
    alive: list[int] | None = None
    displayed = None
    count, position = _read_varint(body, position)
    if count > KEPT_ALIVE + 1:
        raise ValueError(_DAMAGED)
    if count:
        steps, position = _read_varints(body, position, count - 1)
        alive = list(accumulate(map(_unzigzag, steps)))
    shown, position = _read_varint(body, position)
    if shown > 1:
        raise ValueError(_DAMAGED)
    if shown:
        figures, position = _read_varints(body, position, len(Displayed._fields))
        displayed = Displayed(*figures)
    return alive, displayed, position


def _unzipped(zipped: bytes) -> bytes:
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(zipped, _ENCODED_LIMIT)
    except zlib.error:
        raise ValueError(_DAMAGED) from None
    if not unzip.eof or unzip.unused_data:
        raise ValueError(_DAMAGED)
    return body


def unpack(packed: bytes) -> Timeline:
    """The content events of :meth:`Timeline.pack`, with ``requested`` at 0. Raises ValueError on a damaged pack."""
    timeline = Timeline(requested=0)
    timeline.extend(packed)
    timeline.reads = timeline.fresh_reads
    return timeline


def _signed(moments: Sequence[int | None], origin: int) -> array[int]:
    try:
        return array("i", [_NEVER["i"] if at is None else at - origin for at in moments])
    except OverflowError:
        return array("q", [_NEVER["q"] if at is None else at - origin for at in moments])


def _numbers(steps: list[int]) -> array[int]:
    try:
        return array("i", steps)
    except OverflowError:
        return array("q", steps)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def _column(out: bytearray, numbers: list[int]) -> None:
    """Numbers of at least 0: a width in bytes, then their lowest bytes, their second bytes, and so on."""
    most = max(numbers, default=0)
    width = (most.bit_length() + 7) // 8
    if width > 8:
        out.append(_NO_WIDTH)
        _varints(out, numbers)
        return
    out.append(width)
    if width == 1:
        out += bytes(numbers)
    elif width:
        whole = array("Q", numbers)
        if sys.byteorder == "big":
            whole.byteswap()
        every = whole.tobytes()
        for place in range(width):
            out += every[place::8]


def _read_column(packed: bytes, position: int, count: int) -> tuple[list[int], int]:
    width, start = packed[position] if position < len(packed) else -1, position + 1
    if width == _NO_WIDTH:
        return _read_varints(packed, start, count)
    end = start + width * count
    if not 0 <= width <= 8 or end > len(packed):
        raise ValueError(_DAMAGED)
    if width == 1:
        return list(packed[start:end]), end
    every = bytearray(8 * count)
    for place in range(width):
        every[place::8] = packed[start + place * count : start + (place + 1) * count]
    whole = array("Q", bytes(every))
    if sys.byteorder == "big":
        whole.byteswap()
    return whole.tolist(), end


def _varint(out: bytearray, value: int) -> None:
    append = out.append
    while value > 0x7F:
        append(value & 0x7F | 0x80)
        value >>= 7
    append(value)


def _varints(out: bytearray, values: list[int]) -> None:
    if values and max(values) <= 0x7F:
        out += bytes(values)
        return
    append = out.append
    for value in values:
        while value > 0x7F:
            append(value & 0x7F | 0x80)
            value >>= 7  # noqa: PLW2901 - what is left of it
        append(value)


def _read_varints(packed: bytes, position: int, count: int) -> tuple[list[int], int]:
    short = packed[position : position + count]
    if len(short) == count and short.isascii():  # all of them of one byte
        return list(short), position + count
    values = []
    for _ in range(count):
        value, position = _read_varint(packed, position)
        values.append(value)
    return values, position


def _read_varint(packed: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(packed) or shift > 63:
            raise ValueError(_DAMAGED)
        byte = packed[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
