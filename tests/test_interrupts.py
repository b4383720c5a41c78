"""An interrupt of a call that blocks: whatever it strikes, the run is stopped, its view settled, and nobody held for ever."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from tokenstream_magic import api, asking, cli, commands, demo, experiment_commands, interrupts, iterating, transcripts
from tokenstream_magic.display import views
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.run import Run


def strike(*_: Any) -> None:
    signal.raise_signal(signal.SIGINT)


class Struck(views.Quiet):
    """A view in which an interrupt strikes, in the step named ``where``."""

    def __init__(self, where: str) -> None:
        self.where, self.settled = where, False

    def open(self, run: Run) -> None:
        if self.where == "open":
            strike()

    def wait(self, run: Run) -> None:
        if self.where == "wait":
            self.where = "nowhere"
            strike()
        run.wait()

    def settle(self, run: Run) -> None:
        if self.where == "settle":
            strike()
        self.settled = True


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert api.running() == []


def struck(mock: MockServer, monkeypatch: pytest.MonkeyPatch, where: str, script: str = "endless") -> tuple[Any, Struck]:
    view = Struck(where)
    monkeypatch.setattr(views, "choose", lambda: view)
    prepared = asking.ask("Go on.", script, base_url=mock.base_url, no_log=True)
    return api.answer(prepared, strike if where == "started" else lambda _: None), view


@pytest.mark.parametrize("where", ["open", "started", "wait"])
def test_an_interrupt_stops_the_run_wherever_it_strikes(mock: MockServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    transcript, view = struck(mock, monkeypatch, where)
    assert (transcript.outcome, transcript.stop_cause, view.settled) == ("stopped", "interrupt", True)


def test_an_interrupt_after_the_end_changes_nothing(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    transcript, view = struck(mock, monkeypatch, "settle", "hello")
    assert (transcript.outcome, view.settled) == ("complete", True)


def test_a_second_interrupt_gets_out_of_whatever_holds_the_first(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "BOUNCE_SECONDS", -1)
    held = Struck("nowhere")

    def hold(_: Run) -> None:
        strike()
        strike()
        pytest.fail("it is held")

    monkeypatch.setattr(held, "wait", hold)
    run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True)
    with pytest.raises(KeyboardInterrupt):
        api.blocked(run, held)
    assert run.wait().stop_cause == "interrupt"


def test_two_interrupts_at_once_are_one(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "BOUNCE_SECONDS", 1e9)
    twice = Struck("nowhere")
    monkeypatch.setattr(twice, "wait", lambda run: (strike(), strike(), run.wait()))
    run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True)
    api.blocked(run, twice)
    assert (run.transcript.outcome, run.transcript.stop_cause, twice.settled) == ("stopped", "interrupt", True)


def test_an_interrupt_that_finds_nothing_to_stop_is_raised_and_not_lost(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = api.begin

    def interrupted(*args: Any, **how: Any) -> Run:
        strike()
        return begin(*args, **how)

    monkeypatch.setattr(api, "begin", interrupted)
    pieces = iterating.events("Go on.", "endless", base_url=mock.base_url, no_log=True)
    with pytest.raises(KeyboardInterrupt):
        next(pieces)
    assert pieces.transcript is not None
    assert pieces.transcript.outcome == "stopped"


@pytest.mark.parametrize("raises", [False, True])
def test_a_handler_that_is_somebodys_own_stays(mock: MockServer, raises: bool) -> None:
    """Where it raises KeyboardInterrupt, that stops the run; where it does not, it is no business of ours."""
    heard: list[int] = []

    def own(number: int, _frame: object) -> None:
        heard.append(number)
        if raises:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, own)
    try:
        run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True, token_limit=None if raises else 3)
        api.blocked(run, Struck("wait"))
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert run.transcript.stop_cause == ("interrupt" if raises else "limit:tokens")


def test_a_run_left_behind_is_stopped_by_an_interrupt_while_it_begins(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "front_end", lambda: "live")
    monkeypatch.setattr(views, "choose", lambda: Struck("open"))
    magics = SimpleNamespace(shell=SimpleNamespace(user_ns={}), model="local")
    commands.stream_cell(magics, f"endless --bg -n --out left --base-url {mock.base_url}", "Go on.", None)
    for run in api.running():
        run.wait()
    left = magics.shell.user_ns["left"]
    assert (left.outcome, left.stop_cause) == ("stopped", "interrupt")


@pytest.mark.parametrize("line", ["endless,endless", "endless -r 2"])
def test_an_experiment_is_stopped_by_an_interrupt_while_it_begins(mock: MockServer, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    begin = experiment_commands.begin
    magics = SimpleNamespace(shell=SimpleNamespace(user_ns={}), model="local")

    def begun(*of: Any) -> experiment_commands.Experiment:
        experiment = begin(*of)
        strike()
        return experiment

    monkeypatch.setattr(experiment_commands, "begin", begun)
    commands.stream_cell(magics, f"{line} -n --base-url {mock.base_url}", "Go on.", None)
    assert magics.shell.user_ns["_stream"].stopped == "interrupt"


def struck_at(number: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bool]:
    """The exit code of ``tokenstream stream hello`` with an interrupt before so many lines of ours; and whether it came to that."""
    files = {cli.__file__, api.__file__, interrupts.__file__}
    left = number

    def watch(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files or frame.f_code.co_name in ("<module>", "main", "__init__", "take", "get_loop"):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                strike()
        return watch

    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi"))
    sys.settrace(watch)
    try:
        return cli.main(), left <= 0
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_before_any_line_of_the_command_ends_it_in_order(mock: MockServer, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["tokenstream", "stream", "hello", "--base-url", mock.base_url])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    code, _ = struck_at(10**9, monkeypatch)  # imports what is imported on first use
    assert code == 0
    capsys.readouterr()
    seen, number = set(), 1
    while True:
        kept = len(transcripts.recent(1000))
        code, struck = struck_at(number, monkeypatch)
        if not struck:
            break
        said = capsys.readouterr().err
        newest = transcripts.recent(1000)
        what = (newest[0].outcome, newest[0].stop_cause) if len(newest) > kept else None
        assert (code, what) in [(130, None), (130, ("stopped", "interrupt")), (0, ("complete", None))], (number, said)
        assert said.count("\n") == 1, (number, said)
        seen.add(what)
        number += 1
    assert None in seen
    assert ("stopped", "interrupt") in seen


STRUCK = """
import atexit, io, os, signal, sys, weakref
where = sys.argv.pop(1)

