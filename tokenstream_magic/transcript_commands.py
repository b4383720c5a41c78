"""``%transcripts`` and ``tokenstream transcripts``: one table of commands for the notebook and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokenstream_magic.display import listing, views
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.flags import OUTCOMES, Parser
from tokenstream_magic.record import Transcript

HELP = """%transcripts [list] [filters]   what was kept, newest first; %transcripts list --help names the filters
%transcripts show ID            draw one; ID is an id, the start of one, last or last~1
%transcripts diagnose ID [--json]   whether streaming helped, and what went wrong
%transcripts stats [--by model,temperature]   how many, how they ended, TTFT and rate
%transcripts delete ID          remove one for good
%transcripts backup FILE        a whole copy, in SQLite
%transcripts path | status      where they are kept; how many, how large, what is not written yet
%transcripts on | off           keep runs, or no longer"""

FRAMES = ("transcripts", "chunks")
_COMPARED = 200  # transcripts of the same model that are looked through for the same prompt


def perform(words: Sequence[str], prog: str) -> Any:
    """Does what the words say and prints what there is to say; a DataFrame is returned. Raises TokenstreamError."""
    words = ["help"] if list(words) in (["--help"], ["-h"]) else list(words)
    named = words and not words[0].startswith("-")
    command, arguments = (words[0], words[1:]) if named else ("list", words)
    if command not in COMMANDS:
        raise BadRequest(f"{prog} has no command {one_line(command)!r}.", f"{prog} help lists them.")
    return COMMANDS[command](arguments, prog)


def list_parser(prog: str) -> Parser:
    """The filters and forms of a list."""
    parser = Parser(prog=prog, add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("-n", "--limit", "--count", type=int, help="how many; 20, or all of them for a DataFrame, when not said; 0 for all")
    add("-m", "--model", help="an endpoint, or endpoint/model")
    add("-q", "--query", help='words in prompt, answer or reasoning; "two words" between double quotes belong together')
    add("-s", "--short", action="store_true", help="id, outcome and first words only")
    add("-u", "--usage", action="store_true", help="tokens in and out too")
    add("--since", metavar="WHEN", help="a date, or a time ago: 2026-11-01, 2h, 3d, today")
    add("--tag", help="a tag")
    add("--status", choices=OUTCOMES, help="an outcome")
    add("--notebook", metavar="NAME", help="a part of the notebook's path")
    add("--cell", metavar="ID", help="a cell's id, or its start")
    add("--cid", dest="conversation", metavar="ID", help="a conversation")
    add("--df", nargs="?", const="transcripts", choices=FRAMES, help="give a DataFrame: one row a transcript, or a chunk")
    add("-h", "--help", action="store_true", help="this text")
    return parser


def _list(words: Sequence[str], prog: str) -> Any:
    from tokenstream_magic import transcripts

    parser = list_parser(f"{prog} list")
    flags = vars(parser.parse_args(list(words)))
    limit, short, usage, frame = (flags.pop(name) for name in ("limit", "short", "usage", "df"))
    if flags.pop("help"):
        return views.print_text(parser.format_help())
    if limit is not None and limit < 0:
        raise BadRequest("-n is a whole number from 0 up; 0 lists all.")
    filters = {name: value for name, value in flags.items() if value}
    if frame:
        return transcripts.to_pandas(frame, limit=limit or None, **filters)
    found = transcripts.open_store().recent(20 if limit is None else limit or transcripts.EVERY, brief=True, **filters)
    return views.show_list(found, listing.transcripts(found, filtered=bool(filters), short=short, usage=usage))


def _show(words: Sequence[str], prog: str) -> None:
    found = _one(words, prog, "show")
    views.show(found)
    if views.front_end() == "none":
        import sys

        print(views.summary(found), file=sys.stderr)


def _diagnose(words: Sequence[str], prog: str) -> Any:
    from tokenstream_magic import transcripts
    from tokenstream_magic.timing.diagnosis import diagnose, usual

    as_json = "--json" in words
    found = _one([word for word in words if word != "--json"], prog, "diagnose")
    others = []
    if found.outcome == "stopped":  # what the same prompt took when nobody stopped it; a brief list would cut the prompts
        others = [t for t in transcripts.recent(_COMPARED, model=found.model, status="complete") if t.prompt == found.prompt]
    diagnosis = diagnose(found, usual=usual(others))
    if as_json:
        import json

        return views.print_text(json.dumps({"id": found.id, **diagnosis.as_dict()}, indent=2))
    if views.front_end() not in ("none", "terminal"):
        return diagnosis
    return views.print_text(str(diagnosis))


def _delete(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    if len(words) != 1:
        raise BadRequest("Name one transcript to delete.", f"Example: {prog} delete last.")
    gone = transcripts.delete(words[0])
    views.print_text(f"{gone.id} ({gone.model}) is removed for good. A backup, and the output in its notebook, keep theirs.")


def _stats(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    parser = Parser(prog=f"{prog} stats", add_help=False, allow_abbrev=False)
    parser.add_argument("--by", default="model")
    by = [name for name in parser.parse_args(list(words)).by.split(",") if name.strip()]
    views.print_text(listing.groups(transcripts.stats(by), by))


def _backup(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    if len(words) != 1:
        raise BadRequest("Name the file the copy goes to.", f"Example: {prog} backup transcripts-copy.db.")
    views.print_text(f"All transcripts are copied to {transcripts.backup(words[0])}.")


def _status(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    _none(words, prog, "status")
    views.print_text(listing.store(transcripts.status()))


def _turn(words: Sequence[str], prog: str, *, on: bool) -> None:
    from tokenstream_magic import transcripts

    _none(words, prog, "on" if on else "off")
    (transcripts.on if on else transcripts.off)()
    views.print_text("Runs are kept." if on else f"Runs are kept no longer, until {prog} on. What is there stays.")


def _path(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    _none(words, prog, "path")
    views.print_text(transcripts.open_store().path)


def _one(words: Sequence[str], prog: str, command: str) -> Transcript:
    from tokenstream_magic import transcripts

    if len(words) > 1:
        raise BadRequest("Name one transcript.", f"Example: {prog} {command} last.")
    return transcripts.get(words[0] if words else "last")


def _none(words: Sequence[str], prog: str, command: str) -> None:
    if words:
        raise BadRequest(f"{prog} {command} takes nothing behind it.")


def help_text(prog: str) -> str:
    """What commands there are."""
    return HELP.replace("%transcripts", prog)


COMMANDS: dict[str, Callable[[Sequence[str], str], Any]] = {
    "list": _list,
    "show": _show,
    "diagnose": _diagnose,
    "stats": _stats,
    "delete": _delete,
    "backup": _backup,
    "path": _path,
    "status": _status,
    "on": lambda words, prog: _turn(words, prog, on=True),
    "off": lambda words, prog: _turn(words, prog, on=False),
    "help": lambda _words, prog: views.print_text(help_text(prog)),
}
