"""``events`` and ``aevents``: an answer piece by piece, in a loop of the caller's own.

Leaving the loop, or the ``with`` block around it, stops the run. ``transcript`` is what came of it so far.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import api, asking, conversations, interrupts, rounds
from tokenstream_magic.display import views
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run


@dataclass(slots=True)
class Piece:
    """What arrived: ``channel`` (text, reasoning, refusal, tool), ``text``, ``choice``, ``ms`` since the request."""

    channel: str
    text: str
    choice: int
    ms: float


class _Asked:
    """A request that was checked, and its run once it has begun.

    The generators hold this and not their iterator, which holds them: an iterator that nobody refers to any more then ends
    at once, and its run with it.
    """

    def __init__(self, prompt: asking.Ask, model: str | None, flags: dict[str, Any]) -> None:
        self.prepared = asking.ask(prompt, model, **flags)
        self.run: Run | None = None

    def begin(self, prepared: rounds.Prepared, sink: _Queue) -> Run:
        """Sends the request."""
        self.run = api.begin(prepared, sinks=[sink])
        conversations.started(self.run.transcript)
        return self.run


class _Pieces:
    """What the two iterators share: a request that is checked at once and sent when the first piece is asked for."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked

    @property
    def transcript(self) -> Transcript | None:
        """The transcript of the run, which grows while it runs; None before the first piece was asked for."""
        return self._asked.run.transcript if self._asked.run is not None else None

    def stop(self) -> None:
        """Stops the run; what had arrived is still handed on."""
        if self._asked.run is not None:
            self._asked.run.stop("api")


class Pieces(_Pieces):
    """The pieces of an answer as they arrive. An iterator, and a context that stops the run when it is left."""

    def __init__(self, asked: _Asked) -> None:
        super().__init__(asked)
        self._source = _arriving(asked)

    def __iter__(self) -> Iterator[Piece]:
        return self._source

    def __next__(self) -> Piece:
        return next(self._source)

    def __enter__(self) -> Pieces:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the run if it goes on, and waits for its end."""
        self._source.close()


class AsyncPieces(_Pieces):
    """:class:`Pieces` for ``async for`` and ``async with``."""

    def __init__(self, asked: _Asked) -> None:
        super().__init__(asked)
        self._source = _aarriving(asked)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._source

    async def __anext__(self) -> Piece:
        return await anext(self._source)

    async def __aenter__(self) -> AsyncPieces:  # noqa: PYI034
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stops the run if it goes on, and waits for its end."""
        await self._source.aclose()


def _arriving(asked: _Asked) -> Generator[Piece, None, None]:
    more: rounds.Prepared | None = asked.prepared
    while more is not None:
        sink = _Queue()
        run: Run | None = None
        try:
            with interrupts.taken():  # one that comes now is raised once there is a run to be stopped
                prepared, run = more, asked.begin(more, sink)
            while (piece := sink.pieces.get()) is not None:
                yield piece
        finally:
            if run is not None:
                run.stop("api")
                run.wait()
        more = rounds.following(prepared, run.transcript)


async def _aarriving(asked: _Asked) -> AsyncGenerator[Piece, None]:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    more: rounds.Prepared | None = asked.prepared
    while more is not None:
        sink = _Queue(lambda: loop.call_soon_threadsafe(arrived.set))
        prepared, run = more, asked.begin(more, sink)
        try:
            ended = False
            while not ended:
                await arrived.wait()
                arrived.clear()
                while not ended and not sink.pieces.empty():
                    piece = sink.pieces.get()
                    ended = piece is None
                    if piece is not None:
                        yield piece
        finally:
            run.stop("api")
            await api.finished(run)
        more = await rounds.afollowing(prepared, run.transcript)


def events(prompt: asking.Ask, model: str | None = None, **flags: Any) -> Pieces:
    """The pieces of an answer as they arrive. Leaving the loop early stops the run.

    The flags are those of :func:`~tokenstream_magic.api.stream`. What is wrong with the request raises at once.
    """
    return Pieces(_Asked(prompt, model, flags))


def aevents(prompt: asking.Ask, model: str | None = None, **flags: Any) -> AsyncPieces:
    """:func:`events` for an async caller: ``async for piece in ts.aevents(...)``, or in an ``async with``."""
    return AsyncPieces(_Asked(prompt, model, flags))


class _Queue(views.Quiet):
    """A sink that hands pieces to another thread."""

    def __init__(self, wake: Callable[[], Any] = lambda: None) -> None:
        self.pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._wake = wake

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """Hands on a piece."""
        timeline = run.transcript.timeline
        at = timeline.last or timeline.origin
        self._put(Piece(channel, text, choice, (at - timeline.origin) / 1e6))

    def end(self, run: Run) -> None:
        """Ends the iteration."""
        self._put(None)

    def _put(self, piece: Piece | None) -> None:
        self.pieces.put(piece)
        self._wake()
