"""What a sweep leaves: its runs with their places in the grid, as a frame, a summary and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from tokenstream_magic.display.inert import for_markdown, for_terminal
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.experiments import summary as summaries
from tokenstream_magic.experiments.grid import Item
from tokenstream_magic.record import Transcript

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_GROUPS = 24
MANY_LEVELS = 12

_NARROWEST = 30  # characters
_HELD = "\u00a0"  # a space where no line is broken

_SAME = ("model", "system", "prompt")  # a transcript's own columns say the same
_TABLE = (("TTFT p50", "ttft_ms", "ms"), ("tokens/s p50", "decode_tokens_per_second", ""), ("total p50", "e2e_ms", "ms"))


@dataclass(frozen=True)
class Row:
    """One run and its place."""

    item: Item
    transcript: Transcript


class SweepResult:
    """The runs of a sweep that ended, in the order in which they were meant to start; warm-ups are left out.

    ``id`` names the sweep (``resume=ID`` goes on with it), ``seed`` is that of the order, ``planned`` how many runs it was to be,
    ``stopped`` why it was ended early.
    """

    def __init__(
        self, id: str, seed: int, rows: Sequence[Row], *, planned: int, name: str | None = None, stopped: str | None = None
    ) -> None:
        self.id = id
        self.seed = seed
        self.name = name
        self.planned = planned
        self.stopped = stopped
        self.rows = sorted(rows, key=lambda row: row.item.position)

    @property
    def transcripts(self) -> list[Transcript]:
        """The transcripts of the runs."""
        return [row.transcript for row in self.rows]

    @property
    def factors(self) -> list[str]:
        """What was varied: ``model``, fields and flags, variables of the prompt, and the columns of the prompts."""
        return list(dict.fromkeys(name for row in self.rows for name in row.item.cell.factors))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Transcript]:
        return iter(self.transcripts)

    def to_pandas(self) -> pd.DataFrame:
        """One row a run: what was varied, which ``cell``, ``prompt_index`` and ``repeat``, its place in the ``order``, and its transcript.

        A factor that is called like another field of a transcript is ``factor_NAME``.
        """
        from tokenstream_magic.transcripts import frames

        frame = frames.transcripts(self.transcripts)
        columns: dict[str, list[Any]] = {}
        for name, column in self.columns().items():
            if column not in frame:
                columns[column] = [row.item.cell.factors.get(name) for row in self.rows]
        columns["cell"] = [row.item.cell.key for row in self.rows]
        columns["prompt_index"] = [row.item.cell.prompt_index for row in self.rows]
        columns["repeat"] = [row.item.repeat for row in self.rows]
        columns["order"] = [row.item.position for row in self.rows]
        for place, (name, values) in enumerate(columns.items()):
            frame.insert(place, name, values)
        return frame

    def in_order_of_cells(self) -> pd.DataFrame:
        """:meth:`to_pandas` in the order of the grid, not of chance: groups, baselines and colours are the same whatever the seed."""
        numbers = [row.item.cell.number for row in self.rows]
        return self.to_pandas().iloc[sorted(range(len(numbers)), key=numbers.__getitem__)]

    def columns(self) -> dict[str, str]:
        """What each factor is called in the frame."""
        from tokenstream_magic.transcripts import frames

        taken = {*frames.transcripts([]).columns, "cell", "prompt_index", "repeat", "order"}
        return {name: name if name in _SAME or name not in taken else f"factor_{name}" for name in self.factors}

    def summary(self, by: str | Sequence[str] | None = None, figures: Sequence[str] | None = None, **how: Any) -> pd.DataFrame:
        """Percentiles of every figure with bootstrap intervals, a row a group and figure: :func:`.summary.summarise`.

        ``by`` are columns of :meth:`to_pandas`; left out, the factors that vary, without the columns of the prompts.
        """
        frame = self.in_order_of_cells()
        names = [by] if isinstance(by, str) else list(by) if by is not None else self.varied(frame)
        return summaries.summarise(frame, names, figures, **how)

    def paired(self, by: str | None = None, figures: Sequence[str] | None = None, *, baseline: Any = None, **how: Any) -> pd.DataFrame:
        """Differences between the values of one factor (``model`` if that varies) on shared prompts: :func:`.summary.paired`."""
        frame = self.in_order_of_cells()
        varied = self.varied(frame)
        if by is None:
            if not varied:
                raise BadRequest("Nothing was varied, so there is nothing to pair.", "Sweep over two models, or two values of an option.")
            by = "model" if "model" in varied else varied[0]
        return summaries.paired(frame, by, [name for name in varied if name != by], figures, baseline=baseline, **how)

    def varied(self, frame: pd.DataFrame | None = None) -> list[str]:
        """The columns that tell the cells apart, without those that came with the prompts."""
        frame = self.to_pandas() if frame is None else frame
        names = [column for name, column in self.columns().items() if not self._follows_prompt(name)]
        return [name for name in names if len(set(frame[name].astype(str))) > 1]

    def _follows_prompt(self, name: str) -> bool:
        """Whether a factor is a column of the prompts: it never differs within one."""
        if len({row.item.cell.prompt_index for row in self.rows}) < 2:
            return False
        seen: dict[int, Any] = {}
        return all(seen.setdefault(row.item.cell.prompt_index, v := row.item.cell.factors.get(name)) == v for row in self.rows) and (
            len(set(map(str, seen.values()))) > 1
        )

    def plot(self, kind: str = "distribution", **how: Any) -> Figure:
        """A picture: ``distribution`` (``ecdf`` or ``box``), ``heatmap``, ``gaps``, ``drift``. See :mod:`.plots`."""
        from tokenstream_magic.experiments import drawn

        figure: Figure = drawn(self, kind, **how)
        return figure

    def counts(self) -> str:
        """How many runs, errors and stops there are, in words."""
        outcomes = [row.transcript.outcome for row in self.rows]
        errors, stopped = sum(o in ("failed", "truncated") for o in outcomes), outcomes.count("stopped")
        parts = [f"{len(self.rows)} of {self.planned} runs" if len(self.rows) < self.planned else f"{len(self.rows)} runs"]
        parts += [f"{errors} {'error' if errors == 1 else 'errors'}"] if errors else []
        parts += [f"{stopped} stopped"] if stopped else []
        parts += ["ended early"] if self.stopped else []
        return " · ".join(parts)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """A small table: header and rows."""
        groups: dict[tuple[str, ...], list[Transcript]] = {}
        names = self._few()
        for row in self.rows:
            key = tuple(_in_words(row.transcript.model if name == "model" else row.item.cell.factors.get(name)) for name in names)
            groups.setdefault(key, []).append(row.transcript)
        lines = []
        for key, found in sorted(groups.items(), key=lambda group: _natural(group[0]))[:MOST_GROUPS]:
            complete = [t for t in found if t.outcome == "complete"]
            errors, stopped = sum(t.outcome in ("failed", "truncated") for t in found), sum(t.outcome == "stopped" for t in found)
            cells = [str(len(found)), str(errors), str(stopped)]
            cells += [figure([getattr(t.timing, name) for t in complete], unit) for _, name, unit in _TABLE]
            lines.append([*key, *cells])
        return [*names, "runs", "errors", "stopped", *(title for title, *_ in _TABLE)], lines

    def _few(self) -> list[str]:
        """The factors a small table has: those that vary, not the columns of prompts, not what would make it large."""
        names = []
        for name in self.factors:
            values = {_in_words(row.transcript.model if name == "model" else row.item.cell.factors.get(name)) for row in self.rows}
            if 1 < len(values) <= MANY_LEVELS and not self._follows_prompt(name):
                names.append(name)
        return names

    def __repr__(self) -> str:
        return f"<SweepResult {self.id}: {self.counts()}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        header, lines = self.table()
        title = one_line(" ".join(filter(None, ["sweep", self.name]))) + f" · {self.counts()}"
        data: dict[str, Any] = {"text/plain": f"{for_terminal(title)}\n{as_text(header, lines)}"}
        picture = self._picture()
        parts = [f"**{for_markdown(title).strip()}**", as_markdown(header, lines)]
        if picture is not None:
            data["image/png"] = picture
            parts.append(f"![TTFT and rate of every run](data:image/png;base64,{picture})")
        data["text/markdown"] = "\n\n".join(parts)
        about = {"sweep": self.id, "seed": self.seed, "name": self.name, "runs": [t.id for t in self.transcripts[:1000]]}
        return data, {"tokenstream": about}

    def _picture(self) -> str | None:
        """The distribution as PNG in base64; None without matplotlib, or where there is nothing to draw."""
        try:
            from tokenstream_magic.experiments.picture import encoded

            return encoded(self.plot())
        except (ImportError, BadRequest):  # no matplotlib, or nothing to draw
            return None


def figure(values: Sequence[float | None], unit: str) -> str:
    """The median in words, number and unit held together; empty where nothing is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return ""
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return f"{middle:,.0f}{_HELD}{unit}".strip() if middle >= 100 else f"{middle:.3g}{_HELD}{unit}".strip()


def in_few_lines(text: str) -> str:
    """``text`` for a cell of a table, which never gets as narrow as a word."""
    return " ".join(line.replace(" ", _HELD) for line in wrap(text, _NARROWEST, break_long_words=False, break_on_hyphens=False))


def as_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    from tokenstream_magic.display.listing import table

    return table([for_terminal(name) for name in header], [[for_terminal(cell).replace(_HELD, " ") for cell in line] for line in lines])


def as_markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """An inert table."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(for_markdown(_HELD.join(map(one_line, cell.split(_HELD)))).strip() for cell in cells)} |"

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, lines)])


def _in_words(value: Any) -> str:
    text = "" if value is None else one_line(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _natural(key: tuple[str, ...]) -> list[tuple[int, float, str]]:
    """Numbers by their size, words by their letters."""
    order: list[tuple[int, float, str]] = []
    for part in key:
        try:
            order.append((0, float(part), ""))
        except ValueError:
            order.append((1, 0.0, str(part)))
    return order
