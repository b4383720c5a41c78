"""What must run before some endpoints can be asked: the embedded model's server, the scripted one."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from time import monotonic

from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.run import Report, Starter


async def _start_local(endpoint: Endpoint, report: Report) -> Endpoint:
    """Fetches the embedded model when it is not there and starts its server; a cancellation gives up the fetch."""
    from tokenstream_magic.local import fetch, server

    started, cancel = monotonic(), threading.Event()
    loop = asyncio.get_running_loop()

    def progress(done: int, total: int) -> None:
        detail = {"done": done, "total": total, "elapsed": monotonic() - started, "what": "the local model"}
        loop.call_soon_threadsafe(report, "fetching", detail)

    try:
        if not fetch.is_present():
            await asyncio.to_thread(fetch.pull, progress, cancel)
        if server.running() is None:
            report("starting", {})
        ready = await asyncio.to_thread(server.ensure, fetch.model_path())
        return ready.address(endpoint)
    finally:
        cancel.set()


async def _start_mock(endpoint: Endpoint, _report: Report) -> Endpoint:
    """The scripted server of this process, started when it is first asked for."""
    from tokenstream_magic.mock import server

    running = await asyncio.to_thread(server.shared)
    return replace(endpoint, base_url=running.base_url)


STARTERS: dict[str, Starter] = {"local": _start_local, "mock": _start_mock}
"""By the name in ``Endpoint.starts``."""
