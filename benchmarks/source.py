"""A scripted token server in a process of its own, so that its work is not counted; it stamps every token it sends.

The model's name is the script: ``n500-r80`` sends 500 tokens, 80 a second; ``p10000-n500-r80`` sends 10,000 at once in
front of them; ``n8-r80-stall`` falls silent after the last. A token is seven bytes of text and carries its number, so
that a page can tell which tokens it shows by the end of its text. Stamps are monotonic ns, and ``/clock`` tells a page
the same clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import re
import urllib.request
from array import array
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import monotonic_ns

PARAGRAPH = 40  # tokens
FIRST = 0.3  # s until the first token
REST = 1.5  # s from what is sent at once to the first of the others
AT_ONCE = 200  # tokens in one write of what is sent at once
TICK = 0.001

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BEFORE = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"'
_AFTER = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
_END = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
_HEAD = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"


def token(number: int) -> str:
    """Seven bytes: a word that ends in its number, every so often the first of a paragraph."""
    digits = ""
    rest = number
    while rest or len(digits) < 4:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return f"\n\nz{digits}" if number % PARAGRAPH == 0 and number else f" z{digits:0>5}"


def text(count: int) -> str:
    """The whole answer."""
    return "".join(map(token, range(count)))


def _frame(number: int) -> bytes:
    return _BEFORE + token(number).replace("\n", "\\n").encode() + _AFTER


@dataclass
class _Exchange:
    sent: array[int] = field(default_factory=lambda: array("q"))
    closed_at: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)


_exchanges: list[_Exchange] = []


async def _answer(name: str, exchange: _Exchange, writer: asyncio.StreamWriter) -> None:
    said = {key: int(value) for key, value in re.findall(r"([pnr])(\d+)", name)}
    loop, at = asyncio.get_running_loop(), said.get("p", 0)

    def write(numbers: range) -> None:
        body = b"".join(map(_frame, numbers))
        exchange.sent.extend([monotonic_ns()] * len(numbers))
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))

    writer.write(_HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await asyncio.sleep(FIRST)
    for begin in range(0, at, AT_ONCE):
        write(range(begin, min(begin + AT_ONCE, at)))
        await writer.drain()
        await asyncio.sleep(0.005)
    if at:
        await asyncio.sleep(REST)
    begun, count, rate = loop.time(), said["n"], said["r"]
    sent = 0
    while sent < count:
        due = min(count, int((loop.time() - begun) * rate) + 1)
        if due > sent:
            write(range(at + sent, at + due))
            sent = due
            await writer.drain()
        await asyncio.sleep(max(TICK, begun + sent / rate - loop.time()))
    if name.endswith("stall"):
        await asyncio.sleep(3600)
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_END), _END))
    await writer.drain()


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ", 2)[1].decode()
    if path.startswith("/v1/"):
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
        name = json.loads(await reader.readexactly(length))["model"]
        exchange = _Exchange()
        _exchanges.append(exchange)
        answering = asyncio.ensure_future(_answer(name, exchange, writer))
        gone = asyncio.ensure_future(reader.read())
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        exchange.closed_at = monotonic_ns() if gone.done() else 0
        exchange.closed.set()
        for task in (answering, gone):
            task.cancel()
        return
    body = str(monotonic_ns()).encode()
    if path == "/count":
        body = str(len(_exchanges)).encode()
    elif path.startswith("/log/"):
        body = _exchanges[int(path[5:])].sent.tobytes()
    elif path.startswith("/closed/"):
        exchange = _exchanges[int(path[8:])]
        await asyncio.wait_for(exchange.closed.wait(), 30)
        body = str(exchange.closed_at).encode()
    writer.write(_HEAD + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        await _respond(reader, writer)
    writer.close()


async def _serve(tell: Connection) -> None:
    gc.disable()
    server = await asyncio.start_server(_connection, "127.0.0.1", 0, backlog=1024)
    tell.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(tell: Connection) -> None:
    asyncio.run(_serve(tell))


class Source:
    """The server, as the benchmark sees it."""

    def __init__(self) -> None:
        here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_run, args=(there,), daemon=True)
        self._process.start()
        self.port: int = here.recv()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read()

    def count(self) -> int:
        """How many answers were asked for."""
        return int(self.get("/count"))

    def sent(self, exchange: int = -1) -> array[int]:
        """When each token was sent; of the last answer, unless another is named."""
        stamps = array("q")
        stamps.frombytes(self.get(f"/log/{exchange}"))
        return stamps

    def closed(self, exchange: int = -1) -> int:
        """When the client's close was seen; waits for it. 0 when the answer was sent to its end."""
        return int(self.get(f"/closed/{exchange}"))

    def close(self) -> None:
        self._process.kill()
        self._process.join()
