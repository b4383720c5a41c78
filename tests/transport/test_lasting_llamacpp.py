"""llama.cpp's own server: its conversation ids as they are, behind a relay that breaks connections."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from transport_support import reset

from tokenstream_magic import asking
from tokenstream_magic.catalog import BUILT_IN
from tokenstream_magic.local import fetch
from tokenstream_magic.mock.server import ended
from tokenstream_magic.run import Run
from tokenstream_magic.transport import body, loop, new_exchange
from tokenstream_magic.transport.seam import Call

pytest.importorskip("xllamacpp")


class Relay:
    """Relays TCP to a Unix socket; the connections break after as many bytes of answer as ``cuts`` say, one after another."""

    def __init__(self, path: str, cuts: list[int]) -> None:
        self._path, self._cuts = path, cuts
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop).result(10)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(ended(self._server), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._path)
        left = self._cuts.pop(0) if self._cuts else 1 << 60

        async def out() -> None:
            while data := await reader.read(65536):
                inner_writer.write(data)

        sending = asyncio.ensure_future(out())
        try:
            while left > 0 and (data := await inner_reader.read(min(left, 65536))):
                left -= len(data)
                writer.write(data)
                await writer.drain()
            if left <= 0:
                await asyncio.sleep(0.02)
                reset(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            inner_writer.close()
            writer.close()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@pytest.fixture(scope="module")
def path() -> str:
    if not fetch.is_present():
        pytest.skip("the embedded model is not fetched")
    from tokenstream_magic.local import server

    return str(server.ensure(fetch.model_path())._socket)


def start(base_url: str, *, resumable: bool = True, **fields) -> Run:
    plan, asked = asking.prepare("Count from one to forty in words.", "local", temperature=0, seed=1, **fields)
    endpoint = replace(BUILT_IN["llamacpp"], base_url=base_url, resumable=resumable, body={"cache_prompt": False})
    plan = replace(plan, endpoint=endpoint, starter=None)
    return Run(plan, asking.describe(plan, asked)).start()


async def lose(run: Run) -> None:
    """The connection is closed, on the thread it belongs to."""
    run._attempt.abort()


def known(path: str, identifier: str) -> list[dict]:
    """What the server knows of a conversation."""

    async def look() -> str:
        exchange = new_exchange()
        call = Call("http://local/v1/streams/lookup", {}, {"conversation_ids": [identifier]}, path)
        async with exchange.opened(call):
            return await body.text(exchange, 1 << 20)

    return json.loads(loop.submit(look()).result(20))


def test_a_broken_answer_of_llama_cpp_goes_on_byte_for_byte(path: str) -> None:
    with Relay(path, []) as relay:
        whole = start(relay.base_url, max_tokens=120).wait()
    assert whole.outcome in ("complete", "truncated"), whole.error
    with Relay(path, [1100, 3001, 4444]) as relay:
        broken = start(relay.base_url, max_tokens=120, max_retries=3).wait()
    assert broken.text == whole.text
    assert (broken.outcome, broken.finish_reason, broken.usage) == (whole.outcome, whole.finish_reason, whole.usage)
    assert sum("was resumed after" in note for note in broken.diagnostics) == 3, broken.diagnostics


def test_stop_ends_the_answer_at_llama_cpp_which_would_go_on_by_itself(path: str) -> None:
    with Relay(path, []) as relay:
        run = start(relay.base_url, max_tokens=1500, option={"ignore_eos": True})
        while not run.fold.pieces:
            pass
        identifier = f"tokenstream-{run.id}-0"
        assert known(path, identifier)[0]["is_done"] is False
        loop.submit(lose(run)).result(20)  # a connection that is only lost ends nothing at the server
        assert known(path, identifier)[0]["is_done"] is False
        run.stop("button")
        transcript = run.wait()
        assert known(path, identifier) == [], "it was ended there"
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "button")
    assert not any("may go on" in note for note in transcript.diagnostics)
