"""Sweeps: a prompt over a grid of models, fields and variables, each cell several times.

Every run is kept with the sweep's id, its cell and its number among its tags, so the store itself is the journal from which
a sweep that was stopped, or whose kernel died, goes on (``resume``). The order is random, with a recorded seed, each cell
once a round; warm-ups come first and are left out.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenstream_magic import api, asking, interrupts
from tokenstream_magic.display import progress as progresses
from tokenstream_magic.errors import BadRequest, StoreError, one_line
from tokenstream_magic.experiments.grid import Asked, Cell, Item, cells, order, rows_of
from tokenstream_magic.experiments.job import PARALLEL, Here, Job, Lane
from tokenstream_magic.experiments.result import Row, SweepResult
from tokenstream_magic.record import Transcript, new_id

log = logging.getLogger(__name__)

EVERY = 1 << 31
SWEEP = "sweep"
WARMUP = "warmup"
MOST_WIDE = 1000

_CELL_ONLY = ("out", "bg", "raw", "dry_run", "extract", "continue_", "cid", "run_tools")


@dataclass
class Sweep:
    """A sweep that is under way."""

    job: Job
    progress: progresses.Progress
    result: SweepResult
    quiet: bool = False

    def settled(self) -> SweepResult:
        """What it left, once the job is over; its progress makes room for that."""
        self.result.stopped = self.job.stopped
        self.result.rows.sort(key=lambda row: row.item.position)
        if self.quiet:
            self.progress.finish(one_line(" ".join(filter(None, [SWEEP, self.result.name, "·", self.result.counts()]))))
        else:
            self.progress.settle(*self.result._repr_mimebundle_())
        return self.result


def sweep(prompt: Any = None, models: Sequence[str] | str | None = None, grid: Mapping[str, Any] | None = None, **how: Any) -> SweepResult:
    """Sends a prompt over a grid and waits for all of it. An interrupt stops the whole and returns what there is.

    ``grid`` maps template variables, fields of the request, flags or ``model`` to lists of values; ``prompts`` is a DataFrame or a
    list of dictionaries whose columns are template variables (or a list of texts, for a ``prompt`` left out). Each cell is run
    ``repeat`` times, ``max_concurrency`` runs at a time (1 unless asked: parallel runs on one machine disturb each other), after
    ``warmup`` runs a model that are not counted. ``client`` is a ``dask.distributed.Client`` on whose workers to run, that many at a
    time on each. ``order_seed`` fixes the order. ``resume`` is the id of a sweep, or ``"last"``: what it finished is not repeated.
    ``name`` is kept as a tag. All other flags are those of :func:`~tokenstream_magic.api.stream`. Raises BadRequest before anything
    is sent when a cell cannot be asked.
    """
    with interrupts.taken():
        begun = begin(prompt, models, grid, quiet=True, **how)
        blocked(begun.job)
        return begun.settled()


async def asweep(
    prompt: Any = None, models: Sequence[str] | str | None = None, grid: Mapping[str, Any] | None = None, **how: Any
) -> SweepResult:
    """:func:`sweep` for an async caller: it leaves the kernel free, so that Stop arrives at once."""
    return await run(begin(prompt, models, grid, quiet=True, **how))


async def run(begun: Sweep) -> SweepResult:
    """Waits for a sweep that has begun. A cancellation, which is how an interrupt arrives in an awaited cell, stops it."""
    await api.finished(begun.job)  # type: ignore[arg-type]
    return begun.settled()


def blocked(job: Any) -> None:
    """Waits for a job on this thread. An interrupt stops it; a second one gives up waiting."""
    interrupts.waited(job.future.done, job.wait, lambda: stop(job))


def stop(job: Any) -> None:
    """Has a job stopped as an interrupt does, on a thread of its own: a cluster may be slow to hear it, and no stream waits for that."""
    threading.Thread(target=job.stop, args=("interrupt",), name="tokenstream-stop", daemon=True).start()


def begin(
    prompt: Any = None,
    models: Sequence[str] | str | None = None,
    grid: Mapping[str, Any] | None = None,
    *,
    prompts: Any = None,
    repeat: int = 1,
    warmup: int = 0,
    max_concurrency: int = 1,
    client: Any = None,
    name: str | None = None,
    resume: str | None = None,
    order_seed: int | None = None,
    model: str | None = None,
    namespace: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **flags: Any,
) -> Sweep:
    """Starts a sweep and returns at once: :func:`sweep` says what all this is. ``namespace`` holds a notebook's variables."""
    grid = dict(grid or {})
    repeat, warmup = _whole("repeat", repeat, 1), _whole("warmup", warmup, 0)
    width = _whole("max_concurrency", max_concurrency, 1)
    if width > MOST_WIDE:
        raise BadRequest(f"max_concurrency is at most {MOST_WIDE}.")
    for flag in _CELL_ONLY:
        if flags.pop(flag, None):
            raise BadRequest(f"{flag.rstrip('_')} does not go with a sweep.", "Every run of a sweep stands by itself.")
    no_log, tags = bool(flags.pop("no_log", False)), _tags(flags.pop("tag", ()))
    asked = _asked(prompt, prompts, namespace, flags)
    all_cells = cells(asked, _models(models, model, grid), grid, rows_of(prompts), flags)
    store = None if no_log else _store()
    found = _found(store, resume, name) if resume is not None else []
    id = _tag(found, SWEEP) or new_id()
    seed = _whole("order_seed", order_seed, 0) if order_seed is not None else int(_tag(found, "seed") or secrets.randbelow(1 << 31))
    items = order(all_cells, repeat, seed)
    result = SweepResult(id, seed, [], planned=len(items), name=name)
    rest = _resumed(items, found, result)
    if client is None:
        prepared = {
            cell.key: replace(cell, prepared=asking.ask(cell.prompt, cell.model, no_log=no_log, **cell.flags)) for cell in all_cells
        }
        rest = [replace(item, cell=prepared[item.cell.key]) for item in rest]

    def tagged(item: Item) -> tuple[str, ...]:
        place = (WARMUP,) if item.warmup else (f"cell:{item.cell.key}", f"repeat:{item.repeat}")
        return (SWEEP, f"{SWEEP}:{id}", *place, f"seed:{seed}", *([name] if name else []), *tags)

    def took(item: Item, transcript: Transcript) -> None:
        if client is not None and store is not None:
            store.add_many([transcript])
        if not item.warmup:
            result.rows.append(Row(item, transcript))

    lane: Lane
    if client is None:
        lane = Here(width, tagged)
        if width > 1:
            log.warning(PARALLEL)
    else:
        from tokenstream_magic.experiments.cluster import Workers

        lane = Workers(client, id, width, tagged)
    phases = [_warmups(rest, warmup * (1 if client is None else len(client.nthreads()))), rest]
    title = f"sweep {one_line(name)}" if name else "sweep"
    job = Job(Transcript(id=id, model=title), phases, lane, took)
    shown = progresses.choose()
    shown.open(job, progresses.Counts(total=sum(map(len, phases))))
    return Sweep(job.start(shown), shown, result, quiet)


