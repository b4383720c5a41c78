"""Taking out: every form whole, inert, private, and never over another file."""

from __future__ import annotations

import csv
import json
import os
import stat
from dataclasses import fields
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic import exchange
from tokenstream_magic.cli import main
from tokenstream_magic.display.bundle import MIME, settled
from tokenstream_magic.errors import BadRequest, TokenstreamError
from tokenstream_magic.exchange import files, page, portable
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript

HOSTILE = (
    "=cmd|' /C calc'!A0</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"><meta http-equiv=refresh content='0;url=//x'>"
    "\x1b]52;c;AAAA\x07 ]]> --> ${7*7} {{7*7}} \u202eevil [a](javascript:alert(1)) ![b](http://127.0.0.1:9/p) | x | `y` $z$"
)
KEY = "sk-" + "Zz9" * 12


def hostile() -> Transcript:
    made = Transcript(model=HOSTILE[:60], prompt=HOSTILE, system=HOSTILE, outcome="complete", note="=1+1", tags=["@x"])
    made.messages = [{"role": "user", "content": HOSTILE}]
    made.choices = [
        Choice(text=HOSTILE, reasoning=HOSTILE, tool_calls=[{"id": "1", "name": HOSTILE, "arguments": HOSTILE}]),
        Choice(1, f"key {KEY}"),
    ]
    made.timeline.requested = 0
    made.timeline.add(1_000_000, 0, 10, 0)
    made.timeline.add(9_000_000, 0, 10, 1)
    return made


@pytest.fixture(scope="module")
def forms() -> list[str]:
    return ["jsonl", "tokenstream.json", "csv", "md", "html", "parquet"]


def test_every_field_of_a_transcript_is_written_or_left_out_on_purpose() -> None:
    derived = {"usage", "timing", "timeline", "choices", "created_at"}
    not_kept = {"growing", "replayed", "kept_wire", "wire_source"}
    assert {field.name for field in fields(Transcript)} == {*portable.SAME, *derived, *not_kept}


