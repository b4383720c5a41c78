"""What a terminal says below an answer: the notes that a notebook keeps under it."""

from __future__ import annotations

from tokenstream_magic.display.bundle import in_words
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.display.masked import masked
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript

_MOST_NOTES, _LONGEST_NOTE = 40, 1000
_WHOLE = "the server sent the whole answer at once"
_SEEN_IN_A_TIMELINE = ("held_back", "bursts", "stall", "keep_alive_only")


def notes(transcript: Transcript) -> list[str]:
    """What is to be noted about a transcript, a line each: the notes a notebook has, and in words what its timeline shows.

    What the line on how it ended says already is left out.
    """
    from tokenstream_magic.timing.diagnosis import diagnose

    shown = masked(transcript)
    said = [note for note in shown.diagnostics if note.strip() and note not in in_words(shown)][:_MOST_NOTES]
    found = {finding.name: finding.summary for finding in diagnose(transcript).problems if finding.name in _SEEN_IN_A_TIMELINE}
    if "keep_alive_only" in found or (transcript.error or {}).get("type") in ("idle_timeout", "first_token_timeout"):
        found.pop("stall", None)  # the same silence
    if any(note.startswith(_WHOLE) for note in said):
        found.pop("held_back", None)
    told = [*said, *(summary[:1].lower() + summary[1:] for summary in found.values())]
    return [f"Noted: {one_line(for_terminal(note))[:_LONGEST_NOTE]}" for note in told]
