"""Fenced blocks of Markdown: the part of an answer that ``-x`` keeps."""

from __future__ import annotations

import re

_OPENING = re.compile(r"( {0,3})(`{3,}|~{3,})([^\n]*)")


def first(text: str) -> str | None:
    """What is in the first fenced block of ``text``, without its fences; None when there is none (CommonMark 0.31, section 4.5).

    A block that is never closed goes to the end: the answer was cut there.
    """
    lines = re.split(r"(?<=\n)", text)
    for number, line in enumerate(lines):
        opening = _OPENING.fullmatch(line.rstrip("\r\n"))
        if opening is None or (opening[2][0] == "`" and "`" in opening[3]):
            continue
        inside = []
        closing = re.compile(rf" {{0,3}}{re.escape(opening[2][0])}{{{len(opening[2])},}}[ \t]*")
        for one in lines[number + 1 :]:
            if closing.fullmatch(one.rstrip("\r\n")):
                break
            inside.append(re.sub(rf"^ {{0,{len(opening[1])}}}", "", one))
        return "".join(inside)
    return None
