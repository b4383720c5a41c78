"""Every stamp of a run, in nanoseconds of one monotonic clock.

A stamp is taken when the bytes arrive from the network, before they are parsed or shown; all events of one read
share its stamp. Per content event 13 bytes are kept in memory, and about five when packed or encoded. Beside the events
stand the moments of a run, the keep-alives of its silences, and how far behind the display was.

The flags of an event are its channel, its choice and whether it begins a read. Few runs have more than sixteen choices, so
these have four bits of them; of a choice behind the fifteenth, :data:`LATER` is set and how far it is behind stands apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, sub
from typing import Any, NamedTuple

from tokenstream_magic.timing.compact import DAMAGED

CHANNELS = ("text", "reasoning", "refusal", "tool")
CHANNEL_BITS = 0x03
LATER = 0x04
CHOICE_SHIFT = 3
CHOICE_BITS = 0x0F
NEW_READ = 0x80
_LAST_CHOICE = CHOICE_BITS << CHOICE_SHIFT
_KNOWN_FLAGS = bytes(flags for flags in range(256) if not flags & LATER or flags & _LAST_CHOICE == _LAST_CHOICE)
_NOT_LATER = bytes(flags for flags in range(256) if not flags & LATER)
_OF_READ_BEFORE = bytes(range(NEW_READ))
_DICTIONARY_VERSION = 1
QUIET_NS = 100_000_000  # silence from which a keep-alive is worth a stamp: before, the text itself says that the server lives
KEPT_ALIVE = 1024
MOMENTS = (
    "requested", "connected", "headers", "first_byte", "first_event", "finished", "usage", "ended", "stop_requested", "closed",
    "server_busy", "server_idle",
)  # fmt: skip
moments_of = attrgetter(*MOMENTS)


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
    _later: array[int] | None = None  # None where there is no choice behind the fifteenth

    def add(self, at: int, channel: int, characters: int, read: int, choice: int = 0) -> None:
        """One content event at ``at`` (monotonic ns) on ``CHANNELS[channel]``, brought by read number ``read``."""
        self._at.append(at)
        self._characters.append(characters)
        fresh = NEW_READ if read != self._last_read else 0
        self._last_read = read
        if choice > CHOICE_BITS:
            if self._later is None:
                self._later = array("I")
            self._later.append(choice - CHOICE_BITS)
            channel, choice = channel | LATER, CHOICE_BITS
        self._flags.append(channel | choice << CHOICE_SHIFT | fresh)

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

    def fill(self, at: list[int], characters: list[int], flags: bytes, later: list[int] | None = None) -> None:
        """All content events at once, in the place of those there are. Raises ValueError for what no event can be.

        ``later`` is how far behind the fifteenth the choices of those are whose flags say that they are.
        """
        if flags.translate(None, _KNOWN_FLAGS) or late(flags) != len(later or ()) or (later and min(later) < 1):
            raise ValueError(DAMAGED)
        try:
            self._at, self._characters, self._flags = array("q", at), array("I", characters), bytearray(flags)
            self._later = array("I", later) if later else None
        except OverflowError:
            raise ValueError(DAMAGED) from None
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
        return (*[None if at is None else at - origin for at in moments_of(self)], self.reads, self.keep_alives)

    def __len__(self) -> int:
        return len(self._flags)  # appended last: what is counted is whole, also for another thread

    def __iter__(self) -> Iterator[Stamp]:
        origin = self.origin
        read = -1
        for at, characters, kind in zip(self._at, self._characters, self.kinds(), strict=False):
            if kind & NEW_READ:
                read += 1
            yield Stamp(at - origin, CHANNELS[kind & CHANNEL_BITS], characters, read, (kind >> CHOICE_SHIFT & CHOICE_BITS) + (kind >> 8))

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
            if flags & CHANNEL_BITS == channel:
                return at
        return None

    def characters(self) -> dict[tuple[int, str], int]:
        """How many characters there are of each choice and channel."""
        counted: dict[int, int] = {}
        for kind, characters in zip(self.kinds(), self._characters, strict=False):
            kind &= ~NEW_READ  # noqa: PLW2901 - in which read it came counts nothing
            counted[kind] = counted.get(kind, 0) + characters
        return {((kind >> CHOICE_SHIFT & CHOICE_BITS) + (kind >> 8), CHANNELS[kind & CHANNEL_BITS]): n for kind, n in counted.items()}

    def kinds(self) -> Iterable[int]:
        """The flags of each event as one number: above their byte is how far its choice is behind the fifteenth."""
        every = self._flags[:]  # before what belongs to them is looked for: a running stream appends them last
        if self._later is None:
            return every
        later = iter(self._later)
        return [flags ^ LATER | next(later) << 8 if flags & LATER else flags for flags in every]

    def gaps(self) -> list[int]:
        """Inter-chunk latencies in ns: the time from each content event to the next."""
        return list(map(sub, self._at[1:], self._at))

    def moments(self) -> dict[str, float | None]:
        """The single stamps in ms from the request, rounded to a microsecond."""
        origin = self.origin
        stamps = {name: getattr(self, name) for name in MOMENTS[1:]}
        return {name: None if at is None else round((at - origin) / 1e6, 3) for name, at in stamps.items()}

    @property
    def fresh_reads(self) -> int:
        """How many reads brought content."""
        return len(self._flags.translate(None, _OF_READ_BEFORE))

    def as_dict(self) -> dict[str, Any]:
        """The timeline for a notebook or an export: ``moments_ms``, and per event us since the one before it.

        ``flag_runs`` is flags, as of :meth:`kinds`, and how many events in a row have them, in turn: an answer of one kind
        needs two numbers.
        """
        origin, before = self.origin, 0
        deltas = []
        for at in self._at:
            offset = (at - origin) // 1000
            deltas.append(offset - before)
            before = offset
        return {
            "version": _DICTIONARY_VERSION,
            "moments_ms": self.moments(),
            "reads": self.reads,
            "keep_alives": self.keep_alives,
            **({"keep_alive_ns": self.keep_alive_offsets} if self.keep_alives and self._alive is not None else {}),
            **({"displayed_us": self.displayed._asdict()} if self.displayed is not None else {}),
            "delta_us": deltas,
            "characters": self._characters.tolist(),
            "flag_runs": [number for flags, same in groupby(self.kinds()) for number in (flags, sum(1 for _ in same))],
        }


def late(flags: bytes | bytearray) -> int:
    """Of how many events with these flags the choice is behind the fifteenth."""
    return len(flags.translate(None, _NOT_LATER))
