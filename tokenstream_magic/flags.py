"""The flags of ``%%stream`` and the commands, one table for the notebook and the command line."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from tokenstream_magic.errors import BadRequest, KeyRefused
from tokenstream_magic.record import FORMATS

EXAMPLE = """Example:

    %%stream local --temperature 0 -o response_format '{"type": "json_object"}'
    Name three rivers, as JSON."""

SHELL_EXAMPLE = """Example:

    echo 'Name three rivers.' | tokenstream stream local --temperature 0"""


CELL = "%%stream"
OUTCOMES = ("complete", "stopped", "truncated", "failed", "running")
_OURS = ("messages", "stream", "stream_options", "model", "contents", "input")
_FLAGS = {"schema": "--schema S", "json": "--json", "tool": "-T NAME"}  # options of our own, which their flags check


class Parser(argparse.ArgumentParser):
    """argparse that raises a readable error instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raises BadRequest, with the flag that was meant when it is close."""
        unknown = re.search(r"unrecognized arguments: (-[\w-]+)", message)
        if unknown and self.prog != CELL and stream_parser().knows(unknown[1]):
            raise BadRequest(f"{unknown[1]} is a flag of cells.", f"{self.prog} --help lists those that are left here.")
        close = get_close_matches(unknown[1].replace("_", "-"), self._option_string_actions, n=1) if unknown else []
        meant = f"Did you mean {close[0]}? " if close else ""
        raise BadRequest(f"{message[:1].upper()}{message[1:]}.", f"{meant}{self.prog} --help lists the flags.")

    def knows(self, flag: str) -> bool:
        """Whether it has this flag."""
        return flag in self._option_string_actions


def stream_parser(prog: str = CELL) -> Parser:
    """The flags; those of a cell only are left out for a command line. They say what is sent and when to end; each name comes from a tool its users know."""
    parser = Parser(
        prog=prog,
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE if prog == CELL else SHELL_EXAMPLE,
    )
    in_cell = prog == CELL
    add = parser.add_argument
    add("model_name", nargs="?", metavar="MODEL", help="endpoint/model or an alias, for example local or openai/MODEL")
    add("-m", "--model", help="the same as MODEL")
    add("-s", "--system", help="system prompt")
    add("-t", "--template", metavar="NAME", help="a configured prompt; the text takes the place of its {input}")
    add(
        "-p",
        "--param",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="fill in {NAME}, in the template and in the text",
    )
    add(
        "-a",
        "--attachment",
        action="append",
        default=[],
        metavar="PATH|VAR" if in_cell else "PATH",
        help="an image, PDF, sound or text" + (", from a file or a variable" if in_cell else ""),
    )
    add(
        "-o",
        "--option",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="any field of the request, JSON when it parses",
    )
    add("--temperature", type=float, help="sampling temperature; 0 for the likeliest words")
    add("--top-p", type=float, help="nucleus sampling")
    add("--max-tokens", type=int, help="the model ends after this many tokens")
    add("--seed", type=int, help="the same seed, the same words, where the server can")
    add("--stop", action="append", metavar="TEXT", help="the model ends before this text")
    add("--reasoning-effort", help="how hard a reasoning model thinks: low, medium, high")
    add("--logprobs", type=int, metavar="N", help="ask for the N likeliest tokens at each place")
    add(
        "--schema",
        metavar="S",
        help="the answer is JSON of this shape: a JSON Schema, its file, " + ("a variable, " if in_cell else "") + "or 'name, age int'",
    )
    add("--json", action="store_true", help="the answer is JSON")
    if in_cell:
        add("-T", "--tool", action="append", default=[], metavar="NAME", help="a function the model may call; its calls are shown")
        add("--run-tools", action="store_true", help="run what the model calls and ask it again with the results")
        add("-c", "--continue", dest="continue_", action="store_true", help="go on with this kernel's last conversation")
    add("--cid", metavar="ID", help="go on with a kept conversation, or begin one of this name")
    add("--base-url", "--api-base", metavar="URL", help="an endpoint by its address")
    add("--protocol", help="what that address speaks")
    add("--api-key-env", metavar="VAR", help="the environment variable that holds the key; a key itself is refused")
    if in_cell:
        add("-x", "--extract", action="store_true", help="bind only the text of the first fenced block to the name behind --out")
        add("--out", metavar="NAME", help="bind the Transcript to this name; _stream always is")
        add("--bg", action="store_true", help="do not hold the cell; the view keeps its Stop")
        _experiment_flags(parser)
    if in_cell:
        add("-f", "--format", choices=FORMATS, metavar="FORMAT", help=f"how the answer is drawn: {', '.join(FORMATS)}")
    add("-n", "--no-log", action="store_true", help="do not keep this run")
    add("--wire", action="store_true", help="keep the raw reads and the headers too, keys masked; they can be exported as .sse")
    add("--tag", action="append", default=[], help="a tag to find the transcript by")
    add("--note", help="a note kept with the transcript")
    add("--timeout", type=float, metavar="S", help="seconds to the first token")
    add("--idle-timeout", type=float, metavar="S", help="seconds without progress")
    add("--time-limit", type=float, metavar="S", help="stop after this many seconds")
    add("--token-limit", type=int, metavar="N", help="stop after this many chunks of content")
    add("--max-retries", type=int, metavar="N", help="how often to try again when a server is busy; only before anything arrived")
    add("--replay", metavar="ID", help="play a kept stream again, without a network; the prompt is sent to nobody and may be left out")
    add_manner(parser)
    add("--dry-run", action="store_true", help="show the request, keys masked, and send nothing")
    if in_cell:
        add("--raw", action="store_true", help="send braces as typed")
    add("-h", "--help", action="store_true", help="this text")
    return parser


def _experiment_flags(parser: Parser) -> None:
    """Those of a cell that is more than one run."""
    add = parser.add_argument
    add("-r", "--repeat", type=int, metavar="N", help="ask N times; the result is a table")
    add("-j", "--max-concurrency", type=int, metavar="N", help="so many at a time; 1 unless asked: they disturb each other")
    add("--sweep", action="append", default=[], metavar="K=V1,V2", help="every value of an option or variable; several make a grid")
    add("--warmup", type=int, metavar="N", help="ask each model N times before, without counting")
    add("--resume", metavar="ID|last", help="go on with a sweep: what it finished is not repeated")
    add("--blind", action="store_true", help="several models: hide which is which until %%stream vote A|B|tie")


def add_manner(parser: Parser) -> None:
    """The flags that say how a replay is played."""
    parser.add_argument("--speed", metavar="X", help="of a replay: 2 is twice as fast, instant at once")
    parser.add_argument(
        "--as", dest="as_", metavar="HOW", help="of a replay: how it would have felt buffered, unstreamed, smooth:TOKENS_PER_S or delay:MS"
    )


_MINE = ("model_name", "model", "option", "param", "out", "extract", "bg", "dry_run", "raw", "help", "system")
_EXPERIMENT = ("repeat", "max_concurrency", "sweep", "warmup", "resume", "blind")


def parse_stream(line: str, prog: str = CELL) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The flags of a line, and those among them that the public face takes as keywords. Raises BadRequest or KeyRefused."""
    return parse_words(split(line), prog)


