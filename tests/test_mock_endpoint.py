"""The endpoint ``mock``: scripts to learn and test with, no server to start by hand."""

from __future__ import annotations

import signal
import subprocess
import sys

import tokenstream_magic as ts


def test_a_script_is_streamed_by_naming_it() -> None:
    transcript = ts.stream("Hi", "mock/hello")
    assert (transcript.outcome, transcript.text, transcript.model) == ("complete", "Hello there.", "mock/hello")
    assert ts.stream("Hi", "mock/cut").outcome == "truncated"
    assert ts.stream("Hi", "mock").model == "mock"


def test_a_script_that_is_not_there_is_said() -> None:
    assert "'nonesuch' does not exist" in ts.stream("Hi", "mock/nonesuch").error["message"]


def test_the_command_serves_until_interrupted() -> None:
    process = subprocess.Popen([sys.executable, "-m", "tokenstream_magic.cli", "mock", "--port", "0"], stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert "serves the models" in said
    assert ts.stream("Hi", "hello", base_url=said.split()[0]).text == "Hello there."
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()
