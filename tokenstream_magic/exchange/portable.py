"""A transcript as plain JSON data, and back; what comes back is checked to the last field.

The form is ``tokenstream.transcript/1``: the fields of a Transcript by their names, ``choices`` as a list, the timeline as
columns with ns beside the µs that a page reads. Reading trusts nothing, see :mod:`tokenstream_magic.exchange.checks`. Figures
that a timeline gives are worked out from it and never taken as told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timezone
from typing import Any

from tokenstream_magic.errors import one_line
from tokenstream_magic.exchange.checks import DERIVED, SAME, Check
from tokenstream_magic.plain import plain
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.timing.timeline import MOMENTS, Timeline

SCHEMA = "tokenstream.transcript/1"
_FAMILY = re.compile(r"tokenstream\.transcript/(\d{1,6})")


def to_data(transcript: Transcript, redactor: Redactor | None = None) -> dict[str, Any]:
    """The transcript as plain data, keys masked."""
    data: dict[str, Any] = {"schema": SCHEMA, "id": transcript.id}
    data["created_at"] = transcript.created_at.astimezone(timezone.utc).isoformat(timespec="microseconds")
    data |= {name: getattr(transcript, name) for name in SAME if name != "id"}
    data |= {name: getattr(transcript, name) for name in DERIVED}
    data["choices"] = [asdict(choice) for choice in transcript.choices]
    data["usage"] = asdict(transcript.usage)
    data["timing"] = transcript.timing.as_dict()
    likely = [choice.pop("logprobs") for choice in data["choices"]]  # there may be more of them than of anything else
    data = plain(data)
    for choice, tokens in zip(data["choices"], likely, strict=True):
        choice["logprobs"] = [plain(token) for token in tokens]
    if redactor is not None:
        data = {name: value if name in ("id", "timing", "created_at") else redactor.data(value) for name, value in data.items()}
    return {**data, "timeline": timeline_data(transcript.timeline)}


def timeline_data(timeline: Timeline) -> dict[str, Any]:
    """The timeline's columns, with all moments and steps in ns too."""
    origin, before, steps = timeline.origin, 0, []
    for stamp in timeline:
        steps.append(stamp.offset_ns - before)
        before = stamp.offset_ns
    moments = {name: getattr(timeline, name) for name in MOMENTS}
    moments_ns = {name: None if at is None else at - origin for name, at in moments.items()}
    return {**timeline.as_dict(), "moments_ns": moments_ns, "delta_ns": steps}


def from_data(data: Any, where: str) -> Transcript:
    """The transcript of plain data; ``where`` names the place in the file. Raises Unfit, in one line."""
    check = Check(where)
    if not isinstance(data, Mapping):
        check.fail("is no transcript")
    check.depth(data)
    found = _FAMILY.fullmatch(str(data.get("schema")))
    if found is None:
        check.fail(f"has no schema {SCHEMA}")
    if data["schema"] != SCHEMA:
        check.fail(f"was written by a newer version (schema {found[1]})", "Upgrade: pip install --upgrade tokenstream-magic.")
    foreign = data.keys() - {"schema", "created_at", "choices", "usage", "timing", "timeline", *SAME, *DERIVED}
    if foreign:
        check.fail(f"has a field that no transcript has: {one_line(min(map(str, foreign)))[:40]!r}")
    return check.transcript(data)
