"""Rounds: a model calls tools, they are run, and it is asked again with their results.

Every round is a run with a transcript of its own, linked to the one before by ``parent_id`` and to all of them by
``conversation_id``. Nothing is run unless the user said ``--run-tools``; a stop, a broken answer or an answer cut at its
token limit ends the rounds, and so does their number.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from tokenstream_magic import conversations, schemas, tools
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.plan import Plan
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run
from tokenstream_magic.transcripts.replaying import Playback

MOST_ROUNDS = 5
WAKE_SECONDS = 0.05

_CUT_SHORT = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "content_filter")


@dataclass(frozen=True)
class Prepared:
    """A run that can begin: what is sent, what is kept of it, and the tools that may be run (none: they are only shown).

    With a ``playback`` nothing is sent: a transcript is played.
    """

    plan: Plan
    prompt: Prompt
    tools: tuple[tools.Tool, ...] = ()
    no_log: bool = False
    tags: tuple[str, ...] = ()
    note: str | None = None
    conversation_id: str | None = None
    parent_id: str | None = None
    rounds_left: int = MOST_ROUNDS
    playback: Playback | None = None
    format: str | None = None


class Checked(Quiet):
    """A sink that notes, when an answer is complete, where it is not what was asked for. It never changes the outcome."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def end(self, run: Run) -> None:
        """Looks at the answer before the sinks behind this one show and keep it."""
        transcript, options = run.transcript, self._prepared.plan.options
        if transcript.outcome != "complete":
            return
        if self._prepared.tools and not self._prepared.rounds_left and transcript.tool_calls:
            transcript.diagnostics.append(f"these calls were not run: tools are run in {MOST_ROUNDS} rounds at most")
        if "schema" not in options and "json" not in options:
            return
        for choice in transcript.choices:
            if choice.refusal or (choice.tool_calls and not choice.text):
                continue
            wrong = schemas.disagreement(choice.text, options.get("schema"))
            if wrong is not None:
                transcript.diagnostics.append(wrong if len(transcript.choices) == 1 else f"choice {choice.index}: {wrong}")


def following(prepared: Prepared, transcript: Transcript) -> Prepared | None:
    """The next round, its tools run on a thread of their own; None when there is none. An interrupt ends the rounds."""
    work = _begun(prepared, transcript)
    if work is None:
        return None
    try:
        return _next(prepared, transcript, work.result())
    except KeyboardInterrupt:
        work.cancel()
        return None


async def afollowing(prepared: Prepared, transcript: Transcript) -> Prepared | None:
    """:func:`following` for an async caller; a cancellation ends the rounds."""
    work = _begun(prepared, transcript)
    if work is None:
        return None
    results = asyncio.wrap_future(work)
    try:
        while not results.done():
            # in short steps: the kernel's SIGINT handler schedules the cancellation without waking a loop that sleeps
            await asyncio.wait({results}, timeout=WAKE_SECONDS)
    except asyncio.CancelledError:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            results.cancel()
        return None
    return _next(prepared, transcript, results.result())


def _begun(prepared: Prepared, transcript: Transcript) -> Future[list[str]] | None:
    wanted = prepared.tools and prepared.rounds_left and transcript.outcome == "complete" and transcript.tool_calls
    if not wanted or transcript.finish_reason in _CUT_SHORT:
        return None
    return tools.carried_out(prepared.tools, transcript.tool_calls)


def _next(prepared: Prepared, transcript: Transcript, results: list[str]) -> Prepared:
    calls = conversations.called(transcript)
    said: dict[str, Any] = {"role": "assistant", "content": transcript.text, "tool_calls": calls}
    answers = [conversations.result_of(call, result) for call, result in zip(calls, results, strict=True)]
    messages = [*prepared.plan.messages, said, *answers]
    return replace(
        prepared,
        plan=replace(prepared.plan, messages=messages),
        prompt=replace(prepared.prompt, messages=[dict(message) for message in messages]),
        conversation_id=transcript.conversation_id or transcript.id,
        parent_id=transcript.id,
        rounds_left=prepared.rounds_left - 1,
    )
