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

EXAMPLE = """Example:

    %%stream local --temperature 0 -o response_format '{"type": "json_object"}'
    Name three rivers, as JSON."""

SHELL_EXAMPLE = """Example:

    echo 'Name three rivers.' | tokenstream stream local --temperature 0"""


CELL = "%%stream"
OUTCOMES = ("complete", "stopped", "truncated", "failed", "running")
_OURS = ("messages", "stream", "stream_options", "model", "contents", "input")


class Parser(argparse.ArgumentParser):
    """argparse that raises a readable error instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raises BadRequest, with the flag that was meant when it is close."""
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        close = get_close_matches(unknown[1].replace("_", "-"), self._option_string_actions, n=1) if unknown else []
        meant = f"Did you mean {close[0]}? " if close else ""
        raise BadRequest(f"{message[:1].upper()}{message[1:]}.", f"{meant}{self.prog} --help lists the flags.")


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
    add("--base-url", "--api-base", metavar="URL", help="an endpoint by its address")
    add("--protocol", help="what that address speaks")
    add("--api-key-env", metavar="VAR", help="the environment variable that holds the key; a key itself is refused")
    if in_cell:
        add("--out", metavar="NAME", help="bind the Transcript to this name; _stream always is")
    if in_cell:
        add("--bg", action="store_true", help="do not hold the cell; the view keeps its Stop")
    add("-n", "--no-log", action="store_true", help="do not keep this run")
    add("--tag", action="append", default=[], help="a tag to find the transcript by")
    add("--note", help="a note kept with the transcript")
    add("--timeout", type=float, metavar="S", help="seconds to the first token")
    add("--idle-timeout", type=float, metavar="S", help="seconds without progress")
    add("--time-limit", type=float, metavar="S", help="stop after this many seconds")
    add("--token-limit", type=int, metavar="N", help="stop after this many chunks of content")
    add("--max-retries", type=int, metavar="N", help="how often to try again when a server is busy; only before anything arrived")
    add("--dry-run", action="store_true", help="show the request, keys masked, and send nothing")
    if in_cell:
        add("--raw", action="store_true", help="send braces as typed")
    add("-h", "--help", action="store_true", help="this text")
    return parser


_MINE = ("model_name", "model", "option", "out", "bg", "dry_run", "raw", "help", "system")


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
    keywords = {k: v for k, v in vars(flags).items() if k not in _MINE and v is not None}
    keywords["option"] = {name: _value(name, text) for name, text in flags.option}
    return flags, keywords


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
    try:
        return json.loads(text)
    except ValueError:
        if text.startswith(("{", "[")):
            raise BadRequest(
                f"The value of -o {name} is no JSON: {text}.", "Put it between single quotes, which keep the double ones."
            ) from None
        return text
