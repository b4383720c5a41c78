"""What the servers serve: all asked at once, none waited for long, their names inert, no key where it does not belong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from answering import answering

from tokenstream_magic import catalog, cli, commands, doctor, keys, survey
from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.transport import loop

KEY = "sk-canary-0123456789"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def ask(endpoint: Endpoint, patience: float = 5.0) -> survey.Answer:
    (answer,) = survey.ask_all({endpoint.name: endpoint}, patience)
    return answer


@pytest.mark.parametrize(
    ("protocol", "path", "listed", "header"),
    [
        ("openai-chat", "/models", {"data": [{"id": "a"}, {"id": "b"}]}, "authorization"),
        ("openai-responses", "/models", {"data": [{"id": "a"}, {"id": "b"}]}, "authorization"),
        ("anthropic", "/models?limit=1000", {"data": [{"id": "a"}, {"id": "b"}]}, "x-api-key"),
        (
            "gemini",
            "/models?pageSize=1000",
            {
                "models": [
                    {"name": "models/a", "supportedGenerationMethods": ["generateContent"]},
                    {"name": "models/e", "supportedGenerationMethods": ["embedContent"]},
                    {"name": "models/b"},
                ]
            },
            "x-goog-api-key",
        ),
        ("ollama", "/tags", {"models": [{"name": "a"}, {"model": "b"}]}, "authorization"),
    ],
)
def test_every_protocols_list_is_read_with_the_key_in_its_header(monkeypatch, protocol, path, listed, header):
    monkeypatch.setenv("LAB_KEY", KEY)
    with answering(listed) as (address, asked):
        answer = ask(Endpoint("lab", protocol, address, "LAB_KEY", needs_key=True))
    assert (answer.state, answer.models) == ("ready", ("a", "b")), answer.said
    ((asked_path, headers),) = asked
    assert asked_path == path
    assert KEY in headers[header]
    assert KEY not in repr(answer)


def test_the_slow_are_not_waited_for_and_the_quick_are_not_lost(silent, monkeypatch):
    monkeypatch.setattr(survey, "PATIENCE", 0.5)
    away = {f"silent{n}": Endpoint(f"silent{n}", base_url=silent) for n in range(20)}
    with answering({"data": [{"id": "quick"}]}) as (address, _):
        chosen = {**away, "lab": Endpoint("lab", base_url=address), "off": Endpoint("off", base_url="http://127.0.0.1:9/v1")}
        began = time.monotonic()
        states = {answer.endpoint.name: answer for answer in survey.ask_all(chosen, 0.5)}
        took = time.monotonic() - began
    assert took < 2
    assert states["lab"].models == ("quick",)
    assert states["off"].state == "not running"
    assert {states[name].state for name in away} == {"no answer"}


def test_a_list_in_a_kernel_takes_three_seconds_at_most_with_a_dead_network_and_a_dead_keyring(silent, monkeypatch):
    catalog.config_path().write_text(
        f'[endpoints.lab]\nbase_url = "{silent}"\n[endpoints.keyed]\nbase_url = "{silent}"\napi_key_env = "KEYED_KEY"\n'
    )
    release = threading.Event()
    monkeypatch.setattr(keys, "has_keyring", lambda: True)
    monkeypatch.setattr("keyring.get_password", lambda *_: release.wait(30) and None)
    began = time.monotonic()
    try:
        text = survey.overview()
    finally:
        release.set()
    assert time.monotonic() - began < 3
    lines = {line.split("/")[0]: line for line in text.splitlines()}
    assert "no answer" in lines["lab"]
    assert "no key: set KEYED_KEY" in lines["keyed"]
    assert "no key: set OPENAI_API_KEY" in lines["openai"]
    assert "no address: set AZURE_OPENAI_ENDPOINT" in lines["azure"]
    if keys._asking is not None:
        keys._asking.join(10)


def test_names_are_inert_and_cut(capsys):
    names = ["\x1b]0;title\x07red\x1b[31m", "a\nb\r\nc", "\u202etxt", "x" * 100_000, "", "  ", "\0"]
    with answering({"data": [{"id": name} for name in names] + [5, None, {"id": 7}, {"name": ["x"]}]}) as (address, _):
        catalog.config_path().write_text(f'[endpoints.lab]\nbase_url = "{address}"\n')
        models = ask(catalog.endpoints()["lab"]).models
        assert cli.main(["models", "lab"]) == 0
    assert models == ("red", "a b c", "<U+202E>txt", "x" * 119 + "…")
    assert capsys.readouterr().out.splitlines() == [f"lab/{name}" for name in models]


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"<html>hello</html>", 200, "not with a list of models"),
        (b"[" * 100_000, 200, "not with a list of models"),
        ({"object": "nothing"}, 200, "not with a list of models"),
        (b"", 200, "not with a list of models"),
        ({"error": {"message": f"wrong key {KEY}\x1b[31m"}}, 401, "HTTP 401: wrong key ***"),
        (b"moved", 302, "HTTP 302"),
    ],
)
def test_an_answer_that_is_no_list_is_said_in_a_line(monkeypatch, answer, status, said):
    monkeypatch.setenv("LAB_KEY", KEY)
    with answering(answer, status) as (address, _):
        found = ask(Endpoint("lab", base_url=address, api_key_env="LAB_KEY", needs_key=True))
    assert found.models is None
    assert not found.works
    assert said in found.said
    assert KEY not in repr(found)
    assert "\n" not in found.said
    assert "\x1b" not in found.said


def test_many_models_are_many(capsys):
    listed = {"data": [{"id": f"model-{n}"} for n in range(3000)]}
    with answering(listed) as (address, _):
        catalog.config_path().write_text(f'[endpoints.lab]\nbase_url = "{address}"\n[aliases]\nfast = "lab/model-7"\n')
        text = survey.overview()
        commands._models(["lab"])
        assert len(capsys.readouterr().out.splitlines()) == 3000
        assert cli.main(["models", "lab", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
    assert len(found["models"]) == 3000
    assert found["state"] == "ready"
    assert "serves 3000 models: model-0, model-1, model-2, …" in text
    assert "→ lab/model-7" in text


def test_the_stream_thread_is_free_while_a_long_list_is_read():
    import asyncio

    longest = 0.0

    async def watch(stop: asyncio.Event) -> None:
        nonlocal longest
        while not stop.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    async def measured(endpoint: Endpoint) -> int:
        stop = asyncio.Event()
        watching = asyncio.ensure_future(watch(stop))
        names = await survey.served(endpoint)
        stop.set()
        await watching
        return len(names)

    listed = {"data": [{"id": f"model-{n}", "more": list(range(100))} for n in range(9000)]}
    with answering(listed) as (address, _):
        assert loop.submit(measured(Endpoint("lab", base_url=address))).result() == 9000
    assert longest < 2


def test_an_endpoint_nobody_knows_is_said(capsys):
    assert cli.main(["models", "olama"]) == 2
    assert "Did you mean ollama?" in capsys.readouterr().err


def test_one_endpoint_that_does_not_say_is_an_error_with_what_to_do(capsys):
    assert cli.main(["models", "openai"]) == 4
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err
    assert doctor.served is survey.served


def test_names_that_nobody_answers_for_hold_up_neither_the_others_nor_the_end_of_the_process():
    with answering({"data": [{"id": "quick"}]}) as (address, _):
        lines = [f'[endpoints.away{n}]\nbase_url = "http://away{n}.invalid/v1"\n' for n in range(12)]
        catalog.config_path().write_text("".join([*lines, f'[endpoints.lab]\nbase_url = "{address}"\n']))
        program = (
            "import socket, sys, time\n"
            "known = socket.getaddrinfo\n"
            "def dead(host, *more, **named):\n"
            "    return known(host, *more, **named) if host in ('127.0.0.1', 'localhost') else time.sleep(60)\n"
            "socket.getaddrinfo = dead\n"
            "from tokenstream_magic import cli\n"
            "sys.exit(cli.main(['models']))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "serves 1 model: quick" in done.stdout
    assert done.stdout.count("no answer") == 12
