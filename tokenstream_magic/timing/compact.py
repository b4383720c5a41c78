"""Numbers as bytes: of no fixed width, or a column of them that are alike."""

from __future__ import annotations

import sys
from array import array

DAMAGED = "the packed timeline is damaged"
_NO_WIDTH = 0xFF  # of a column with numbers of more than 64 bits


def zigzag(value: int) -> int:
    """A number as one of at least 0, small where it is near 0."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """The number of :func:`zigzag`."""
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def planes(out: bytearray, numbers: list[int]) -> None:
    """Numbers of at least 0: a width in bytes, then their lowest bytes, their second bytes, and so on."""
    most = max(numbers, default=0)
    width = (most.bit_length() + 7) // 8
    if width > 8:
        out.append(_NO_WIDTH)
        varints(out, numbers)
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


def read_planes(packed: bytes, position: int, count: int) -> tuple[list[int], int]:
    """So many numbers of :func:`planes` and where they end. Raises ValueError on damage, as all that read here do."""
    width, start = packed[position] if position < len(packed) else -1, position + 1
    if width == _NO_WIDTH:
        return read_varints(packed, start, count)
    end = start + width * count
    if not 0 <= width <= 8 or end > len(packed):
        raise ValueError(DAMAGED)
    if width == 1:
        return list(packed[start:end]), end
    every = bytearray(8 * count)
    for place in range(width):
        every[place::8] = packed[start + place * count : start + (place + 1) * count]
    whole = array("Q", bytes(every))
    if sys.byteorder == "big":
        whole.byteswap()
    return whole.tolist(), end


def varint(out: bytearray, value: int) -> None:
    """A number of at least 0, seven bits a byte, the lowest first."""
    append = out.append
    while value > 0x7F:
        append(value & 0x7F | 0x80)
        value >>= 7
    append(value)


def varints(out: bytearray, values: list[int]) -> None:
    """Several of them, one behind the other."""
    if values and max(values) <= 0x7F:
        out += bytes(values)
        return
    append = out.append
    for value in values:
        while value > 0x7F:
            append(value & 0x7F | 0x80)
            value >>= 7  # noqa: PLW2901 - what is left of it
        append(value)


def read_varints(packed: bytes, position: int, count: int) -> tuple[list[int], int]:
    """So many numbers of :func:`varints` and where they end."""
    short = packed[position : position + count]
    if len(short) == count and short.isascii():  # all of them of one byte
        return list(short), position + count
    values = []
    for _ in range(count):
        value, position = read_varint(packed, position)
        values.append(value)
    return values, position


def read_varint(packed: bytes, position: int) -> tuple[int, int]:
    """The number of :func:`varint` and where it ends."""
    value = shift = 0
    while True:
        if position >= len(packed) or shift > 63:
            raise ValueError(DAMAGED)
        byte = packed[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
