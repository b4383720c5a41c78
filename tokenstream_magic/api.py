"""The public face: resolve a model, start a Run, attach the sinks, wait.

``stream`` and ``astream`` show themselves in a notebook and return the Transcript; ``events`` and ``aevents`` hand
on what arrives. What the user got wrong (an unknown model, a missing variable) raises
:class:`~tokenstream_magic.errors.BadRequest`; what goes wrong on the way is the Transcript's outcome.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import catalog, prompt as prompts
from tokenstream_magic.display import views
from tokenstream_magic.errors import BadRequest, KeyRefused, StoreError, TokenstreamError
from tokenstream_magic.plain import plain, plain_text
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Plan, Run, Sink
from tokenstream_magic.starters import STARTERS
from tokenstream_magic.transport.watch import FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT, MAX_RETRIES, Limits
from tokenstream_magic.version import __version__

log = logging.getLogger(__name__)

_running: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
_store_warned: set[str] = set()

WAKE_SECONDS = 0.05
INTERRUPTS = 2
NEVER = 1e7  # seconds; longer limits are none

_FIELDS = ("temperature", "top_p", "max_tokens", "seed", "stop", "reasoning_effort", "logprobs")
_SHORT = {"n": "no_log", "s": "system", "o": "option", "m": "model", "api_base": "base_url"}
_CELL_ONLY = {
    "out": "The call returns the transcript: name it there.",
    "bg": "Use start() or a task of your own.",
    "raw": "In a call braces are always sent as typed.",
    "dry_run": "prepare() gives the request without sending it.",
}
_FORBIDDEN = ("api_key", "apikey", "api-key", "authorization", "x-api-key", "key")


Ask = str | Prompt | list[Mapping[str, Any]]
"""What may be asked: text, messages (``{"role", "content"}``), or a Prompt."""


@dataclass(slots=True)
class Piece:
    """What ``events`` hands on: ``channel`` (text, reasoning, refusal, tool), ``text``, ``choice``, ``ms`` since the request."""

    channel: str
    text: str
    choice: int
    ms: float


def stream(prompt: Ask, model: str | None = None, **flags: Any) -> Transcript:
    """Sends a prompt and waits for the answer, which shows itself as it grows in a notebook or terminal.

    ``flags``: ``system``, ``option`` (a dictionary), ``temperature``, ``top_p``, ``max_tokens``, ``seed``, ``stop``,
    ``reasoning_effort``, ``logprobs``; ``base_url``, ``protocol``, ``api_key_env``; ``timeout``, ``idle_timeout``,
    ``time_limit`` (seconds), ``token_limit``, ``max_retries``; ``no_log``, ``tag``, ``note``. An interrupt stops the run and keeps what
    came. In an async cell prefer :func:`astream`: it leaves the kernel free, so that the Stop button works everywhere.
    """
    view = views.choose()
    run = start(prompt, model, view=view, **flags)
    blocked(run, view)
    return run.transcript


async def astream(prompt: Ask, model: str | None = None, **flags: Any) -> Transcript:
    """:func:`stream` for an async caller. Cancelling it stops the run, keeps what came and returns normally."""
    view = views.choose()
    run = start(prompt, model, view=view, **flags)
    await finished(run)
    view.settle(run)
    return run.transcript


def blocked(run: Run, view: views.View) -> None:
    """Waits for a run on this thread and settles its view. An interrupt stops the run; a third one gives up waiting."""
    interrupts = 0
    while not run.future.done():
        try:
            view.wait(run)
        except KeyboardInterrupt:
            interrupts += 1
            run.stop("interrupt")
            if interrupts > INTERRUPTS:
                raise
    view.settle(run)


async def finished(run: Run) -> Transcript:
    """Waits for a run. A cancellation, which is how an interrupt arrives in an awaited cell, stops the run."""
    ended = asyncio.wrap_future(run.future)
    while not ended.done():
        try:
            # in short steps: the kernel's SIGINT handler schedules the cancellation without waking a loop that sleeps
            await asyncio.wait({ended}, timeout=WAKE_SECONDS)
        except asyncio.CancelledError:
            run.stop("interrupt")
    return run.transcript


def events(prompt: Ask, model: str | None = None, **flags: Any) -> Iterator[Piece]:
    """The pieces of an answer as they arrive. Leaving the loop early stops the run."""
    sink = _Queue(queue.SimpleQueue())
    run = start(prompt, model, sinks=[sink], **flags)
    try:
        while (piece := sink.queue.get()) is not None:
            yield piece
    finally:
        run.stop("api")
        run.wait()


async def aevents(prompt: Ask, model: str | None = None, **flags: Any) -> AsyncIterator[Piece]:
    """:func:`events` for an async caller."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    sink = _Queue(queue.SimpleQueue(), lambda: loop.call_soon_threadsafe(arrived.set))
    run = start(prompt, model, sinks=[sink], **flags)
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            while not sink.queue.empty():
                piece = sink.queue.get()
                if piece is None:
                    return
                yield piece
    finally:
        run.stop("api")
        await finished(run)


