"""After a Stop, a llama.cpp server is asked whether it generates on; nobody waits for that."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api, slots
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.mock.script import STORY, Script, words
from tokenstream_magic.mock.server import Exchange, MockServer
from tokenstream_magic.run import Run

TASK = {"id": 2, "id_task": 40, "is_processing": True, "next_token": [{"n_decoded": 6}]}
IDLE = {"id": 0, "is_processing": False}
OTHERS = {"id": 1, "id_task": 7, "is_processing": True, "next_token": [{"n_decoded": 5000}]}


class Llama(MockServer):
    """Calls itself llama.cpp, and says of its slots what the test gives it, one answer a look."""

    def __init__(self, *looks: Any) -> None:
        script = Script(words(STORY), gap=0.01, stall_after=5, headers={"Server": "llama.cpp"})
        super().__init__({"stalled": script, "other": Script(words(STORY), gap=0.01, stall_after=5)})
        self.looks = list(looks)
        self.asked = 0

    async def _list(self, exchange: Exchange, path: str, writer: Any) -> None:
        assert path == "/slots"
        self.asked += 1
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        body = look if isinstance(look, bytes) else json.dumps(look).encode()
        await self._plain(Script(body=body, content_type="application/json", status=501 if look is None else 200), None, writer)


class Followed(Quiet):
    """Tells when five pieces were there, and when the transcript had learned something after its end."""

    def __init__(self) -> None:
        self.pieces = 0
        self.said, self.learned = threading.Event(), threading.Event()

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        self.pieces += 1
        if self.pieces == 5:
            self.said.set()

    def amended(self, run: Run) -> None:
        self.learned.set()


def stopped(server: MockServer, model: str = "stalled", **flags: Any) -> tuple[ts.Transcript, Followed]:
    followed = Followed()
    run = api.start("Hi", model, base_url=server.base_url, sinks=[followed], **flags)
    assert followed.said.wait(30)
    run.stop()
    return run.wait(), followed


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "LOOKS", (0.01, 0.02, 0.03))


def test_a_server_that_ended_the_answer_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with Llama([IDLE, OTHERS, TASK], [IDLE, OTHERS, {**TASK, "id_task": 41}]) as server:
        transcript, followed = stopped(server)
        assert followed.learned.wait(30)
        finding = transcript.diagnosis["stop_did_not_stop"]
        assert (finding.verdict, server.asked) == ("clear", 2)
        assert finding.summary == "Stop closed the connection and the server was seen to end the answer."
        busy, idle = finding.evidence["server_busy_ms"], finding.evidence["server_idle_ms"]
        assert 0 < busy < idle  # type: ignore[operator]
        assert ts.transcripts.get(transcript.id).timeline == transcript.timeline


def test_a_server_that_goes_on_is_a_stop_that_did_not_stop() -> None:
    with Llama([IDLE, OTHERS, TASK], [TASK]) as server:
        transcript, followed = stopped(server, no_log=True)
        assert followed.learned.wait(30)
        assert server.asked == 3
    finding = transcript.diagnosis["stop_did_not_stop"]
    assert (finding.verdict, finding.evidence["server_idle_ms"]) == ("found", None)
    assert finding.summary.startswith("The server still generated the answer ")


def test_an_answer_of_ours_that_goes_on_beside_it_is_not_taken_for_it() -> None:
    with Llama([TASK]) as server:
        other = Followed()
        beside = api.start("Hi", "stalled", base_url=server.base_url, sinks=[other], no_log=True)
        assert other.said.wait(30)
        transcript, followed = stopped(server, no_log=True)
        assert followed.learned.wait(30)
        assert transcript.diagnosis["stop_did_not_stop"].verdict == "clear"
        beside.stop()
        beside.wait()


@pytest.mark.parametrize("look", [None, b"no JSON", [None], {"slots": []}, [{"is_processing": True, "next_token": 7}] * 9000])
def test_a_server_that_does_not_tell_is_no_evidence(look: Any) -> None:
    with Llama(look) as server:
        transcript, _ = stopped(server, no_log=True)
        server.wait_for(2)
        finding = transcript.diagnosis["stop_did_not_stop"]
        assert (finding.verdict, finding.summary) == ("clear", "Stop closed the connection.")


def test_other_servers_and_other_endings_are_not_asked() -> None:
    with Llama([TASK]) as server:
        stopped(server, "other", no_log=True)
        api.start("Hi", "stalled", base_url=server.base_url, no_log=True, idle_timeout=0.2).wait()
        stopped(server, no_log=True)
        server.wait_for(4)
        assert [exchange.method for exchange in server.exchanges[:4]] == ["POST", "POST", "POST", "GET"]
    assert not slots._open