def _asked(prompt: Any, prompts: Any, namespace: Mapping[str, Any] | None, flags: dict[str, Any]) -> Asked:
    around = asking.named_template(flags.get("template"))
    if prompt is None:
        prompt = "{prompt}" if prompts is not None and not around else ""
    if not isinstance(prompt, str):
        raise BadRequest(
            "The prompt of a sweep is text.", 'Roles are lines like --- system; variables are named in it: "Name a river in {x}."'
        )
    params = flags.pop("param", None) or {}
    return Asked(prompt, flags.pop("system", None) or around.get("system"), around.get("prompt"), params, namespace)


def _models(models: Sequence[str] | str | None, model: str | None, grid: dict[str, Any]) -> list[str | None]:
    """The models, each once, wherever they were named."""
    named = [given for given in (models, model, grid.pop("model", None)) if given is not None]
    if len(named) > 1:
        raise BadRequest("The models are named twice.", "Name them in models, or in the grid.")
    if not named:
        return [None]
    found = [named[0]] if isinstance(named[0], str) else list(named[0])
    if not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise BadRequest("models is a list of names.", 'Example: models=["local", "ollama/llama3"].')
    return list(dict.fromkeys(found))


def _tags(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadRequest(f"{name} is a whole number from {least} up, not {one_line(value)[:40]!r}.")
    return value


def _warmups(rest: Sequence[Item], count: int) -> list[Item]:
    """So many runs of a cell of every model that has something left to do."""
    first: dict[str | None, Cell] = {}
    for item in rest:
        first.setdefault(item.cell.model, item.cell)
    return [Item(cell, number, warmup=True) for number in range(count) for cell in first.values()]


def _store() -> Any:
    """The store; None when runs cannot be kept, of which the reader was told."""
    from tokenstream_magic import transcripts

    if api.keeper() is None:
        return None
    return transcripts.open_store()


def _found(store: Any, resume: str, name: str | None) -> Sequence[Transcript]:
    """What is kept of the sweep to go on with, newest first."""
    if store is None:
        raise BadRequest("Nothing was kept to go on with.", "A sweep can be resumed when its runs are kept: leave out no_log.")
    id = resume.strip().upper()
    try:
        if resume == "last":
            newest = (
                store.recent(1, tag=SWEEP)
                if name is None
                else [t for t in store.recent(EVERY, tag=name, brief=True) if SWEEP in t.tags][:1]
            )
            id = _tag(newest, SWEEP) or ""
        found: Sequence[Transcript] = store.recent(EVERY, tag=f"{SWEEP}:{id}") if id else []
    except StoreError as error:
        raise BadRequest(f"The sweep cannot be read: {error.message}") from None
    if not found:
        raise BadRequest(f"There is no sweep {one_line(resume)!r}.", "A sweep's id is in its result; last is the newest.")
    return found


def _tag(found: Sequence[Transcript], kind: str) -> str | None:
    """What stands behind ``kind:`` in the tags of a transcript."""
    tags = found[0].tags if found else []
    return next((tag.partition(":")[2] for tag in tags if tag.startswith(f"{kind}:")), None)


def is_finished(transcript: Transcript) -> bool:
    """Whether a run says what it was to say: it was not cut off with its sweep or its kernel, and it is over."""
    if transcript.outcome == "running" or transcript.stop_cause == "crash":
        return False
    return transcript.outcome != "stopped" or (transcript.stop_cause or "").startswith("limit:")


def _resumed(items: Sequence[Item], found: Sequence[Transcript], result: SweepResult) -> list[Item]:
    """The items that are left to do; the runs of the others are rows of the result."""
    finished: dict[tuple[str, int], Transcript] = {}
    for transcript in found:
        key, number = _tag([transcript], "cell"), _tag([transcript], "repeat")
        if key is not None and number is not None and number.isdigit() and is_finished(transcript):
            finished.setdefault((key, int(number)), transcript)
    rest: list[Item] = []
    for item in items:
        transcript_of = finished.get((item.cell.key, item.repeat))
        if transcript_of is None:
            rest.append(item)
        else:
            result.rows.append(Row(item, transcript_of))
    return rest
