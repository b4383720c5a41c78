"""Files from elsewhere, read into transcripts: all of a file, or nothing of it.

What a file is, its first bytes say and not its name. Everything in it is hostile until it was checked: a file is looked at
before it is opened, read up to a bound, never unpacked, never run; what does not fit ends the import in one line, before
anything is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from tokenstream_magic.capture import decode
from tokenstream_magic.display.bundle import VERSION
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.exchange import logs_of_llm, usual
from tokenstream_magic.exchange.checks import Unfit
from tokenstream_magic.exchange.portable import SCHEMA, from_data
from tokenstream_magic.record import Transcript, ulid

FILE_LIMIT = 1 << 30
LINE_LIMIT = 64 * 1024 * 1024
DOCUMENT_LIMIT = 256 * 1024 * 1024
MOST_COLUMNS = 1000

_SQLITE = b"SQLite format 3\0"
_PACKED = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "packed with gzip",
    b"PAR1": "a Parquet table",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
}
_ADVICE = "There can be imported: jsonl and .tokenstream.json of ours, a captured response body, and the logs.db of llm."
_SEEN = 4096


def transcripts(path: str | os.PathLike[str], protocol: str = "auto") -> Iterator[Transcript]:
    """The transcripts in a file, checked, a few in memory at a time. Raises BadRequest."""
    file = _regular(path)
    with file.open("rb") as opened:
        head = opened.read(_SEEN)
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise BadRequest(f"{file.name} is {what}.", _ADVICE)
    if head.startswith(_SQLITE):
        yield from logs_of_llm.transcripts(file)
        return
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and protocol == "auto":
        kind = _kind_of_json(file)
        if kind == "jsonl":
            yield from _lines(file)
            return
        if kind == "document":
            yield from _document(file)
            return
    yield _body(file, protocol)


def _regular(path: str | os.PathLike[str]) -> Path:
    said = os.fspath(path)
    try:
        file = Path(said).expanduser()
        found = file.stat()
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no path"
        raise BadRequest(f"{one_line(said)[:200]} cannot be read: {reason}.", "import takes the path of a file.") from None
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"{one_line(said)[:200]} is no file.", "import takes the path of a file.")
    if not os.access(file, os.R_OK):
        raise BadRequest(f"{one_line(said)[:200]} cannot be read.", "Look at its permissions.")
    if found.st_size > FILE_LIMIT:
        raise BadRequest(f"{file.name} has {found.st_size >> 20} MiB, more than {FILE_LIMIT >> 20}.", "Import it in parts.")
    if found.st_size == 0:
        raise BadRequest(f"{file.name} is empty.", _ADVICE)
    return file


def _kind_of_json(file: Path) -> str:
    """``jsonl``, ``document`` or ``body``, as the first line or the whole says."""
    with file.open("rb") as opened:
        line = opened.readline(LINE_LIMIT + 1)
    if len(line) > LINE_LIMIT:
        raise BadRequest(f"{file.name} has a line of more than {LINE_LIMIT >> 20} MiB.", "Nothing was imported.")
    if line.removeprefix(b"\xef\xbb\xbf").startswith(b'{"schema":'):
        return "jsonl"
    first = _loose(line)
    if isinstance(first, dict):
        return "jsonl" if "schema" in first else "document" if {"status", "version"} <= first.keys() else "body"
    whole = _loose(file.read_bytes()) if file.stat().st_size <= DOCUMENT_LIMIT else None
    return "document" if isinstance(whole, dict) and ("schema" in whole or {"status", "version"} <= whole.keys()) else "body"


def _loose(text: bytes) -> Any:
    """The JSON of a text; None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _lines(file: Path) -> Iterator[Transcript]:
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(LINE_LIMIT + 1):
            number += 1
            found = usual.transcript(line) if len(line) <= LINE_LIMIT else None
            if found is not None:
                yield found
                continue
            where = f"{file.name}, line {number}"
            if len(line) > LINE_LIMIT:
                raise Unfit(f"{where} has more than {LINE_LIMIT >> 20} MiB.", "Nothing was imported.")
            if line.strip():
                yield from_data(parsed(line, where), where)


