"""Conversations: what was said before, found in this kernel or in the store, as the messages of the next request.

History is the messages of a transcript and its answer. A stopped or truncated answer counts as far as it came; a run
that gave no answer at all is left out, and the conversation goes on from what came before it. Reasoning is not sent
back. Tool calls that were not run are answered so, because servers refuse a call without a result.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import attachments, transcripts
from tokenstream_magic.errors import BadRequest, StoreError
from tokenstream_magic.record import Transcript

REMEMBERED = 50
SEARCHED = 1000
NOT_RUN = "The tool was not run."

_NAME = re.compile(r"[\w.-]{1,64}")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_START = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{5,25}")  # of a ULID, and no word
_here: deque[Transcript] = deque(maxlen=REMEMBERED)


@dataclass(frozen=True)
class Past:
    """Where a conversation stands: its ``messages``, its id, and the transcript it goes on from (None in a new one)."""

    messages: list[dict[str, Any]]
    conversation_id: str
    parent: Transcript | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The definitions of the tools its messages call, which servers want to see again."""
        called = any(message.get("tool_calls") for message in self.messages)
        defined: list[dict[str, Any]] = (self.parent.options.get("tool") or []) if self.parent is not None and called else []
        return defined


def started(transcript: Transcript) -> None:
    """Notes a run of this process."""
    _here.append(transcript)


def last() -> Past:
    """The conversation of this kernel's last run. Raises BadRequest when there is none to go on with."""
    if not _here:
        raise BadRequest("There is nothing to continue: this kernel has asked nothing yet.", "--cid ID goes on with a kept conversation.")
    return _after(_here[-1], "The last run gave no answer: there is nothing to go on with.")


def find(name: str) -> Past:
    """The conversation with this id or name, or the start of its id; a name that is new begins one. Raises BadRequest."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name!r} is no name for a conversation.", "Use letters, digits, points and dashes.")
    newest = _newest(name)
    if newest is not None:
        return _after(newest, f"The conversation {name} has no answer yet.")
    if _ULID.fullmatch(name.upper()):
        raise BadRequest(f"There is no conversation {name}.", "%transcripts lists what was kept.")
    return Past([], name)


def history(transcript: Transcript) -> list[dict[str, Any]]:
    """The messages of a run and its answer."""
    answer: dict[str, Any] = {"role": "assistant", "content": transcript.text or transcript.refusal}
    calls = called(transcript)
    if calls:
        answer["tool_calls"] = calls
    unanswered = [result_of(call, NOT_RUN) for call in calls]
    return [*attachments.recalled(transcript.messages), answer, *unanswered]


def called(transcript: Transcript) -> list[dict[str, Any]]:
    """The calls of an answer as they stand in a message, each with an id of its own."""
    taken: set[str] = set()
    calls = []
    for position, call in enumerate(transcript.tool_calls):
        identifier = str(call.get("id") or f"call_{position}")
        identifier = identifier if identifier not in taken else f"{identifier}_{position}"
        taken.add(identifier)
        function = {"name": call.get("name") or "", "arguments": call.get("arguments") or "{}"}
        calls.append({"id": identifier, "type": "function", "function": function})
    return calls


def result_of(call: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The message with the result of a call."""
    return {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": text}


def _after(transcript: Transcript, nothing: str) -> Past:
    """Where a conversation stands after ``transcript``, or after the nearest run before it that gave an answer."""
    seen: set[str] = set()
    conversation = transcript.conversation_id or transcript.id
    parent: Transcript | None = transcript
    while parent is not None and parent.id not in seen:
        if parent.outcome == "running":
            raise BadRequest("The last answer is still coming.", "Wait for its end or stop it: %stream stop.")
        if parent.text or parent.refusal or parent.tool_calls:
            return Past(history(parent), conversation, parent)
        seen.add(parent.id)
        parent = _by_id(parent.parent_id) if parent.parent_id else None
    raise BadRequest(nothing, "Run it again without going on.")


def _by_id(id: str) -> Transcript | None:
    found = next((transcript for transcript in _here if transcript.id == id), None)
    if found is not None:
        return found
    try:
        return transcripts.open_store().get(id)
    except (BadRequest, StoreError):
        return None


def _newest(name: str) -> Transcript | None:
    """The newest run of a conversation: by its whole name, then by the start of its id; else a run with that id."""
    known = _known()
    exact = [transcript for transcript in known if transcript.conversation_id == name]
    if exact:
        return exact[0]
    prefix = name.upper()
    if not _START.fullmatch(prefix):
        return None
    begun = {id for t in known if _ULID.fullmatch(id := t.conversation_id or t.id) and id.startswith(prefix)}
    if len(begun) > 1:
        raise BadRequest(f"{name} is the start of several conversations.", "Write more of the id.")
    if begun:
        return next(t for t in known if (t.conversation_id or t.id) in begun)
    return _by_id(prefix)


def _known() -> list[Transcript]:
    """What this process and the store know, newest first."""
    try:
        kept = list(transcripts.open_store().recent(SEARCHED))
    except StoreError:
        kept = []
    here = {transcript.id: transcript for transcript in _here}
    return sorted([*here.values(), *(one for one in kept if one.id not in here)], key=lambda one: one.id, reverse=True)
