# ruff: noqa: SLF001 - a timeline's events, as bytes
"""The column of a timeline of few events, where what stands beside them counts: most prompts tried in a notebook are answered in a line.

Version 8 is, a byte each: version, events, reads; two bytes with a bit for each single stamp that is known and, from bit 12, the form of
the events' flags and characters; a byte with what all flags have in common, and the width of a stamp. Then come the known stamps but
the first, signed ns from the origin; flags and characters; and the ns since the event before, the first's since the first byte of
the body, as a width in bytes, all lowest bytes, all second bytes and so on.

Flags and characters of one event are half a byte where all events are of one kind with up to 7 characters each (:data:`_HALF`; event n
is the lower half of byte n, what is beyond the middle the upper halves), a byte where they are of one kind with up to 127
(:data:`_WHOLE`), or else first all flags and then all characters, a byte each (:data:`_APART`).
"""

from __future__ import annotations

import struct
import sys
from array import array
from functools import partial
from itertools import accumulate
from operator import is_

from tokenstream_magic.timing.compact import DAMAGED, read_planes
from tokenstream_magic.timing.timeline import MOMENTS, NEW_READ, Timeline, moments_of

FEW = 128  # events: of more, zlib makes less
FEW_VERSION = 8
OLD_FEW_VERSION = 7
_HALF, _WHOLE, _APART = range(3)
_FORM_SHIFT = len(MOMENTS)
_KIND_BITS = NEW_READ - 1
_OF_HALF = bytes(range(8))
_FLAGS_OF = [bytes((kind, kind | NEW_READ)) for kind in range(NEW_READ)]
_ONLY_FRESH = bytes(flags & NEW_READ for flags in range(256))
_LOWER = [(1 << 8 * count) - 1 for count in range(FEW + 1)]
_HEADS = [struct.Struct(f"<3BH2B{count}i") for count in range(len(MOMENTS))]
_LANES = [(1 << 64 * count) - 1 for count in range(FEW + 1)]  # 64 bits for each of so many events


def _in_every(lane: int) -> int:
    """A number with the same 64 bits for each event there may be."""
    return int.from_bytes(lane.to_bytes(8, "little") * FEW, "little")


_BEYOND = [_in_every((1 << 64) - (1 << 8 * width)) for width in range(9)]  # the bytes that a step has beyond so many
_BACKWARDS = _in_every(1 << 63)
_OLD_WIDTHS = {4: "i", 8: "q"}
_is_none = partial(is_, None)
_known: dict[tuple[bool, ...], int] = {}  # patterns of what is not known, as bits of what is