def start(
    prompt: Ask,
    model: str | None = None,
    *,
    view: views.View | None = None,
    sinks: Sequence[Sink] = (),
    no_log: bool = False,
    tag: str | Sequence[str] = (),
    note: str | None = None,
    **flags: Any,
) -> Run:
    """Starts a run and returns at once. ``view`` is opened first; the run is kept unless ``no_log``."""
    plan, asked = prepare(prompt, model, **flags)
    transcript = describe(plan, asked)
    transcript.tags, transcript.note = [tag] if isinstance(tag, str) else list(tag), note
    kept = None if no_log else keeper()
    attached: list[Sink] = [*([view] if view is not None else []), *([kept] if kept is not None else []), *sinks]
    run = Run(plan, transcript, attached)
    if view is not None:
        view.open(run)
    _running[run.id] = run
    return run.start()


def prepare(
    prompt: Ask,
    model: str | None = None,
    *,
    system: str | None = None,
    option: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    protocol: str | None = None,
    api_key_env: str | None = None,
    timeout: float | None = FIRST_TOKEN_TIMEOUT,
    idle_timeout: float | None = IDLE_TIMEOUT,
    time_limit: float | None = None,
    token_limit: int | None = None,
    max_retries: int = MAX_RETRIES,
    **fields: Any,
) -> tuple[Plan, Prompt]:
    """What would be sent, without sending it. Raises BadRequest or KeyRefused when it cannot be."""
    for name in fields:
        if name in _CELL_ONLY:
            raise BadRequest(f"{name} is a flag of cells.", _CELL_ONLY[name])
        if name not in _FIELDS:
            long = _SHORT.get(name)
            raise BadRequest(
                f"There is no flag {name!r}.",
                f"Its name is {long}." if long else 'A field of the request goes into option={"name": value}.',
            )
    if option is not None and not isinstance(option, Mapping):
        raise BadRequest("option is a dictionary.", 'Example: option={"top_k": 5}.')
    asked = _asked(prompt, system)
    endpoint, name = catalog.resolve(model, base_url=base_url, protocol=protocol, api_key_env=api_key_env)
    options = {**{k: v for k, v in fields.items() if v is not None}, **(option or {})}
    for option_name in options:
        if option_name.lower() in _FORBIDDEN:
            raise KeyRefused("A key does not go into the request.", "Put it in an environment variable and name it: --api-key-env NAME.")
    limits = Limits(
        _positive("timeout", timeout),
        _positive("idle-timeout", idle_timeout),
        _positive("time-limit", time_limit),
        token_limit,
        max_retries,
    )
    if token_limit is not None and token_limit < 1:
        raise BadRequest("--token-limit is a whole number from 1 up.")
    starter = STARTERS.get(endpoint.starts or "")
    return Plan(endpoint, name, plain(list(asked.messages)), plain(options), limits, starter), asked


def request_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the flags that say what is sent; the others say what is kept of it."""
    return {name: value for name, value in flags.items() if name not in ("no_log", "tag", "note")}


def _asked(prompt: Any, system: str | None) -> Prompt:
    """The Prompt of what a caller gives: text, messages, or one that was built before."""
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, str):
        return prompts.build(prompt, None, system)
    if isinstance(prompt, list) and prompt and all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in prompt):
        first = [{"role": "system", "content": system}] if system else []
        return Prompt([*first, *(dict(m) for m in prompt)], "")
    raise BadRequest("The prompt is text, or a list of messages.", 'Example: [{"role": "user", "content": "Hi"}].')


def describe(plan: Plan, asked: Prompt) -> Transcript:
    """The transcript of a run that is about to start."""
    endpoint = plan.endpoint
    return Transcript(
        model=endpoint.name if plan.model == endpoint.model else f"{endpoint.name}/{plan.model}",
        endpoint=endpoint.name,
        protocol=endpoint.protocol,
        prompt=plain_text(asked.text),
        system=plain(asked.system),
        messages=plain(list(asked.messages)),
        options=plain(plan.options),
        template=plain_text(asked.template) if asked.variables else None,
        variables=plain(asked.variables),
        package_version=__version__,
        **views.where(),
    )


def refused(error: TokenstreamError, model: str | None, text: str) -> Transcript:
    """The transcript of a request that could not be made: outcome ``failed``, and the reason."""
    return Transcript(
        model=model or catalog.DEFAULT_MODEL,
        prompt=text,
        outcome="failed",
        error={"type": error.type, "status": None, "code": None, "message": str(error)},
        package_version=__version__,
        **views.where(),
    )


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


def _positive(flag: str, seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise BadRequest(f"--{flag} is a number of seconds above 0.")
    return None if seconds is None or seconds > NEVER else seconds


class _Queue(views.Quiet):
    """A sink that hands pieces to another thread."""

    def __init__(self, pieces: queue.SimpleQueue[Piece | None], wake: Any = None) -> None:
        self.queue = pieces
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
        self.queue.put(piece)
        if self._wake is not None:
            self._wake()
