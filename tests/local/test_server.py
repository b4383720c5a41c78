"""The embedded model for real: llama.cpp in a child process, on a socket, gone with its parent."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

import tokenstream_magic as ts
from tokenstream_magic import api, catalog
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.local import fetch, server


def as_nobody(path: Path) -> str:
    """What another user of the host gets at the socket."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            socket.socket(socket.AF_UNIX).connect(str(path))
        except PermissionError:
            os._exit(13)
        os._exit(0)
    return {13: "refused", 0: "connected"}[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def ends_within(process: psutil.Process, seconds: float) -> bool:
    """Whether a process that is not our child ends in time; a zombie nobody has fetched yet has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(0.05)
            return True
        except psutil.TimeoutExpired:
            continue
        except psutil.NoSuchProcess:
            return True
    return False


@pytest.fixture(autouse=True)
def ended() -> None:
    yield
    server.close()


def ask(text: str = "Why is the sky blue? Answer in three sentences.", **flags):
    return ts.stream(text, "local", **{"temperature": 0, "seed": 1, "max_tokens": 24, **flags})


def test_the_model_answers_and_a_seed_repeats_its_words() -> None:
    first, second = ask(), ask()
    assert first.outcome == "complete"
    assert first.text == second.text != ""
    assert first.usage.output_tokens == 24
    assert first.usage.source == "reported"
    assert first.timing.server["predicted_n"] == 24
    assert first.resolved_model == "SmolLM2-135M-Instruct"


def test_it_is_ready_soon_and_is_one_process() -> None:
    fetch.pull()
    started = time.monotonic()
    ready = server.ensure(fetch.model_path())
    took = time.monotonic() - started
    assert server.ensure(fetch.model_path()) is ready
    assert took < 10, "the benchmark has the figure; this only catches a server that hangs"


def test_after_a_stop_it_is_seen_to_generate_no_more() -> None:
    class Followed(Quiet):
        said, learned = threading.Event(), threading.Event()

        def content(self, *_: object) -> None:
            self.said.set()

        def amended(self, _run: object) -> None:
            self.learned.set()

    run = api.start("Write a very long story.", "local", max_tokens=900, no_log=True, sinks=[Followed()])
    assert Followed.said.wait(60)
    run.stop()
    stopped = run.wait()
    assert Followed.learned.wait(30)
    finding = stopped.diagnosis["stop_did_not_stop"]
    assert finding.verdict == "clear"
    assert finding.evidence["server_idle_ms"] > 0


def test_the_socket_is_the_users_alone() -> None:
    ask()
    running = server.running()
    directory = running._directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / "llama.sock").is_socket()
    listening = [c for c in psutil.Process(running.pid).net_connections("inet") if c.status == "LISTEN"]
    assert listening == []
    if os.geteuid() == 0:
        assert as_nobody(directory / "llama.sock") == "refused"


def test_a_dead_server_is_started_again() -> None:
    ask()
    before = server.running()
    os.kill(before.pid, signal.SIGKILL)
    before._process.wait()
    assert ask().outcome == "complete"
    assert server.running().pid != before.pid
    assert not before._directory.exists()


def test_a_server_that_dies_in_a_stream_leaves_what_had_arrived() -> None:
    pieces = []
    for piece in ts.events("Tell me a very long story about a lighthouse keeper.", "local", temperature=0, seed=1):
        pieces.append(piece.text)
        if len(pieces) == 5:
            os.kill(server.running().pid, signal.SIGKILL)
    found = ts.transcripts.last()
    assert found.outcome == "truncated"
    assert found.error["type"] == "connection_lost"
    assert found.text.startswith("".join(pieces[:5]))


def test_a_stop_while_the_model_loads() -> None:
    states = []

    class Stopper(Quiet):
        def state(self, run, state, detail):
            states.append(state)
            if state == "starting":
                run.stop("button")

    run = api.start("Hi", "local", sinks=[Stopper()])
    transcript = run.wait()
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "button")
    assert "waiting" not in states
    assert ask().outcome == "complete"


@pytest.mark.parametrize("how", ["kill", "exit", "terminate"])
def test_the_server_is_gone_soon_after_its_parent_however_that_ends(how: str) -> None:
    program = """
        import sys, os, signal
        import tokenstream_magic as ts
        from tokenstream_magic.local import server
        ts.stream("Hi", "local", max_tokens=2)
        running = server.running()
        print(running.pid, running._directory, flush=True)
        sys.stdin.readline()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, directory = process.stdout.readline().split()
    child = psutil.Process(int(pid))
    assert child.is_running()
    if how == "exit":
        process.stdin.write("\n")
        process.stdin.flush()
    else:
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
    process.wait(20)
    assert ends_within(child, 2)
    process.stdin.close()
    process.stdout.close()
    assert not Path(directory).exists()


def test_a_forked_copy_of_the_parent_does_not_keep_the_server_alive() -> None:
    program = """
        import os, sys, signal, time
        import tokenstream_magic as ts
        from tokenstream_magic.local import server
        ts.stream("Hi", "local", max_tokens=2)
        if os.fork() == 0:
            os.close(1)
            signal.pause()
        print(server.running().pid, flush=True)
        signal.pause()
    """
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(process.stdout.readline()))
    (copy,) = [p for p in psutil.Process(process.pid).children() if p.pid != child.pid]
    process.kill()
    process.wait()
    in_time = ends_within(child, 2)
    copy.kill()
    process.stdout.close()
    assert in_time


def test_keys_are_not_in_the_childs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-canary")
    monkeypatch.setenv("JUPYTER_TOKEN", "canary-token")
    assert not [value for value in server._environment().values() if "canary" in value]


def test_a_model_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(server.LocalModelError) as caught:
        server.ensure(broken)
    assert "did not start" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.running() is None


def test_without_unix_sockets_it_listens_on_loopback_behind_a_random_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_has_unix_sockets", lambda: False)
    assert ask().outcome == "complete"
    reached = server.running().address(catalog.BUILT_IN["local"])
    assert reached.base_url.startswith("http://127.0.0.1:")
    assert len(reached.key.reveal()) == 64
    outsider = httpx.post(f"{reached.base_url}/chat/completions", json={"messages": []}, headers={"Origin": "https://evil.example"})
    assert outsider.status_code == 401
    assert outsider.headers.get("access-control-allow-origin") not in ("*", "https://evil.example")
    with_key = {"Authorization": f"Bearer {reached.key.reveal()}"}
    assert httpx.get(f"{reached.base_url}/models", headers=with_key).status_code == 200
    assert httpx.get(reached.base_url.removesuffix("/v1") + "/slots", headers=with_key).status_code in (404, 501)
    assert "<html" not in httpx.get(reached.base_url.removesuffix("/v1") + "/").text.lower()
    arguments = " ".join(psutil.Process(server.running().pid).cmdline())
    environment = psutil.Process(server.running().pid).environ()
    assert reached.key.reveal() not in arguments
    assert reached.key.reveal() not in str(environment)
