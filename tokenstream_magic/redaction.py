"""Keys masked in text and data: the values in use, and what the well-known patterns of keys match.

A mask is as long as what it hides, so that the characters a timeline counts stay where they were. Patterns want the
length and the alphabet of real keys: prose about keys, and words such as ``risk-averse``, stay as they are.

A text that comes in pieces is masked as the whole of it would be: what may be the beginning of a key is held back until
the next pieces decide, and nothing else is (:class:`Growing`, and :func:`advance` for who may have to ask twice).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

SHORTEST = 8  # characters: a "key" such as "none" or "ollama", which servers without keys are given, is a word
HOLD = 4096
CONTEXT = 8  # characters before a key that its pattern asks for, and one more

_BEFORE = r"(?<![A-Za-z0-9])"
_WORD, _DASHED, _CAPITAL, _TOKEN = "[A-Za-z0-9]", "[A-Za-z0-9_-]", "[A-Z0-9]", "[A-Za-z0-9._~+/=-]"


_Span = tuple[int, int]


class _Kind(NamedTuple):
    """A kind of key: what must be there for it to be looked for, what it is, and what of it may stand at the end of a text."""

    needle: str
    whole: re.Pattern[str]
    begun: re.Pattern[str]
    behind: int = 0  # letters before it without which it is none, and which must not be hidden themselves


def _kind(prefix: str, letters: str, least: int) -> _Kind:
    """Keys that are a prefix and at least so many letters."""
    return _Kind(prefix, re.compile(f"{_BEFORE}{prefix}{letters}{{{least},}}"), re.compile(_BEFORE + _begun(prefix, f"{letters}*")))


def _begun(prefix: str, rest: str) -> str:
    """A prefix as far as the text goes, and what follows it up to the end."""
    made = rf"{rest}\Z"
    for letter in reversed(prefix[1:]):
        made = rf"(?:\Z|{letter}{made})"
    return prefix[0] + made


_JWT = rf"(?<![A-Za-z0-9_-])eyJ{_DASHED}{{8,}}\.{_DASHED}{{8,}}(?:\.{_DASHED}*)?"
_JWT_BEGUN = (
    rf"(?<![A-Za-z0-9_-])e(?:\Z|y(?:\Z|J{_DASHED}*\Z|J{_DASHED}{{8,}}\.{_DASHED}*\Z|J{_DASHED}{{8,}}\.{_DASHED}{{8,}}\.{_DASHED}*\Z))"
)
_KINDS = (  # in the order in which they are masked
    _kind("sk-", _DASHED, 16),
    _kind("AIza", _DASHED, 30),
    _kind("gsk_", _WORD, 20),
    _kind("xai-", _WORD, 20),
    _kind("hf_", _WORD, 20),
    *(_kind(f"gh{kind}_", _WORD, 30) for kind in "pousr"),
    _kind("github_pat_", "[A-Za-z0-9_]", 30),
    _kind("glpat-", _DASHED, 20),
    *(_kind(f"xox{kind}-", "[A-Za-z0-9-]", 20) for kind in "abeoprs"),
    *(
        _Kind(name, re.compile(f"{_BEFORE}{name}{_CAPITAL}{{16}}(?!{_WORD})"), re.compile(_BEFORE + _begun(name, f"{_CAPITAL}{{0,16}}")))
        for name in ("AKIA", "ASIA")
    ),
    _Kind("eyJ", re.compile(_JWT), re.compile(_JWT_BEGUN)),
    _Kind(
        "earer ",
        re.compile(rf"(?<=[Bb]earer )(?={_TOKEN}*\d){_TOKEN}{{16,}}"),
        re.compile(rf"(?<=[Bb]earer ){_TOKEN}+\Z"),
        behind=len("Bearer "),
    ),
    _Kind(  # a user and a password in an address
        "://",
        re.compile(r"(?<=://)[^\s/:@]{1,200}:[^\s/@]{1,200}(?=@)"),
        re.compile(r"(?<=://)[^\s/:@]{1,200}(?::[^\s/@]{0,200})?\Z"),
    ),
)
_PREFIXES = tuple(kind.needle for kind in _KINDS if kind.needle not in ("earer ", "://"))
_RARE = "_-A:Jx"  # a text without one of these holds no needle with it
_NEEDLES = {
    character: [k.needle for k in _KINDS if character in k.needle and not any(before in k.needle for before in _RARE[:place])]
    for place, character in enumerate(_RARE)
}
_OTHERS = [kind.needle for kind in _KINDS if not any(character in kind.needle for character in _RARE)]
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"  # of which keys are made
_DEPTH = 4  # letters of a beginning that are looked at before the rest is

_in_use: set[str] = set()


def remember(values: Iterable[str]) -> None:
    """Keys of this process from here on: they are masked in whatever is shown or written, wherever they came from."""
    _in_use.update(value for value in values if len(value) >= SHORTEST)


def remembered() -> list[str]:
    """The keys that this process has used so far."""
    return list(_in_use)


class Redactor:
    """Masks the given values and, unless ``patterns`` is false, the well-known patterns. ``masked`` counts what was found so far."""

    def __init__(self, values: Iterable[str] = (), *, patterns: bool = True) -> None:
        self.kinds = _KINDS if patterns else ()
        self.values = sorted({value for value in values if len(value) >= SHORTEST}, key=lambda value: (-len(value), value))
        self.masked = 0

    def text(self, text: str) -> str:
        """``text`` with every key as asterisks."""
        for value in self.values:
            found = text.count(value)
            if found:
                self.masked += found
                text = text.replace(value, "*" * len(value))
        for kind in self.kinds:
            if kind.needle in text:
                text, spans = _hidden(text, _keys(kind, text, 0))
                self.masked += len(spans)
        return text

    def may_find(self, text: str) -> bool:
        """Whether there could be something to mask in ``text``; without it there is nothing."""
        if self.kinds:
            for rare, needles in _NEEDLES.items():
                if rare in text:
                    for needle in needles:
                        if needle in text:
                            return True
            if any(needle in text for needle in _OTHERS):
                return True
        return any(value in text for value in self.values)

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
        return self.so_far(text, 0)[1]

    @cached_property
    def begins(self) -> re.Pattern[str]:
        """Matches where a key, or a part of one at the end of a text, may begin. Where it does not, there is none."""
        begun = [_one_of(self.values)] if self.values else []
        if self.kinds:
            begun += [_BEFORE + _one_of(_PREFIXES), rf"(?<=earer ){_TOKEN}", r"(?<=://)[^\s/:@]"]
        return re.compile("|".join(begun) or r"(?!)")

    def so_far(self, text: str, start: int) -> tuple[str, int, int]:
        """``text`` masked from ``start`` on, up to where it is decided whatever follows, and how many keys that hides.

        What is masked first is looked for first, and the rest no further than to where that may begin: what comes may mask it.
        """
        edge, hidden = len(text), []
        for value in self.values:
            text, spans = _hidden(text, _values(value, text, start))
            hidden += spans
            position = spans[-1][1] if spans else start
            for size in range(min(len(value) - 1, edge - position), 0, -1):
                if text.startswith(value[:size], edge - size):
                    edge -= size
                    break
        for kind in self.kinds:
            if kind.needle[0] not in text:
                continue
            begun = kind.begun.search(text, start, edge)
            if begun is not None:
                edge = begun.start()
            if kind.needle in text:
                text, spans = _hidden(text, _keys(kind, text, start))
                hidden += spans
        while cut := [begin for begin, end in hidden if begin < edge < end]:  # a key is not cut in two
            edge = min(cut)
        return text, edge, sum(end <= edge for _, end in hidden)


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
    whole = passage.context + passage.held + more
    start = len(passage.context)
    before = ""
    if passage.inside:  # the rest of a key whose beginning was let go
        stop = len(whole) - len(whole[start:].lstrip(_CHARACTERS))
        before = "*" * (stop - start)
        whole = f"{whole[:start]}{before}{whole[stop:]}"
        if stop == len(whole):
            return Grown(before, Passage(whole[-CONTEXT:], inside=True))
        start = stop
    masked, edge, found = redactor.so_far(whole, start)
    redactor.masked += found
    if len(whole) - edge > HOLD:
        redactor.masked += 1
        text = masked[start:edge] + "*" * (len(whole) - edge)
        return Grown(before + text, Passage((whole[:start] + text)[-CONTEXT:], inside=True))
    return Grown(before + masked[start:edge], Passage(masked[:edge][-CONTEXT:], whole[edge:]))


def ended(redactor: Redactor, passage: Passage) -> str:
    """What was held back, once nothing follows it."""
    start = len(passage.context)
    whole = passage.context + passage.held
    for value in redactor.values:
        whole, spans = _hidden(whole, _values(value, whole, start))
        redactor.masked += len(spans)
    for kind in redactor.kinds:
        whole, spans = _hidden(whole, _keys(kind, whole, start) if kind.needle in whole else ())
        redactor.masked += len(spans)
    return whole[start:]


class Growing:
    """A text that comes in pieces, masked as the whole would be; a piece that can be part of no key goes through as it is."""

    __slots__ = ("_context", "_may_begin", "_passage", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._may_begin = redactor.begins.search
        self._context = ""
        self._passage: Passage | None = None

    def feed(self, piece: str) -> str:
        """What the piece makes safe to show: mostly the piece."""
        if self._passage is None:
            whole = self._context + piece
            if self._may_begin(whole, len(self._context)) is None:
                self._context = whole[-CONTEXT:]
                return piece
            self._passage = Passage(self._context)
        grown = advance(self._redactor, self._passage, piece)
        self._passage = grown.passage
        if not (grown.passage.held or grown.passage.inside):
            self._context, self._passage = grown.passage.context, None
        return grown.text

    def end(self) -> str:
        """The rest, once nothing follows."""
        passage, self._passage = self._passage, None
        if passage is None:
            return ""
        rest = ended(self._redactor, passage)
        self._context = (passage.context + rest)[-CONTEXT:]
        return rest


def _values(value: str, text: str, start: int) -> Iterator[_Span]:
    """Where a value stands in ``text`` from ``start`` on."""
    while (start := text.find(value, start)) >= 0:
        yield start, start + len(value)
        start += len(value)


def _keys(kind: _Kind, text: str, start: int) -> Iterator[_Span]:
    """Where keys of a kind stand in ``text`` from ``start`` on."""
    hidden_to = -1
    for match in kind.whole.finditer(text, start):
        if match.start() - kind.behind >= hidden_to:
            hidden_to = match.end()
            yield match.span()


def _hidden(text: str, keys: Iterable[_Span]) -> tuple[str, list[_Span]]:
    """``text`` without the keys, and where they were."""
    spans, parts, position = list(keys), [], 0
    for begin, end in spans:
        parts += [text[position:begin], "*" * (end - begin)]
        position = end
    return ("".join([*parts, text[position:]]) if spans else text), spans


def _one_of(beginnings: Iterable[str]) -> str:
    """Matches the first letters of one of them, or as many as there are before the end of the text."""
    tree: dict[str, Any] = {}
    for word in beginnings:
        branch = tree
        for letter in word[:_DEPTH]:
            branch = branch.setdefault(letter, {})

    def written(branch: dict[str, Any]) -> str:
        each = [re.escape(letter) + (rf"(?:\Z|{written(below)})" if below else "") for letter, below in branch.items()]
        return f"(?:{'|'.join(each)})" if len(each) > 1 else "".join(each)

    return written(tree)