def parse_words(words: Sequence[str], prog: str) -> tuple[argparse.Namespace, dict[str, Any]]:
    """:func:`parse_stream` for words already split."""
    for word in words:
        if word.split("=")[0] in ("--api-key", "--key", "--token"):
            raise KeyRefused(
                "A key is never written into a cell: it would be saved with the notebook.",
                "Set an environment variable and name it: --api-key-env NAME.",
            )
    flags = stream_parser(prog).parse_args(words)
    if flags.model and flags.model_name:
        raise BadRequest("The model is named twice.", "Write it once, in front or behind -m.")
    keywords = {k: v for k, v in vars(flags).items() if k not in (*_MINE, *_EXPERIMENT) and v is not None}
    keywords["option"] = {name: _value(name, text) for name, text in flags.option}
    keywords["param"] = dict(flags.param)
    _refuse_contradictions(flags)
    return flags, keywords


def is_replay(flags: argparse.Namespace) -> bool:
    """Whether a line plays what was kept and needs no prompt."""
    model = flags.model or flags.model_name or ""
    return flags.replay is not None or model == "replay" or model.startswith(("replay/", "replay:"))


# of flags that say two things at once: what is wrong with them, and what to do
_CONTRADICTIONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("schema", "json"), "--schema asks for JSON already.", "Leave out --json."),
    (("continue_", "cid"), "-c and --cid name two conversations.", "Leave one of them out."),
    (("replay", "wire"), "A replay sends nothing: there is no wire to keep.", "Leave out --wire."),
    (("run_tools", "bg"), "With --run-tools the cell waits for its rounds.", "Leave out --bg."),
)


def _refuse_contradictions(flags: argparse.Namespace) -> None:
    said = {name for name, value in vars(flags).items() if value}
    for names, problem, advice in _CONTRADICTIONS:
        if said.issuperset(names):
            raise BadRequest(problem, advice)
    if "run_tools" in said and "tool" not in said:
        raise BadRequest("There is no tool to run.", "Name a function: -T NAME --run-tools.")
    if "extract" in said and "out" not in said:
        raise BadRequest("-x keeps the first fenced block in a variable, and none is named.", "Name it: -x --out code.")
    alone = said & {*_EXPERIMENT, "run_tools", "continue_", "cid", "dry_run"}
    if "replay" in said and (alone or "," in (flags.model or flags.model_name or "")):
        raise BadRequest("A replay plays one transcript and asks nobody.", "Leave out what is about asking, or leave out --replay.")
    if {"raw", "param"} <= said and "template" not in said:
        raise BadRequest("--raw sends braces as typed, and -p fills them in.", "Leave one of them out.")


def split(line: str) -> list[str]:
    """Words of a line, quotes understood. Raises BadRequest when a quote is left open."""
    try:
        return shlex.split(line)
    except ValueError:
        raise BadRequest("A quote is not closed.", "Put text with spaces between two quotes: -s 'Be brief.'") from None


def _value(name: str, text: str) -> Any:
    if name in _OURS:
        raise BadRequest(
            f"-o {name} would replace what the cell says.", "Write the prompt in the cell and the model in front of the flags."
        )
    if name in _FLAGS:
        raise BadRequest(f"{name} is no field of a request.", f"Write {_FLAGS[name]}.")
    try:
        return json.loads(text)
    except ValueError:
        if text.startswith(("{", "[")):
            raise BadRequest(
                f"The value of -o {name} is no JSON: {text}.", "Put it between single quotes, which keep the double ones."
            ) from None
        return text
