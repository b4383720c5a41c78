"""Comparing: one prompt to several models, side by side, and the reader's vote.

Each side has a connection and a clock of its own. They start in a random order that is recorded, one after the other unless
asked otherwise. ``blind`` hides which is which until the reader has voted; the vote is kept with the transcripts.
"""

from __future__ import annotations

import logging
import random
import secrets
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tokenstream_magic import api, asking, interrupts
from tokenstream_magic.display import views
from tokenstream_magic.display.inert import for_markdown, for_terminal
from tokenstream_magic.display.masked import unnamed
from tokenstream_magic.errors import BadRequest, StoreError, one_line
from tokenstream_magic.experiments.grid import Cell, Item
from tokenstream_magic.experiments.job import PARALLEL, Here, Job
from tokenstream_magic.experiments.result import as_markdown, as_text, figure, in_few_lines
from tokenstream_magic.experiments.sweep import blocked
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript, new_id
from tokenstream_magic.transcripts.preferences import COMPARE, TIE, vote_tags

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

MOST_MODELS = 12

_last: list[CompareResult] = []


class CompareResult:
    """What a comparison leaves: a transcript a model. ``order`` is the order they started in, ``seed`` that of chance.

    ``result["A"]`` and ``result["local"]`` are one side; :meth:`vote` says which was better.
    """

    def __init__(self, id: str, names: Sequence[str], seed: int, *, blind: bool, kept: bool) -> None:
        self.id = id
        self.names = list(names)
        self.labels = list(string.ascii_uppercase[: len(names)])
        self.seed = seed
        self.blind = blind
        self.voted: str | None = None
        self.order: list[str] = []
        self.stopped: str | None = None
        self.transcripts: list[Transcript] = []
        self._kept = kept
        self._shown: views.Columns | None = None

    @property
    def hidden(self) -> bool:
        """Whether the reader may not know yet which is which."""
        return self.blind and self.voted is None

    def vote(self, which: str) -> CompareResult:
        """Says which side was better: its letter, its model, or ``tie``. Kept with the transcripts; names are shown from here on."""
        side = self._side(which)
        if any(t.outcome == "running" for t in self.transcripts):
            raise BadRequest("The comparison is not over.", "Vote when every side has ended.")
        for number, transcript in enumerate(self.transcripts):
            new = vote_tags(self.id, transcript.tags, None if side is None else number == side)
            transcript.tags = new
        self.voted = TIE if side is None else self.labels[side]
        self._keep()
        if self.blind and self._shown is not None:
            self._shown.settle(self.transcripts)
        return self

    def _keep(self) -> None:
        if not self._kept:
            return
        from tokenstream_magic import transcripts

        try:
            transcripts.open_store().retag({t.id: t.tags for t in self.transcripts if COMPARE in t.tags})
        except StoreError as error:
            log.warning("%s The vote is not kept.", error)

    def _side(self, which: str) -> int | None:
        """The number of a side; None for a tie."""
        word = one_line(which)
        if word.lower() == TIE:
            return None
        names = [self.labels, *([] if self.hidden else [self.names, [t.model for t in self.transcripts]])]
        for known in names:
            if word.upper() in known or word in known:
                return known.index(word.upper() if word.upper() in known else word)
        raise BadRequest(f"There is no side {word[:40]!r}.", f"Vote for {', '.join(self.labels)} or tie.")

    def __getitem__(self, which: str | int) -> Transcript:
        if isinstance(which, int):
            return self.transcripts[which]
        side = self._side(which)
        if side is None:
            raise BadRequest("A tie is no side.", f"There are {', '.join(self.labels)}.")
        return self.transcripts[side]

    def __iter__(self) -> Iterator[Transcript]:
        return iter(self.transcripts)

    def __len__(self) -> int:
        return len(self.transcripts)

    def to_pandas(self) -> pd.DataFrame:
        """One row a side: its ``label``, its place in the ``order`` of starting, ``cost`` where the server says, and its transcript."""
        from tokenstream_magic.transcripts import frames

        if self.hidden:
            raise BadRequest("The names are hidden until you vote.", f'Vote first: result.vote("{self.labels[0]}"), or tie.')
        frame = frames.transcripts(self.transcripts)
        frame.insert(0, "label", self.labels)
        frame.insert(1, "order", [self.order.index(label) if label in self.order else None for label in self.labels])
        frame.insert(2, "cost", [cost(t) for t in self.transcripts])
        frame["cost"] = frame["cost"].astype("Float64")
        frame["order"] = frame["order"].astype("Int64")
        return frame

    def plot(self, kind: str = "growth", **how: Any) -> Figure:
        """A picture: ``growth``, how each answer grew on one time axis. See :mod:`.plots`."""
        from tokenstream_magic.experiments import drawn

        picture: Figure = drawn(self, kind, **how)
        return picture

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: who, outcome, TTFT, TTFA, TPOT, rate, tokens, cost where a server says it, and the first words."""
        lines = []
        priced = any(cost(transcript) is not None for transcript in self.transcripts)
        for label, transcript in zip(self.labels, self.transcripts, strict=True):
            timing, tokens = transcript.timing, transcript.usage.output_tokens
            price = cost(transcript)
            words = one_line(transcript.text or (transcript.error or {}).get("message") or "")
            lines.append(
                [
                    label if self.hidden else f"{label} · {transcript.model}" if self.blind else transcript.model,
                    transcript.outcome,
                    figure([timing.ttft_ms], "ms"),
                    figure([timing.ttfa_ms], "ms"),
                    figure([timing.tpot_ms], "ms"),
                    figure([timing.decode_tokens_per_second], ""),
                    "" if tokens is None else str(tokens),
                    *(["" if price is None else f"{price:.4g}"] if priced else []),
                    unnamed(words, transcript) if self.hidden else words,
                ]
            )
        for line in lines:
            line[-1] = in_few_lines(line[-1] if len(line[-1]) <= 60 else f"{line[-1][:59]}…")
        return ["model", "outcome", "TTFT", "TTFA", "TPOT", "tokens/s", "tokens", *(["cost"] if priced else []), "text"], lines

    def __repr__(self) -> str:
        names = self.labels if self.hidden else [t.model for t in self.transcripts]
        return f"<CompareResult {self.id}: {', '.join(names)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        header, lines = self.table()
        note = self.note()
        about = {"compare": self.id, "seed": self.seed, "order": self.order, "voted": self.voted}
        return (
            {
                "text/plain": f"{as_text(header, lines)}\n{for_terminal(note)}",
                "text/markdown": f"{as_markdown(header, lines)}\n\n{for_markdown(note).strip()}",
            },
            {"tokenstream": about},
        )

    def note(self) -> str:
        """What is to be said below the table."""
        if self.hidden:
            return f"Which is which is hidden until you vote: %stream vote {'|'.join(self.labels)}|tie."
        started = f"Started in the order {', '.join(self._name(label) for label in self.order)}." if self.order else "Nothing started."
        voted = "" if self.voted is None else " You voted for a tie." if self.voted == TIE else f" You voted for {self._name(self.voted)}."
        return started + voted

    def _name(self, label: str) -> str:
        return self.transcripts[self.labels.index(label)].model


@dataclass
class Comparison:
    """A comparison that is under way."""

    job: Job
    shown: views.Columns
    result: CompareResult
    quiet: bool

    def settled(self) -> CompareResult:
        """What it left, once every side has ended."""
        self.result.stopped = self.job.stopped
        if self.quiet and views.front_end() in ("none", "terminal"):
            self.result._shown = None  # noqa: SLF001 - the caller has the result, and shows it or not
        else:
            transcripts = self.result.transcripts
            self.shown.settle(
                [hidden(t, label) for t, label in zip(transcripts, self.result.labels, strict=True)] if self.result.hidden else None
            )
            if views.front_end() == "terminal":
                views.print_text(self.result._repr_mimebundle_()[0]["text/plain"])
            elif self.result.hidden:
                views.print_text(self.result.note())
        return self.result


def compare(prompt: Any, models: Sequence[str] | None = None, **how: Any) -> CompareResult:
    """Sends a prompt to several ``models`` and waits for all of them; they are shown side by side. An interrupt stops all.

    They run one after the other, in a random order (``order_seed`` fixes it); ``max_concurrency`` lets them run in parallel, where
    they disturb each other. ``blind`` hides the names until :meth:`CompareResult.vote`. All other flags are those of
    :func:`~tokenstream_magic.api.stream`.
    """
    with interrupts.taken():
        begun = begin(prompt, models, quiet=True, **how)
        blocked(begun.job)
        return begun.settled()


async def acompare(prompt: Any, models: Sequence[str] | None = None, **how: Any) -> CompareResult:
    """:func:`compare` for an async caller."""
    return await run(begin(prompt, models, quiet=True, **how))


async def run(begun: Comparison) -> CompareResult:
    """Waits for a comparison that has begun. A cancellation stops it."""
    await api.finished(begun.job)  # type: ignore[arg-type]
    return begun.settled()


def begin(
    prompt: Any,
    models: Sequence[str] | None = None,
    *,
    blind: bool = False,
    max_concurrency: int = 1,
    order_seed: int | None = None,
    quiet: bool = False,
    **flags: Any,
) -> Comparison:
    """Starts a comparison and returns at once. Raises BadRequest before anything is sent when a side cannot be asked."""
    names = [models] if isinstance(models, str) else list(models or ())
    if not 2 <= len(names) <= MOST_MODELS:
        raise BadRequest(f"A comparison needs from 2 to {MOST_MODELS} models.", 'Example: models=["local", "ollama/llama3"].')
    if not isinstance(max_concurrency, int) or max_concurrency < 1:
        raise BadRequest("max_concurrency is a whole number from 1 up.")
    for flag in ("continue_", "cid", "run_tools"):
        if flags.pop(flag, None):
            raise BadRequest(f"{flag.rstrip('_')} does not go with a comparison.", "Every side stands by itself.")
    tag = flags.pop("tag", ())
    tags = [tag] if isinstance(tag, str) else list(tag)
    if max_concurrency > 1:
        log.warning(PARALLEL)
    seed = secrets.randbelow(1 << 31) if order_seed is None else order_seed
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    if blind:
        chance.shuffle(names)
    prepared = [asking.ask(prompt, name, **flags) for name in names]
    cells = [Cell(n, "", name, {}, Prompt([], ""), {}, prepared=one) for n, (name, one) in enumerate(zip(names, prepared, strict=True))]
    kept = not flags.get("no_log") and api.keeper() is not None
    result = CompareResult(new_id(), names, seed, blind=blind, kept=kept)
    result.transcripts = [replace(asking.describe(one.plan, one.prompt), outcome="stopped", stop_cause="api") for one in prepared]
    items = [Item(cell, 0, cell.number) for cell in cells]
    chance.shuffle(items)
    labels = result.labels
    shown = views.columns(labels, hidden=True) if blind else views.columns([t.model for t in result.transcripts])

    def begun(item: Item, one: Any) -> Any:
        started = api.begin(one, view=shown.sinks[item.cell.number])
        result.order.append(labels[item.cell.number])
        result.transcripts[item.cell.number] = started.transcript
        return started

    def tagged(item: Item) -> tuple[str, ...]:
        return (COMPARE, f"{COMPARE}:{result.id}", f"side:{labels[item.cell.number]}", f"seed:{seed}", *(["blind"] if blind else []), *tags)

    def took(item: Item, transcript: Transcript) -> None:
        result.transcripts[item.cell.number] = transcript

    job = Job(Transcript(id=result.id, model=f"comparison of {len(names)} models"), [items], Here(max_concurrency, tagged, begun), took)
    shown.open()
    result._shown = shown  # noqa: SLF001 - its own
    _last[:] = [result]
    return Comparison(job.start(), shown, result, quiet)


def vote(which: str) -> CompareResult:
    """Votes in the last comparison of this process."""
    if not _last:
        raise BadRequest("There is no comparison to vote in.", "Example: %%stream local,ollama/llama3 --blind.")
    return _last[0].vote(which)


def cost(transcript: Transcript) -> float | None:
    """What the server says the answer costs, in its own unit; None where it says nothing."""
    told = transcript.timing.server.get("cost")
    return float(told) if isinstance(told, (int, float)) and not isinstance(told, bool) else None


def hidden(transcript: Transcript, label: str) -> Transcript:
    """A copy that does not say which model it is of."""
    error = transcript.error
    return replace(
        transcript,
        id=label,
        model=label,
        resolved_model=None,
        endpoint="",
        protocol="",
        system_fingerprint=None,
        request_id=None,
        diagnostics=[unnamed(note, transcript) for note in transcript.diagnostics],
        error=None if error is None else {**error, "message": unnamed(str(error.get("message", "")), transcript)},
        timing=replace(transcript.timing, server={}),
    )
