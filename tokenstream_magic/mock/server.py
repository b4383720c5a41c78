"""The mock server: loopback only, on a thread of its own, and it remembers what its clients did.

The model a request names picks the script. Every exchange is kept with monotonic stamps of what was sent and of
the moment the client's close was seen, on the clock the client's own timeline uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic_ns
from typing import Any
from urllib.parse import unquote

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock import anthropic, gemini, gemini_array, ollama, ollama_generate, openai_chat, openai_responses
from tokenstream_magic.mock.body import Body, BodyCut, pause
from tokenstream_magic.mock.files import load
from tokenstream_magic.mock.script import SCRIPTS, Script

VARIABLE = "TOKENSTREAM_MOCK_SCRIPTS"

_LONGEST = 3600.0
# what a path speaks: its end, and the module that writes it
_SPOKEN = (
    ("/chat/completions", openai_chat),
    ("/responses", openai_responses),
    ("/messages", anthropic),
    (":streamGenerateContent", gemini),
    (":generateContent", gemini),
    ("/chat", ollama),
    ("/generate", ollama_generate),
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
    method: str = "POST"


async def ended(server: asyncio.Server) -> None:
    """Closes a server that has its loop for itself, and ends everything else on it."""
    for listening in server.sockets:
        with contextlib.suppress(NotImplementedError):  # Windows
            # else a connection that has only just come meets a server that is closed, and stays open
            asyncio.get_running_loop().remove_reader(listening)
    await asyncio.sleep(0)
    server.close()
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0)  # one that never began would not close its connection
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class MockServer:
    """Serves scripts until :meth:`close`. Use as a context manager.

    ``scripts`` are served beside the ready-made ones and may be changed while it runs. ``exchanges`` grows by one a
    request; ``sent`` in it are the moments a script said something, whatever a buffer did with it then.
    """

    def __init__(self, scripts: dict[str, Script] | None = None, port: int = 0) -> None:
        self.scripts = {**SCRIPTS, **(scripts or {})}
        self.exchanges: list[Exchange] = []
        self._asked: dict[str, int] = {}
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tokenstream-mock", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", port), self._loop)
        try:
            self._server = starting.result(10)
        except BaseException:
            self._end_loop()
            raise
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
        asyncio.run_coroutine_threadsafe(ended(self._server), self._loop).result(10)
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> MockServer:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange: Exchange | None = None
        try:
            exchange = await _request(reader)
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
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ValueError):
            pass
        finally:
            if exchange is not None and exchange.closed_at is not None:
                exchange.closed.set()
            writer.close()

    async def _answer(self, exchange: Exchange, writer: asyncio.StreamWriter) -> None:
        path, _, query = exchange.path.partition("?")
        speech: Any = next((spoken for end, spoken in _SPOKEN if path.endswith(end)), openai_chat)
        if speech is gemini and "alt=sse" not in query.split("&"):
            speech = gemini_array
        if exchange.method == "GET":
            await self._list(exchange, path, writer)
            return
        named = exchange.body.get("model")
        name = named if isinstance(named, str) and named else unquote(path.rpartition("/")[2].partition(":")[0])
        script = self.scripts.get(name)
        if script is None:
            known = ", ".join(sorted(self.scripts))
            script = Script(status=404, error=f"The model {name!r} does not exist. Known: {known}.", error_type="not_found_error")
        elif script.fails_first is not None:
            self._asked[name] = self._asked.get(name, 0) + 1
            if self._asked[name] > script.fails_first:
                script = script.succeeding()
        await asyncio.sleep(script.delay)
        if script.status != 200 or script.body is not None:
            await self._plain(script, speech, writer)
        elif script.unstreamed or exchange.body.get("stream") is False or path.endswith(":generateContent"):
            answer = json.dumps(speech.whole(script, name), ensure_ascii=False).encode()
            kind = script.content_type or "application/json"
            await self._plain(replace(script, body=answer, content_type=kind), speech, writer)
        else:
            await self._stream(script, name, speech, exchange, writer)

    async def _list(self, exchange: Exchange, path: str, writer: asyncio.StreamWriter) -> None:
        """What the server serves, in the shape of whoever asks."""
        lists = {"/v1/models": openai_chat, "/v1beta/models": gemini, "/api/tags": ollama}
        speech: Any = lists.get(path)
        if speech is openai_chat:  # three protocols have a list at this path: their clients tell who they are
            theirs = {"anthropic-version": anthropic, "x-goog-api-key": gemini}
            speech = next((spoken for header, spoken in theirs.items() if header in exchange.headers), speech)
        if speech is None:
            script = Script(status=404, error=f"There is nothing at {path}. Lists of models: {', '.join(lists)}.")
            await self._plain(script, openai_chat, writer)
            return
        answer = json.dumps(speech.models(sorted(self.scripts))).encode()
        await self._plain(Script(body=answer, content_type="application/json"), speech, writer)

    async def _stream(self, script: Script, name: str, speech: Any, exchange: Exchange, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {script.content_type or speech.CONTENT_TYPE}\r\nTransfer-Encoding: chunked\r\n"
        encoding = {"Content-Encoding": "gzip"} if script.gzip else {}
        writer.write((head + _lines({"Connection": "close", **encoding, **script.headers}) + "\r\n").encode())
        body = Body(writer, script)
        try:
            for _ in range(2 if script.duplicate == "stream" else 1):
                if not await self._say(script, name, speech, exchange, body):
                    return
            await body.end()
        except BodyCut:
            return

    async def _say(self, script: Script, name: str, speech: Any, exchange: Exchange, body: Body) -> bool:
        """The whole script once; False when nothing can follow it."""

        async def keep_alive() -> None:
            await body.send(speech.KEEP_ALIVE)

        frames = speech.frames(script, name)
        await body.send(next(frames))
        await pause(script.first, script.keep_alive, keep_alive)
        contents = list(frames)
        for start in range(0, max(len(contents), 1), script.together):
            if start and script.gap:
                await pause(script.gap, script.keep_alive, keep_alive)
            if script.stall_after is not None and start >= script.stall_after:
                await pause(_LONGEST, script.keep_alive, keep_alive)
            if script.error_after is not None and start >= script.error_after:
                await body.send(speech.error_frame(script))
                return True
            waiting = contents[start : start + script.together]
            if waiting:
                exchange.sent.append(monotonic_ns())
            if script.duplicate == "frame" and start == 0:
                waiting = [*waiting[:1], *waiting]
            await body.send(b"".join(waiting))
        if script.ending == "stall":
            await pause(_LONGEST, script.keep_alive, keep_alive)
        if script.ending in ("cut", "reset"):
            closing = speech.ending(replace(script, ending="done"), name)
            await body.send(closing[: len(closing) // 3])
            await body.break_off("reset" if script.ending == "reset" else "close")
            return False
        await body.send(speech.ending(script, name))
        return True

    async def _plain(self, script: Script, speech: Any, writer: asyncio.StreamWriter) -> None:
        body = script.body if script.body is not None else json.dumps(speech.error(script)).encode()
        kind = script.content_type or speech.CONTENT_TYPE if script.body is not None else "application/json"
        encoding = {"Content-Encoding": "gzip"} if script.gzip else {}
        body = gzip.compress(body) if script.gzip else body
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **encoding, **script.headers}
        writer.write(f"HTTP/1.1 {script.status} Scripted\r\n{_lines(headers)}\r\n".encode() + body)
        await writer.drain()


_lock = threading.Lock()
_shared: MockServer | None = None
_loaded: tuple[str, int] | None = None  # the file of scripts that is served, and when it was changed


def shared() -> MockServer:
    """The mock server of this process, which the endpoint ``mock`` uses; it ends with the process.

    It also serves the scripts of the file that ``TOKENSTREAM_MOCK_SCRIPTS`` names, read again when the file has changed.
    Raises BadRequest when that cannot be.
    """
    global _shared, _loaded
    with _lock:
        if _shared is None:
            _shared = MockServer()
        named = os.environ.get(VARIABLE, "").strip()
        state = (named, _changed(named)) if named else None
        if state != _loaded:
            _shared.scripts = {**SCRIPTS, **(load(named) if named else {})}
            _loaded = state
        return _shared


def _changed(path: str) -> int:
    try:
        return Path(path).expanduser().stat().st_mtime_ns
    except OSError as error:
        raise BadRequest(f"{VARIABLE} names {path}, which cannot be read: {error.strerror}.") from None


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


async def _request(reader: asyncio.StreamReader) -> Exchange:
    head = await reader.readuntil(b"\r\n\r\n")
    arrived = monotonic_ns()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    try:
        decoded = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        decoded = {}
    method, path, *_ = [*first.split(" "), "/"]
    return Exchange(path, headers, decoded if isinstance(decoded, dict) else {}, arrived, method=method)


async def _until_gone(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        return
