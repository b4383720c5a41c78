"""``tokenstream serve`` for real: what it prints works, it wants its key, and nothing is left when it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

import tokenstream_magic as ts
from tokenstream_magic import catalog, cli
from tokenstream_magic.local import fetch

ASK = {"messages": [{"role": "user", "content": "Name a river."}], "stream": True, "max_tokens": 8}
LAST = "model ="


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, running, and what it printed."""
    fetch.pull()
    kept = {name: value for name, value in os.environ.items() if name != cli.SERVE_KEY}
    command = [sys.executable, "-m", "tokenstream_magic.cli", "serve", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**kept, **environment})
    try:
        printed = ""
        while LAST not in printed and (line := process.stdout.readline()):
            printed += line
        if "--no-key" not in words:
            printed += process.stdout.readline()
        yield process, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def address(printed: str) -> str:
    return re.search(r"is served at (http://127\.0\.0\.1:\d+/v1);", printed)[1]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_streams_with_its_key_and_ends_with_its_child(ending: signal.Signals) -> None:
    with serving() as (process, printed):
        base_url = address(printed)
        key = re.search(rf"export {cli.SERVE_KEY}=([0-9a-f]{{64}})$", printed, re.MULTILINE)[1]
        (child,) = psutil.Process(process.pid).children()
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert httpx.post(f"{base_url}/chat/completions", json=ASK, headers=headers, trust_env=False).status_code == 401
        with httpx.stream(
            "POST",
            f"{base_url}/chat/completions",
            json=ASK,
            headers={"Authorization": f"Bearer {key}", "Origin": "https://evil.example"},
            trust_env=False,
            timeout=60,
        ) as response:
            lines = list(response.iter_lines())
        assert response.status_code == 200
        assert response.headers.get("access-control-allow-origin") in (None, "http://localhost")  # whoever asks
        assert lines[-2:] == ["data: [DONE]", ""]
        assert key not in " ".join([*child.cmdline(), str(child.environ())])
        process.send_signal(ending)
        assert process.wait(10) == (-9 if ending == signal.SIGKILL else 0)
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running()


def test_what_it_prints_works_as_printed() -> None:
    with serving(TOKENSTREAM_SERVE_KEY="my-own-key-0123456789") as (_, printed):
        assert "my-own-key" not in printed
        if shutil.which("curl"):
            line = next(line for line in printed.splitlines() if line.strip().startswith("curl"))
            line = line.replace('"stream": true', '"stream": true, "max_tokens": 4')
            environment = {**os.environ, cli.SERVE_KEY: "my-own-key-0123456789"}
            said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, timeout=60).stdout
            assert "data: [DONE]" in said
        snippet = printed[printed.index("  [endpoints.served]") :].replace("  ", "")
        catalog.config_path().write_text(snippet)
        os.environ[cli.SERVE_KEY] = "my-own-key-0123456789"
        try:
            transcript = ts.stream("Name a river.", "served", max_tokens=4, no_log=True)
        finally:
            del os.environ[cli.SERVE_KEY]
        assert transcript.outcome == "complete", transcript.error
        assert transcript.usage.output_tokens == 4


def test_without_a_key_it_says_what_that_means() -> None:
    with serving("--no-key") as (_, printed):
        assert "every user and program of this machine can ask it" in printed
        assert "export" not in printed
        assert "api_key_env" not in printed
        assert httpx.get(f"{address(printed)}/models", trust_env=False).status_code == 200


@pytest.mark.parametrize("port", ["taken", "70000", "-1"])
def test_a_port_that_cannot_be_had_is_said(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = str(taken.getsockname()[1]) if port == "taken" else port
        assert cli.main(["serve", f"--port={number}"]) == 2
    assert f"Port {number} cannot be used" in capsys.readouterr().err


def test_the_port_is_the_one_asked_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving("--port", str(port)) as (_, printed):
        assert address(printed) == f"http://127.0.0.1:{port}/v1"
