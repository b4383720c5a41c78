"""Servers that tests write byte by byte, and a TLS front before the mock server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tokenstream_magic.mock.server import ended


@contextmanager
def tls_front(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """Relays TLS on a port of its own to ``port``; yields that port and the file of the authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = directory / "authority.pem"
    authority.cert_pem.write_to_path(file)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(relay, "127.0.0.1", 0, ssl=context), loop).result(10)

    try:
        yield server.sockets[0].getsockname()[1], file
    finally:
        asyncio.run_coroutine_threadsafe(ended(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass
class Asked:
    """One request as a :class:`Peer` read it; ``gone`` is set when the client closed that connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)


class Peer:
    """A server whose answers a test writes byte by byte: ``answer(asked, writer)`` runs for each request.

    ``before(reader, writer)`` may take the connection first, and end it by returning False. Use as a context manager.
    """

    def __init__(self, answer, *, tls: ssl.SSLContext | None = None, before=None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self._answer, self._before = answer, before
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        opening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls), self._loop)
        self._server = opening.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(ended(self._server), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def wait_for(self, count: int) -> Asked:
        """The request of that number, once it is there."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.asked) >= count, 20), f"{len(self.asked)} of {count} requests came"
            return self.asked[count - 1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._before is not None and not await self._before(reader, writer):
                return
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
            asked = Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
            with self._arrived:
                self.asked.append(asked)
                self._arrived.notify_all()
            answering = asyncio.ensure_future(self._answer(asked, writer))
            closing = asyncio.ensure_future(reader.read())
            await asyncio.wait({answering, closing}, return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                asked.gone.set()
            for part in (answering, closing):
                part.cancel()
            results = await asyncio.gather(answering, closing, return_exceptions=True)
            if isinstance(results[0], Exception) and not isinstance(results[0], (ConnectionError, OSError)):
                raise results[0]
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.close()


def head(status: int = 200, kind: str = "text/event-stream", *more: str) -> bytes:
    """The head of a response whose body ends with the connection, unless ``more`` headers say otherwise."""
    return "\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", *more, "", ""]).encode()


async def send(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()


def chunk(data: bytes) -> bytes:
    """A chunk of a body in chunks."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection by a reset, once what was written is on its way."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def chat(*pieces: str, done: bool = True) -> list[bytes]:
    """The frames of an answer of openai-chat, one a piece."""
    frames = [b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}).encode() + b"\n\n" for piece in pieces]
    end = [b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]
    return [*frames, *(end if done else [])]


def configure(text: str) -> None:
    """Writes the user's ``tokenstream.toml`` of this test."""
    Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(text)
