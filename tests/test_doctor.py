"""The doctor: a line an endpoint, what works, what to do, and no key in any of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tokenstream_magic import catalog, cli, doctor
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

KEY = "sk-canary-0123456789"


def configure(mock: MockServer, protocol: str = "openai-chat") -> None:
    path = "/api" if protocol == "ollama" else "/v1"
    Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(
        f'[endpoints.lab]\nprotocol = "{protocol}"\nbase_url = "http://127.0.0.1:{mock.port}{path}"\napi_key_env = "LAB_KEY"\n'
    )


def lab() -> doctor.Finding:
    (finding,) = doctor.examine({"lab": catalog.endpoints()["lab"]})
    return finding


@pytest.mark.parametrize(
    ("protocol", "path", "listed"),
    [
        ("openai-chat", "models", {"data": [{"id": "a"}, {"id": "b"}]}),
        ("anthropic", "models", {"data": [{"id": "a"}, {"id": "b"}]}),
        ("gemini", "models", {"models": [{"name": "a"}, {"name": "b"}]}),
        ("ollama", "tags", {"models": [{"name": "a"}, {"model": "b"}]}),
    ],
)
def test_a_server_that_answers_is_named_with_what_it_serves(mock: MockServer, monkeypatch, protocol: str, path: str, listed: dict) -> None:
    configure(mock, protocol)
    monkeypatch.setenv("LAB_KEY", KEY)
    mock.scripts[path] = Script(body=json.dumps(listed).encode(), content_type="application/json")
    assert lab() == doctor.Finding("lab", works=True, said="serves 2 models: a, b")
    assert KEY in str(mock.exchanges[0].headers)


def test_a_missing_key_is_said_and_nothing_is_sent(mock: MockServer) -> None:
    configure(mock)
    assert (lab().works, lab().said) == (False, "lab needs a key and LAB_KEY is not set.")
    assert mock.exchanges == []


def test_a_wrong_key_is_said_and_not_repeated(mock: MockServer, monkeypatch) -> None:
    configure(mock)
    monkeypatch.setenv("LAB_KEY", KEY)
    mock.scripts["models"] = Script(status=401, error=f"wrong key {KEY}")
    finding = lab()
    assert (finding.works, finding.said, finding.advice) == (False, "HTTP 401: wrong key ***", "Check the key in LAB_KEY.")


def test_a_server_that_is_not_there_is_said_with_how_to_start_it(monkeypatch) -> None:
    away = {
        "ollama": catalog.Endpoint("ollama", base_url="http://127.0.0.1:9/api", protocol="ollama", advice="Start it with: ollama serve")
    }
    (finding,) = doctor.examine(away)
    assert (finding.works, finding.advice) == (False, "Start it with: ollama serve")
    assert "Nothing is listening" in finding.said


def test_the_command_has_a_line_for_every_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(catalog.BUILT_IN)
    assert any(line.startswith("works  local") for line in lines)
    assert any("OPENAI_API_KEY is not set" in line for line in lines)
