"""The forms transcripts are taken out in: one function each, from transcripts to a file.

Keys are masked in all of them. Model text is inert wherever a program would act on it: in Markdown, in a page, and in a
table that a spreadsheet opens. Each yields how many it wrote.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import IO, Any

from tokenstream_magic.display import bundle
from tokenstream_magic.display.inert import for_markdown
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.exchange import page
from tokenstream_magic.exchange.portable import to_data
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.transcripts.rows import from_row, redacted, to_row
from tokenstream_magic.transcripts.schema import TIMING, USAGE

Write = Callable[[Iterable[Transcript], IO[bytes], Redactor], int]

MOST_COLUMNS = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # what a spreadsheet takes for a formula
_COLUMNS = (
    "id created_at model resolved_model endpoint protocol outcome stop_cause finish_reason error prompt system text reasoning refusal"
    " tool_calls choices options template variables tags note notebook cell_id execution_count conversation_id parent_id request_id"
    " system_fingerprint package_version host diagnostics"
).split()


def masked(transcript: Transcript, redactor: Redactor) -> Transcript:
    """The transcript with every key in it masked, as the store would keep it."""
    return _same(transcript, from_row(redacted(to_row(transcript), redactor)))


def _same(transcript: Transcript, copy: Transcript) -> Transcript:
    copy.format, copy.kept_wire, copy.wire_source = transcript.format, transcript.kept_wire, transcript.wire_source
    return copy


def jsonl(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """A JSON object a line, with everything in it: the form that is read back to the same transcripts."""
    count = 0
    for count, transcript in enumerate(found, 1):  # noqa: B007 - the number of the last one is what is returned
        out.write(json.dumps(to_data(transcript, redactor), ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return count


def document(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """A ``.tokenstream.json`` document: what JupyterLab opens with its timeline and replay; several are columns."""
    documents = [_document(transcript, redactor) for transcript in found]
    if len(documents) > MOST_COLUMNS:
        raise BadRequest(f"{len(documents)} transcripts are too many for one document.", "Use -o FILE.jsonl.")
    if len(documents) == 1:
        whole = documents[0]
    else:
        about = [one.pop("tokenstream") for one in documents]
        whole = {"version": bundle.VERSION, "status": "settled", "columns": documents, "tokenstream": {"columns": about}}
    out.write(json.dumps(whole, ensure_ascii=False, indent=1).encode() + b"\n")
    return len(documents)


def _document(transcript: Transcript, redactor: Redactor) -> dict[str, Any]:
    shown = masked(transcript, redactor)
    content, record = bundle.content(shown), to_data(shown)
    if "text" in content:
        content["text"] = record["text"]  # without NUL, as the record has it: they are compared when it is read back
    return {**content, "tokenstream": {**bundle.about(shown), **record}}


def table(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """A CSV table, a row a transcript; text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=True)
    rows = csv.writer(text)
    rows.writerow([*_COLUMNS, *TIMING, *USAGE, "usage_source"])
    count = 0
    for count, transcript in enumerate(found, 1):  # noqa: B007
        row = redacted(to_row(transcript), redactor)
        values: list[Any] = []
        for name in _COLUMNS:
            value = transcript.tool_calls if name == "tool_calls" else len(transcript.choices) if name == "choices" else row[name]
            values.append(_cell(redactor.data(value)))
        rows.writerow([*values, *(row[name] for name in (*TIMING, *USAGE)), row["usage_source"]])
    text.detach()
    return count


def _cell(value: Any) -> Any:
    if value is None or value in ({}, []):
        return ""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def markdown(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """Markdown to read: prompt, answer and figures of each; model text in it is inert."""
    count = 0
    for count, transcript in enumerate(found, 1):
        shown = masked(transcript, redactor)
        parts = [] if count == 1 else ["---"]
        parts.append(f"## {_inert(shown.model or 'transcript')}")
        when = shown.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        parts.append(f"`{shown.id}` · {when} · {_inert(bundle.in_words(shown) or shown.outcome)}")
        figures = page.figures(shown)
        if figures:
            parts.append("\n".join(["| figure | |", "| --- | --- |", *(f"| {name} | {_inert(value)} |" for name, value in figures)]))
        for heading, words in (("System", shown.system), ("Prompt", shown.prompt), ("Reasoning", shown.reasoning)):
            if words:
                parts += [f"### {heading}", _quoted(words)]
        parts += ["### Answer", for_markdown(shown.text or shown.refusal).strip() or "*no text*"]
        for call in shown.tool_calls:
            parts.append(_inert(f"{call.get('name')}({call.get('arguments')})"))
        for choice in shown.choices[1:]:
            parts += [f"### Answer {choice.index + 1}", for_markdown(choice.text or choice.refusal).strip()]
        out.write("\n\n".join(parts).encode() + b"\n\n")
    return count


def _inert(text: str) -> str:
    return for_markdown(one_line(text)).strip()


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in for_markdown(text).strip().split("\n"))


def html(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """One self-contained page without a script, which fetches nothing."""
    return page.write((masked(transcript, redactor) for transcript in found), out)


def parquet(found: Iterable[Transcript], out: IO[bytes], redactor: Redactor) -> int:
    """A Parquet table, a row a transcript, with the columns of ``to_pandas()``; what is nested is JSON text."""
    try:
        import_module("pyarrow")
    except ImportError:
        raise BadRequest("Parquet needs pyarrow.", "Install it: pip install pyarrow, or use -o FILE.csv.") from None
    from tokenstream_magic.transcripts import frames

    frame = frames.transcripts(masked(transcript, redactor) for transcript in found)
    for name in ("options", "variables", "tags", "messages", "diagnostics"):
        frame[name] = [json.dumps(value, ensure_ascii=False) for value in frame[name]]
        frame[name] = frame[name].astype("string")
    whole = io.BytesIO()
    frame.to_parquet(whole, engine="pyarrow", index=False)
    out.write(whole.getbuffer())
    return len(frame)


def wire(found: Iterable[Transcript], out: IO[bytes], _redactor: Redactor) -> int:
    """The body of one answer as it came, if it was kept with ``--wire``, where it was masked."""
    several = list(found)
    if not several:
        return 0
    if len(several) != 1:
        raise BadRequest("A body is that of one answer.", "Name one transcript: export ID -o FILE.sse.")
    kept = several[0].wire
    if kept is None:
        raise BadRequest(f"The wire of {several[0].id} was not kept.", "%%stream --wire keeps it.")
    out.write(kept.body())
    return 1


FORMS: dict[str, Write] = {
    "jsonl": jsonl,
    "json": document,
    "csv": table,
    "md": markdown,
    "html": html,
    "parquet": parquet,
    "sse": wire,
}
"""By the ending of the file."""
