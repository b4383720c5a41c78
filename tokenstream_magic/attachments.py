"""What a prompt carries beside its words: images, PDFs, sound and text, from a file or a variable.

What a thing is is read from its first bytes, never from its name. The parts made here (see :mod:`tokenstream_magic.wire.parts`) hold
the bytes as base64; a transcript keeps name, type, size and SHA-256 instead, and nothing is ever fetched.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.plain import plain_text
from tokenstream_magic.wire import parts

MOST_BYTES = 20 << 20
MOST_TEXT = 2 << 20
MOST_TOGETHER = 40 << 20
REMEMBERED = 64 << 20

# the first bytes of a type, and for the container RIFF and FORM what stands at byte 8
_MAGIC: tuple[tuple[bytes, bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"GIF87a", b"", "image/gif"),
    (b"GIF89a", b"", "image/gif"),
    (b"RIFF", b"WEBP", "image/webp"),
    (b"%PDF-", b"", "application/pdf"),
    (b"RIFF", b"WAVE", "audio/wav"),
    (b"FORM", b"AIF", "audio/aiff"),
    (b"ID3", b"", "audio/mpeg"),
    (b"\xff\xfb", b"", "audio/mpeg"),
    (b"\xff\xf3", b"", "audio/mpeg"),
    (b"\xff\xf2", b"", "audio/mpeg"),
    (b"OggS", b"", "audio/ogg"),
    (b"fLaC", b"", "audio/flac"),
)
_ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "application/pdf": ".pdf"}
_KINDS = "PNG, JPEG, GIF and WebP images, PDF, WAV, MP3, OGG, FLAC and AIFF sound, and text"

_lock = threading.Lock()
_bytes_of: OrderedDict[str, str] = OrderedDict()


def named(word: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The part for what a cell names: a variable, else a file."""
    return load(namespace[word], word) if word.isidentifier() and word in namespace else load(word)


def load(value: Any, variable: str | None = None) -> dict[str, Any]:
    """The part for a file (its path, ``~`` understood) or a value.

    Values: bytes, a ``Path``, a PIL image, a matplotlib figure, a pandas DataFrame or Series (as CSV), and with the
    name of its ``variable`` a text. Raises BadRequest for what is no file, is empty, too large or of no known type.
    """
    if parts.is_attachment(value):
        return dict(value)
    if isinstance(value, os.PathLike) or (isinstance(value, str) and variable is None):
        return _of_file(os.fspath(value))
    name = variable or "attachment"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _part(bytes(value), name)
    if isinstance(value, str):
        return _text_part(value, name, "text/plain")
    drawn = _drawn(value, name)
    if drawn is not None:
        return _part(drawn, name)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return _text_part(value.to_csv(), f"{name}.csv", "text/csv")
    raise BadRequest(
        f"A {type(value).__name__} cannot be attached.",
        "Attach a file, bytes, text, a Path, a PIL image, a matplotlib figure or a pandas DataFrame.",
    )


