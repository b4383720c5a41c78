"""Chunks that differ in one text only, read without parsing them again.

Nearly every chunk of a stream repeats the one before it but for the text it carries (and, from some servers, a random
``obfuscation`` at its end). What stands before and after that text is learned from one chunk; a chunk that begins and
ends alike, with the inside of one JSON string between, is the same JSON with another text. It is learned only
after a proof: the chunk with a mark in the text's place must parse to the same message with the mark where the text was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

_LONGEST = 4096
_MARK = "\u2402tokenstream\u2403"
_PADDING = b',"obfuscation":"'
_BREAKS = bytes(range(0x20)) + b'"\\'


class Template:
    """What stands around the text of a chunk: ``event`` its name, ``choice`` whom it belongs to."""

    __slots__ = ("_before", "_behind", "_padded", "_start", "choice", "event")

    def __init__(self, before: bytes, behind: bytes, *, padded: bool, event: str, choice: int) -> None:
        self._before, self._behind, self._padded, self._start = before, behind, padded, len(before)
        self.event, self.choice = event, choice

    def text(self, raw: bytes) -> str | None:
        """The text of a chunk of this shape; None for any other."""
        if not raw.startswith(self._before):
            return None
        start, end = self._start, len(raw)
        if self._padded:
            end = raw.rfind(b'"', start, end - 2) + 1
            if not (raw.endswith(b'"}') and raw[end:-2].isalnum()):
                return None
        if not raw.endswith(self._behind, start, end):
            return None
        middle = raw[start : end - len(self._behind)]
        if not middle:
            return None
        try:
            text: str = orjson.loads(b'"' + middle + b'"')  # one string and nothing else, or no template holds
        except ValueError:
            return None
        return text


def learn(raw: bytes, message: Any, path: Sequence[str | int], event: str, choice: int) -> Template | None:
    """The template of a chunk whose text is at ``path`` of ``message``; None when it has none that can be proved."""
    text = _at(message, path)
    if len(raw) > _LONGEST or not text or not isinstance(text, str):
        return None
    try:
        needle = b'"' + text.encode() + b'"'
    except UnicodeEncodeError:
        return None
    start = raw.find(needle)
    if start < 0 or raw.find(needle, start + 1) >= 0 or needle[1:-1].translate(None, _BREAKS) != needle[1:-1]:
        return None
    before, behind = raw[: start + 1], raw[start + len(needle) - 1 :]
    padding = behind.rfind(_PADDING)
    padded = padding >= 0 and behind.endswith(b'"}') and behind[padding + len(_PADDING) : -2].isalnum()
    try:
        marked = orjson.loads(before + _MARK.encode() + behind)
        if padded:
            marked_padding = orjson.loads(before + _MARK.encode() + behind[: padding + len(_PADDING)] + b'x"}')
            padded = marked_padding == {**marked, "obfuscation": "x"}
    except ValueError:
        return None
    if _at(marked, path) != _MARK or _with(marked, path, text) != message:
        return None
    if padded:
        behind = behind[: padding + len(_PADDING)]
    return Template(before, behind, padded=padded, event=event, choice=choice)


def _at(message: Any, path: Sequence[str | int]) -> Any:
    try:
        for step in path:
            message = message[step]
    except (KeyError, IndexError, TypeError):
        return None
    return message


def _with(message: Any, path: Sequence[str | int], text: str) -> Any:
    """``message`` with ``text`` at ``path``, changed in place."""
    at = message
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = text
    return message
