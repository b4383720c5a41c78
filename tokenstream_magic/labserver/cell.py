"""A transcript as the ``%%stream`` cell that asks the same again.

The cell is only offered as the same when it is: its text is parsed again here, and what it would send compared with what
was sent. What a cell cannot hold (the bytes of an attachment, functions, an address that was on the line) is named.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from tokenstream_magic import catalog
from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.flags import parse_stream
from tokenstream_magic.prompt import Prompt, build, words
from tokenstream_magic.record import Transcript

_FLAGS = {"temperature", "top_p", "max_tokens", "seed", "reasoning_effort", "logprobs"}
_BRACE = re.compile(r"\{[^\W\d]")
_BREAK = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029\0]")


def cell_of(transcript: Transcript) -> tuple[str, list[str]]:
    """The cell's text, and the names of what is missing in it: ``attachments``, ``tools``, ``address``, ``options``, ``messages``."""
    missing: list[str] = []
    flags = [*_model(transcript, missing), *_options(transcript, missing), *_tags(transcript)]
    if any(isinstance(message.get("content"), list) for message in transcript.messages):
        missing.append("attachments")
    messages = [{"role": message.get("role"), "content": words(message.get("content") or "")} for message in transcript.messages]
    messages = messages or [{"role": "user", "content": transcript.prompt}]  # a request that was refused before it was made
    for more, body in _forms(transcript, messages):
        line = shlex.join([*flags, *more])
        if _asks(line, body, messages):
            return f"%%stream {line}\n{body}", missing
    missing.append("messages")
    return f"%%stream {_BREAK.sub(' ', shlex.join(flags))}\n{transcript.prompt}", missing


def _forms(transcript: Transcript, messages: list[dict[str, Any]]) -> Iterator[tuple[list[str], str]]:
    """Flags and bodies that may ask it, the most readable first."""
    system = next((message["content"] for message in messages if message["role"] == "system"), None)
    rest = [message for message in messages if message["role"] != "system"]
    with_system = ["-s", system] if system and not _BREAK.search(system) else None
    template, variables = transcript.template, transcript.variables
    if template and variables and all(name.isidentifier() and not _BREAK.search(value) for name, value in variables.items()):
        params = [word for name, value in variables.items() for word in ("-p", name, value)]
        yield params, template
        if with_system:
            yield [*with_system, *params], template
    raw = ["--raw"] if any(_BRACE.search(message["content"]) for message in messages) else []
    if len(rest) == 1 and rest[0]["role"] == "user":
        if system is None:
            yield raw, rest[0]["content"]
        elif with_system:
            yield [*with_system, *raw], rest[0]["content"]
    yield raw, "\n\n".join(f"--- {message['role']}\n{message['content']}" for message in messages)


def _asks(line: str, body: str, messages: list[dict[str, Any]]) -> bool:
    """Whether a cell sends these messages: read as the magic reads it, in a notebook whose names are not known here."""
    if _BREAK.search(line):
        return False
    try:
        flags, _ = parse_stream(line)
        params = dict(flags.param)
        prompt: Prompt = build(body, None if flags.raw else {}, flags.system, params=params)
    except TokenstreamError:
        return False
    if not flags.raw and _BRACE.search(_filled(body, params)):
        return False  # a name that a notebook may have
    return prompt.messages == messages


def _filled(body: str, params: dict[str, str]) -> str:
    for name in params:
        body = body.replace(f"{{{name}}}", "")
    return body


def _model(transcript: Transcript, missing: list[str]) -> list[str]:
    """The model; of an endpoint that had its address on the line, the name at that address."""
    try:
        known = transcript.endpoint in catalog.endpoints()
    except TokenstreamError:
        known = True  # a configuration that cannot be read says so when the cell runs
    if known or not transcript.endpoint:
        return [transcript.model]
    missing.append("address")
    protocol = [] if transcript.protocol == "openai-chat" else ["--protocol", transcript.protocol]
    return [transcript.model.removeprefix(f"{transcript.endpoint}/"), *protocol]


def _options(transcript: Transcript, missing: list[str]) -> Iterator[str]:
    for name, value in transcript.options.items():
        if name in _FLAGS and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield from _flag(f"--{name.replace('_', '-')}", str(value))
        elif name == "stop" and isinstance(value, (str, list)):
            for text in [value] if isinstance(value, str) else map(str, value):
                if _BREAK.search(text):
                    missing.append("options")
                else:
                    yield from _flag("--stop", text)
        elif name == "json":
            if value:
                yield "--json"
        elif name == "schema":
            yield from ("--schema", json.dumps(value))
        elif name == "tool":
            missing.append("tools")
        elif _goes(name, text := _text(value)):
            yield from ("-o", name, text)
        else:
            missing.append("options")


def _flag(name: str, value: str) -> list[str]:
    """A flag with its value; one that begins like a flag holds fast to its own."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _text(value: Any) -> str:
    """A value as ``-o`` reads it back: a plain word where that is not JSON by itself."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            if not value.startswith(("{", "[", "-")) and value and not _BREAK.search(value):
                return value
    return json.dumps(value)


def _goes(name: str, text: str) -> bool:
    try:
        parse_stream(shlex.join(["-o", name, text]))
    except TokenstreamError:
        return False
    return not _BREAK.search(name)


def _tags(transcript: Transcript) -> Iterator[str]:
    for tag in transcript.tags:
        if not _BREAK.search(tag):
            yield from _flag("--tag", tag)
