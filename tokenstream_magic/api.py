"""The public face: resolve a model, start a Run, attach the sinks, wait.

``stream`` and ``astream`` show themselves in a notebook and return the Transcript; ``events`` and ``aevents`` hand
on what arrives. What the user got wrong (an unknown model, a missing variable) raises
:class:`~tokenstream_magic.errors.BadRequest`; what goes wrong on the way is the Transcript's outcome.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from tokenstream_magic import asking, attachments, conversations, interrupts, rounds, telemetry
from tokenstream_magic.display import once, views
from tokenstream_magic.errors import StoreError
from tokenstream_magic.record import Transcript
from tokenstream_magic.rounds import Prepared
from tokenstream_magic.run import Run, Sink
from tokenstream_magic.transcripts.replaying import Replay

log = logging.getLogger(__name__)

_running: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
_store_warned: set[str] = set()

WAKE_SECONDS = 0.05


def stream(prompt: asking.Ask, model: str | None = None, **flags: Any) -> Transcript:
    """Sends a prompt and waits for the answer, which shows itself as it grows in a notebook or terminal.

    ``flags``: ``system``, ``option`` (a dictionary), ``temperature``, ``top_p``, ``max_tokens``, ``seed``, ``stop``,
    ``reasoning_effort``, ``logprobs``; ``base_url``, ``protocol``, ``api_key_env``; ``timeout``, ``idle_timeout``,
    ``time_limit`` (seconds), ``token_limit``, ``max_retries``; ``no_log``, ``wire``, ``tag``, ``note``; and those of
    :func:`~tokenstream_magic.asking.ask`. An interrupt stops the run and keeps what came. In an async cell prefer
    :func:`astream`: it leaves the kernel free, so that the Stop button works everywhere. With ``run_tools`` the
    transcript is that of the last round.
    """
    return answer(asking.ask(prompt, model, **flags))


async def astream(prompt: asking.Ask, model: str | None = None, **flags: Any) -> Transcript:
    """:func:`stream` for an async caller. Cancelling it stops the run, keeps what came and returns normally."""
    return await aanswer(asking.ask(prompt, model, **flags))


def answer(prepared: Prepared, started: Callable[[Run], None] = lambda _: None) -> Transcript:
    """Runs what was prepared, all rounds of it, and shows each; ``started`` is told of each run. Returns the last transcript."""
    more: Prepared | None = prepared
    while more is not None:
        view = views.choose()
        with interrupts.taken():
            prepared, run = more, begin(more, view=view)
            conversations.started(run.transcript)
            started(run)
            blocked(run, view)
        more = rounds.following(prepared, run.transcript)
    once.shown(run.transcript)
    return run.transcript


async def aanswer(prepared: Prepared, started: Callable[[Run], None] = lambda _: None) -> Transcript:
    """:func:`answer` for an async caller."""
    more: Prepared | None = prepared
    while more is not None:
        view = views.choose()
        prepared, run = more, begin(more, view=view)
        conversations.started(run.transcript)
        started(run)
        await finished(run, view)
        view.settle(run)
        more = await rounds.afollowing(prepared, run.transcript)
    once.shown(run.transcript)
    return run.transcript


def blocked(run: Run, view: views.View) -> None:
    """Waits for a run on this thread and settles its view. An interrupt stops the run; a second one gives up waiting."""
    with interrupts.taken():
        interrupts.waited(run.future.done, lambda: view.wait(run), lambda: run.stop("interrupt"))
        view.settle(run)


async def finished(run: Run, view: views.View | None = None) -> Transcript:
    """Waits for a run, and looks after its view meanwhile. A cancellation, which is how an interrupt arrives in an awaited cell, stops the run."""
    ended = asyncio.wrap_future(run.future)
    while not ended.done():
        try:
            # in short steps: the kernel's SIGINT handler schedules the cancellation without waking a loop that sleeps
            await asyncio.wait({ended}, timeout=WAKE_SECONDS)
            if view is not None:
                view.tick(awaited=True)
        except asyncio.CancelledError:
            run.stop("interrupt")
    return run.transcript


def start(
    prompt: asking.Ask,
    model: str | None = None,
    *,
    view: views.View | None = None,
    sinks: Sequence[Sink] = (),
    **flags: Any,
) -> Run:
    """Starts one run and returns at once. ``view`` is opened first; the run is kept unless ``no_log``. Tools are not run."""
    return begin(asking.ask(prompt, model, **flags), view=view, sinks=sinks)


def begin(prepared: Prepared, *, view: views.View | None = None, sinks: Sequence[Sink] = ()) -> Run:
    """Starts what was prepared and returns at once."""
    plan = prepared.plan
    if prepared.playback is not None:
        return _opened(_replay(prepared, [*([view] if view is not None else []), *sinks]), view)
    transcript = asking.describe(plan, prepared.prompt)
    transcript.tags, transcript.note = list(prepared.tags), prepared.note
    transcript.parent_id, transcript.format = prepared.parent_id, prepared.format
    transcript.conversation_id = prepared.conversation_id or (transcript.id if prepared.tools else None)
    attachments.remember(prepared.prompt.messages)
    kept = None if prepared.no_log else keeper()
    attached = [rounds.Checked(prepared), *(sink for sink in (view, kept, telemetry.sink()) if sink is not None), *sinks]
    return _opened(Run(plan, transcript, attached), view)


def _opened(run: Run, view: views.View | None) -> Run:
    if view is not None:
        view.open(run)
    _running[run.id] = run
    return run.start()


def _replay(prepared: Prepared, sinks: Sequence[Sink]) -> Run:
    assert prepared.playback is not None
    run = Replay(prepared.playback, sinks, where=views.where(), limits=prepared.plan.limits)
    run.transcript.tags, run.transcript.note = list(prepared.tags), prepared.note
    run.transcript.format = prepared.format or run.transcript.format
    return run


def register(run: Any) -> None:
    """From here on ``run`` is among the :func:`running`: anything with an ``id``, a ``transcript``, a ``future`` and ``stop``."""
    _running[run.id] = run


def running() -> list[Run]:
    """The runs of this kernel that have not ended."""
    return [run for run in list(_running.values()) if not run.future.done()]


def stop(id: str | None = None, cause: str = "api") -> list[Run]:
    """Stops the newest running stream, the one whose id starts with ``id``, or with ``all`` every one. Returns those stopped."""
    live = sorted(running(), key=lambda run: run.id)
    if id is None:
        live = live[-1:]
    elif id != "all":
        live = [run for run in live if run.id.startswith(id.upper())]
    return [run for run in live if run.stop(cause)]


def keeper() -> Sink | None:
    """The store's writer; None, and one warning, when transcripts cannot be kept."""
    from tokenstream_magic import transcripts

    try:
        writer: Sink = transcripts.open_store().writer
    except StoreError as error:
        if str(error) not in _store_warned:
            _store_warned.add(str(error))
            log.warning("%s Runs are not saved.", error)
        return None
    return writer
