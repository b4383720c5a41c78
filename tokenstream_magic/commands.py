"""What the magics do: words into calls of the public face, errors into one readable line."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from tokenstream_magic import (
    api,
    asking,
    attachments,
    catalog,
    conversations,
    experiment_commands,
    fences,
    interrupts,
    prompt as prompts,
    survey,
    telemetry,
    transcript_commands,
)
from tokenstream_magic.display import listing, views
from tokenstream_magic.errors import MASK, BadRequest, TokenstreamError, one_line
from tokenstream_magic.experiment_commands import Experiment
from tokenstream_magic.flags import is_replay, parse_stream, split, stream_parser
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript
from tokenstream_magic.rounds import Prepared
from tokenstream_magic.version import __version__

STREAM_HELP = """%stream models          the endpoints, which of them are ready, and what they serve
%stream models ENDPOINT all models of one
%stream default MODEL   use MODEL when a cell names none
%stream status          what is streaming now
%stream stop [ID|all]   stop the newest stream, one by its id, or all
%stream vote A|B|tie    say which of the last comparison was better
%stream version         the version
%%stream --help         the flags of a cell"""


@dataclass
class _Asked:
    """A cell, parsed."""

    prompt: Prompt
    model: str | None
    keywords: dict[str, Any]
    out: str | None
    extract: bool
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


def _finish(magics: Any, line: str, cell: str, local_ns: dict[str, Any] | None, go: Callable[[_Asked | Experiment], Any]) -> None:
    """Parses and goes; what cannot be done becomes a failed transcript that says why."""
    out: str | None = None
    model: str | None = None
    extract = False
    try:
        flags, keywords = parse_stream(line)
        out, model, extract = flags.out, flags.model or flags.model_name, flags.extract
        if flags.help:
            views.print_text(stream_parser().format_help())
            return
        if out is not None and not out.isidentifier():
            out, bad = None, out
            raise BadRequest(f"{bad!r} is no name for a variable.", "Example: --out answer.")
        if not cell.strip() and flags.template is None and not is_replay(flags):
            raise BadRequest("There is no prompt: write it below the %%stream line.", "Examples: %%stream --help.")
        names = {**magics.shell.user_ns, **(local_ns or {})}
        if experiment_commands.is_wanted(flags, model):
            bound = {**asking.bound(keywords, names), "default_model": magics.model}
            with interrupts.taken() as struck:
                experiment = experiment_commands.begin(flags, bound, cell, model, None if flags.raw else names)
                struck.stops(experiment.stop)
                for name in filter(None, ("_stream", out)):
                    magics.shell.user_ns[name] = experiment.result
                go(experiment)
            return
        around = asking.named_template(flags.template)
        given = keywords.pop("param")
        asked = Prompt([], "")  # what a replay without a body is asked
        if cell.strip() or flags.template is not None:
            asked = prompts.build(
                cell.rstrip("\n"),
                None if flags.raw else names,
                flags.system or around.get("system"),
                around=around.get("prompt"),
                params=given,
            )
        keywords = {**asking.bound(keywords, names), "default_model": magics.model}
        if flags.dry_run:
            plan, _ = asking.prepare(asked, model, **asking.request_flags(keywords))
            views.print_text(dry_run(plan))
            return
        go(_Asked(asked, model, keywords, out, extract, flags.bg))
    except TokenstreamError as error:
        _refused(magics, error, model or magics.model, cell, out=out, extract=extract)


def _blocking(magics: Any, asked: _Asked | Experiment) -> None:
    if isinstance(asked, Experiment):
        asked.blocking()
        return
    prepared = asking.ask(asked.prompt, asked.model, **asked.keywords)
    if asked.background and views.front_end() == "live":
        _leave(magics, asked, prepared)
        return
    transcript = api.answer(prepared, lambda run: _bind(magics, asked, run.transcript))
    _bind(magics, asked, transcript)


async def _awaited(magics: Any, asked: _Asked | Experiment) -> None:
    if isinstance(asked, Experiment):
        await asked.awaited()
        return
    try:
        prepared = asking.ask(asked.prompt, asked.model, **asked.keywords)
    except TokenstreamError as error:
        _refused(magics, error, asked.model or magics.model, asked.prompt.text, out=asked.out, extract=asked.extract)
        return
    if asked.background and views.front_end() == "live":
        _leave(magics, asked, prepared)
        return
    transcript = await api.aanswer(prepared, lambda run: _bind(magics, asked, run.transcript))
    _bind(magics, asked, transcript)


def _leave(magics: Any, asked: _Asked, prepared: Prepared) -> None:
    """Starts a run that the cell does not wait for; what is extracted is bound at its end. An interrupt until then stops it."""
    with interrupts.taken() as struck:
        run = api.begin(prepared, view=views.choose())
        struck.stops(lambda: run.stop("interrupt"))
        conversations.started(run.transcript)
        _bind(magics, asked, run.transcript)
        if asked.extract:
            run.future.add_done_callback(lambda ended: _bind_extracted(magics, asked.out, ended.result()))


def _bind(magics: Any, asked: _Asked, transcript: Transcript) -> None:
    """Binds ``_stream``, and the name behind ``--out`` to the transcript or, with ``-x``, to what was extracted at the end."""
    magics.shell.user_ns["_stream"] = transcript
    if asked.extract:
        if transcript.outcome != "running":
            _bind_extracted(magics, asked.out, transcript)
    elif asked.out:
        magics.shell.user_ns[asked.out] = transcript


def _bind_extracted(magics: Any, out: str | None, transcript: Transcript) -> None:
    block = fences.first(transcript.text)
    magics.shell.user_ns[out] = transcript.text if block is None else block


def _refused(magics: Any, error: TokenstreamError, model: str, text: str, *, out: str | None, extract: bool) -> None:
    """What cannot be done becomes a failed transcript that says why."""
    transcript = asking.refused(error, model, text)
    magics.shell.user_ns["_stream"] = transcript
    if out:
        magics.shell.user_ns[out] = "" if extract else transcript
    views.show(transcript)


def dry_run(plan: Any) -> str:
    """The request of a plan, its key masked and its attachments by their size."""
    call = replace(plan, messages=attachments.without_bytes(plan.messages, "({size} bytes)")).call()
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
        "models": _models,
        "default": lambda names: _set_default(magics, names),
        "status": lambda _: views.print_text(listing.runs(api.running())),
        "stop": lambda ids: views.print_text(_stopped(ids)),
        "vote": experiment_commands.vote,
        "version": lambda _: views.print_text(__version__),
        "help": lambda _: views.print_text(STREAM_HELP),
    }
    _dispatch("%stream", commands, command, arguments)


def transcripts(magics: Any, line: str) -> Any:
    """``%transcripts COMMAND``; what ``--df`` gives is returned. What is played or sent again blocks."""
    done = _transcripts(line)
    if isinstance(done, Prepared):
        return _bind_stream(magics, api.answer(done, lambda run: _bind_stream(magics, run.transcript)))
    return done


async def atranscripts(magics: Any, line: str) -> Any:
    """:func:`transcripts`, awaited."""
    done = _transcripts(line)
    if isinstance(done, Prepared):
        return _bind_stream(magics, await api.aanswer(done, lambda run: _bind_stream(magics, run.transcript)))
    return done


def check_telemetry() -> None:
    """Says what is missing for OpenTelemetry, as soon as it is turned on."""
    try:
        telemetry.check()
    except TokenstreamError as error:
        views.print_text(str(error))


def _bind_stream(magics: Any, transcript: Transcript) -> None:
    magics.shell.user_ns["_stream"] = transcript


def _transcripts(line: str) -> Any:
    words = _words(line)
    if words is None:
        return None
    try:
        return transcript_commands.perform(words, "%transcripts")
    except TokenstreamError as error:
        return views.print_text(str(error))


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


def _models(names: list[str]) -> None:
    if len(names) > 1:
        raise BadRequest("Name one endpoint.", "Example: %stream models ollama.")
    views.print_text(survey.models_of(names[0]) if names else survey.overview())


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
