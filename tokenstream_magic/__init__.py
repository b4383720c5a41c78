"""Watch language models stream in a notebook, stop them, time them truthfully and keep every run.

``%load_ext tokenstream_magic`` gives ``%%stream``, ``%stream`` and ``%transcripts``; in Python the public face is
``stream``, ``astream``, ``events``, ``aevents`` and ``transcripts``. Everything heavy is imported on first use.
"""

from __future__ import annotations

from importlib import import_module

from tokenstream_magic.version import __version__

TYPE_CHECKING = False  # as typing has it, whose import is most of what importing this would take

_HOME = {
    "stream": "tokenstream_magic.api",
    "astream": "tokenstream_magic.api",
    "events": "tokenstream_magic.iterating",
    "aevents": "tokenstream_magic.iterating",
    "decode": "tokenstream_magic.capture",
    "compare": "tokenstream_magic.experiments.compare",
    "sweep": "tokenstream_magic.experiments.sweep",
    "running": "tokenstream_magic.api",
    "stop": "tokenstream_magic.api",
    "Transcript": "tokenstream_magic.record",
    "TokenstreamError": "tokenstream_magic.errors",
    "transcripts": "tokenstream_magic",
}

__all__ = [
    "TokenstreamError",
    "Transcript",
    "__version__",
    "aevents",
    "astream",
    "compare",
    "decode",
    "events",
    "running",
    "stop",
    "stream",
    "sweep",
    "transcripts",
]

if TYPE_CHECKING:
    from typing import Any

    from tokenstream_magic import transcripts
    from tokenstream_magic.api import astream, running, stop, stream
    from tokenstream_magic.capture import decode
    from tokenstream_magic.errors import TokenstreamError
    from tokenstream_magic.experiments.compare import compare
    from tokenstream_magic.experiments.sweep import sweep
    from tokenstream_magic.iterating import aevents, events
    from tokenstream_magic.record import Transcript


def __getattr__(name: str) -> Any:
    if name == "transcripts":
        return import_module("tokenstream_magic.transcripts")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tokenstream_magic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext tokenstream_magic``."""
    from tokenstream_magic.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext tokenstream_magic``."""
    from tokenstream_magic.magics import unload

    unload(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "tokenstream-magic"}]
