"""The endpoint ``mock``: scripts to learn and test with, no server to start by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tokenstream_magic as ts


def test_a_script_is_streamed_by_naming_it() -> None:
    transcript = ts.stream("Hi", "mock/hello")
    assert (transcript.outcome, transcript.text, transcript.model) == ("complete", "Hello there.", "mock/hello")
    assert ts.stream("Hi", "mock/cut").outcome == "truncated"
    assert ts.stream("Hi", "mock").model == "mock"


def test_a_script_that_is_not_there_is_said() -> None:
    assert "'nonesuch' does not exist" in ts.stream("Hi", "mock/nonesuch").error["message"]


def test_a_file_of_scripts_is_served_and_read_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lesson.toml"
    monkeypatch.setenv("TOKENSTREAM_MOCK_SCRIPTS", str(file))
    said = ts.stream("Hi", "mock/mine")
    assert (said.outcome, said.text) == ("failed", "")
    assert said.error["message"] == f"TOKENSTREAM_MOCK_SCRIPTS names {file}, which cannot be read: No such file or directory."
    file.write_text('[scripts.mine]\ntext = "My own words."\nlogprobs = [-1]')
    os.utime(file, ns=(1, 1))
    assert ts.stream("Hi", "mock/mine").text == "My own words."
    assert ts.stream("Hi", "mock/hello").text == "Hello there."
    file.write_text('[scripts.mine]\ntext = "Other words."')
    os.utime(file, ns=(2, 2))
    assert ts.stream("Hi", "mock/mine").text == "Other words."
    file.write_text("[scripts.mine]\ntxt = 3")
    os.utime(file, ns=(3, 3))
    said = ts.stream("Hi", "mock/mine")
    assert (said.outcome, said.error["type"]) == ("failed", "bad_request")
    assert f"{file}: [scripts.mine] has an unknown key 'txt'." in said.error["message"]
    monkeypatch.delenv("TOKENSTREAM_MOCK_SCRIPTS")
    assert "'mine' does not exist" in ts.stream("Hi", "mock/mine").error["message"]


@pytest.mark.parametrize("protocol", ["openai-responses", "anthropic", "gemini", "ollama"])
def test_the_endpoint_can_be_asked_in_every_protocol(protocol: str) -> None:
    said = ts.stream("Hi", "mock/reasoning", protocol=protocol)
    assert (said.outcome, said.text, said.protocol) == ("complete", "There are twelve.", protocol), said.error


def test_the_command_serves_files_of_scripts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'[scripts.{name}]\ntext = "This is {name}."')
    files = [word for name in ("one", "two") for word in ("--script", str(tmp_path / f"{name}.toml"))]
    command = [sys.executable, "-m", "tokenstream_magic.cli", "mock", "--port", "0", *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[0]
        try:
            for name in ("one", "two", "hello"):
                assert ts.stream("Hi", name, base_url=url).outcome == "complete"
            assert ts.stream("Hi", "two", base_url=url).text == "This is two."
        finally:
            process.send_signal(signal.SIGINT)


def test_the_command_serves_until_interrupted() -> None:
    process = subprocess.Popen([sys.executable, "-m", "tokenstream_magic.cli", "mock", "--port", "0"], stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert "serves the models" in said
    assert ts.stream("Hi", "hello", base_url=said.split()[0]).text == "Hello there."
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()
