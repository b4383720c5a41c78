"""Scripts as they are written down: in Python, in TOML, in the documentation; and what is wrong in them, in one line."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from support import REPOSITORY

from tokenstream_magic import mock
from tokenstream_magic.cli import main
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock import SCRIPTS, Citation, Script, Tool, load, words
from tokenstream_magic.mock.files import FIELDS
from tokenstream_magic.mock.server import MockServer

DOC = (REPOSITORY / "docs" / "mock.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a title of the documentation."""
    lines = DOC.partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_documentation_the_files_and_the_object_have_the_same_fields() -> None:
    parameters = inspect.signature(Script).parameters
    documented = {row[0].strip("`"): row[2].strip("`") for row in rows("Fields")}
    assert sorted(documented) == sorted(parameters) == sorted(FIELDS)
    for name, default in documented.items():
        value = parameters[name].default
        if default and name != "headers":
            shown = {"true": True, "false": False}.get(default)
            shown = shown if shown is not None else eval(default)
            assert (tuple(shown) if isinstance(shown, list) else shown) == value, name
        elif not default:
            assert value is None, name


def test_the_documentation_names_every_script() -> None:
    named = [name for row in rows("Ready-made scripts") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(named) == sorted(SCRIPTS)


def test_the_examples_of_the_documentation_say_the_same(tmp_path: Path) -> None:
    toml, python = (re.search(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)[1] for kind in ("toml", "python"))
    loaded = load(write(tmp_path / "lesson.toml", toml))
    names: dict = {}
    exec(python, names)
    assert loaded["weather"] == names["weather"]
    assert (loaded["flaky"].fails_first, loaded["flaky"].headers) == (2, {"Retry-After": "1"})


def test_every_field_can_be_written_in_toml(tmp_path: Path) -> None:
    text = """
        [scripts.all]
        pieces = ["a", "b"]
        reasoning = "so it is"
        choices = ["one more", ["and ", "another"]]
        annotations = [{url = "https://example.org", title = "T", start = 1, end = 2}]
        refusal = "no"
        tools = [{name = "f", id = "i", arguments = {a = [1]}}, {name = "g", arguments = ["{", "}"]}, {name = "h"}]
        logprobs = [-1, -0.5]
        top_logprobs = 2
        finish = "length"
        usage = false
        input_tokens = 1
        output_tokens = 2
        cached_tokens = 1
        delay = 1
        first = 0.5
        gap = 0.25
        together = 2
        split = 3
        drip = 0.5
        buffered = 512
        keep_alive = 5
        giant = 10
        gzip = true
        unstreamed = true
        duplicate = "frame"
        status = 503
        error = "e"
        error_type = "t"
        headers = {X-A = "b"}
        content_type = "text/plain"
        fails_first = 1
        error_after = 2
        stall_after = 3
        cut_at = 4
        cut_by = "reset"
        ending = "no-finish"
        body = "h\u00e9"
    """
    loaded = load(write(tmp_path / "all.toml", text))["all"]
    assert loaded == Script(
        ("a", "b"),
        reasoning=("so", " it", " is"),
        choices=(("one", " more"), ("and ", "another")),
        annotations=(Citation("https://example.org", "T", 1, 2),),
        refusal=("no",),
        tools=(Tool("f", ('{"a": [1', "]}"), "i"), Tool("g", ("{", "}")), Tool("h")),
        logprobs=(-1.0, -0.5),
        top_logprobs=2,
        finish="length",
        usage=False,
        input_tokens=1,
        output_tokens=2,
        cached_tokens=1,
        delay=1.0,
        first=0.5,
        gap=0.25,
        together=2,
        split=3,
        drip=0.5,
        buffered=512,
        keep_alive=5.0,
        giant=10,
        gzip=True,
        unstreamed=True,
        duplicate="frame",
        status=503,
        error="e",
        error_type="t",
        headers={"X-A": "b"},
        content_type="text/plain",
        fails_first=1,
        error_after=2,
        stall_after=3,
        cut_at=4,
        cut_by="reset",
        ending="no-finish",
        body="h\u00e9".encode(),
    )
    assert load(write(tmp_path / "text.toml", '[scripts."a b"]\ntext = "Two words"'))["a b"].pieces == ("Two", " words")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[scripts.a", "is no TOML"),
        ("", "has no scripts. Example: [scripts.mine]"),
        ("[script.a]\ntext='x'", "there is no table [script]"),
        ("scripts = 3", "has no scripts"),
        ("[scripts]\na = 'x'", "[scripts.a] is no table"),
        ("[scripts.a]\ntxt = 'x'", "[scripts.a] has an unknown key 'txt'. Known: annotations,"),
        ("[scripts.a]\ntext = 3", "[scripts.a]: text is text."),
        ("[scripts.a]\ntext = 'x'\npieces = ['x']", "[scripts.a] has text and pieces"),
        ("[scripts.a]\npieces = [1]", "[scripts.a]: pieces is text, or a list of texts."),
        ("[scripts.a]\ngap = 'fast'", "[scripts.a]: gap is a number of seconds."),
        ("[scripts.a]\ngap = true", "[scripts.a]: gap is a number of seconds."),
        ("[scripts.a]\ngap = -1", "[scripts.a]: gap is a number of seconds from 0 up, not -1.0."),
        ("[scripts.a]\nfirst = nan", "[scripts.a]: first is a number of seconds from 0 up"),
        ("[scripts.a]\nkeep_alive = inf", "[scripts.a]: keep_alive is a number of seconds from 0 up"),
        ("[scripts.a]\ntogether = 0", "[scripts.a]: together is a whole number from 1 up, not 0."),
        ("[scripts.a]\nsplit = 1.5", "[scripts.a]: split is a whole number."),
        ("[scripts.a]\nusage = 1", "[scripts.a]: usage is true or false."),
        ("[scripts.a]\nending = 'bang'", "[scripts.a]: ending is not 'bang'. Known: 'done'"),
        ("[scripts.a]\nstatus = 99", "[scripts.a]: status is an HTTP status"),
        ('[scripts.a]\nheaders = {A = "x\\r\\nB: y"}', "[scripts.a]: headers is a table of texts that can stand in a header."),
        ("[scripts.a]\ntools = [{nam = 'x'}]", "[scripts.a]: in tools, 'nam' is unknown; known: arguments, id, name."),
        ("[scripts.a]\ntools = [{id = 'x'}]", "[scripts.a]: in tools, name is missing."),
        ("[scripts.a]\ntools = [{name = 'x', arguments = 3}]", "[scripts.a]: in tools, arguments is a table, JSON text"),
        ("[scripts.a]\nannotations = 'x'", "[scripts.a]: annotations is a list of tables: [[scripts.NAME.annotations]]."),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "bad.toml", text)
    with pytest.raises(BadRequest) as caught:
        load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(BadRequest, match="cannot be read"):
            load(path)
    (tmp_path / "latin.toml").write_bytes(b'[scripts.a]\ntext = "\xe9"')
    with pytest.raises(BadRequest, match="is no TOML"):
        load(tmp_path / "latin.toml")
    assert main(["mock", "--script", str(tmp_path / "none.toml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_value_that_cannot_be_is_refused_in_python_too() -> None:
    for wrong in (
        {"split": 0},
        {"gap": -1.0},
        {"ending": "bang"},
        {"cut_by": "x"},
        {"duplicate": "all"},
        {"status": 700},
        {"fails_first": 0},
    ):
        with pytest.raises(BadRequest):
            Script(**wrong)


def test_the_command_lists_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "lesson.toml", '[scripts.mine]\ntext = "My own \\u001b[2J words."\ngap = 0.5')
    assert main(["mock", "--list", "--script", str(file)]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(listed) == {*SCRIPTS, "mine"}
    assert "gap=0.5" in listed["mine"]
    assert "\x1b" not in listed["mine"]
    assert "buffered=True" in listed["buffered"]


def test_what_the_package_offers() -> None:
    assert mock.MockServer is MockServer
    assert words("") == ("",)
    assert Script(text="a b").pieces == ("a", " b")
