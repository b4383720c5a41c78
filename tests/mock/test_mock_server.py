"""What the mock server puts on the network: every pace and every fault, byte for byte."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import tracemalloc
import warnings
from dataclasses import replace
from importlib import import_module
from time import monotonic_ns
from urllib.parse import urlsplit

import httpx
import pytest

import tokenstream_magic as ts
from tokenstream_magic.mock import SCRIPTS, MockServer, Script, words
from tokenstream_magic.wire.protocols import PROTOCOLS

NAMES = list(PROTOCOLS)
PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:streamGenerateContent?alt=sse",
    "ollama": "/api/chat",
}
TWELVE = Script(words("one two three four five six seven eight nine ten eleven twelve"))


def speech(protocol: str):
    return import_module(f"tokenstream_magic.mock.{protocol.replace('-', '_')}")


def body_of(script: Script, protocol: str = "openai-chat") -> bytes:
    spoken = speech(protocol)
    return b"".join(spoken.frames(script, "m")) + spoken.ending(script, "m")


def chunks(mock: MockServer, script: Script, protocol: str = "openai-chat") -> tuple[dict[str, str], list[tuple[int, bytes]], str]:
    """Headers, the chunks of the body with the moment each arrived, and how it ended: ``whole``, ``closed`` or ``reset``."""
    mock.scripts["m"] = script
    request = json.dumps({"model": "m", "stream": True}).encode()
    head = f"POST {PATHS[protocol]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", mock.port), timeout=20) as connection:
        connection.sendall(head + request)
        file, found = connection.makefile("rb"), []
        headers = {}
        assert file.readline().startswith(b"HTTP/1.1 ")
        while line := file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        try:
            while size := file.readline().strip():
                data = file.read(int(size, 16))
                if not int(size, 16):
                    return headers, found, "whole"
                if file.readline():
                    found.append((monotonic_ns(), data))
        except ConnectionResetError:
            return headers, found, "reset"
    return headers, found, "closed"


def joined(found: list[tuple[int, bytes]]) -> bytes:
    return b"".join(data for _, data in found)


@pytest.mark.parametrize("protocol", NAMES)
def test_without_faults_the_body_is_what_the_protocol_writes(mock: MockServer, protocol: str) -> None:
    headers, found, ended = chunks(mock, TWELVE, protocol)
    assert (joined(found), ended, len(found)) == (body_of(TWELVE, protocol), "whole", 14)
    assert headers["content-type"] == speech(protocol).CONTENT_TYPE


def test_the_other_forms_of_gemini_and_ollama_are_spoken_and_understood(mock: MockServer) -> None:
    script = Script(words("One two \u00fcber."), reasoning=("hm",), choices=(("other",),))
    for path, protocol in (("/v1beta/models/m:streamGenerateContent", "gemini"), ("/api/generate", "ollama")):
        url = f"http://127.0.0.1:{mock.port}{path}"
        for fault, outcome in (({}, "complete"), ({"ending": "no-finish"}, "truncated"), ({"error_after": 2}, "failed")):
            mock.scripts["m"] = replace(script, **fault)
            answer = httpx.post(url, json={"model": "m"})
            seen = ts.decode(answer.content)
            assert (seen.protocol, seen.outcome, seen.reasoning) == (protocol, outcome, "hm"), (fault, seen.error)
            assert seen.text == (script.pieces[0] if outcome == "failed" and protocol == "ollama" else seen.text)
            assert "One two \u00fcber.".startswith(seen.text)
    assert answer.headers["content-type"] == "application/x-ndjson"
    mock.scripts["m"] = script
    array = httpx.post(f"http://127.0.0.1:{mock.port}/v1beta/models/m:streamGenerateContent", json={})
    assert (array.headers["content-type"], len(array.json())) == ("application/json", 2 + 1 + 4 + 2)
    lines = httpx.post(f"http://127.0.0.1:{mock.port}/api/generate", json={"model": "m"}).text.splitlines()
    assert "".join(json.loads(line)["response"] for line in lines) == "One two \u00fcber."


def test_a_buffering_proxy_holds_all_of_it_back_or_blocks_of_it(mock: MockServer) -> None:
    script = replace(TWELVE, gap=0.01)
    _, found, _ = chunks(mock, replace(script, buffered=True))
    assert [data for _, data in found] == [body_of(script)]
    assert found[0][0] > mock.exchanges[-1].sent[-1] > mock.exchanges[-1].sent[0] + 100e6
    _, found, _ = chunks(mock, replace(script, buffered=500))
    assert joined(found) == body_of(script)
    assert len(found) > 3
    assert all(len(data) % 500 == 0 for _, data in found[:-1])
    assert found[0][0] < mock.exchanges[-1].sent[-1]


def test_together_split_and_drip_shape_the_writes(mock: MockServer) -> None:
    _, found, _ = chunks(mock, replace(TWELVE, together=5))
    assert len(found) == 1 + 3 + 1
    _, found, _ = chunks(mock, replace(TWELVE, split=1))
    assert {len(data) for _, data in found} == {1}
    assert joined(found) == body_of(TWELVE)
    slow = replace(SCRIPTS["hello"], split=100, drip=0.02)
    _, found, _ = chunks(mock, slow)
    writes = [*speech("openai-chat").frames(slow, "m"), speech("openai-chat").ending(slow, "m")]
    assert joined(found) == b"".join(writes)
    waits = sum(-(-len(write) // 100) - 1 for write in writes)  # one before each part of a write but its first
    assert len(found) == waits + len(writes)
    assert found[-1][0] - mock.exchanges[-1].arrived_at >= waits * 20e6 > 100e6


def test_compressed_is_really_compressed_and_flushed_with_each_piece(mock: MockServer) -> None:
    headers, found, ended = chunks(mock, replace(TWELVE, gzip=True))
    assert (headers["content-encoding"], ended) == ("gzip", "whole")
    assert gzip.decompress(joined(found)) == body_of(TWELVE)
    assert len(found) > 12
    assert len(joined(found)) < len(body_of(TWELVE))
    mock.scripts["m"] = replace(TWELVE, gzip=True, unstreamed=True)
    answer = httpx.post(f"{mock.base_url}/chat/completions", json={"model": "m"})
    assert (answer.headers["content-encoding"], answer.json()["choices"][0]["message"]["content"]) == ("gzip", "".join(TWELVE.pieces))


@pytest.mark.parametrize("protocol", NAMES)
@pytest.mark.parametrize(("how", "ended"), [("end", "whole"), ("close", "closed"), ("reset", "reset")])
def test_cut_at_byte_k_is_cut_there(mock: MockServer, protocol: str, how: str, ended: str) -> None:
    whole = body_of(TWELVE, protocol)
    for at in (0, 1, 300, len(whole) - 1, len(whole)):
        _, found, seen = chunks(mock, replace(TWELVE, cut_at=at, cut_by=how), protocol)
        assert (joined(found), seen) == (whole[:at], ended)
    _, found, seen = chunks(mock, replace(TWELVE, cut_at=len(whole) + 1, cut_by=how), protocol)
    assert (joined(found), seen) == (whole, "whole")


@pytest.mark.parametrize("protocol", NAMES)
def test_endings(mock: MockServer, protocol: str) -> None:
    everything = b"".join(speech(protocol).frames(TWELVE, "m"))
    for ending, ended in (("cut", "closed"), ("reset", "reset"), ("no-finish", "whole"), ("no-terminator", "whole")):
        _, found, seen = chunks(mock, replace(TWELVE, ending=ending), protocol)
        assert (joined(found)[: len(everything)], seen) == (everything, ended)
        rest = joined(found)[len(everything) :]
        assert rest != speech(protocol).ending(TWELVE, "m") or (protocol, ending) == ("gemini", "no-terminator")  # it has none
        if ended != "whole":  # inside a frame of the protocol itself
            assert rest
            assert speech(protocol).ending(TWELVE, "m").startswith(rest)
    assert joined(found) != everything or protocol in ("openai-responses", "ollama")


@pytest.mark.parametrize("protocol", NAMES)
def test_a_frame_or_all_of_it_twice(mock: MockServer, protocol: str) -> None:
    opening, first, *others = speech(protocol).frames(TWELVE, "m")
    ending = speech(protocol).ending(TWELVE, "m")
    assert joined(chunks(mock, replace(TWELVE, duplicate="frame"), protocol)[1]) == b"".join([opening, first, first, *others, ending])
    assert joined(chunks(mock, replace(TWELVE, duplicate="stream"), protocol)[1]) == 2 * body_of(TWELVE, protocol)


@pytest.mark.parametrize("protocol", NAMES)
def test_a_giant_frame_is_one_frame_and_is_not_made_in_memory(mock: MockServer, protocol: str) -> None:
    mock.scripts["m"] = replace(TWELVE, giant=64 * 1024 * 1024)
    url = f"http://127.0.0.1:{mock.port}{PATHS[protocol]}"
    size = longest = open_frame = 0
    tracemalloc.start()
    try:
        with httpx.stream("POST", url, json={"model": "m"}) as answer:
            for data in answer.iter_raw():
                size += len(data)
                head, *ends = data.split(b"\n")
                open_frame += len(head)
                if ends:
                    longest, open_frame = max(longest, open_frame), len(ends[-1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 64 * 1024 * 1024 < longest < 65 * 1024 * 1024
    assert size >= longest
    assert peak < 8 * 1024 * 1024
    mock.scripts["m"] = replace(TWELVE, giant=100_000)
    base = mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))
    seen = ts.stream("Hi", "m", base_url=base, protocol=protocol)
    assert (seen.outcome, len(seen.text)) == ("complete", len("".join(TWELVE.pieces)) + 100_000)


@pytest.mark.parametrize("protocol", NAMES)
def test_keep_alives_are_the_protocols_own_and_no_answer(mock: MockServer, protocol: str) -> None:
    base = mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))
    mock.scripts["m"] = replace(SCRIPTS["pings"], keep_alive=0.02)
    seen = ts.stream("Hi", "m", base_url=base, protocol=protocol, timeout=1, max_retries=0)
    assert (seen.outcome, seen.error["type"], seen.text) == ("failed", "first_token_timeout", "")
    assert seen.timeline.keep_alives >= 5 or protocol == "ollama"  # there an empty line
    mock.scripts["m"] = Script(first=0.2, gap=0.1, keep_alive=0.02)
    _, found, _ = chunks(mock, mock.scripts["m"], protocol)
    assert [data for _, data in found].count(speech(protocol).KEEP_ALIVE) >= 4
    assert joined(found).replace(speech(protocol).KEEP_ALIVE, b"") == body_of(Script(), protocol).replace(speech(protocol).KEEP_ALIVE, b"")


def test_the_first_requests_fail_and_the_next_are_answered(mock: MockServer) -> None:
    mock.scripts["m"] = Script(status=429, headers={"Retry-After": "0.05"}, fails_first=2)
    seen = ts.stream("Hi", "m", base_url=mock.base_url)
    assert (seen.outcome, seen.text, len(mock.exchanges)) == ("complete", "Hello there.", 3)
    assert ts.stream("Hi", "m", base_url=mock.base_url).diagnostics == []
    mock.scripts["n"] = Script(error_after=0, error_type="overloaded_error", fails_first=1)
    seen = ts.stream("Hi", "n", base_url=mock.base_url)
    assert (seen.outcome, len(mock.exchanges)) == ("complete", 6)


def test_a_delay_comes_before_the_headers_and_the_first_wait_after_them(mock: MockServer) -> None:
    waits = []
    for script in (Script(delay=0.3), Script(first=0.3)):
        mock.scripts["m"] = script
        timeline = ts.stream("Hi", "m", base_url=mock.base_url).timeline
        piece = timeline.origin + next(iter(timeline)).offset_ns
        waits.append((timeline.headers - timeline.requested, piece - timeline.headers))
    assert waits[0][0] >= 300e6 > waits[0][1]
    assert waits[1][1] >= 290e6 > waits[1][0]


def test_what_it_serves_is_listed_in_the_shape_of_whoever_asks(mock: MockServer) -> None:
    mock.scripts = {"b": Script(), "a": Script()}
    root = f"http://127.0.0.1:{mock.port}"
    assert [m["id"] for m in httpx.get(f"{root}/v1/models").json()["data"]] == ["a", "b"]
    theirs = httpx.get(f"{root}/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert ([m["id"] for m in theirs["data"]], theirs["first_id"], theirs["has_more"]) == (["a", "b"], "a", False)
    assert [m["name"] for m in httpx.get(f"{root}/v1beta/models").json()["models"]] == ["models/a", "models/b"]
    assert [m["name"] for m in httpx.get(f"{root}/api/tags").json()["models"]] == ["a", "b"]
    assert httpx.get(f"{root}/elsewhere").status_code == 404


@pytest.mark.parametrize("protocol", NAMES)
def test_a_name_it_does_not_know_is_an_error_of_the_protocol_that_names_the_known(mock: MockServer, protocol: str) -> None:
    mock.scripts = {"b": Script(), "a": Script()}
    answer = httpx.post(f"http://127.0.0.1:{mock.port}{PATHS[protocol].replace('m:', 'x%20y:')}", json={"model": "x y"})
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert (error if protocol == "ollama" else error["message"]) == "The model 'x y' does not exist. Known: a, b."
    if protocol == "gemini":
        assert (error["code"], error["status"]) == (404, "NOT_FOUND_ERROR")


def test_requests_that_make_no_sense_do_not_end_the_server(mock: MockServer) -> None:
    where = urlsplit(mock.base_url)
    for sent in (
        b"\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 6\r\n\r\n[1, 2]",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 14\r\n\r\n" + b'{"model": [1]}',
        b"x" * 200_000,
    ):
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:  # it hung up before it had read everything
                pass
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"


FATES = {
    "unauthorized": ("failed", "mock_error"),
    "overloaded": ("failed", "mock_error"),
    "page": ("failed", "not_a_stream"),
    "redirect": ("failed", "redirect"),
    "silent": ("failed", "first_token_timeout"),
    "pings": ("failed", "first_token_timeout"),
    "error": ("failed", "mock_error"),
    "stall": ("truncated", "idle_timeout"),
    "hangs": ("truncated", "idle_timeout"),
    "cut": ("truncated", "connection_lost"),
    "cut-early": ("truncated", "connection_lost"),
    "reset": ("truncated", "connection_lost"),
    "no-finish": ("truncated", None),
}
LEFT_TO_OTHERS = ("gzip", "wrong-type", "loris", "endless")  # judged by the transport's tests, or without an end


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - set(LEFT_TO_OTHERS)))
def test_every_ready_made_script_ends_as_its_name_says(mock: MockServer, name: str) -> None:
    script = SCRIPTS[name]
    headers = {**script.headers, **({"Retry-After": "0.05"} if "Retry-After" in script.headers else {})}
    mock.scripts[name] = replace(script, gap=script.gap / 100, first=0, delay=0, headers=headers)
    patience = 0.4 if "timeout" in str(FATES.get(name)) else 30
    seen = ts.stream("Hi", name, base_url=mock.base_url, timeout=patience, idle_timeout=patience, max_retries=2 * (name == "busy"))
    assert (seen.outcome, (seen.error or {}).get("type")) == FATES.get(name, ("complete", None)), seen.error
    if script.body is None and name not in FATES and not script.giant:
        said = "".join(script.pieces)
        assert seen.text == (script.pieces[0] + said if name == "twice" else said)


def test_a_server_that_was_closed_or_never_opened_leaves_nothing_open() -> None:
    """Neither its loop, nor the answers it was at, nor connections that had only just come."""
    with warnings.catch_warnings(record=True) as warned, MockServer() as taken:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="use"):
            MockServer(port=taken.port)
        for _ in range(10):
            with MockServer() as server:
                asked = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
                asked[0].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 19\r\n\r\n" + b'{"model": "silent"}')
                server.wait_for(1)
                asked.append(socket.create_connection(("127.0.0.1", server.port)))
            for one in asked:
                one.close()
        gc.collect()
    assert [str(one.message) for one in warned] == []
