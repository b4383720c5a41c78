"""Plain IPython in a terminal, and the command line: growing text, Ctrl-C stops, nothing a terminal would obey."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

from tokenstream_magic.mock.server import MockServer


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(program)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


SHELL = """
    from IPython.terminal.interactiveshell import TerminalInteractiveShell
    shell = TerminalInteractiveShell.instance(simple_prompt=True, history_load_length=0)
    shell.run_line_magic("load_ext", "tokenstream_magic")
"""


def test_ctrl_c_stops_a_cell_in_a_terminal_and_the_session_goes_on(mock: MockServer) -> None:
    process = start(
        SHELL
        + f"""
    shell.run_cell("%%stream endless --base-url {mock.base_url}\\nGo on.")
    shell.run_cell("print('then', _stream.outcome, _stream.stop_cause)")
    """
    )
    exchange = mock.wait_for(1)
    assert process.stdout.read(20) == "The lighthouse had b"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert exchange.closed.wait(5)
    assert out.endswith("then stopped interrupt\n")
    assert "stopped by an interrupt" in err
    assert "Traceback" not in out + err


def test_control_characters_of_a_model_do_not_reach_the_terminal(mock: MockServer) -> None:
    mock.scripts["hostile"] = mock.scripts["hello"].saying("red \x1b[31mtext\x1b]0;title\x07 and \u202eback")
    process = start(SHELL + f'\n    shell.run_cell("%%stream hostile --base-url {mock.base_url}\\nGo on.")')
    out, _ = process.communicate(timeout=20)
    assert "\x1b[31m" not in out
    assert "\x1b]0;" not in out
    assert "<U+202E>" in out


def test_the_command_line_streams_and_its_exit_code_is_the_outcome(mock: MockServer) -> None:
    for script, code, said in (("hello", 0, "Hello there."), ("unauthorized", 4, ""), ("no-finish", 3, "The lighthouse")):
        command = [sys.executable, "-m", "tokenstream_magic.cli", "stream", script, "--base-url", mock.base_url]
        ran = subprocess.run(command, input="Hi", capture_output=True, text=True, timeout=30)
        assert ran.returncode == code, ran.stderr
        assert said in ran.stdout
        assert script in ran.stderr
    wrong = subprocess.run([sys.executable, "-m", "tokenstream_magic.cli", "stream", "nosuch"], input="Hi", capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    listed = subprocess.run([sys.executable, "-m", "tokenstream_magic.cli", "transcripts"], capture_output=True, text=True)
    assert listed.stdout.count("\n") == 4


def test_what_a_notebook_notes_under_an_answer_a_terminal_says_on_standard_error(mock: MockServer) -> None:
    said = {
        "gzip": "Noted: the server compressed the stream (gzip) although asked not to: compression may hold text back",
        "buffered": "Noted: 100% of the text came at once",  # a notebook draws this as a timeline
        "hello": "",
        "no-finish": "",  # the line before it says that it is truncated, and why
    }
    for script, note in said.items():
        command = [sys.executable, "-m", "tokenstream_magic.cli", "stream", script, "--base-url", mock.base_url]
        ran = subprocess.run(command, input="Hi", capture_output=True, text=True, timeout=30)
        summary, *notes = ran.stderr.splitlines()
        assert script in summary
        assert len(notes) == bool(note) and "".join(notes).startswith(note), ran.stderr
        assert "Noted" not in ran.stdout
    process = start(SHELL + f'\n    shell.run_cell("%%stream gzip --base-url {mock.base_url}\\nGo on.")')
    out, err = process.communicate(timeout=20)
    assert err.splitlines()[-1] == said["gzip"]
    assert "Noted" not in out
    shown = subprocess.run([sys.executable, "-m", "tokenstream_magic.cli", "transcripts", "show"], capture_output=True, text=True)
    assert said["gzip"] in shown.stderr.splitlines()


def test_a_replay_as_the_last_line_of_a_cell_is_shown_once(mock: MockServer) -> None:
    process = start(
        SHELL
        + f"""
    shell.run_cell("%%stream hello --base-url {mock.base_url}\\nGo on.")
    shell.run_cell("_stream.replay()", store_history=True)
    shell.run_cell("t = _stream.replay()", store_history=True)
    shell.run_cell("t", store_history=True)
    """
    )
    out, err = process.communicate(timeout=20)
    lines = [line for line in out.splitlines() if line]
    assert lines[:2] == ["Hello there.", "Hello there."]
    assert lines[2].startswith("Out[1]: <Transcript ") and lines[2].endswith("/hello complete>")
    assert lines[3:] == ["Hello there.", "Out[3]: Hello there."]  # in another cell it is drawn as ever
    assert "Traceback" not in out + err
