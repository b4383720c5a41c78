"""Reasoning that a server sends as text between ``<think>`` tags, told apart from the answer.

Off unless asked for: only the reader knows that a model writes its thoughts that way. A tag may come in pieces, so what
could still become one is held back until it is known.
"""

from __future__ import annotations

OPENING = ("<think>", "<thinking>", "<thought>", "<reasoning>", "[THINK]")
CLOSING = ("</think>", "</thinking>", "</thought>", "</reasoning>", "[/THINK]")

Part = tuple[bool, str]
"""Whether it is reasoning, and the text."""


class ThinkTags:
    """Splits one growing text. Only a tag at its very beginning opens reasoning; a closing one ends it, opened or not.

    Some templates open the tag in the prompt: the text then begins inside, which ``inside`` says.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._state = "inside" if inside else "before"
        self._held = ""
        self._closing: tuple[str, ...] = CLOSING

    def feed(self, text: str) -> list[Part]:
        """The parts that are known with ``text``."""
        if self._state == "closed":
            text = text.lstrip("\n")
            self._state = "behind" if text else "closed"
        if self._state in ("closed", "behind"):
            return [(False, text)] if text else []
        text, self._held = self._held + text, ""
        parts: list[Part] = []
        if self._state == "before":
            begun = text.lstrip()
            opening = next((tag for tag in OPENING if begun.startswith(tag)), None)
            if opening is None:
                if any(tag.startswith(begun) for tag in OPENING):  # also while there is only white space
                    self._held = text
                    return []
                self._state = "behind"
                return [(False, text)]
            self._state, text = "inside", begun[len(opening) :]
            self._closing = (CLOSING[OPENING.index(opening)],)
        at, tag = min(((at, tag) for tag in self._closing if (at := text.find(tag)) >= 0), default=(-1, ""))
        if at >= 0:
            self._state = "closed"
            parts += [(True, text[:at]), *self.feed(text[at + len(tag) :])]
        else:
            held = max((size for tag in self._closing for size in range(1, len(tag)) if text.endswith(tag[:size])), default=0)
            self._held = text[len(text) - held :]
            parts.append((True, text[: len(text) - held]))
        return [part for part in parts if part[1]]

    def rest(self) -> list[Part]:
        """What was held back for a tag that never came whole."""
        held, self._held = self._held, ""
        return [(self._state == "inside", held)] if held else []
