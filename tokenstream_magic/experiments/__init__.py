"""Experiments: the same question to several models, many times, over a grid, on several machines, and what follows from it."""

from __future__ import annotations

from typing import Any

from tokenstream_magic.errors import BadRequest


def drawn(subject: Any, kind: str, **how: Any) -> Any:
    """A picture of a transcript or a result: :func:`.plots.plot`, once matplotlib is there."""
    try:
        from tokenstream_magic.experiments import plots
    except ImportError:
        raise BadRequest("A plot needs matplotlib.", 'Install it: pip install "tokenstream-magic[experiments]".') from None
    return plots.plot(subject, kind, **how)