def _document(file: Path) -> Iterator[Transcript]:
    data = parsed(file.read_bytes(), file.name)
    if "schema" in data:
        yield from_data(data, file.name)
        return
    if data.get("version") != VERSION or data.get("status") != "settled":
        raise Unfit(f"{file.name} is no settled transcript of version {VERSION}.", "Upgrade, or save it when the stream has ended.")
    about = data.get("tokenstream")
    if "columns" not in data:
        yield from_data(_record(data, about, file.name), file.name)
        return
    columns, abouts = data["columns"], about.get("columns") if isinstance(about, dict) else None
    if not isinstance(columns, list) or not isinstance(abouts, list) or len(columns) != len(abouts) or len(columns) > MOST_COLUMNS:
        raise Unfit(f"{file.name} has columns that do not match what it says about them.", "Nothing was imported.")
    for number, (column, one) in enumerate(zip(columns, abouts, strict=True), 1):
        where = f"{file.name}, column {number}"
        yield from_data(_record(column, one, where), where)


_ABOUT = ("id created_at resolved_model endpoint protocol timing usage timeline diagnostics system_fingerprint package_version").split()
_SAID = "model outcome stop_cause finish_reason text format reasoning refusal error".split()


def _record(data: Any, about: Any, where: str) -> Mapping[str, Any]:
    """The record in a document; one saved from a notebook has what its output had, and no prompt."""
    if not isinstance(data, dict) or not isinstance(about, dict):
        raise Unfit(f"{where} does not say when and how it was answered.", "Export it with %transcripts export.")
    if "schema" in about:
        record = {name: value for name, value in about.items() if name not in ("logprobs", "replayed", "wire", "parent")}
        if data.get("text") != record.get("text"):
            raise Unfit(f"{where} shows another text than its record has.", "Nothing was imported.")
        return record
    record = {
        "schema": SCHEMA,
        **{name: about[name] for name in _ABOUT if name in about},
        **{name: data[name] for name in _SAID if name in data},
    }
    calls = data.get("tool_calls")
    record["choices"] = data.get("choices") or [
        {
            "index": 0,
            **{name: data[name] for name in ("text", "reasoning", "refusal", "finish_reason") if data.get(name)},
            "tool_calls": calls,
        }
    ]
    return record


def parsed(text: bytes, where: str) -> Any:
    """The JSON of hostile bytes. Raises Unfit."""
    try:
        return json.loads(text, parse_constant=lambda name: _no_number(where, name))
    except Unfit:
        raise
    except RecursionError:
        raise Unfit(f"{where} is nested too deep.", "Nothing was imported.") from None
    except ValueError:  # also what is no UTF-8, and a number of thousands of digits
        raise Unfit(f"{where} is no JSON.", "Nothing was imported.") from None


def _no_number(where: str, name: str) -> NoReturn:
    raise Unfit(f"{where} holds {name}, which is no number.", "Nothing was imported.")


def _body(file: Path, protocol: str) -> Transcript:
    """A captured response body; its id comes from its bytes, so that it is imported once."""
    if file.stat().st_size > DOCUMENT_LIMIT:
        raise BadRequest(f"{file.name} is larger than the body of an answer can be ({DOCUMENT_LIMIT >> 20} MiB).", _ADVICE)
    data = file.read_bytes()
    try:
        found = decode(data, protocol)
    except BadRequest as error:
        unknown = "that can be recognised" in error.message
        raise BadRequest(
            f"{file.name} is nothing that can be imported." if unknown else error.message, _ADVICE if unknown else error.hint
        ) from None
    if protocol == "auto" and (found.error or {}).get("type") == "not_a_stream":
        raise BadRequest(f"{file.name} is nothing that can be imported.", _ADVICE)
    saved = file.stat().st_mtime
    found.id = ulid(int(saved * 1000), hashlib.sha256(data).digest()[:10])
    found.created_at = datetime.fromtimestamp(saved, timezone.utc)
    found.note = f"imported from {file.name}"[:200] if file.name.isprintable() else None
    return found
