"""What servers and networks do to an exchange: it ends, in bounded time and memory, with one line that says why and what to do."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import os
import socket
import ssl
import threading
import zlib
from pathlib import Path
from time import monotonic

import psutil
import pytest
import trustme
from transport_support import Peer, chat, chunk, configure, head, send

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.errors import KeyRefused
from tokenstream_magic.transport import http, network

KEY = "sk-never-elsewhere-abcdef"
BODY = b"".join(chat("Hello ", "there", "."))


def answering(*parts: bytes, stay: bool = False):
    async def answer(asked, writer):
        await send(writer, *parts)
        if stay:
            await asyncio.sleep(60)

    return answer


def ask(peer: Peer, **flags) -> ts.Transcript:
    return ts.stream("Hi", "m", base_url=peer.base_url, **{"max_retries": 0, **flags})


# N23: redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["/v1/elsewhere", "http://127.0.0.1:{sink}/v1", "http://localhost:{sink}/v1", "//127.0.0.1:{sink}/x", "file:///etc/passwd", "{self}"],
)
@pytest.mark.parametrize("protocol", ["openai-chat", "anthropic", "gemini"])
def test_a_redirect_is_named_and_never_followed(monkeypatch, status: int, target: str, protocol: str) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    sunk: list[object] = []
    opened: list[int] = []
    connect = network.StampedBackend.connect_tcp

    async def connecting(self, host, port, timeout):
        opened.append(port)
        return await connect(self, host, port, timeout)

    monkeypatch.setattr(network.StampedBackend, "connect_tcp", connecting)

    async def sink(asked, writer):
        sunk.append(asked)

    async def away(asked, writer):
        where = target.replace("{sink}", str(elsewhere.port)).replace("{self}", asked.path)
        await send(writer, head(status, "text/plain", f"Location: {where}", "Content-Length: 0"))

    with Peer(sink) as elsewhere, Peer(away) as peer:
        configure(f'[endpoints.lab]\nprotocol = "{protocol}"\nbase_url = "{peer.base_url}"\napi_key_env = "LAB_KEY"\n')
        transcript = ts.stream("Hi", "lab/m", max_retries=0)
        assert (transcript.outcome, transcript.error["type"], transcript.error["status"]) == ("failed", "redirect", status)
        assert target.replace("{sink}", str(elsewhere.port)).replace("{self}", "/")[:4] in transcript.error["message"]
        assert "redirects are not followed" in transcript.error["message"]
        # our own connections, not those that came to the trap: its port may have been another process's a moment ago
        assert (len(peer.asked), opened, sunk) == (1, [peer.port], [])


# N42, N44: TLS


def certified(tmp_path: Path, monkeypatch, *names: str, trusted: bool = True, **more) -> ssl.SSLContext:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",)), **more).configure_cert(context)
    if trusted:
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("LAB_KEY", KEY)
    http._tls.cache_clear()
    return context


@pytest.fixture
def fresh_tls():
    http._tls.cache_clear()
    yield
    http._tls.cache_clear()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("expired", "its certificate has expired. Its operator must renew it"),
        ("unknown", "no authority trusted here has signed its certificate. If the server is your own"),
        ("name", "its certificate is for another address. Check the address"),
        ("old", "it offers only versions of TLS or ciphers that are no longer safe. Its operator must update it."),
        ("cut", "the connection was closed during the TLS handshake. Check the address"),
        ("plain", "what answers there does not speak https. If it is a server without encryption, write http://."),
    ],
)
def test_tls_that_cannot_be_trusted_is_refused_in_a_line(tmp_path: Path, monkeypatch, fresh_tls, what: str, said: str) -> None:
    past = {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)} if what == "expired" else {}
    names = ["model.test", "10.0.0.1"] if what == "name" else ["127.0.0.1"]
    context = certified(tmp_path, monkeypatch, *names, trusted=what != "unknown", **past)
    # what such a server says to a ClientHello; an OpenSSL of today refuses to be the server of the old one itself
    replies = {"cut": b"", "old": b"\x15\x03\x01\x00\x02\x02\x46", "plain": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"}

    async def reply(reader, writer):
        await reader.read(10)
        await send(writer, replies[what])
        await asyncio.sleep(0.05)
        writer.transport.abort()
        return False

    with Peer(answering(head(), BODY), tls=None if what in replies else context, before=reply if what in replies else None) as peer:
        transcript = ts.stream("Hi", "m", base_url=f"https://127.0.0.1:{peer.port}/v1", api_key_env="LAB_KEY", max_retries=0)
        assert peer.asked == [], "nothing was sent"
    assert transcript.error["type"] == "no_connection"
    assert transcript.error["message"].startswith(f"No secure connection to https://127.0.0.1:{peer.port}: {said}")
    assert "verify" not in transcript.error["message"], "no hint to switch the check off"


def test_http_to_a_port_that_speaks_https_is_told(tmp_path: Path, monkeypatch, fresh_tls) -> None:
    with Peer(answering(head(), BODY), tls=certified(tmp_path, monkeypatch)) as peer:
        transcript = ts.stream("Hi", "m", base_url=f"http://127.0.0.1:{peer.port}/v1", max_retries=0)
    assert transcript.outcome == "failed"
    assert "write https://" in transcript.error["message"].lower()


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch, fresh_tls) -> None:
    with Peer(answering(head(), BODY), tls=certified(tmp_path, monkeypatch)) as peer:
        for file in (tmp_path / "nowhere.pem", tmp_path / "empty.pem"):
            (tmp_path / "empty.pem").write_text("no certificate")
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
            http._tls.cache_clear()
            transcript = ts.stream("Hi", "m", base_url=f"https://127.0.0.1:{peer.port}/v1", max_retries=0)
            assert f"{file} of SSL_CERT_FILE cannot be read" in transcript.error["message"]
            assert (transcript.error["type"], peer.asked) == ("no_connection", [])


# N43, N46, T11: keys, addresses, environment


def test_a_key_goes_nowhere_in_clear(monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    connected: list[object] = []
    monkeypatch.setattr(network.StampedBackend, "connect_tcp", lambda *a, **k: connected.append(a))
    for url in ("http://model.test/v1", "http://10.1.2.3:8080/v1", "http://127.0.0.1.model.test/v1", "http://localhost.model.test/v1"):
        configure(f'[endpoints.lab]\nbase_url = "{url}"\napi_key_env = "LAB_KEY"\n')
        with pytest.raises(KeyRefused, match="is not encrypted"):
            ts.stream("Hi", "lab/m")
    assert connected == []


def test_a_name_that_leads_to_a_link_local_address_gets_nothing(monkeypatch) -> None:
    with Peer(answering(head(), BODY)) as peer:
        for address in ("169.254.169.254", "fe80::1", "::ffff:169.254.1.1", "fd00:ec2::254"):
            assert network._is_link_local((address, 80))
        for address in ("127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1"):
            assert not network._is_link_local((address, 80))
        monkeypatch.setattr(network, "_is_link_local", lambda peer: True)
        transcript = ask(peer)
        assert transcript.error["type"] == "no_connection"
        assert "link-local" in transcript.error["message"]
        assert peer.asked == []


def test_a_netrc_is_not_read(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc-secret-1234\ndefault login me password netrc-secret-1234\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Peer(answering(head(200, "text/event-stream"), BODY)) as peer:
        assert ask(peer).outcome == "complete"
        assert "authorization" not in peer.asked[0].headers


# N22, N24-N28: what is no proper HTTP


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1 200 OK\rX: y\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: abcdefgh\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_what_is_no_proper_http_fails_in_a_line_and_is_not_tried_again(sent: bytes) -> None:
    with Peer(answering(sent, stay=True)) as peer:
        started = monotonic()
        transcript = ask(peer, max_retries=2, timeout=8)
        assert monotonic() - started < 7, transcript.error
        assert len(peer.asked) == 1
    assert transcript.outcome == "failed"
    assert transcript.error["type"] in ("bad_response", "not_a_stream"), transcript.error
    assert len(transcript.error["message"]) < 400
    assert transcript.error["message"].isprintable()


def test_early_hints_and_continues_are_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Peer(answering(early, head(), BODY)) as peer:
        assert ask(peer).text == "Hello there."


def test_endless_early_hints_and_slow_headers_meet_the_first_token_limit_and_stop() -> None:
    async def endless(asked, writer):
        while True:
            await send(writer, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50)
            await asyncio.sleep(0)

    async def slow(asked, writer):
        await send(writer, b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            await send(writer, b"a")
            await asyncio.sleep(0.05)

    for answer in (endless, slow):
        with Peer(answer) as peer:
            before = psutil.Process().memory_info().rss
            transcript = ask(peer, timeout=1.0)
            assert (transcript.outcome, transcript.error["type"]) == ("failed", "first_token_timeout")
            assert peer.asked[0].gone.wait(5)
            assert psutil.Process().memory_info().rss - before < 64 << 20
            run = api.start("Hi", "m", base_url=peer.base_url)
            peer.wait_for(2)
            run.stop("button")
            assert run.future.result(5).timing.stop_latency_ms < 500


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"zz\r\nabc", "bad_response"),
        (b"-5\r\nabc\r\n", "bad_response"),
        (b"7fffffffffffffff\r\nabc", "connection_lost"),
        (b"ffffffffffffffffffffff\r\nabc", "bad_response"),
        (b"3\r\nabcXX", "bad_response"),
        (b"3;" + b"x" * 1_000_000 + b"\r\nabc\r\n", "bad_response"),
        (b"", "connection_lost"),
    ],
)
def test_a_broken_chunk_truncates_and_keeps_what_came(sent: bytes, kind: str) -> None:
    first = head(200, "text/event-stream", "Transfer-Encoding: chunked") + chunk(b"".join(chat("Hello ", "there", done=False)))
    with Peer(answering(first, sent)) as peer:
        transcript = ask(peer)
    assert (transcript.outcome, transcript.text, transcript.error["type"]) == ("truncated", "Hello there", kind), transcript.error


def test_lengths_that_do_not_match() -> None:
    with Peer(answering(head(200, "text/event-stream", f"Content-Length: {len(BODY) + 50}"), b"".join(chat("Hello", done=False)))) as peer:
        assert (ask(peer).outcome, ask(peer).text) == ("truncated", "Hello"), "too large"
    with Peer(answering(head(200, "text/event-stream", f"Content-Length: {len(chat('Hello ')[0])}"), BODY)) as peer:
        assert (ask(peer).outcome, ask(peer).text) == ("truncated", "Hello "), "too small"
    both = head(200, "text/event-stream", "Content-Length: 5", "Transfer-Encoding: chunked")
    with Peer(answering(both, chunk(BODY), b"0\r\nX-Trailer: ignored\r\n\r\n")) as peer:
        assert ask(peer).text == "Hello there.", "chunks go before a length"


def test_every_exchange_has_a_connection_of_its_own() -> None:
    with Peer(
        answering(head(200, "text/event-stream", "Transfer-Encoding: chunked", "Connection: keep-alive"), chunk(BODY), b"0\r\n\r\n")
    ) as peer:
        for _ in range(3):
            assert ask(peer).outcome == "complete"
        assert peer.connections == 3


def test_an_answer_given_before_the_request_was_read_is_shown() -> None:
    async def early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        said = b'{"error":{"message":"the request is too large"}}'
        await send(writer, head(413, "application/json", f"Content-Length: {len(said)}", "Connection: close"), said)
        await asyncio.sleep(0.2)
        writer.close()
        return False

    with Peer(answering(), before=early) as peer:
        transcript = ts.stream("x" * 8_000_000, "m", base_url=peer.base_url, max_retries=0)
    assert transcript.error["status"] == 413, transcript.error
    assert "the request is too large" in transcript.error["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/octet-stream", "application/json", "text/html; charset=x", "Text/Event-Stream; q=1"]
)
def test_a_stream_under_another_name_is_a_stream(kind: str) -> None:
    with Peer(answering(head(200, kind), b": ping\n\n", BODY)) as peer:
        transcript = ask(peer)
    assert (transcript.outcome, transcript.text) == ("complete", "Hello there.")
    assert len(transcript.timeline) == 3
    assert ("the server says the stream is" in str(transcript.diagnostics)) == ("event-stream" not in kind.lower())


# N29, N30: compression


def packed(data: bytes, bits: int = 31) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(("coding", "body"), [("gzip", packed(BODY)), ("deflate", packed(BODY, 15)), ("deflate", packed(BODY, -15))])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_compressed_stream_is_unpacked_and_told(coding: str, body: bytes, size: int) -> None:
    first = head(200, "text/event-stream", f"Content-Encoding: {coding}", "Transfer-Encoding: chunked")
    with Peer(answering(first, *(chunk(body[i : i + size]) for i in range(0, len(body), size)), b"0\r\n\r\n")) as peer:
        transcript = ask(peer)
        assert peer.asked[0].headers["accept-encoding"] == "identity"
    assert (transcript.outcome, transcript.text) == ("complete", "Hello there.")
    assert f"compressed the stream ({coding})" in transcript.diagnostics[0]


def test_a_compressed_error_is_read() -> None:
    said = gzip.compress(b'{"error":{"message":"no such model"}}')
    with Peer(answering(head(404, "application/json", "Content-Encoding: gzip", f"Content-Length: {len(said)}"), said)) as peer:
        assert "no such model" in ask(peer).error["message"]


@pytest.mark.parametrize("how", ["cut", "corrupt", "not"])
def test_a_damaged_compressed_stream_keeps_what_came(how: str) -> None:
    packer = zlib.compressobj(wbits=31)
    start = packer.compress(b"".join(chat("Hello ", done=False))) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = {"cut": b"", "corrupt": b"\xff" * 64, "not": b"data: x\n\n"}[how]
    first = head(200, "text/event-stream", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
    with Peer(answering(first, chunk(start), chunk(rest) if rest else b"", b"0\r\n\r\n")) as peer:
        transcript = ask(peer)
    assert (transcript.outcome, transcript.text) == ("truncated", "Hello ")
    assert transcript.error["type"] == ("connection_lost" if how == "cut" else "compressed")


@pytest.mark.parametrize("bomb", ["one frame", "comments", "error"])
def test_a_bomb_is_refused_with_memory_flat_and_stop_alive(bomb: str) -> None:
    unit = {"one frame": b"a" * 1_000_000, "comments": b":\n" * 500_000, "error": b"e" * 1_000_000}[bomb]
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(b"data: ") if bomb == "one frame" else b""
    body += b"".join(packer.compress(unit) for _ in range(300)) + packer.flush()
    status, kind = (500, "text/plain") if bomb == "error" else (200, "text/event-stream")
    with Peer(answering(head(status, kind, "Content-Encoding: gzip", f"Content-Length: {len(body)}"), body)) as peer:
        before = psutil.Process().memory_info().rss
        transcript = ask(peer)
        grown = psutil.Process().memory_info().rss - before
    assert transcript.outcome == "failed"
    assert transcript.error["type"] in ("compressed", "frame_too_large") or bomb == "error", transcript.error
    assert grown < 96 << 20, f"{grown >> 20} MiB"


# the frame limit is the user's to set


@pytest.mark.parametrize(("written", "passes"), [('"64 KiB"', False), ("65536", False), ('"1 MiB"', True), (None, True)])
def test_the_frame_limit_is_the_users(written: str | None, passes: bool) -> None:
    for protocol, frame, kind in (
        ("openai-chat", b"".join(chat("x" * 200_000)), "text/event-stream"),
        (
            "ollama",
            b'{"message":{"content":"' + b"x" * 200_000 + b'"},"done":false}\n{"done":true,"done_reason":"stop"}\n',
            "application/x-ndjson",
        ),
    ):
        with Peer(answering(head(200, kind), frame)) as peer:
            limit = f"frame_limit = {written}\n" if written else ""
            configure(f'[endpoints.lab]\nprotocol = "{protocol}"\nbase_url = "{peer.base_url}"\n{limit}')
            transcript = ts.stream("Hi", "lab/m", max_retries=0)
        assert (transcript.outcome == "complete") == passes, (protocol, transcript.error)
        assert passes or transcript.error["type"] == "frame_too_large"


@pytest.mark.parametrize("written", ['"lots"', '"0"', "0", "-5", "true", "1.5", '"12 TiB"', '"1 B"'])
def test_a_frame_limit_that_is_none_is_refused(written: str) -> None:
    configure(f'[endpoints.lab]\nbase_url = "http://localhost:1/v1"\nframe_limit = {written}\n')
    with pytest.raises(ts.TokenstreamError, match="frame_limit"):
        ts.stream("Hi", "lab/m")


def test_nothing_is_left_open() -> None:
    process = psutil.Process()
    with Peer(answering(head(), BODY)) as peer:
        ask(peer)
        before = process.num_fds() if os.name == "posix" else 0
        for _ in range(5):
            ask(peer)
        assert process.num_fds() - before <= 1 if os.name == "posix" else True
    assert socket.getdefaulttimeout() is None
    assert sum(thread.name == "tokenstream" for thread in threading.enumerate()) == 1
