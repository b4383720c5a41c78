"""``%%stream a,b``, ``-r``, ``--sweep``: cells that are more than one run; and ``%stream vote``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenstream_magic import asking, prompt as prompts
from tokenstream_magic.display import views
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments import compare, sweep

_ALONE = {
    "dry_run": "--dry-run shows one request.",
    "bg": "The cell waits for an experiment.",
    "extract": "-x takes a block out of one answer.",
}


class Experiment:
    """A comparison or a sweep that a cell began."""

    def __init__(self, begun: compare.Comparison | sweep.Sweep) -> None:
        self._begun = begun

    @property
    def result(self) -> Any:
        """What it will leave; so far what there is."""
        return self._begun.result

    def stop(self) -> None:
        """An interrupt: it ends, and nobody waits for that. Any thread."""
        sweep.stop(self._begun.job)

    def blocking(self) -> None:
        """Waits on this thread."""
        sweep.blocked(self._begun.job)
        self._begun.settled()

    async def awaited(self) -> None:
        """Waits, and leaves the kernel free."""
        if isinstance(self._begun, compare.Comparison):
            await compare.run(self._begun)
        else:
            await sweep.run(self._begun)


def is_wanted(flags: Any, model: str | None) -> bool:
    """Whether a line asks for more than one run."""
    counted = (flags.repeat, flags.warmup, flags.sweep, flags.resume, flags.max_concurrency, flags.blind)
    return "," in (model or "") or any(value is not None and value is not False and value != [] for value in counted)


def begin(flags: Any, keywords: Mapping[str, Any], cell: str, model: str | None, names: Mapping[str, Any] | None) -> Experiment:
    """Begins what a cell asks for; ``names`` are its variables, None with ``--raw``. Raises BadRequest before anything is sent."""
    for flag, problem in _ALONE.items():
        if getattr(flags, flag):
            raise BadRequest(problem, "Leave it out, or ask one model once.")
    models = [name.strip() for name in model.split(",")] if model else None
    if models is not None and not all(models):
        raise BadRequest("A model is missing beside a comma.", "Example: %%stream local,ollama/llama3.")
    ours = dict(keywords)
    width = 1 if flags.max_concurrency is None else flags.max_concurrency
    if flags.repeat is None and flags.warmup is None and not flags.sweep and flags.resume is None:
        if models is None or len(models) < 2:
            what = "--blind hides which model is which" if flags.blind else "-j is for several runs"
            raise BadRequest(f"{what}, and there is one.", "Example: %%stream local,ollama/llama3 --blind.")
        around = asking.named_template(flags.template)
        system = flags.system or around.get("system")
        prompt = prompts.build(cell.rstrip("\n"), names, system, around=around.get("prompt"), params=ours.pop("param"))
        return Experiment(compare.begin(prompt, models, blind=flags.blind, max_concurrency=width, **ours))
    if flags.blind:
        raise BadRequest("A sweep is not blind.", "--blind is for a comparison: leave out -r and --sweep.")
    return Experiment(
        sweep.begin(
            cell.rstrip("\n"),
            models,
            grid_of(flags.sweep),
            repeat=1 if flags.repeat is None else flags.repeat,
            warmup=flags.warmup or 0,
            max_concurrency=width,
            resume=flags.resume,
            namespace=names,
            system=flags.system,
            **ours,
        )
    )


def grid_of(words: list[str]) -> dict[str, list[Any]]:
    """The grid of ``K=V1,V2`` words. A value is JSON when it parses, and so is a list of them in brackets."""
    grid: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not text.strip():
            raise BadRequest(f"--sweep {word} names no values.", "Example: --sweep temperature=0,0.5,1.")
        if name in grid:
            raise BadRequest(f"--sweep {name} is there twice.", f"Write all its values behind one: --sweep {name}=V1,V2.")
        listed = _value(text)
        grid[name] = listed if isinstance(listed, list) else [_value(part) for part in text.split(",")]
    return grid


def vote(words: list[str]) -> None:
    """``%stream vote A``."""
    if len(words) != 1:
        raise BadRequest("Vote for one side.", "Example: %stream vote A, or %stream vote tie.")
    views.print_text(compare.vote(words[0]).note())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()
