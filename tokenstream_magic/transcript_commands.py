"""``%transcripts`` and ``tokenstream transcripts``: one table of commands for the notebook and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokenstream_magic import asking
from tokenstream_magic.display import listing, views
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.flags import OUTCOMES, Parser, add_manner, parse_words, stream_parser
from tokenstream_magic.record import Transcript
from tokenstream_magic.rounds import Prepared

HELP = """%transcripts [list] [filters]   what was kept, newest first; %transcripts list --help names the filters
%transcripts show ID            draw one; ID is an id, the start of one, last or last~1
%transcripts replay ID [--speed X] [--as HOW]   play it again, without a network; %transcripts replay --help tells how
%transcripts rerun ID [-m M] [-o K V]   send it again; every flag that says what is sent can be another
%transcripts diff A B           figures and words side by side
%transcripts export [ID ...] -o FILE   jsonl, json, csv, md, html, parquet or sse; all of them without an ID
%transcripts import FILE        jsonl and .tokenstream.json of ours, a captured response body, the logs.db of llm
%transcripts diagnose ID [--json]   whether streaming helped, and what went wrong
%transcripts stats [--by model,temperature]   how many, how they ended, TTFT and rate
%transcripts delete ID          remove one for good
%transcripts backup FILE        a whole copy, in SQLite
%transcripts path | status      where they are kept; how many, how large, what is not written yet
%transcripts on | off           keep runs, or no longer"""

FRAMES = ("transcripts", "chunks")
_OF_A_PROMPT = {  # of a cell's flags, those that a rerun has no use for
    "system": "-s",
    "template": "-t",
    "param": "-p",
    "attachment": "-a",
    "cid": "--cid",
    "replay": "--replay",
    "speed": "--speed",
    "as_": "--as",
    "dry_run": "--dry-run",
}
_FLAGS = {  # of the commands without a parser
    **dict.fromkeys(("show", "diff", "delete", "backup", "path", "status", "on", "off"), ()),
    "diagnose": ("--json",),
}
_COMPARED = 200  # transcripts of the same model that are looked through for the same prompt


def perform(words: Sequence[str], prog: str) -> Any:
    """Does what the words say and prints what there is to say. Raises TokenstreamError.

    Returned are a DataFrame, what a notebook draws, and a run that can begin: who asks for it knows how to wait.
    """
    words = ["help"] if list(words) in (["--help"], ["-h"]) else list(words)
    named = words and not words[0].startswith("-")
    command, arguments = (words[0], words[1:]) if named else ("list", words)
    if command not in COMMANDS:
        raise BadRequest(f"{prog} has no command {one_line(command)!r}.", f"{prog} help lists them.")
    flags = _FLAGS.get(command)
    if flags is not None:
        if {"-h", "--help"} & {*arguments}:
            return views.print_text("\n".join(line for line in help_text(prog).splitlines() if command in line.partition("  ")[0].split()))
        wrong = next((word for word in arguments if word.startswith("-") and word not in flags), None)
        if wrong is not None:
            raise BadRequest(f"{prog} {command} has no flag {one_line(wrong)}.", f"{prog} {command} --help says what it takes.")
    return COMMANDS[command](arguments, prog)


def list_parser(prog: str) -> Parser:
    """The filters and forms of a list."""
    parser = Parser(prog=prog, add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("-n", "--limit", "--count", type=int, help="how many; 20, or all of them for a DataFrame, when not said; 0 for all")
    add("-s", "--short", action="store_true", help="id, outcome and first words only")
    add("-u", "--usage", action="store_true", help="tokens in and out too")
    add("--df", nargs="?", const="transcripts", choices=FRAMES, help="give a DataFrame: one row a transcript, or a chunk")
    _add_filters(parser)
    return parser


def export_parser(prog: str) -> Parser:
    """Which transcripts go to which file."""
    parser = Parser(prog=prog, add_help=False, allow_abbrev=False)
    add = parser.add_argument
    add("ids", nargs="*", metavar="ID", help="transcripts; all of them, or those that the filters find, when not said")
    add("-o", "--output", metavar="FILE", help="the file; its ending names the form: jsonl, json, csv, md, html, parquet or sse")
    add("-f", "--form", help="another form than the ending says")
    add("--force", action="store_true", help="write over a file that is there")
    _add_filters(parser)
    return parser


def _add_filters(parser: Parser) -> None:
    add = parser.add_argument
    add("-m", "--model", help="an endpoint, or endpoint/model")
    add("-q", "--query", help='words in prompt, answer or reasoning; "two words" between double quotes belong together')
    add("--since", metavar="WHEN", help="a date, or a time ago: 2026-11-01, 2h, 3d, today")
    add("--tag", help="a tag")
    add("--status", choices=OUTCOMES, help="an outcome")
    add("--notebook", metavar="NAME", help="a part of the notebook's path")
    add("--cell", metavar="ID", help="a cell's id, or its start")
    add("--cid", dest="conversation", metavar="ID", help="a conversation")
    add("-h", "--help", action="store_true", help="this text")


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

        from tokenstream_magic.display.notes import notes

        print("\n".join([views.summary(found), *notes(found)]), file=sys.stderr)


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


def _replay(words: Sequence[str], prog: str) -> Prepared | None:
    parser = Parser(prog=f"{prog} replay", add_help=False, allow_abbrev=False)
    parser.add_argument("id", nargs="?", default="last", metavar="ID", help="the transcript to play; last when not said")
    add_manner(parser)
    parser.add_argument("-h", "--help", action="store_true", help="this text")
    flags = parser.parse_args(list(words))
    if flags.help:
        views.print_text(parser.format_help())
        return None
    return asking.ask("", replay=flags.id, speed=flags.speed, as_=flags.as_)


def _rerun(words: Sequence[str], prog: str) -> Prepared | None:
    from tokenstream_magic import transcripts

    named = bool(words) and not words[0].startswith("-")
    flags, keywords = parse_words(words[1:] if named else words, f"{prog} rerun")
    if flags.help:
        views.print_text(stream_parser(f"{prog} rerun").format_help())
        return None
    wrong = next((name for name in _OF_A_PROMPT if getattr(flags, name, None)), None)
    if wrong is not None:
        raise BadRequest(f"A rerun sends the same prompt, and {_OF_A_PROMPT[wrong]} would change it.", "Write a new cell.")
    keywords = {name: value for name, value in keywords.items() if name not in _OF_A_PROMPT}
    return asking.again(transcripts.get(words[0] if named else "last"), flags.model or flags.model_name, **keywords)


def _diff(words: Sequence[str], prog: str) -> Any:
    from tokenstream_magic import transcripts
    from tokenstream_magic.display.difference import Difference

    if len(words) != 2:
        raise BadRequest("Name two transcripts.", f"Example: {prog} diff last~1 last.")
    difference = Difference(*map(transcripts.get, words))
    return difference if views.front_end() not in ("none", "terminal") else views.print_text(str(difference))


def _export(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import exchange

    parser = export_parser(f"{prog} export")
    flags = vars(parser.parse_args(list(words)))
    ids, output, form, force = (flags.pop(name) for name in ("ids", "output", "form", "force"))
    if flags.pop("help"):
        views.print_text(parser.format_help())
        return
    if output is None:
        raise BadRequest("Name the file to write.", f"Example: {prog} export last -o answer.html.")
    chosen = exchange.chosen(ids, **{name: value for name, value in flags.items() if value})
    views.print_text(f"Exported to {exchange.export(chosen, output, form=form, force=force)}.")


def _import(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import exchange

    parser = Parser(prog=f"{prog} import", add_help=False, allow_abbrev=False)
    parser.add_argument("file", metavar="FILE", help="the file")
    parser.add_argument("--protocol", default="auto", help="of a captured response body: auto, or one of the wire's protocols")
    if _is_help(words, parser):
        return
    flags = parser.parse_args(list(words))
    new, known = exchange.bring_in(flags.file, flags.protocol)
    there = f"; {known} {'was' if known == 1 else 'were'} there already" if known else ""
    views.print_text(f"{new} {'transcript is' if new == 1 else 'transcripts are'} new{there}.")


def _delete(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    if len(words) != 1:
        raise BadRequest("Name one transcript to delete.", f"Example: {prog} delete last.")
    gone = transcripts.delete(words[0])
    views.print_text(f"{gone.id} ({gone.model}) is removed for good. A backup, and the output in its notebook, keep theirs.")


def _stats(words: Sequence[str], prog: str) -> None:
    from tokenstream_magic import transcripts

    parser = Parser(prog=f"{prog} stats", add_help=False, allow_abbrev=False)
    parser.add_argument("--by", default="model", metavar="FIELD,FIELD", help="model, protocol, outcome ..., or fields of the request")
    if _is_help(words, parser):
        return
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
    views.print_text(listing.store(transcripts.status()).replace("%transcripts", prog))


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


def _is_help(words: Sequence[str], parser: Parser) -> bool:
    if {"-h", "--help"} & {*words}:
        views.print_text(parser.format_help())
        return True
    return False


def _none(words: Sequence[str], prog: str, command: str) -> None:
    if words:
        raise BadRequest(f"{prog} {command} takes nothing behind it.")


def help_text(prog: str) -> str:
    """What commands there are."""
    return HELP.replace("%transcripts", prog)


COMMANDS: dict[str, Callable[[Sequence[str], str], Any]] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "rerun": _rerun,
    "diff": _diff,
    "export": _export,
    "import": _import,
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
