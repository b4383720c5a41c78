# ruff: noqa: SLF001 - a timeline's events, as bytes
"""A timeline as bytes: the packs a running answer is kept in, and the column of one that has ended.

To the nanosecond, and of at most six bytes an event when an answer comes at the speed of models. Columns of all earlier versions are read.
"""

from __future__ import annotations

import zlib
from itertools import accumulate
from operator import add, sub

from tokenstream_magic.timing.compact import DAMAGED, planes, read_planes, read_varint, read_varints, unzigzag, varint, varints, zigzag
from tokenstream_magic.timing.few import FEW, FEW_VERSION, OLD_FEW_VERSION, few, read_few, read_old_few
from tokenstream_magic.timing.timeline import (
    CHANNEL_BITS,
    CHOICE_BITS,
    CHOICE_SHIFT,
    KEPT_ALIVE,
    LATER,
    MOMENTS,
    Displayed,
    Timeline,
    late,
    moments_of,
)

_ENCODED_VERSION = 5  # below 0x80, which every pack begins with
_PLAIN_VERSION = 6  # the same without zlib, which makes nothing smaller of the shortest
_OLD_ENCODED, _OLD_PLAIN = 3, 4  # the versions with numbers of no fixed width
_EVENTS_ONLY = 2  # the version that knew no keep-alives by their stamps, no display, and only the first moments
_ZIPPED = (_ENCODED_VERSION, _OLD_ENCODED, _EVENTS_ONLY)
_PLAIN = (_PLAIN_VERSION, _OLD_PLAIN)
_OLD_MOMENTS = MOMENTS[:10]
_SMALL = 1024
_SHORTEST = 128
_ENCODED_LIMIT = 1 << 28  # bytes, unpacked: some forty million events
_MOST = 45_000_000  # events


def encode(timeline: Timeline, stop: int | None = None) -> bytes:
    """All of it, or the first ``stop`` events, in a compact column, to the nanosecond; :func:`decode` reads it.

    One byte of version, then, behind zlib unless it is very short: a bit for each single stamp that is known, the counts, and
    the zigzag ns of those stamps from the origin; the flags of all events, for those that say so how far their choice is behind
    the fifteenth, their characters, and their zigzag ns since the event before; then the keep-alives (0 when they have no stamps,
    else their number plus 1, and zigzag ns from one to the next), and the display's figures behind a 1, or a 0. The stamps, the
    characters and the steps are each a width, all lowest bytes, all second bytes and so on: like stands beside like, so that what
    hardly changes costs next to nothing.

    Few events without anything beside them are written by :func:`~tokenstream_magic.timing.few.few`.
    """
    count = len(timeline) if stop is None else stop
    if count <= FEW and not timeline.keep_alives and not timeline._alive and timeline.displayed is None and timeline._later is None:
        column = few(timeline, count)
        if column:
            return column
    out, known, moments, origin = bytearray(), 0, [], timeline.origin
    for place, at in enumerate(moments_of(timeline)):
        if at is not None:
            known |= 1 << place
            moments.append(at - origin << 1 if at >= origin else (origin - at << 1) - 1)
    varints(out, [known, timeline.reads, timeline.keep_alives, count])
    planes(out, moments)
    flags = timeline._flags[:count]
    out += flags
    if timeline._later is not None and (behind := late(flags)):
        planes(out, timeline._later[:behind].tolist())
    planes(out, timeline._characters[:count].tolist())
    stamps = timeline._at[:count].tolist()
    steps = list(map(sub, stamps, [origin, *stamps]))
    planes(out, list(map(zigzag, steps)) if steps and min(steps) < 0 else list(map(add, steps, steps)))
    alive = timeline.keep_alive_offsets
    beside = [0] if alive is None else [len(alive) + 1, *map(zigzag, map(sub, alive, [0, *alive]))]
    varints(out, [*beside, 0] if timeline.displayed is None else [*beside, 1, *timeline.displayed])
    if len(out) < _SHORTEST:
        return bytes((_PLAIN_VERSION,)) + out
    window, memory = (10, 3) if len(out) < _SMALL else (15, 8)  # a large window costs more to set up than a short column to pack
    zipped = zlib.compressobj(1, zlib.DEFLATED, window, memory)  # more makes it hardly smaller: low bytes of times are noise
    return bytes((_ENCODED_VERSION,)) + zipped.compress(out) + zipped.flush()


