"""Replay: the same through the same sinks, with no network; and sending again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.cli import main
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.timing.timeline import CHANNELS
from tokenstream_magic.transcripts.replaying import Replay, pieces, playback, rest, speed_of
from tokenstream_magic.transport import network

SCRIPTS = ["hello", "reasoning", "tools", "tool", "choices", "citations", "logprobs", "refusal", "cut", "error", "unauthorized", "length"]


class Heard(Quiet):
    """What a sink is told."""

    def __init__(self) -> None:
        self.texts: dict[tuple[int, str], str] = {}
        self.states: list[str] = []

    def state(self, run: Any, state: str, detail: Any) -> None:
        self.states.append(state)

    def content(self, run: Any, channel: str, text: str, choice: int) -> None:
        self.texts[choice, channel] = self.texts.get((choice, channel), "") + text


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_replay_leaves_what_the_original_left(mock: MockServer, script: str) -> None:
    ts.stream("hi", script, base_url=mock.base_url)
    original, asked = ts.transcripts.last(), len(mock.exchanges)
    heard = Heard()
    replayed = api.start("", replay=original.id, speed="instant", view=heard).wait()
    assert settled(replayed)[0] == settled(original)[0]
    assert replayed.timing == original.timing
    assert replayed.timeline == original.timeline
    assert replayed.usage == original.usage
    for choice in original.choices:
        for channel in CHANNELS[:3]:
            assert heard.texts.get((choice.index, channel), "") == getattr(choice, channel)
        arguments = "".join(call["arguments"] for call in choice.tool_calls)
        assert heard.texts.get((choice.index, "tool"), "") == arguments
    assert replayed.id != original.id
    assert replayed.parent_id == original.id
    about = settled(replayed)[1]["tokenstream"]
    assert about["replayed"] == {"of": original.id, "speed": "instant"}
    assert len(mock.exchanges) == asked  # nobody was asked
    assert [t.id for t in ts.transcripts.recent()] == [original.id]  # and nothing kept


def test_a_replay_opens_no_connection(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ts.stream("hi", "hello", base_url=mock.base_url)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a replay opened a connection")

    monkeypatch.setattr("tokenstream_magic.plan.new_exchange", refused)
    monkeypatch.setattr("socket.socket.connect", refused)
    assert network is not None
    for how in ({"replay": original}, {"model": "replay/last"}, {"model": f"replay:{original.id[:20]}"}, {"model": "replay"}):
        assert ts.stream("", **how).text == original.text  # type: ignore[arg-type]


def test_it_keeps_its_own_timing_and_a_factor_of_it() -> None:
    original = Transcript(model="m", outcome="complete", choices=[Choice(text="abcdef")])
    original.timeline.requested = 0
    for number, at in enumerate((0, 100, 200)):
        original.timeline.add(at * 1_000_000, 0, 2, number)
    original.timeline.ended = 300_000_000
    slept: list[float] = []

    class Watched(Replay):
        async def _until(self, offset: float, *, pause: bool) -> None:
            slept.append(offset / 1e6)

    for speed, expected in ((1.0, [0, 100, 200, 300]), (2.0, [0, 50, 100, 150]), (math.inf, [0, 0, 0, 0])):
        slept.clear()
        played = Watched(playback(original, speed if speed != math.inf else "instant")).start().wait()
        assert slept == expected
        assert played.text == "abcdef"
    slept.clear()
    delayed = Watched(playback(original, as_="delay:50")).start().wait()
    assert slept == [50, 150, 250, 350]
    assert delayed.timing.ttft_ms == 50
    assert delayed.replayed == {"of": original.id, "speed": 1.0, "as": "delay:50"}


def test_stop_ends_a_replay_where_it_is(mock: MockServer) -> None:
    original = ts.stream("hi", "story", base_url=mock.base_url)
    run = api.start("", replay=original, speed=0.05)
    assert run.stop("button")
    stopped = run.wait()
    assert (stopped.outcome, stopped.stop_cause) == ("stopped", "button")
    assert original.text.startswith(stopped.text)
    assert len(stopped.timeline) < len(original.timeline)
    limited = ts.stream("", replay=original, token_limit=5, speed="instant")
    assert (limited.outcome, limited.stop_cause, limited.timing.chunks) == ("stopped", "limit:tokens", 5)
    assert limited.timing.ttft_ms == original.timing.ttft_ms
    assert list(limited.timeline) == list(original.timeline)[:5]


def test_a_stop_in_the_middle_keeps_what_was_played(mock: MockServer) -> None:
    original = ts.stream("hi", "story", base_url=mock.base_url)
    seen = []
    for piece in ts.events("", replay=original):
        seen.append(piece.text)
        if len(seen) == 3:
            break
    assert original.text.startswith("".join(seen))


def test_a_timeline_that_does_not_cover_the_text_loses_nothing() -> None:
    calls = [
        {"id": "1", "name": "f", "arguments": '{"a": 1}'},
        {"id": "2", "name": "g", "arguments": ""},
        {"id": "3", "name": "h", "arguments": "{}"},
    ]
    original = Transcript(outcome="complete", choices=[Choice(text="all of it", tool_calls=calls), Choice(20, text="the other")])
    original.timeline.requested = 0
    original.timeline.add(5, 0, 4, 0)
    original.timeline.add(6, 3, 9, 1)  # over the end of the first call
    assert "".join(e.text for _, _, e in pieces(original, original.timeline) if hasattr(e, "text")) == "all "
    assert {getattr(e, "text", None) for e in rest(original, original.timeline)} >= {"of it", "the other"}
    run = Replay(playback(original, "instant")).start()
    assert run.wait().choices == original.choices
    assert [(name, "".join(parts)) for name, parts in run.fold.calls()] == [("f", '{"a": 1}'), ("g", ""), ("h", "{}")]


@pytest.mark.parametrize("said", ["", "fast", "0", "-1", "nan", "x"])
def test_what_is_no_speed_is_refused(said: str) -> None:
    with pytest.raises(BadRequest, match="is no speed"):
        speed_of(said)


def test_flags_that_make_no_sense_are_refused(mock: MockServer) -> None:
    ts.stream("hi", "hello", base_url=mock.base_url)
    for flags, problem in (
        ({"speed": 2}, "for a replay"),
        ({"replay": "zzz!"}, "no transcript id"),
        ({"replay": "last", "as_": "no"}, "no delivery"),
    ):
        with pytest.raises(BadRequest, match=problem):
            ts.stream("hi", **flags)
    assert (speed_of("2x"), speed_of("x4"), speed_of(0.5)) == (2, 4, 0.5)
    another = ts.stream("something else", replay="last", speed="instant")
    assert "not the one that was sent" in another.replayed["note"]
    assert "note" not in ts.stream("hi", replay="last", speed="instant").replayed


def test_rerun_sends_the_same_again_and_links_it(mock: MockServer) -> None:
    first = ts.stream("Name {x}.", "hello", base_url=mock.base_url, system="Be brief.", temperature=0.5, seed=1)
    kept = ts.transcripts.get(first.id)
    with pytest.raises(BadRequest, match="address of its own"):
        kept.rerun()
    child = kept.rerun(base_url=mock.base_url, temperature=0.25, option={"top_k": 3})
    before, after = (exchange.body for exchange in mock.exchanges[-2:])
    assert after["messages"] == before["messages"]
    assert (after["temperature"], after["seed"], after["top_k"]) == (0.25, 1, 3)
    assert after["model"] == before["model"]
    assert child.parent_id == first.id
    assert ts.transcripts.get(child.id).parent_id == first.id
    assert kept.rerun("story", base_url=mock.base_url, no_log=True).model.endswith("story")
    played = kept.replay("instant")  # which is not kept itself
    assert played.rerun(base_url=mock.base_url).parent_id == first.id


def test_an_attachment_that_is_gone_is_not_left_out(mock: MockServer, tmp_path: Path) -> None:
    from tokenstream_magic import attachments

    note = tmp_path / "note.txt"
    note.write_text("a note")
    first = ts.stream("Read it.", "hello", base_url=mock.base_url, attachment=str(note))
    assert "a note" in json.dumps(ts.transcripts.get(first.id).rerun(base_url=mock.base_url).messages) or "a note" in json.dumps(
        mock.exchanges[-1].body
    )
    attachments._bytes_of.clear()
    with pytest.raises(BadRequest, match=r"note\.txt is gone"):
        ts.transcripts.get(first.id).rerun(base_url=mock.base_url)


def test_the_command_line_plays_reruns_and_compares(mock: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    ts.stream("hi", model="mock/hello")
    assert main(["transcripts", "replay", "last", "--speed", "instant"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == "Hello there."
    assert "replay of" in err
    assert main(["stream", "--replay", "last", "--as", "unstreamed", "--speed", "instant"]) == 0
    assert capsys.readouterr()[0].strip() == "Hello there."
    assert main(["transcripts", "rerun", "last", "-m", "mock/reasoning", "-o", "top_k", "5"]) == 0
    assert "There are twelve." in capsys.readouterr()[0]
    newest = ts.transcripts.last()
    assert newest.parent_id == ts.transcripts.get("last~1").id
    assert newest.options == {"top_k": 5}
    assert main(["transcripts", "diff", "last~1", "last"]) == 0
    shown = capsys.readouterr()[0]
    assert "mock/reasoning" in shown
    assert "[-Hello there-]" in shown
    assert "{+There are twelve+}" in shown
    for words, problem in (
        (["replay", "nope!"], "no transcript id"),
        (["replay", "last", "--speed", "0"], "no speed"),
        (["rerun", "last", "-s", "x"], "same prompt"),
        (["diff", "last"], "Name two"),
    ):
        assert main(["transcripts", *words]) == 2
        assert problem in capsys.readouterr()[1]


CELLS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "tokenstream_magic")
shell.run_cell("%%stream mock/hello\\nhi")
shell.run_cell("%%stream --replay last --speed instant --out played\\n")
shell.run_cell("%%stream replay/last\\n")
shell.run_cell("%transcripts replay last --as delay:1")
assert shell.user_ns["played"].text == "Hello there.", shell.user_ns["played"]
assert shell.user_ns["_stream"].replayed["as"] == "delay:1"
shell.run_cell("%%stream --replay last -r 3\\n")
shell.run_cell("%%stream --replay last --dry-run\\n")
shell.run_cell("%config StreamMagics.otel_profile = 'nonsense'")
shell.run_cell("%config StreamMagics.otel = True")
"""


def test_cells_replay_without_a_prompt() -> None:
    done = subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Hello there.") == 4
    assert "asks nobody" in done.stdout
    assert "There is no profile 'nonsense'" in done.stdout
