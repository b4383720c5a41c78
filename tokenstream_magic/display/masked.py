"""Keys kept out of what is shown: an output is saved with its notebook, and notebooks are shared.

The transcript itself, in memory, holds what was said. What is made of it for a page is masked as what is written to the
store: the keys in use and whatever looks like one, the same number of asterisks in its place.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenstream_magic import catalog
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.redaction import Redactor

_FIELDS = (
    "model resolved_model prompt system options error diagnostics conversation_id notebook tags note request_id system_fingerprint replayed"
).split()


def masked(transcript: Transcript) -> Transcript:
    """The transcript without keys, to be shown: itself, where there are none in it, else a copy that says how many were masked."""
    redactor = catalog.redactor()
    if not any(redactor.may_find(text) for text in _texts(transcript)):
        return transcript
    shown = copy.copy(transcript)
    for name in _FIELDS:
        setattr(shown, name, redactor.data(getattr(transcript, name)))
    shown.choices = [_choice(choice, redactor) for choice in transcript.choices]
    if redactor.masked and not any("masked in" in note for note in shown.diagnostics):
        note = f"{redactor.masked} x masked in what is shown: text that looks like a key, or is one in use"
        shown.diagnostics = [*shown.diagnostics, note]
    return shown


def unnamed(text: str, transcript: Transcript) -> str:
    """``text`` without the names of the transcript's model and its endpoint."""
    names = {transcript.model, transcript.resolved_model or "", transcript.endpoint, transcript.model.partition("/")[2]}
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= 3:
            text = text.replace(name, "…")
    return text


def _texts(transcript: Transcript) -> Iterator[str]:
    for choice in transcript.choices:
        yield from (choice.text, choice.reasoning, choice.refusal)
        for beside in (choice.tool_calls, choice.annotations):
            if beside:
                yield json.dumps(beside, ensure_ascii=False)
        if choice.logprobs:
            yield "".join(token["token"] for token in choice.logprobs)
            yield "\0".join(text for token in choice.logprobs for text, _ in token["alternatives"])
        yield choice.finish_reason or ""
    for name in _FIELDS:
        value = getattr(transcript, name)
        if value:
            yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _choice(choice: Choice, redactor: Redactor) -> Choice:
    made = replace(choice)
    for name in ("text", "reasoning", "refusal"):
        setattr(made, name, redactor.text(getattr(choice, name)))
    made.tool_calls, made.annotations = redactor.data(choice.tool_calls), redactor.data(choice.annotations)
    made.finish_reason = redactor.data(choice.finish_reason)
    made.logprobs = _tokens(choice.logprobs, redactor)
    return made


def _tokens(tokens: list[dict[str, Any]], redactor: Redactor) -> list[dict[str, Any]]:
    """Tokens without the key they make together, nor the alternatives to those that are part of one."""
    whole = "".join(token["token"] for token in tokens)
    hidden = redactor.text(whole)
    made, place = [], 0
    for token in tokens:
        text = hidden[place : place + len(token["token"])]
        place += len(text)
        inside = text != token["token"]
        others = [["*" * len(other) if inside else redactor.text(other), logprob] for other, logprob in token["alternatives"]]
        made.append({**token, "token": text, "alternatives": others})
    return made
