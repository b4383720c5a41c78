"""The mock server: loopback only, on a thread of its own, and it remembers what its clients did.

The model a request names picks the script. Every exchange is kept with monotonic stamps of what was sent and of
the moment the client's close was seen, on the clock the client's own timeline uses.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from tokenstream_magic.mock import anthropic, gemini, ollama, openai_chat, openai_responses
from tokenstream_magic.mock.script import SCRIPTS, Script

_LONGEST = 3600.0
# what a path speaks: its end, and the module that writes it
_SPOKEN = (
    ("/chat/completions", openai_chat),
    ("/responses", openai_responses),
    ("/messages", anthropic),
    (":streamGenerateContent", gemini),
    ("/chat", ollama),
)


@dataclass
class Exchange:
    """One request as the server saw it. Stamps are monotonic ns; ``closed_at`` is when the client's close arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    arrived_at: int
    sent: list[int] = field(default_factory=list)
    closed_at: int | None = None
    closed: threading.Event = field(default_factory=threading.Event)


class MockServer:
    """Serves scripts until :meth:`close`. Use as a context manager.

    ``scripts`` may be changed while it runs. ``exchanges`` grows by one a request.
    """

    def __init__(self, scripts: dict[str, Script] | None = None, port: int = 0) -> None:
        self.scripts = {**SCRIPTS, **(scripts or {})}
        self.exchanges: list[Exchange] = []
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tokenstream-mock", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", port), self._loop)
        self._server = starting.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def base_url(self) -> str:
        """What a client takes as ``--base-url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def wait_for(self, count: int, timeout: float = 30.0) -> Exchange:
        """Waits until ``count`` requests have arrived and returns the last of them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.exchanges) >= count, timeout):
                raise TimeoutError(f"{len(self.exchanges)} of {count} requests arrived")
            return self.exchanges[count - 1]

    def close(self) -> None:
        """Ends the server and every connection."""

        async def end() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> MockServer:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            exchange = await _request(reader)
            if exchange is None:
                return
            with self._arrived:
                self.exchanges.append(exchange)
                self._arrived.notify_all()
            answering = asyncio.ensure_future(self._answer(exchange, writer))
            gone = asyncio.ensure_future(_until_gone(reader))
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                exchange.closed_at = monotonic_ns()
            answering.cancel()
            gone.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            if self.exchanges:
                for exchange in self.exchanges:
                    if exchange.closed_at is not None:
                        exchange.closed.set()
            writer.close()

    async def _answer(self, exchange: Exchange, writer: asyncio.StreamWriter) -> None:
        speech = next((spoken for end, spoken in _SPOKEN if exchange.path.partition("?")[0].endswith(end)), openai_chat)
        name = str(exchange.body.get("model") or exchange.path.rpartition("/")[2].partition(":")[0])
        script = self.scripts.get(name)
        if script is None:
            script = Script(status=404, error=f"The model {name!r} does not exist")
        if script.status != 200 or script.body is not None:
            await self._plain(script, speech, writer)
            return
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {script.content_type or speech.CONTENT_TYPE}\r\nTransfer-Encoding: chunked\r\n"
        writer.write((head + "".join(f"{k}: {v}\r\n" for k, v in script.headers.items()) + "\r\n").encode())
        await self._stream(script, name, speech, exchange, writer)

    async def _stream(self, script: Script, name: str, speech: Any, exchange: Exchange, writer: asyncio.StreamWriter) -> None:
        frames = list(speech.frames(script, name))
        opening, contents = frames[0], frames[1:]
        await _chunk(writer, opening)
        await asyncio.sleep(script.first)
        for start in range(0, len(contents), script.together):
            if start and script.gap:
                await asyncio.sleep(script.gap)
            if script.stall_after is not None and start >= script.stall_after:
                await self._silence(script, writer)
            if script.error_after is not None and start >= script.error_after:
                await _chunk(writer, speech.error_frame(script))
                break
            exchange.sent.append(monotonic_ns())
            await _chunk(writer, b"".join(contents[start : start + script.together]))
        else:
            await self._end(script, name, speech, writer)
            return
        await _last_chunk(writer)

    async def _end(self, script: Script, name: str, speech: Any, writer: asyncio.StreamWriter) -> None:
        if script.ending == "stall":
            await self._silence(script, writer)
        if script.ending in ("cut", "reset"):
            await _chunk(writer, b'data: {"id":"mock-1","choi')
            connection = writer.get_extra_info("socket")
            if script.ending == "reset" and connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        await _chunk(writer, speech.ending(script, name))
        await _last_chunk(writer)

    async def _silence(self, script: Script, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(script.keep_alive or _LONGEST)
            if script.keep_alive:
                await _chunk(writer, b": keep-alive\n\n")

    async def _plain(self, script: Script, speech: Any, writer: asyncio.StreamWriter) -> None:
        body = script.body if script.body is not None else json.dumps(speech.error(script)).encode()
        kind = script.content_type or speech.CONTENT_TYPE if script.body is not None else "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **script.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {script.status} Scripted\r\n{lines}\r\n".encode() + body)
        await writer.drain()


_lock = threading.Lock()
_shared: MockServer | None = None


def shared() -> MockServer:
    """The mock server of this process, which the endpoint ``mock`` uses; it ends with the process."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = MockServer()
        return _shared


async def _request(reader: asyncio.StreamReader) -> Exchange | None:
    head = await reader.readuntil(b"\r\n\r\n")
    arrived = monotonic_ns()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    length = int(headers.get("content-length", "0"))
    body = await reader.readexactly(length)
    try:
        decoded = json.loads(body) if body else {}
    except ValueError:
        decoded = {}
    parts = first.split(" ")
    return Exchange(parts[1] if len(parts) > 1 else "/", headers, decoded, arrived)


async def _until_gone(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        return


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()


async def _last_chunk(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")
    await writer.drain()
