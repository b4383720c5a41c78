"""Scripts: what the mock server says, in which pieces, how fast, and how it ends.

A script knows no protocol; the server turns it into the bytes of the one it is asked in. All times in seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

STORY = (
    "The lighthouse had been dark for eleven years when Mara found the key. It lay in a tin of nails, wrapped in oil cloth,"
    " and on the cloth someone had written a date that had not come yet. She climbed the two hundred steps with a lamp in one"
    " hand. At the top the great lens stood as it had always stood, and the sea below it waited, as the sea does."
)

Ending = Literal["done", "no-terminator", "no-finish", "cut", "reset", "stall"]


@dataclass(frozen=True)
class Script:
    """One answer of the mock server.

    ``pieces`` are sent one by one, ``gap`` seconds apart, the first after ``first`` seconds. ``status`` other than
    200 answers with an error instead. ``ending`` says what comes after the last piece: ``done`` the protocol's own
    end, ``no-terminator`` only the finish reason, ``no-finish`` nothing before a clean close, ``cut`` a close in the
    middle of a frame, ``reset`` a connection reset, ``stall`` silence for as long as the client stays.
    ``stall_after`` pieces the server falls silent; ``error_after`` pieces it sends an error. ``together`` pieces
    share one frame of the network. ``body`` is sent instead of all that. ``content_type`` None is the protocol's own.
    """

    pieces: tuple[str, ...] = ("Hello", " there", ".")
    reasoning: tuple[str, ...] = ()
    first: float = 0.0
    gap: float = 0.0
    finish: str = "stop"
    usage: bool = True
    ending: Ending = "done"
    status: int = 200
    error: str = "the mock server was told to fail"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    stall_after: int | None = None
    error_after: int | None = None
    together: int = 1
    keep_alive: float | None = None
    body: bytes | None = None

    def saying(self, text: str) -> Script:
        """This script with other words, a word a piece."""
        return replace(self, pieces=words(text))


def words(text: str) -> tuple[str, ...]:
    """Text in pieces as a tokenizer might cut it: a word with the space before it."""
    return tuple(re.findall(r"\s*\S+\s*$|\s*\S+", text)) or (text,)


SCRIPTS: dict[str, Script] = {
    "hello": Script(),
    "story": Script(words(STORY), first=0.15, gap=0.03),
    "slow": Script(words(STORY), first=1.0, gap=0.25),
    "endless": Script(words(STORY) * 50, first=0.05, gap=0.02),
    "stall": Script(words(STORY), first=0.05, gap=0.01, stall_after=8),
    "silent": Script(stall_after=0),
    "cut": Script(words(STORY)[:12], gap=0.01, ending="cut"),
    "reset": Script(words(STORY)[:12], gap=0.01, ending="reset"),
    "no-terminator": Script(words(STORY)[:12], ending="no-terminator"),
    "no-finish": Script(words(STORY)[:12], ending="no-finish"),
    "error": Script(words(STORY)[:12], gap=0.01, error_after=6),
    "unauthorized": Script(status=401, error="Incorrect API key provided"),
    "overloaded": Script(status=503, error="The server is overloaded"),
    "page": Script(content_type="text/html", body=b"<html><body><h1>Sign in to the network</h1></body></html>"),
    "redirect": Script(status=307, headers={"Location": "http://elsewhere.invalid/v1"}),
}
"""Scripts by name: the model ``mock/NAME`` plays them."""
