"""Proxies: only when the user's own file names one, never for this machine, keys only through a tunnel, passwords nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from transport_support import Peer, chat, chunk, configure, head, send

import tokenstream_magic as ts
from tokenstream_magic import api, asking, catalog
from tokenstream_magic.commands import dry_run
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.mock.server import ended
from tokenstream_magic.transport import http

KEY = "sk-behind-the-proxy-abcdef"
PASSWORD = "proxy-pass-0123"


class Proxy:
    """A CONNECT proxy on loopback that leads every name to ``port``, and remembers what it was asked in clear."""

    def __init__(self, port: int, *, status: int = 200, reason: str = "Connection established") -> None:
        self.heads: list[str] = []
        self.tunnelled = bytearray()
        self._to, self._status, self._reason = port, status, reason
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(ended(self._server), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if self._status != 200 or not head.startswith("CONNECT "):
                writer.write(
                    f"HTTP/1.1 {self._status if self._status != 200 else 405} {self._reason}\r\nContent-Length: 0\r\n\r\n".encode()
                )
                await writer.drain()
                return
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._pump(reader, inner_writer, self.tunnelled), self._pump(inner_reader, writer, bytearray()))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        try:
            while data := await reader.read(65536):
                seen += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@contextmanager
def model_server(directory: Path, monkeypatch, gap: float = 0.03):
    """A model server with TLS whose certificate is for ``model.test``, a name only the proxy can lead to."""

    async def answer(asked, writer):
        await send(writer, head(200, "text/event-stream", "Transfer-Encoding: chunked"))
        for frame in chat("a", "b", "c", "d"):
            await send(writer, chunk(frame))
            await asyncio.sleep(gap)
        await send(writer, b"0\r\n\r\n")

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("model.test").configure_cert(context)
    authority.cert_pem.write_to_path(directory / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "authority.pem"))
    monkeypatch.setenv("LAB_KEY", KEY)
    http._tls.cache_clear()
    with Peer(answer, tls=context) as peer:
        yield peer
    http._tls.cache_clear()


def lab(proxy: str = "", **more: str) -> None:
    table = {"base_url": "https://model.test/v1", "api_key_env": "LAB_KEY", **({"proxy": proxy} if proxy else {}), **more}
    configure("[endpoints.lab]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items()))


@pytest.mark.parametrize("where", ["endpoint", "network"])
def test_a_stream_goes_through_the_tunnel_with_its_own_stamps(tmp_path: Path, monkeypatch, where: str) -> None:
    with model_server(tmp_path, monkeypatch) as peer, Proxy(peer.port) as proxy:
        url = f"http://reader:{PASSWORD}@127.0.0.1:{proxy.port}"
        lab(url) if where == "endpoint" else configure(
            f'[network]\nproxy = "{url}"\n[endpoints.lab]\nbase_url = "https://model.test/v1"\napi_key_env = "LAB_KEY"\n'
        )
        transcript = ts.stream("Hi", "lab/m")
    assert (transcript.outcome, transcript.text) == ("complete", "abcd"), transcript.error
    assert len({stamp.read for stamp in transcript.timeline}) == 4, "every piece has a read of its own"
    assert transcript.timing.e2e_ms > 80
    assert transcript.timeline.moments()["connected"] <= 0
    [head] = proxy.heads
    assert head.startswith("CONNECT model.test:443 HTTP/1.1\r\n")
    assert base64.b64encode(f"reader:{PASSWORD}".encode()).decode() in head
    assert KEY not in head
    assert KEY.encode() not in proxy.tunnelled
    assert peer.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in peer.asked[0].headers
    assert PASSWORD not in json.dumps(settled(transcript), default=str) + repr(ts.transcripts.last().__dict__)


def test_stop_closes_the_tunnel_at_once(tmp_path: Path, monkeypatch) -> None:
    with model_server(tmp_path, monkeypatch, gap=30) as peer, Proxy(peer.port) as proxy:
        lab(f"http://127.0.0.1:{proxy.port}")
        run = api.start("Hi", "lab/m")
        asked = peer.wait_for(1)
        while not run.fold.pieces:
            pass
        run.stop("button")
        assert run.wait().timing.stop_latency_ms < 100
        assert asked.gone.wait(5)


def test_without_a_line_in_the_users_file_no_proxy_is_used(tmp_path: Path, monkeypatch) -> None:
    with model_server(tmp_path, monkeypatch) as peer, Proxy(peer.port) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        lab()
        transcript = ts.stream("Hi", "lab/m", max_retries=0)
    assert transcript.error["type"] == "no_connection"
    assert "model.test is not known" in transcript.error["message"]
    assert proxy.heads == []


@pytest.mark.parametrize("value", ["http://u:p@[", "::::", "http://%zz:1", "socks5://127.0.0.1:9", "http://u:\u00fc@x"])
def test_malformed_proxy_variables_do_nothing(mock, monkeypatch, value: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, value)
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"


def test_this_machine_is_never_reached_through_a_proxy(mock) -> None:
    with Proxy(mock.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        configure(f'[network]\nproxy = "{url}"\n[endpoints.lab]\nbase_url = "{mock.base_url}"\nproxy = "{url}"\n')
        for model, base_url in (("lab/hello", None), ("hello", mock.base_url), ("hello", mock.base_url.replace("127.0.0.1", "localhost"))):
            assert ts.stream("Hi", model, base_url=base_url).outcome == "complete"
        assert proxy.heads == []


def test_an_endpoint_may_go_without_the_proxy_of_all_others() -> None:
    configure('[network]\nproxy = "http://p.test:1"\n[endpoints.direct]\nbase_url = "https://d.test/v1"\nproxy = ""\n')
    table = catalog.endpoints()
    assert (table["direct"].proxy, table["openrouter"].proxy, table["ollama"].proxy) == ("", "http://p.test:1", None)


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [(407, "Proxy Authentication Required", "407"), (403, f"No {PASSWORD} here", "403 No *** here"), (502, "Bad Gateway", "502")],
)
def test_a_proxy_that_refuses_is_named_without_its_password(tmp_path: Path, monkeypatch, status: int, reason: str, said: str) -> None:
    with model_server(tmp_path, monkeypatch) as peer, Proxy(peer.port, status=status, reason=reason) as proxy:
        lab(f"http://reader:{PASSWORD}@127.0.0.1:{proxy.port}")
        transcript = ts.stream("Hi", "lab/m", max_retries=0)
    assert (transcript.outcome, transcript.error["type"]) == ("failed", "proxy")
    assert f"The proxy http://127.0.0.1:{proxy.port} let nothing through: {said}" in transcript.error["message"]
    assert PASSWORD not in json.dumps(settled(transcript), default=str)
    assert len(proxy.heads) == 1


def test_a_proxy_that_is_not_there_and_one_that_never_shows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    lab(f"http://reader:{PASSWORD}@127.0.0.1:9")
    plan, _ = asking.prepare("Hi", "lab/m")
    transcript = ts.stream("Hi", "lab/m")
    shown = repr(plan) + repr(plan.call()) + dry_run(plan) + str(transcript.error) + repr(catalog.configuration())
    assert "The proxy http://127.0.0.1:9 cannot be reached. Check the proxy in tokenstream.toml." in transcript.error["message"]
    assert PASSWORD not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://127.0.0.1:1080", "A SOCKS proxy cannot be used."),
        ("socks5h://u:p@127.0.0.1:1080", "A SOCKS proxy cannot be used."),
        ("https://p.test:3128", "The proxy itself is spoken to over http."),
        (f"http://u:{PASSWORD}@p.test:0", "The proxy is no http:// address."),
        (f"http://u:{PASSWORD}@p.test:99999", "The host or port of the proxy is wrong."),
        (f"http://u:{PASSWORD}@p.test/path", "The proxy is no http:// address."),
        ("p.test:3128", "The proxy is no http:// address."),
    ],
)
def test_what_is_no_proxy_is_refused_in_a_line(proxy: str, said: str) -> None:
    for text in (f'[network]\nproxy = "{proxy}"\n', f'[endpoints.lab]\nbase_url = "https://x.test/v1"\nproxy = "{proxy}"\n'):
        configure(text)
        with pytest.raises(ts.TokenstreamError) as refused:
            catalog.resolve("local")
        assert said in str(refused.value)
        assert PASSWORD not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_projects_file_names_no_proxy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "tokenstream.toml").rename(tmp_path / "mine.toml") if (tmp_path / "tokenstream.toml").exists() else None
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "mine.toml"))
    (tmp_path / "tokenstream.toml").write_text('[network]\nproxy = "http://evil.test:1"\n')
    assert catalog.endpoints()["openai"].proxy is None
    assert any("network" in problem for problem in catalog.configuration().problems)