def strike(*_):
    signal.raise_signal(signal.SIGINT)

class Finder:
    def find_spec(self, name, *_):
        if name == where:
            try:
                strike()
            except KeyboardInterrupt:  # there are compiled modules that do
                os.abort()

class Swallows(io.StringIO):
    def read(self, *_):
        weakref.ref(Swallows(), strike)
        [weakref.ref(one, strike) for one in [Swallows()]]
        while True:
            pass

sys.meta_path.insert(0, Finder())
from tokenstream_magic.__main__ import main
if where == "nothing, at the end":
    atexit.register(strike)
if where == "swallowed":
    sys.stdin = Swallows()
sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="there an interrupt of one process is one of all")
@pytest.mark.parametrize("where", ["tokenstream_magic.cli", "tokenstream_magic.asking", "swallowed", "nothing, at the end"])
def test_ctrl_c_is_one_line_where_a_keyboard_interrupt_would_be_more(mock: MockServer, where: str) -> None:
    """In the middle of an import, in what swallows it, and while the interpreter ends."""
    command = [sys.executable, "-c", STRUCK, where, "stream", "hello", "--base-url", mock.base_url, "-n"]
    ran = subprocess.run(command, input="Hi", capture_output=True, text=True, timeout=60)
    ended = where == "nothing, at the end"
    assert (ran.returncode, ran.stderr.count("\n")) == ((0, 1) if ended else (130, 1)), ran.stderr
    assert ended or ran.stderr == "interrupted\n"


def test_ctrl_c_in_the_demo_is_jupyterlabs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "call", lambda _: strike() or 0)
    assert demo.open_lab(Path("quickstart.ipynb")) == 0


def test_ctrl_c_in_the_headless_demo_ends_its_kernel_and_is_said_once(tmp_path: Path) -> None:
    told = tmp_path / "kernel"
    cell = (
        f"import os, signal, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(600)"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), tmp_path / "n.ipynb")
    with pytest.raises(KeyboardInterrupt):
        demo.execute(tmp_path / "n.ipynb")
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
