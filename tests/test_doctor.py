"""The doctor: a line an endpoint, what works, what to do, and no key in any of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from answering import answering

from tokenstream_magic import catalog, cli, doctor
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


def test_a_missing_key_is_said_and_nothing_is_sent(mock: MockServer) -> None:
    configure(mock)
    assert (lab().works, lab().said) == (False, "lab needs a key and LAB_KEY is not set.")
    assert mock.exchanges == []


def test_a_wrong_key_is_said_and_not_repeated(monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    with answering({"error": {"message": f"wrong key {KEY}"}}, 401) as (address, _):
        Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(f'[endpoints.lab]\nbase_url = "{address}"\napi_key_env = "LAB_KEY"\n')
        finding = lab()
    assert (finding.works, finding.said) == (False, "HTTP 401: wrong key *** (key *** from LAB_KEY)")
    assert (finding.advice, finding.mark) == ("Check the key in LAB_KEY.", "fails")


def test_a_server_that_is_not_there_is_said_with_how_to_start_it(monkeypatch) -> None:
    away = {
        "ollama": catalog.Endpoint("ollama", base_url="http://127.0.0.1:9/api", protocol="ollama", advice="Start it with: ollama serve")
    }
    (finding,) = doctor.examine(away)
    assert (finding.works, finding.advice) == (False, "Start it with: ollama serve")
    assert "Nothing is listening" in finding.said


def test_the_command_has_a_line_for_every_endpoint_and_for_what_else_matters(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:{KEY}@proxy.example:3128")
    assert cli.main(["doctor"]) == 0  # nothing that was set up fails
    printed = capsys.readouterr().out
    endpoints, about = (part.splitlines() for part in printed.split("\n\n"))
    assert len(endpoints) == len(catalog.BUILT_IN)
    assert any(line.startswith("works  local") for line in endpoints)
    assert any("OPENAI_API_KEY is not set" in line for line in endpoints)
    (azure,) = (line for line in endpoints if line.split()[1] == "azure")
    assert "AZURE_OPENAI_ENDPOINT" in azure
    assert "AZURE_OPENAI_API_KEY" in azure
    assert [line.split()[0] for line in about] == ["configuration", "project", "keyring", "proxies"]
    assert "HTTPS_PROXY in the environment is not followed" in about[-1]
    assert KEY not in printed


def test_what_was_set_up_and_fails_makes_the_exit_code(capsys: pytest.CaptureFixture[str], monkeypatch, mock: MockServer) -> None:
    configure(mock)
    assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (mine,) = (endpoint for endpoint in found["endpoints"] if endpoint["endpoint"] == "lab")
    assert (found["healthy"], mine["works"], mine["needed"]) == (False, False, True)
    monkeypatch.setenv("LAB_KEY", KEY)
    with answering({"data": [{"id": "a"}, {"id": "b"}]}) as (address, _):
        Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(f'[endpoints.lab]\nbase_url = "{address}"\napi_key_env = "LAB_KEY"\n')
        assert cli.main(["doctor", "--json"]) == 0
    printed = capsys.readouterr().out
    (mine,) = (endpoint for endpoint in json.loads(printed)["endpoints"] if endpoint["endpoint"] == "lab")
    assert mine["said"] == "serves 2 models: a, b (key *** from LAB_KEY)"
    assert KEY not in printed
