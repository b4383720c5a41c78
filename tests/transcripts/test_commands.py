"""``%transcripts`` and ``tokenstream transcripts``: the same words do the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic.cli import main
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.schema import VERSION


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["transcripts", *words]) == code
    out, err = capsys.readouterr()
    return out + (err if code else "")


def test_lists(mock: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == "No transcripts yet.\n"
    first = ts.stream("alpha", "hello", base_url=mock.base_url, tag="kept")
    second = ts.stream("beta", "unauthorized", base_url=mock.base_url)
    lines = said(capsys).splitlines()
    assert lines[0].split() == ["id", "when", "model", "outcome", "TTFT", "rate", "prompt", "→", "answer"]
    assert [line.split()[0] for line in lines[1:]] == [second.id, first.id]
    assert "alpha → " in lines[2]
    assert " ms " in lines[2]
    assert said(capsys, "-n", "1").count("\n") == 2
    assert said(capsys, "-n", "9" * 30).count("\n") == 3
    assert said(capsys, "list", "-q", "ALPH", "--tag", "kept", "--since", "1h", "--status", "complete").count(first.id) == 1
    assert said(capsys, "-q", "gamma") == "No transcript matches.\n"
    assert said(capsys, "-s").splitlines()[0].split() == ["id", "outcome", "prompt", "→", "answer"]
    assert "in" in said(capsys, "-u").splitlines()[0].split()
    assert said(capsys, "--df").split()[:2] == ["id", "created_at"]
    assert said(capsys, "--df", "chunks", "-m", first.model).split()[0] == "transcript"


def test_manages(mock: MockServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sent = ts.stream("alpha", "hello", base_url=mock.base_url)
    assert said(capsys, "show", sent.id[:20].lower()).startswith(sent.text)
    stats = said(capsys, "stats", "--by", "model,temperature")
    assert "1 complete" in stats
    assert stats.split()[:3] == ["model", "temperature", "runs"]
    status = said(capsys, "status")
    assert f"version {VERSION}" in status
    assert said(capsys, "path").strip() in status
    copy = tmp_path / "copy.db"
    said(capsys, "backup", str(copy))
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT id FROM transcripts").fetchall() == [(sent.id,)]
    assert "is there already" in said(capsys, "backup", str(copy), code=2)
    said(capsys, "off")
    assert "are not kept" in said(capsys, "status")
    said(capsys, "on")
    assert sent.id in said(capsys, "delete", sent.id)
    assert said(capsys) == "No transcripts yet.\n"


def test_groups_are_columns_and_options_and_a_name_that_is_neither_is_an_error(
    mock: MockServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ts.stream("alpha", "hello", base_url=mock.base_url, option={"my_own": 1})
    for name in ("seed", "top-k", "my_own", "finish_reason"):  # known by name, or used by a run
        assert "1 complete" in said(capsys, "stats", "--by", name)
    for name, meant in (("modle", "Did you mean model?"), ("my_ovn", "Did you mean my_own?"), ("model,weather", "'weather'")):
        line = said(capsys, "stats", "--by", name, code=2)
        assert meant in line and "Columns: model, endpoint" in line and "options: my_own" in line
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nonsense"], "no command 'nonsense'"),
        (["show", "a", "b"], "Name one"),
        (["show", "nothing!"], "no transcript id"),
        (["list", "--since", "soon"], "is no date"),
        (["list", "--tagg", "x"], "Did you mean --tag"),
        (["-n", "-4"], "whole number"),
        (["delete"], "Name one"),
        (["backup", "/no/such/directory/x.db"], "no directory"),
        (["path", "elsewhere"], "takes nothing"),
        (["delete", "last", "--yes"], "delete has no flag --yes"),
        (["rerun", "last", "--sweep", "x=1"], "--sweep is a flag of cells"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    line = said(capsys, *words, code=2)
    assert reason in line
    assert line.count("\n") == 1


def test_what_to_do_is_said_in_the_words_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcripts", "show", "last"]) != 0
    assert capsys.readouterr()[1] == "There are not that many transcripts. tokenstream transcripts lists them.\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from tokenstream_magic.transcript_commands import COMMANDS

    text = said(capsys, "help")
    assert [name for name in COMMANDS if name not in text and name != "help"] == []
    assert [name for name in COMMANDS if name not in said(capsys, name, "--help")] == []
    assert "--since" in said(capsys, "list", "--help")
