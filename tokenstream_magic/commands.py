"""What the magics do: words into calls of the public face, errors into one readable line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import api, catalog, prompt as prompts
from tokenstream_magic.display import listing, views
from tokenstream_magic.errors import MASK, BadRequest, TokenstreamError, one_line
from tokenstream_magic.flags import EXAMPLE, OUTCOMES, Parser, parse_stream, split, stream_parser
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run
from tokenstream_magic.version import __version__

STREAM_HELP = """%stream models          the endpoints, and which of them are ready
%stream default MODEL   use MODEL when a cell names none
%stream status          what is streaming now
%stream stop [ID|all]   stop the newest stream, one by its id, or all
%stream version         the version
%%stream --help         the flags of a cell"""

TRANSCRIPTS_HELP = """%transcripts [list] [-n N] [-m MODEL] [-q TEXT] [--status OUTCOME] [--tag TAG]   what was kept, newest first
%transcripts show ID    draw one; ID is an id, the start of one, last or last~1
%transcripts path       where they are kept"""


@dataclass
class _Asked:
    """A cell, parsed."""

    prompt: Prompt
    model: str
    keywords: dict[str, Any]
    out: str | None
    background: bool


def stream_cell(magics: Any, line: str, cell: str, local_ns: dict[str, Any] | None) -> None:
    """``%%stream``, blocking."""
    _finish(magics, line, cell, local_ns, lambda asked: _blocking(magics, asked))


async def astream_cell(magics: Any, line: str, cell: str, local_ns: dict[str, Any] | None) -> None:
    """``%%stream``, awaited."""
    started: list[Coroutine[Any, Any, None]] = []
    _finish(magics, line, cell, local_ns, lambda asked: started.append(_awaited(magics, asked)))
    for coroutine in started:
        await coroutine


def _finish(magics: Any, line: str, cell: str, local_ns: dict[str, Any] | None, go: Callable[[_Asked], Any]) -> None:
    """Parses and goes; what cannot be done becomes a failed transcript that says why."""
    out: str | None = None
    model: str | None = None
    try:
        flags, keywords = parse_stream(line)
        out, model = flags.out, flags.model or flags.model_name or magics.model
        if flags.help:
            views.print_text(stream_parser().format_help())
            return
        if out is not None and not out.isidentifier():
            out, bad = None, out
            raise BadRequest(f"{bad!r} is no name for a variable.", "Example: --out answer.")
        if not cell.strip():
            raise BadRequest("There is no prompt: write it below the %%stream line.", EXAMPLE)
        namespace = None if flags.raw else {**magics.shell.user_ns, **(local_ns or {})}
        asked = prompts.build(cell.rstrip("\n"), namespace, flags.system)
        if flags.dry_run:
            plan, _ = api.prepare(asked, model, **api.request_flags(keywords))
            views.print_text(dry_run(plan))
            return
        go(_Asked(asked, model, keywords, out, flags.bg))
    except TokenstreamError as error:
        transcript = api.refused(error, model, cell)
        _bind(magics, out, transcript)
        views.show(transcript)


def _begin(magics: Any, asked: _Asked) -> tuple[Run, views.View]:
    view = views.choose()
    run = api.start(asked.prompt, asked.model, view=view, **asked.keywords)
    _bind(magics, asked.out, run.transcript)
    return run, view


def _blocking(magics: Any, asked: _Asked) -> None:
    run, view = _begin(magics, asked)
    if asked.background and views.front_end() == "live":
        return
    api.blocked(run, view)


async def _awaited(magics: Any, asked: _Asked) -> None:
    try:
        run, view = _begin(magics, asked)
    except TokenstreamError as error:
        transcript = api.refused(error, asked.model, asked.prompt.text)
        _bind(magics, asked.out, transcript)
        views.show(transcript)
        return
    if asked.background and views.front_end() == "live":
        return
    await api.finished(run)
    await asyncio.sleep(0)
    view.settle(run)


def _bind(magics: Any, out: str | None, transcript: Transcript) -> None:
    magics.shell.user_ns["_stream"] = transcript
    if out:
        magics.shell.user_ns[out] = transcript


def dry_run(plan: Any) -> str:
    """The request of a plan, its key masked."""
    call = plan.call()
    key = plan.endpoint.key
    headers = {name: value.replace(key.reveal(), MASK) if key else value for name, value in call.headers.items()}
    lines = [f"POST {call.url}", *(f"{name}: {value}" for name, value in headers.items()), ""]
    return "\n".join(lines) + json.dumps(call.body, indent=2, ensure_ascii=False)


def manage(magics: Any, line: str) -> None:
    """``%stream COMMAND``."""
    words = _words(line)
    if words is None:
        return
    command, arguments = (words[0], words[1:]) if words else ("help", [])
    commands: dict[str, Callable[[list[str]], None]] = {
        "models": lambda _: views.print_text(
            listing.models(catalog.endpoints(), catalog.configuration().aliases, catalog.has_key, catalog.config_path())
        ),
        "default": lambda names: _set_default(magics, names),
        "status": lambda _: views.print_text(listing.runs(api.running())),
        "stop": lambda ids: views.print_text(_stopped(ids)),
        "version": lambda _: views.print_text(__version__),
        "help": lambda _: views.print_text(STREAM_HELP),
    }
    _dispatch("%stream", commands, command, arguments)


def transcripts(line: str) -> None:
    """``%transcripts COMMAND``."""
    words = _words(line)
    if words is None:
        return
    words = ["help"] if words in (["--help"], ["-h"]) else words
    named = words and not words[0].startswith("-")
    command, arguments = (words[0], words[1:]) if named else ("list", words)
    commands: dict[str, Callable[[list[str]], None]] = {
        "list": _list,
        "show": _show,
        "path": lambda _: views.print_text(_store().path),
        "help": lambda _: views.print_text(TRANSCRIPTS_HELP),
    }
    _dispatch("%transcripts", commands, command, arguments)


def _dispatch(magic: str, commands: dict[str, Callable[[list[str]], None]], command: str, arguments: list[str]) -> None:
    try:
        if command not in commands:
            raise BadRequest(f"{magic} has no command {one_line(command)!r}.", f"{magic} help lists them.")
        commands[command](arguments)
    except TokenstreamError as error:
        views.print_text(str(error))


def _words(line: str) -> list[str] | None:
    try:
        return split(line)
    except TokenstreamError as error:
        views.print_text(str(error))
        return None


def _set_default(magics: Any, names: list[str]) -> None:
    if not names:
        views.print_text(f"{magics.model} is used when a cell names no model.")
        return
    if len(names) != 1:
        raise BadRequest("Name one model.", "Example: %stream default local.")
    catalog.resolve(names[0])
    magics.model = names[0]
    views.print_text(f"%%stream uses {names[0]} when a cell names no model, until this kernel ends.")


def _stopped(ids: list[str]) -> str:
    stopped = api.stop(ids[0] if ids else None)
    if ids and not stopped and api.running():
        return f"No stream {one_line(ids[0])!r} is running. %stream status lists those that are."
    return "\n".join(f"stopped {run.id} ({run.transcript.model})" for run in stopped) or "Nothing to stop."


def _store() -> Any:
    from tokenstream_magic import transcripts as kept

    return kept.open_store()


def list_parser(prog: str) -> Parser:
    """The filters of a list of transcripts."""
    parser = Parser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--limit", type=int, default=20)
    parser.add_argument("-m", "--model")
    parser.add_argument("-q", "--query")
    parser.add_argument("-s", "--status", choices=OUTCOMES)
    parser.add_argument("--tag")
    return parser


def _list(words: list[str]) -> None:
    filters = vars(list_parser("%transcripts list").parse_args(words))
    found = _store().recent(filters.pop("limit"), **filters)
    views.print_text(listing.transcripts(found, filtered=any(filters.values())))


def _show(ids: list[str]) -> None:
    if len(ids) > 1:
        raise BadRequest("Name one transcript.", "Example: %transcripts show last.")
    views.show(_store().get(ids[0] if ids else "last"))