def test_every_form_is_whole_private_and_masked(mock: MockServer, tmp_path: Path, forms: list[str]) -> None:
    for script in ("hello", "tools", "choices", "cut", "unauthorized"):
        ts.stream("hi", script, base_url=mock.base_url)
    ts.transcripts.open_store().add_many([hostile()])
    for form in forms:
        file = ts.transcripts.export(tmp_path / f"all.{form}")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert KEY.encode() not in file.read_bytes()
        with pytest.raises(BadRequest, match="is there already"):
            ts.transcripts.export(file)
        ts.transcripts.export(file, ["last"], force=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted(f"all.{form}" for form in forms)
    unsaved = hostile()
    for form in forms:
        assert KEY.encode() not in unsaved.export(tmp_path / f"one.{form}").read_bytes()


def test_the_document_is_what_a_page_opens(mock: MockServer, tmp_path: Path) -> None:
    original = ts.stream("hi", "hello", base_url=mock.base_url)
    data = json.loads(ts.transcripts.get(original.id).export(tmp_path / "one.tokenstream.json").read_text())
    shown, about = settled(original)
    assert {**shown[MIME], "tokenstream": data["tokenstream"]} == data
    assert {name: data["tokenstream"]["timeline"][name] for name in about["tokenstream"]["timeline"]} == about["tokenstream"]["timeline"]
    ts.stream("hi", "choices", base_url=mock.base_url)
    several = json.loads(ts.transcripts.export(tmp_path / "two.tokenstream.json").read_text())
    assert [column["text"] for column in several["columns"]] == [original.text, "The first of two answers."]
    assert several["tokenstream"]["columns"][0]["id"] == original.id


def test_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    one = hostile()
    for first in ("=", "+", "-", "@", "\t", "\r", "\uff1d"):
        one.prompt = f"{first}1+1"
        path = one.export(tmp_path / "one.csv", force=True)
        with path.open(newline="", encoding="utf-8") as opened:
            (row,) = csv.DictReader(opened)
        assert row["prompt"] == f"'{first}1+1"
        assert row["note"] == "'=1+1"
        assert row["text"] == "'" + HOSTILE
    assert not any(value.startswith(("=", "+", "@")) for value in row.values())


def test_the_page_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    html = hostile().export(tmp_path / "one.html").read_text()
    assert f'content="{page.POLICY}"' in html
    assert page.POLICY.startswith("default-src 'none'; style-src 'sha256-")
    for tag in ("<script", "<img", "<meta http-equiv=refresh", "<a ", 'onerror="', 'style="', "\x1b"):
        assert tag not in html
    assert "&lt;script&gt;" in html
    assert "&lt;U+202E&gt;" in html


def test_the_page_is_harmless_and_readable_in_a_browser(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    from lab import chromium

    file = hostile().export(tmp_path / "one.html")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for scheme, ground in (("light", "rgb(251, 251, 250)"), ("dark", "rgb(23, 24, 27)")):
            opened = browser.new_page(color_scheme=scheme)
            asked: list[str] = []
            said: list[str] = []
            opened.on("request", lambda request, asked=asked: asked.append(request.url))
            opened.on("console", lambda message, said=said: said.append(message.text))
            opened.goto(file.as_uri())
            assert asked == [file.as_uri()]
            assert said == []  # the policy blocked nothing: there was nothing to block
            assert opened.evaluate("window.pwned") is None
            assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == ground
            assert HOSTILE[:20] in opened.inner_text("h2")
        browser.close()


def test_markdown_is_inert(tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    text = hostile().export(tmp_path / "one.md").read_text()
    rendered = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(text)
    for tag in ("<script", "<img", "<a ", "<meta"):
        assert tag not in rendered
    assert "\x1b" not in text


def test_parquet_has_the_columns_of_the_frame(mock: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    ts.stream("hi", "hello", base_url=mock.base_url, temperature=0.5)
    read = pandas.read_parquet(ts.transcripts.export(tmp_path / "all.parquet"))
    assert list(read.columns) == list(ts.transcripts.to_pandas().columns)
    assert json.loads(read["options"][0]) == {"temperature": 0.5}
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(BadRequest, match="needs pyarrow"):
        ts.transcripts.export(tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_the_wire_comes_out_as_it_was(mock: MockServer, tmp_path: Path) -> None:
    kept = ts.stream("hi", "story", base_url=mock.base_url, wire=True)
    body = ts.transcripts.export(tmp_path / "body.sse", ["last"])
    assert ts.decode(body.read_bytes()).text == kept.text
    ts.stream("hi", "hello", base_url=mock.base_url)
    with pytest.raises(BadRequest, match="was not kept"):
        ts.transcripts.export(tmp_path / "none.sse", ["last"])
    assert not (tmp_path / "none.sse").exists()


@pytest.mark.parametrize(
    "name", ["", "a\0b.csv", "a\nb.csv", "x" * 300 + ".csv", "nowhere/x.csv", "sub", "sub/", "link.csv", "CON.csv", "no.xyz", "fifo.csv"]
)
def test_where_a_file_cannot_be_nothing_is_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    os.mkfifo(tmp_path / "fifo.csv")
    before = sorted(tmp_path.iterdir())
    for force in (False, True):
        with pytest.raises(TokenstreamError) as refused:
            exchange.export([hostile()], f"{tmp_path}/{name}" if name else "", force=force)
        assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failure_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    hostile().export(file)
    before = file.read_bytes()

    def breaks() -> object:
        yield hostile()
        raise BadRequest("halfway")

    for path, force in ((file, True), (tmp_path / "new.jsonl", False)):
        with pytest.raises(BadRequest, match="halfway"):
            exchange.export(breaks(), path, force=force)  # type: ignore[arg-type]
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(BadRequest, match="nothing to export"):
        exchange.export([], tmp_path / "none.jsonl")
    with pytest.raises(BadRequest, match="there already"), files.written(tmp_path / "raced.txt") as out:
        out.write(b"mine")
        (tmp_path / "raced.txt").write_bytes(b"theirs")
    assert (tmp_path / "raced.txt").read_bytes() == b"theirs"


def test_the_command_says_what_it_wrote(
    mock: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = ts.stream("alpha", "hello", base_url=mock.base_url)
    ts.stream("beta", "hello", base_url=mock.base_url)
    assert main(["transcripts", "export", "-o", "all.jsonl"]) == 0
    assert capsys.readouterr()[0] == "Exported to all.jsonl.\n"
    assert len(Path("all.jsonl").read_text().splitlines()) == 2
    assert main(["transcripts", "export", "-q", "alpha", "-o", "some.jsonl"]) == 0
    assert json.loads(Path("some.jsonl").read_text())["id"] == first.id
    assert main(["transcripts", "export", first.id, "-o", "all.jsonl"]) == 2
    assert "--force" in capsys.readouterr()[1]
    assert main(["transcripts", "export", first.id, "-o", "all.jsonl", "--force"]) == 0
    assert main(["transcripts", "export", first.id]) == 2
    assert "Name the file" in capsys.readouterr()[1]