def few(timeline: Timeline, count: int) -> bytes:
    """The first ``count`` events, at most :data:`FEW`, of a timeline without keep-alives and a display; nothing where they do not fit."""
    moments = moments_of(timeline)
    pattern = tuple(map(_is_none, moments))
    known = _known.get(pattern)
    if known is None:
        known = _known[pattern] = sum(1 << place for place, missing in enumerate(pattern) if not missing)
    origin = timeline.requested
    if origin is None:
        origin = timeline.origin
    offsets = [at - origin for at in moments[1:] if at is not None]
    start = origin if timeline.first_byte is None else timeline.first_byte
    try:
        form, kind, said = _said(timeline._flags[:count], bytes(timeline._characters[:count].tolist()))
        steps = _steps(timeline._at[:count], start)
        known |= form << _FORM_SHIFT
        try:
            head = _HEADS[len(offsets)].pack(FEW_VERSION, count, timeline.reads, known, kind, 4, *offsets)
        except struct.error:
            width = min(8, max(offset.bit_length() for offset in offsets) // 8 + 1)
            far = [offset.to_bytes(width, "little", signed=True) for offset in offsets]
            head = b"".join((_HEADS[0].pack(FEW_VERSION, count, timeline.reads, known, kind, width), *far))
    except (ValueError, OverflowError, struct.error):
        return b""
    return b"".join((head, said, *steps))


def _steps(stamps: array[int], start: int) -> tuple[bytes, ...]:
    """The ns since the event before: their width and their planes. Raises ValueError or OverflowError where time goes back.

    They are taken of all stamps at once, as one number of 64 bits a stamp: where time does not go back, none borrows of the next.
    """
    count = len(stamps)
    if start >> 63 or (count and stamps[-1] < 0):
        raise OverflowError
    if sys.byteorder == "big":
        stamps.byteswap()
    whole = int.from_bytes(stamps.tobytes(), "little")
    steps = whole - ((whole << 64 | start) & _LANES[count])
    raw = steps.to_bytes(8 * count, "little")
    if not steps & _BEYOND[4]:  # as nearly all are
        if not steps & _BEYOND[3]:
            return b"\3", raw[::8], raw[1::8], raw[2::8]
        return b"\4", raw[::8], raw[1::8], raw[2::8], raw[3::8]
    if (steps | whole) & _BACKWARDS:
        raise ValueError(DAMAGED)
    width = next(width for width in range(5, 9) if not steps & _BEYOND[width])
    return bytes((width,)), *[raw[place::8] for place in range(width)]


def _said(flags: bytearray, characters: bytes) -> tuple[int, int, bytes]:
    """In which form flags and characters are, what the flags have in common, and both."""
    kind = flags[0] & _KIND_BITS if flags else 0
    if flags.strip(_FLAGS_OF[kind]) or not characters.isascii():
        return _APART, 0, bytes(flags) + characters
    fresh = int.from_bytes(flags.translate(_ONLY_FRESH) if kind else flags, "little")
    sizes = int.from_bytes(characters, "little")
    if characters.strip(_OF_HALF):
        return _WHOLE, kind, (fresh | sizes).to_bytes(len(flags), "little")
    middle = len(flags) + 1 >> 1
    halves = fresh >> 4 | sizes
    return _HALF, kind, (halves & _LOWER[middle] | halves >> 8 * middle - 4).to_bytes(middle, "little") if middle else b""


def read_few(column: bytes) -> Timeline:
    """The timeline of :func:`few`. Raises ValueError on a damaged one."""
    if len(column) < _HEADS[0].size:
        raise ValueError(DAMAGED)
    _, count, reads, known, kind, width = _HEADS[0].unpack_from(column)
    form, known = known >> _FORM_SHIFT, known & (1 << _FORM_SHIFT) - 1
    if form > _APART or kind >= NEW_READ or count > FEW or not 1 <= width <= 8:
        raise ValueError(DAMAGED)
    timeline = Timeline(requested=0 if known & 1 else None, reads=reads)
    names = [name for place, name in enumerate(MOMENTS) if place and known >> place & 1]
    start = _HEADS[0].size
    position = start + width * len(names)
    for name, at in zip(names, range(start, position, width), strict=True):
        setattr(timeline, name, int.from_bytes(column[at : at + width], "little", signed=True))
    size = {_HALF: count + 1 >> 1, _WHOLE: count, _APART: 2 * count}[form]
    said = column[position : position + size]
    steps, end = read_planes(column, position + size, count)
    if len(said) != size or end != len(column):
        raise ValueError(DAMAGED)
    if form == _APART:
        flags, characters = said[:count], said[count:]
    else:
        if form == _HALF:
            said = bytes([(byte & 8) << 4 | byte & 7 for byte in [*said, *[byte >> 4 for byte in said]]][:count])
        flags, characters = bytes([byte & NEW_READ | kind for byte in said]), bytes([byte & ~NEW_READ for byte in said])
    if count:
        steps[0] += timeline.first_byte or 0
    timeline.fill(list(accumulate(steps)), list(characters), flags)
    return timeline


def read_old_few(column: bytes) -> Timeline:
    """The timeline of a column of version 7. Raises ValueError on a damaged one.

    It has a byte each of version, events, reads and two widths; flags and characters, a byte each; then all single stamps from the
    origin, the least number for one that never came, and the ns since the event before, as signed numbers of those widths.
    """
    if len(column) < 5 or column[3] not in _OLD_WIDTHS or column[4] not in _OLD_WIDTHS:
        raise ValueError(DAMAGED)
    count, timeline = column[1], Timeline(reads=column[2])
    behind_flags, behind_characters = 5 + count, 5 + 2 * count
    behind_moments = behind_characters + len(MOMENTS) * column[3]
    if len(column) != behind_moments + count * column[4]:
        raise ValueError(DAMAGED)
    moments = array(_OLD_WIDTHS[column[3]], column[behind_characters:behind_moments])
    steps = array(_OLD_WIDTHS[column[4]], column[behind_moments:])
    if sys.byteorder == "big":
        moments.byteswap()
        steps.byteswap()
    never = -1 << 8 * column[3] - 1
    for name, at in zip(MOMENTS, moments, strict=True):
        if at != never:
            setattr(timeline, name, at)
    timeline.fill(list(accumulate(steps)), list(column[behind_flags:behind_characters]), column[5:behind_flags])
    return timeline
