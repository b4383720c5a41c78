"""No key reaches the database's files: not from the prompt, the answer, an error, a variable, an option, in batches or at the end."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.display.masked import masked
from tokenstream_magic.errors import BadRequest, StoreError
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.prompt import build
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.transcripts import engines

KEY = "sk-" + "canaryKEY42" * 4
VALUE = "canary-value-of-the-lab"


def on_disk() -> bytes:
    folder = Path(os.environ["TOKENSTREAM_DATABASE"]).parent
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_keys_in_prompt_answer_variables_and_options_are_masked(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", VALUE)
    mock.scripts["leak"] = Script(
        ("Your key is sk-can", "aryKEY42", "canaryKEY42canary", "KEY42canaryKEY42", " and ", "canary-va", "lue-of-the-lab", "!")
    )
    asked = build("Look: {secret}", {"secret": KEY}, f"Never say {VALUE}.")
    sent = ts.stream(asked, "leak", base_url=mock.base_url, option={"user": VALUE}, tag="kept", note=f"note {KEY}")
    assert sent.text == f"Your key is {KEY} and {VALUE}!"
    assert any("masked" in note for note in sent.diagnostics)
    found = ts.transcripts.get(sent.id)
    assert found.text == "Your key is " + "*" * len(KEY) + " and " + "*" * len(VALUE) + "!"
    assert [s.characters for s in found.timeline] == [s.characters for s in sent.timeline]
    assert "masked" in found.diagnostics[-1]
    assert b"canary" not in on_disk()
    assert found.prompt == "Look: " + "*" * len(KEY)


def test_what_only_looks_like_a_key_stays_where_the_users_file_says_so_and_a_key_in_use_never(
    mock: MockServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mock.scripts["leak"] = Script((KEY[:9], KEY[9:], " and ", VALUE[:5], VALUE[5:], "!"))
    monkeypatch.setenv("GROQ_API_KEY", VALUE)
    settings = tmp_path / "tokenstream.toml"
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(settings))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("tokenstream.toml").write_text("[privacy]\nmask_patterns = false\n")
    hidden, value = "*" * len(KEY), "*" * len(VALUE)
    for text, expected in (("", hidden), ("[privacy]\nmask_patterns = false\n", KEY)):
        settings.write_text(text)
        settings.chmod(0o600)
        sent = ts.stream("Look.", "leak", base_url=mock.base_url)
        assert ts.transcripts.get(sent.id).text == f"{expected} and {value}!"
        assert masked(sent).text == f"{expected} and {value}!"
        assert VALUE not in str(settled(sent))
        many = [Transcript(model="m", outcome="complete", prompt=f"{KEY} {VALUE} {n}") for n in range(200)]
        ts.transcripts.open_store().add_many(many)
        assert {ts.transcripts.get(t.id).prompt for t in many} == {f"{expected} {value} {n}" for n in range(200)}
    settings.write_text("[privacy]\nmask_patterns = 'no'\n")
    with pytest.raises(BadRequest, match="mask_patterns, true or false"):
        ts.stream("Look.", "leak", base_url=mock.base_url)


def test_a_tag_given_later_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", VALUE)
    store, kept = ts.transcripts.open_store(), Transcript(model="m", outcome="complete")
    store.add_many([kept])
    store.retag({kept.id: [VALUE, "plain"]})
    assert store.get(kept.id).tags == ["*" * len(VALUE), "plain"]


def test_a_key_that_comes_in_pieces_is_in_no_batch(mock: MockServer) -> None:
    mock.scripts["drip"] = Script((*(f"{n} " for n in range(20)), *KEY, *(f" {n}" for n in range(2000))), gap=0.01)
    run = api.start("Hi", "drip", base_url=mock.base_url)
    store = ts.transcripts.open_store()
    seen = 0
    while len(run.transcript.timeline) < 120:
        store.writer.flush()
        data = on_disk()
        assert b"canary" not in data
        seen += b'"19 ' in data or b"19 " in data
    run.stop()
    run.wait()
    store.writer.flush()
    assert seen
    assert b"canary" not in on_disk()
    assert "*" * len(KEY) in store.get("last").text


def test_an_error_that_repeats_the_key_is_masked(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    ts.stream(f"{KEY}", "unauthorized", base_url=mock.base_url)
    assert ts.transcripts.last().outcome == "failed"
    assert b"canary" not in on_disk()


def test_what_is_clean_is_kept_as_it_is(mock: MockServer) -> None:
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert ts.transcripts.last() == sent
    assert not any("masked" in note for note in sent.diagnostics)


def test_deleting_removes_every_trace(mock: MockServer) -> None:
    mock.scripts["rare"] = Script(("The word is xylocarp", "ical here."), reasoning=("Thinking of quizzacious",))
    for n in range(40):
        ts.stream(f"an ordinary question {n}", "hello", base_url=mock.base_url)
    sent = ts.stream("What about floccinaucini?", "rare", base_url=mock.base_url)
    for n in range(40):
        ts.stream(f"an ordinary question {n}", "hello", base_url=mock.base_url)
    ts.transcripts.open_store().writer.flush()
    traces = (b"xylocarp", b"quizzacious", b"floccinaucini", sent.id.encode())
    data = on_disk().lower()
    assert all(trace.lower() in data for trace in traces)
    assert ts.transcripts.search("floccinaucini")[0].id == sent.id
    ts.transcripts.delete(sent.id)
    data = on_disk().lower()
    assert [trace for trace in traces if trace.lower() in data] == []
    assert ts.transcripts.search("floccinaucini") == []
    assert len(ts.transcripts.search("ordinary", limit=100)) == 80
    with sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"]) as connection:
        connection.execute("INSERT INTO transcripts_words(transcripts_words) VALUES('integrity-check')")


def test_what_somebody_still_reads_is_not_called_gone(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a database cannot be emptied under another program that is in the middle of reading."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    for _ in range(2):
        ts.stream("What about floccinaucini?", "hello", base_url=mock.base_url)
    ts.transcripts.open_store().writer.flush()
    with closing(sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"])) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM transcripts").fetchone()
        with pytest.raises(StoreError, match=r"still in .*transcripts\.db-wal"):
            ts.transcripts.delete("last")
        assert len(ts.transcripts.recent()) == 1
        reader.rollback()
    ts.transcripts.delete("last")
    assert b"floccinaucini" not in on_disk()


def test_a_running_transcript_is_not_deleted(mock: MockServer) -> None:
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(1)
    with pytest.raises(ts.TokenstreamError, match="still streaming"):
        ts.transcripts.delete("last")
    run.stop()
    run.wait()
    ts.transcripts.delete("last")
    assert ts.transcripts.recent() == []


def test_keys_are_masked_in_many_kept_at_once_wherever_they_are(either: str) -> None:
    store = ts.transcripts.open_store()
    spread = [
        Transcript(model="m", outcome="complete", prompt=KEY),
        Transcript(model="m", outcome="complete", prompt="long " * 100 + KEY),
        Transcript(model="m", outcome="complete", messages=[{"role": "user", "content": [{"text": f'"{KEY}"'}]}]),
        Transcript(model="m", outcome="complete", options={KEY: 1}),
        Transcript(model="m", outcome="complete", choices=[Choice(0, "a"), Choice(1, f"b\n{KEY}")]),
        Transcript(model="m", outcome="complete", note=f"n {KEY}", tags=[KEY], error={"message": KEY}),
    ]
    plain = [Transcript(model="m", outcome="complete", prompt=f"question {n}") for n in range(1500)]
    assert store.add_many([*plain[:700], *spread, *plain[700:], *spread]) == len(plain) + len(spread)
    found = list(store.each())
    assert [t.id for t in found] == [t.id for t in (*plain[:700], *spread, *plain[700:])]
    assert found[:700] + found[706:] == plain
    assert not [t for t in found if "canaryKEY" in repr((t.prompt, t.messages, t.options, t.choices, t.note, t.tags, t.error))]
    assert [t.id for t in store.recent(5, query="question 1234")] == [plain[1234].id]
    if either == "sqlite":
        assert b"canaryKEY" not in on_disk()