def decode(column: bytes) -> Timeline:
    """The timeline of :func:`encode`, or of a pack. Raises ValueError on a damaged one."""
    version = column[0] if column else 0
    if version == FEW_VERSION:
        return read_few(column)
    if version == OLD_FEW_VERSION:
        return read_old_few(column)
    if version not in (*_PLAIN, *_ZIPPED):
        return unpack(column)
    body = column[1:] if version in _PLAIN else _unzipped(column[1:])
    newest = version in (_ENCODED_VERSION, _PLAIN_VERSION)
    timeline, position, known = Timeline(), 0, 0
    if newest:
        known, position = read_varint(body, position)
        if known >> len(MOMENTS):
            raise ValueError(DAMAGED)
    else:
        for name in _OLD_MOMENTS if version == _EVENTS_ONLY else MOMENTS:
            value, position = read_varint(body, position)
            if value:
                setattr(timeline, name, unzigzag(value - 1))
    timeline.reads, position = read_varint(body, position)
    timeline.keep_alives, position = read_varint(body, position)
    count, position = read_varint(body, position)
    if newest:
        if count > _MOST:  # of nothing but zeros a small column could have very many
            raise ValueError(DAMAGED)
        names = [name for place, name in enumerate(MOMENTS) if known >> place & 1]
        moments, position = read_planes(body, position, len(names))
        for name, value in zip(names, moments, strict=True):
            setattr(timeline, name, unzigzag(value))
    flags = body[position : position + count]
    position += count
    if len(flags) != count:
        raise ValueError(DAMAGED)
    later, position = read_planes(body, position, behind) if newest and (behind := late(flags)) else (None, position)
    read = read_planes if newest else read_varints
    characters, position = read(body, position, count)
    steps, position = read(body, position, count)
    alive, displayed = None, None
    if version != _EVENTS_ONLY:
        alive, displayed, position = _read_beside(body, position)
    if position != len(body):
        raise ValueError(DAMAGED)
    timeline.fill(list(accumulate([step >> 1 if not step & 1 else -(step + 1 >> 1) for step in steps])), characters, flags, later)
    try:
        timeline.keep_alive_offsets = alive
    except OverflowError:
        raise ValueError(DAMAGED) from None
    timeline.displayed = displayed
    return timeline


def _read_beside(body: bytes, position: int) -> tuple[list[int] | None, Displayed | None, int]:
    """What stands behind the events: the stamps of keep-alives, the display's figures, and where they end."""
    alive: list[int] | None = None
    displayed = None
    count, position = read_varint(body, position)
    if count > KEPT_ALIVE + 1:
        raise ValueError(DAMAGED)
    if count:
        steps, position = read_varints(body, position, count - 1)
        alive = list(accumulate(map(unzigzag, steps)))
    shown, position = read_varint(body, position)
    if shown > 1:
        raise ValueError(DAMAGED)
    if shown:
        figures, position = read_varints(body, position, len(Displayed._fields))
        displayed = Displayed(*figures)
    return alive, displayed, position


def _unzipped(zipped: bytes) -> bytes:
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(zipped, _ENCODED_LIMIT)
    except zlib.error:
        raise ValueError(DAMAGED) from None
    if not unzip.eof or unzip.unused_data:
        raise ValueError(DAMAGED)
    return body


def unpack(packed: bytes) -> Timeline:
    """The content events of :func:`pack`, with ``requested`` at 0. Raises ValueError on a damaged pack."""
    timeline = Timeline(requested=0)
    extend(timeline, packed)
    timeline.reads = timeline.fresh_reads
    return timeline


def pack(timeline: Timeline, start: int = 0, stop: int | None = None) -> bytes:
    """The content events from number ``start`` to ``stop`` as bytes: per event its flags, characters and ns since the event before.

    Where the flags say so, how far the choice is behind the fifteenth follows them. The first offset of a pack counts from the
    request. :func:`unpack` reads one or several packs put end to end.
    """
    out = bytearray()
    stop = len(timeline) if stop is None else stop
    before = timeline._at[start - 1] if start else timeline.origin
    later = iter(timeline._later[late(timeline._flags[:start]) :] if timeline._later is not None else ())
    for flags, characters, at in zip(timeline._flags[start:stop], timeline._characters[start:stop], timeline._at[start:stop], strict=True):
        out.append(flags)
        if flags & LATER:
            varint(out, next(later))
        if characters > 0x7F:
            varint(out, characters)
        else:
            out.append(characters)
        varint(out, at - before if at > before else 0)
        before = max(before, at)
    return bytes(out)


def extend(timeline: Timeline, packed: bytes) -> None:
    """Adds the events of a pack that continues this timeline. Raises ValueError on a damaged one."""
    timeline.requested = timeline.origin if timeline.requested is None else timeline.requested
    at, position, read = timeline.last or timeline.requested, 0, timeline._last_read
    while position < len(packed):
        flags, position, behind = packed[position], position + 1, 0
        choice = flags >> CHOICE_SHIFT & CHOICE_BITS
        if flags & LATER:
            behind, position = read_varint(packed, position)
            if choice < CHOICE_BITS or not 0 < behind < 1 << 32:
                raise ValueError(DAMAGED)
        characters, position = read_varint(packed, position)
        delta, position = read_varint(packed, position)
        at += delta
        if characters >= 1 << 32 or at >= 1 << 63:
            raise ValueError(DAMAGED)
        read += flags >> 7
        timeline.add(at, flags & CHANNEL_BITS, characters, read, choice + behind)
