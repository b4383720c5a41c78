"""Every fault is found in real answers of the mock server, and clean ones are left alone. The wide net is benchmarks/diagnosis.py."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import tokenstream_magic as ts
from tokenstream_magic import api, asking
from tokenstream_magic.cli import main
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.mock import MockServer, Script
from tokenstream_magic.mock.script import STORY, words
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.detectors import DETECTORS
from tokenstream_magic.timing.diagnosis import diagnose
from tokenstream_magic.timing.shown import Shown
from tokenstream_magic.timing.timeline import Timeline

DOCUMENT = Path(__file__).parents[2] / "docs" / "diagnosis.md"
TEXT = words(STORY)
MS = 1_000_000
SCRIPTS = {
    "clean": (Script(TEXT, first=0.1, gap=0.015), set()),
    "steps": (Script(TEXT, first=0.1, gap=0.2, together=8), set()),
    "one-chunk": (Script((STORY,), first=1.2, output_tokens=80), set()),
    "no-end-marker": (Script(TEXT, gap=0.015, ending="no-terminator"), set()),
    "queued": (Script(TEXT[:20], first=1.5, gap=0.02, keep_alive=0.2), set()),
    "held": (Script(TEXT, first=0.1, gap=0.015, buffered=True), {"held_back"}),
    "object": (Script(TEXT, unstreamed=True), {"held_back"}),
    "blocks": (Script(TEXT * 2, gap=0.02, buffered=4096), {"bursts"}),
    "gzip": (Script(TEXT[:20], gap=0.01, gzip=True), {"compression"}),
    "early": (Script(TEXT[:20], gap=0.01, ending="no-finish"), {"truncated"}),
    "reset": (Script(TEXT[:20], gap=0.01, ending="reset"), {"truncated"}),
    "limit": (Script(TEXT[:20], gap=0.01, finish="length"), {"token_limit"}),
    "error": (Script(TEXT[:20], gap=0.01, error_after=9), {"error_after_200"}),
    "page": (Script(content_type="text/html", body=b"<html>Sign in</html>"), {"error_after_200"}),
    "refused": (Script(status=401, error="no such key"), set()),
    "stall": (Script(TEXT, gap=0.01, stall_after=20), {"stall", "truncated"}),
    "pings": (Script(TEXT, gap=0.01, stall_after=20, keep_alive=0.2), {"stall", "keep_alive_only", "truncated"}),
    "no-usage": (Script(TEXT[:20], gap=0.01, usage=False), {"missing_usage"}),
}  # fmt: skip


class Talking(Quiet):
    """Tells when the first text is there."""

    def __init__(self):
        self._said = threading.Event()

    def content(self, run, channel, text, choice):
        self._said.set()

    def heard(self):
        assert self._said.wait(30)


@pytest.fixture(scope="module")
def answers():
    """All scripts, asked for at once."""
    with MockServer({name: script for name, (script, _) in SCRIPTS.items()}) as server:
        runs = {name: api.start("Hi", name, base_url=server.base_url, no_log=True, idle_timeout=2.5, max_retries=0) for name in SCRIPTS}
        yield {name: run.wait() for name, run in runs.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_wrong_is_found_and_nothing_else(answers, name):
    found = answers[name].diagnosis
    assert {finding.name for finding in found.problems} == SCRIPTS[name][1], found
    for finding in found.problems:
        assert finding.evidence
        assert finding.threshold
        assert finding.advice


@pytest.mark.parametrize(
    ("name", "helped", "says"),
    [
        ("clean", "yes", r"Streaming helped: the first words came after \d+\.\d s of \d+\.\d s; you were never kept waiting\."),
        ("held", "no", r"Streaming did not help: everything arrived at once after \d+\.\d s: something on the way holds the answer back\."),
        ("object", "no", r"Streaming did not help: .*: the server sent it whole\."),
        ("blocks", "little", r"Streaming helped less than it could: \d+% of the text came in \d+ lumps, .*"),
        ("one-chunk", "little", r"Streaming hardly helped: the first words came after \d+\.\d s of \d+\.\d s.*"),
        ("early", "nothing to save", r"All that came was there after .*: the answer only looks whole\."),
        ("refused", "unknown", r"No text came.*"),
    ],
)
def test_the_headline_says_whether_it_helped(answers, name, helped, says):
    found = answers[name].diagnosis
    assert found.helped == helped
    assert re.fullmatch(says, found.headline)


def test_stop_that_stopped_and_stop_that_did_not(mock):
    talking = Talking()
    run = api.start("Hi", "endless", base_url=mock.base_url, no_log=True, sinks=[talking])
    talking.heard()
    run.stop()
    stopped = run.wait()
    finding = stopped.diagnosis["stop_did_not_stop"]
    assert (finding.verdict, finding.evidence["pieces_after_stop"]) == ("clear", 0)
    assert stopped.diagnosis["missing_usage"].verdict == "unknown"
    stopped.timing.stop_latency_ms = 900.0
    assert stopped.diagnosis["stop_did_not_stop"].summary == "The connection closed only 0.9 s after Stop."
    stopped.timing.stop_latency_ms = None
    assert stopped.diagnosis["stop_did_not_stop"].summary == "The connection was never seen to close."


def test_a_lasting_answer_that_was_not_cancelled_is_a_stop_that_did_not_stop(mock):
    prepared = asking.ask("Hi", "endless", base_url=mock.base_url, protocol="openai-responses", no_log=True)
    talking = Talking()
    lasting = replace(prepared.plan, endpoint=replace(prepared.plan.endpoint, resumable=True))
    run = api.begin(replace(prepared, plan=lasting), sinks=[talking])
    talking.heard()
    run.stop()
    assert run.wait().diagnosis["stop_did_not_stop"].evidence["server"] == "may go on generating"


def test_a_display_that_is_behind_is_found_only_where_it_measured(answers):
    slow, quick = Shown(), Shown()
    for at in range(100):
        slow.add(at, at + 150_000_000)
        quick.add(at, at + 20_000_000)
    verdicts = [diagnose(answers["clean"], shown=shown)["slow_display"].verdict for shown in (None, quick, slow)]
    assert verdicts == ["unknown", "clear", "found"]


def test_keep_alives_count_where_they_came():
    def stalled(alive, known=True):
        timeline = Timeline(requested=0, first_event=1, finished=9_000 * MS, ended=9_000 * MS)
        pieces = [*range(100, 1_100, 50), 8_000]
        for at in sorted([*pieces, *alive]):
            if at in pieces:
                timeline.add(at * MS, 0, 4, at)
            else:
                timeline.alive(at * MS)
        if not known:
            timeline.keep_alive_offsets = None
        return Transcript(choices=[Choice(text="x" * 84)], outcome="complete", timeline=timeline).diagnosis["keep_alive_only"]

    before = [10, 11, 12, 60, 115, 165, 215, 265]  # empty chunks while the text flowed say nothing of its silence
    assert stalled(before).verdict == "clear"
    assert stalled(before, known=False).verdict == "found"  # a record that only counted them
    assert stalled([*before, 7_990]).verdict == "clear"  # the next block's opening
    found = stalled([*before, 3_000, 3_001, 5_000])
    assert (found.verdict, found.evidence["in_the_silence"], found.evidence["last_seconds"]) == ("found", 2, 5.0)


def test_the_server_s_own_clock_gives_a_short_answer_away():
    timeline = Timeline(requested=0, headers=1, first_event=1, usage=3_000_000_000, finished=3_000_000_000, ended=3_000_000_000)
    for _ in range(12):
        timeline.add(3_000_000_000, 0, 4, 1)
    transcript = Transcript(choices=[Choice(text="x" * 48)], outcome="complete", usage=Usage(output_tokens=12), timeline=timeline)
    assert transcript.diagnosis["held_back"].verdict == "unknown"
    transcript.timing.server = {"predicted_ms": 2500.0}
    assert transcript.diagnosis["held_back"].verdict == "found"
    transcript.timing.server = {"predicted_ms": "soon"}
    assert transcript.diagnosis["held_back"].verdict == "unknown"


def test_a_capture_has_no_times_and_says_so():
    captured = ts.decode(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', protocol="openai-chat")
    found = captured.diagnosis
    assert (found.helped, found["truncated"].verdict) == ("unknown", "found")
    assert {found[name].verdict for name in ("held_back", "bursts", "stall", "keep_alive_only")} == {"unknown"}
    assert set(found.signals.as_dict().values()) == {None}


def test_nothing_a_server_wrote_becomes_markup():
    with MockServer({"bad": Script(TEXT[:9], error_after=5, error="<script>|**x**", error_type="<img src=x>|[a](http://b)")}) as server:
        found = ts.stream("Hi", "bad", base_url=server.base_url, no_log=True).diagnosis
    bundle = found._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/markdown"}
    assert "error after 200" in bundle["text/markdown"]
    for form in bundle.values():
        assert not re.search(r"[<>]|\]\(|script\b|http:", form)


def test_every_detector_has_a_section_to_read(answers):
    headings = {line[3:].lower().replace(" ", "-") for line in DOCUMENT.read_text().splitlines() if line.startswith("## ")}
    found = answers["clean"].diagnosis
    assert len(found.findings) == len(DETECTORS)
    assert {finding.link.partition("#")[2] for finding in found.findings} <= headings
    with pytest.raises(KeyError):
        found["no such detector"]


def test_the_command_prints_it_and_gives_json(mock, capsys):
    mock.scripts["story"] = replace(mock.scripts["story"], gap=0.03)  # long enough for streaming to help
    ts.stream("Hi", "story", base_url=mock.base_url)
    stopped = api.start("Hi", "story", base_url=mock.base_url, token_limit=5).wait()
    capsys.readouterr()
    assert main(["transcripts", "diagnose", "last~1"]) == 0
    assert capsys.readouterr().out.startswith("Streaming helped: the first words came after ")
    assert main(["transcripts", "diagnose", "--json", stopped.id]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["id"] == stopped.id
    saved = 72 * (1 - len(stopped.text) / 346)
    assert told["signals"]["waste_avoided_tokens"] == round(saved)
    assert {finding["name"] for finding in told["findings"]} == {detect.__name__ for detect in DETECTORS}
    assert all(set(finding) == {"name", "verdict", "summary", "evidence", "threshold", "advice", "link"} for finding in told["findings"])
    assert main(["transcripts", "diagnose", "nonesuch"]) == 2


@given(
    st.lists(st.tuples(st.integers(-(10**12), 10**14), st.integers(0, 3), st.integers(0, 10**6)), max_size=60),
    st.dictionaries(
        st.sampled_from("requested headers first_event finished usage ended stop_requested closed server_busy server_idle".split()),
        st.integers(0, 10**14),
    ),
    st.sampled_from(["running", "complete", "stopped", "truncated", "failed"]),
    st.one_of(st.none(), st.integers(-5, 10**15)),
    st.one_of(st.none(), st.lists(st.integers(-(10**12), 10**14), max_size=9)),
)
def test_no_record_however_strange_breaks_it(events, moments, outcome, tokens, alive):
    timeline = Timeline(**moments, keep_alives=10**9)
    timeline.keep_alive_offsets = alive
    for number, (at, channel, characters) in enumerate(events):
        timeline.add(at, channel, characters, number)
    error = {"type": "\x1b[31m<b>|" * 99, "status": "x", "message": None}
    found = Transcript(
        outcome=outcome, usage=Usage(output_tokens=tokens), timeline=timeline, error=error, diagnostics=["it may go on generating"]
    ).diagnosis
    assert str(found)
    assert not re.search(r"[<>\x1b]", found._repr_mimebundle_()["text/markdown"])
    json.dumps(found.as_dict(), allow_nan=False)