def attach(message: Mapping[str, Any], attached: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``message`` with its attachments in front of its words. Raises BadRequest when they are too large together."""
    size = sum(part["size"] for part in attached)
    if size > MOST_TOGETHER:
        raise BadRequest(f"The attachments have {_size(size)} together, more than {_size(MOST_TOGETHER)}.", "Attach fewer or smaller ones.")
    content = message["content"]
    words = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return {**message, "content": [*attached, *words]}


def check(messages: Iterable[Mapping[str, Any]], protocol: str, takes: frozenset[str]) -> None:
    """Raises BadRequest when a protocol cannot take what is attached."""
    for part in _attached(messages):
        if "data" in part and part["media_type"] not in takes:
            kinds = ", ".join(sorted(kind.rpartition("/")[2] for kind in takes))
            raise BadRequest(f"{protocol} takes no {part['media_type']} ({part['name']}).", f"It takes {kinds} and text.")


def without_bytes(messages: Sequence[Mapping[str, Any]], mark: str | None = None) -> list[dict[str, Any]]:
    """Messages as a transcript keeps them: attachments by name, type, size and SHA-256. ``mark`` stands for their bytes, if given."""

    def bare(part: Any) -> Any:
        if not parts.is_attachment(part):
            return part
        kept = {name: value for name, value in part.items() if name not in ("data", "text")}
        return kept if mark is None or "data" not in part else {**kept, "data": mark.format(**kept)}

    return [
        {**message, "content": [bare(part) for part in message["content"]]} if isinstance(message.get("content"), list) else dict(message)
        for message in messages
    ]


def remember(messages: Iterable[Mapping[str, Any]]) -> None:
    """Keeps what is attached in memory, up to a bound, so that a conversation can go on about it."""
    with _lock:
        for part in _attached(messages):
            field = "data" if "data" in part else "text"
            if field in part:
                _bytes_of[part["sha256"]] = part[field]
                _bytes_of.move_to_end(part["sha256"])
        while sum(map(len, _bytes_of.values())) > REMEMBERED:
            _bytes_of.popitem(last=False)


def recalled(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages of a transcript with the bytes this process still remembers."""

    def whole(part: Any) -> Any:
        if not parts.is_attachment(part) or "data" in part or "text" in part:
            return part
        with _lock:
            known = _bytes_of.get(str(part.get("sha256")))
        if known is None:
            return part
        return {**part, "text" if str(part.get("media_type")).startswith("text/") else "data": known}

    return [
        {**message, "content": [whole(part) for part in message["content"]]} if isinstance(message.get("content"), list) else dict(message)
        for message in messages
    ]


def lost(messages: Iterable[Mapping[str, Any]]) -> str | None:
    """The name of something attached whose bytes are not there any more; None when all are."""
    return next((str(part.get("name")) for part in _attached(messages) if "data" not in part and "text" not in part), None)


def read(path: str, most: int, what: str) -> bytes:
    """The bytes of a regular file. Raises BadRequest when it is none, cannot be read or has more than ``most`` bytes."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise BadRequest("An address cannot be used: nothing is fetched.", f"Download it and name the file: {what} PATH.")
    try:
        place = Path(path).expanduser()
        # a pipe or a device would block or never end: it is looked at before it is read
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadRequest(f"{path} is no file.", f"Name one file: {what} PATH.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(most + 1) if found.st_size <= most else b""
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, BadRequest):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no path"
        raise BadRequest(f"{path} cannot be read: {reason}.", f"{what} takes the path of a file.") from None
    if found.st_size > most or len(data) > most:
        raise BadRequest(f"{path} has {_size(max(found.st_size, len(data)))}, more than {_size(most)}.", "Use a smaller one.")
    return data


def _of_file(path: str | bytes) -> dict[str, Any]:
    path = os.fsdecode(path)
    return _part(read(path, MOST_BYTES, "-a"), Path(path).name)


def _part(data: bytes, name: str) -> dict[str, Any]:
    if not data:
        raise BadRequest(f"{name} is empty.", "Attach something that has content.")
    media_type = next((kind for head, at_8, kind in _MAGIC if data.startswith(head) and data[8:].startswith(at_8)), None)
    if media_type is None:
        try:
            text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise BadRequest(f"{name} is of a type that cannot be attached.", f"These can: {_KINDS}.")
        return _text_part(text, name, "text/plain", data)
    if len(data) > MOST_BYTES:
        raise BadRequest(f"{name} has {_size(len(data))}, more than {_size(MOST_BYTES)}.", "Attach a smaller one.")
    ending = _ENDINGS.get(media_type, "")
    shown = name if "." in name else name + ending
    return {**_about(data, shown, media_type), "data": base64.b64encode(data).decode()}


def _text_part(text: str, name: str, media_type: str, data: bytes | None = None) -> dict[str, Any]:
    text = plain_text(text)
    data = text.encode() if data is None else data
    if not text.strip():
        raise BadRequest(f"{name} is empty.", "Attach something that has content.")
    if len(data) > MOST_TEXT:
        raise BadRequest(
            f"{name} is text of {_size(len(data))}, more than {_size(MOST_TEXT)}.", "Attach a part of it, for example NAME.head(100)."
        )
    return {**_about(data, name, media_type), "text": text}


def _about(data: bytes, name: str, media_type: str) -> dict[str, Any]:
    name = plain_text("".join(character for character in name if character.isprintable()))[:200] or "attachment"
    return {
        "type": "attachment",
        "media_type": media_type,
        "name": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _drawn(value: Any, name: str) -> bytes | None:
    """A picture as PNG; None for what is no picture. Only libraries that are imported already can have made one."""
    pil, figures = sys.modules.get("PIL.Image"), sys.modules.get("matplotlib.figure")
    buffer = io.BytesIO()
    try:
        if pil is not None and isinstance(value, pil.Image):
            (value if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I") else value.convert("RGB")).save(buffer, "PNG")
        elif figures is not None and isinstance(value, figures.Figure):
            value.savefig(buffer, format="png", bbox_inches="tight")
        else:
            return None
    except Exception as error:  # a drawing of the user's may raise anything
        raise BadRequest(f"{name} cannot be drawn: {error}.", "Save it as a file and attach that.") from None
    return buffer.getvalue()


def _attached(messages: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = (message.get("content") for message in messages)
    return [part for content in found if isinstance(content, (list, tuple)) for part in content if parts.is_attachment(part)]


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"
