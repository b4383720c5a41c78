"""Keys masked in text and data: the values in use, and what the well-known patterns of keys match.

A mask is as long as what it hides, so that the characters a timeline counts stay where they were. Patterns want the
length and the alphabet of real keys: prose about keys, and words such as ``risk-averse``, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SHORTEST = 8  # characters: a "key" such as "none" or "ollama", which servers without keys are given, is a word
HOLD = 4096
CONTEXT = 256

_BEFORE = r"(?<![A-Za-z0-9])"
_PATTERNS = (  # what must be there for a pattern to be tried, and the pattern
    ("sk-", re.compile(_BEFORE + r"sk-[A-Za-z0-9_-]{16,}")),
    ("AIza", re.compile(_BEFORE + r"AIza[A-Za-z0-9_-]{30,}")),
    ("gsk_", re.compile(_BEFORE + r"gsk_[A-Za-z0-9]{20,}")),
    ("xai-", re.compile(_BEFORE + r"xai-[A-Za-z0-9]{20,}")),
    ("hf_", re.compile(_BEFORE + r"hf_[A-Za-z0-9]{20,}")),
    *((f"gh{kind}_", re.compile(_BEFORE + rf"gh{kind}_[A-Za-z0-9]{{30,}}")) for kind in "pousr"),
    ("github_pat_", re.compile(_BEFORE + r"github_pat_[A-Za-z0-9_]{30,}")),
    ("glpat-", re.compile(_BEFORE + r"glpat-[A-Za-z0-9_-]{20,}")),
    ("xox", re.compile(_BEFORE + r"xox[abeoprs]-[A-Za-z0-9-]{20,}")),
    *((name, re.compile(_BEFORE + name + r"[A-Z0-9]{16}(?![A-Za-z0-9])")) for name in ("AKIA", "ASIA")),
    ("eyJ", re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")),
    ("earer", re.compile(_BEFORE + r"(?<=[Bb]earer )(?=[^\s]*\d)[A-Za-z0-9._~+/=-]{16,}")),
    ("://", re.compile(r"(?<=://)[^\s/:@]{1,200}:[^\s/@]{1,200}(?=@)")),  # a user and a password in an address
)
_RARE = "_-A:Jx"  # a text without one of these holds no needle with it
_NEEDLES = {
    character: [needle for needle, _ in _PATTERNS if character in needle and not any(before in needle for before in _RARE[:place])]
    for place, character in enumerate(_RARE)
}
_OTHERS = [needle for needle, _ in _PATTERNS if not any(character in needle for character in _RARE)]
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"  # of which keys are made
_PREFIX = re.compile(_BEFORE + r"(?:sk-|AIza|gsk_|xai-|hf_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|eyJ)")
_ADDRESS = re.compile(r"://[^\s/@]*\Z")


class Redactor:
    """Masks the given values and the well-known patterns. ``masked`` counts what was found so far."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        self.masked = 0

    def text(self, text: str) -> str:
        """``text`` with every key as asterisks."""
        for value in self.values:
            found = text.count(value)
            if found:
                self.masked += found
                text = text.replace(value, "*" * len(value))
        for needle, pattern in _PATTERNS:
            if needle in text:
                text, found = pattern.subn(lambda match: "*" * len(match[0]), text)
                self.masked += found
        return text

    def may_find(self, text: str) -> bool:
        """Whether there could be something to mask in ``text``; without it there is nothing."""
        for rare, needles in _NEEDLES.items():
            if rare in text:
                for needle in needles:
                    if needle in text:
                        return True
        return any(needle in text for needle in _OTHERS) or any(value in text for value in self.values)

    def data(self, value: Any) -> Any:
        """Plain data with every key in it masked, in names and values alike."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name) if isinstance(name, str) else name: self.data(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        return value

    def open_from(self, text: str) -> int:
        """Where in ``text`` a key may begin that its end cuts off; its length when there is none."""
        edge = len(text)
        run = len(text.rstrip(_CHARACTERS))
        begun = _PREFIX.search(text, run)
        if begun is not None:
            edge = begun.start()
        elif text[max(0, run - 6) : run].lower() == "earer ":
            edge = run
        address = text.rfind("://", max(0, len(text) - HOLD))
        if address >= 0 and _ADDRESS.match(text, address):
            edge = min(edge, address)
        for value in self.values:
            for size in range(min(len(value) - 1, len(text)), 3, -1):
                if text.endswith(value[:size]):
                    edge = min(edge, len(text) - size)
                    break
        return edge


@dataclass(frozen=True)
class Passage:
    """How far a growing text has been handed on: the end of what was, what is held back, whether that ended in a key."""

    context: str = ""
    held: str = ""
    inside: bool = False


@dataclass
class Grown:
    """What of a growing text can be handed on, and how far that is then."""

    text: str
    passage: Passage = field(default_factory=Passage)


def advance(redactor: Redactor, passage: Passage, more: str) -> Grown:
    """The text that ``more`` makes safe to hand on: a key split over several pieces is held back until it is whole.

    Pure, so that what could not be written can be asked for again. Held back is at most 4096 characters; a key
    longer than that is masked as it comes.
    """
    start = len(passage.context)
    whole = passage.context + passage.held + more
    masked_before = ""
    if passage.inside:  # the rest of a key whose beginning was let go
        stop = len(whole) - len(whole[start:].lstrip(_CHARACTERS))
        masked_before, still = "*" * (stop - start), stop == len(whole)
        if still:
            return Grown(masked_before, Passage(whole[-CONTEXT:], "", inside=True))
        start = stop
    edge = max(start, redactor.open_from(whole))
    inside = len(whole) - edge > HOLD
    if inside:
        redactor.masked += 1
        text = redactor.text(whole[:edge])[start:] + "*" * (len(whole) - edge)
        return Grown(masked_before + text, Passage(whole[-CONTEXT:], "", inside=True))
    text = redactor.text(whole)[start:edge]
    return Grown(masked_before + text, Passage(whole[:edge][-CONTEXT:], whole[edge:]))
