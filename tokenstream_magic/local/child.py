"""The child process that serves the embedded model. Run by ``server``: ``python -m tokenstream_magic.local.child``.

It reads its settings as one line of JSON from standard input (a key is in no argument and no environment), prints
one line of JSON when it listens, and ends when its parent does: standard input closes, or the parent's process id
is no longer its parent's. The second is for a forked copy of the kernel that still holds the pipe.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from typing import Any

POLL_SECONDS = 0.5


def main() -> None:
    """Serves until the parent ends."""
    parent = os.getppid()
    settings = json.loads(sys.stdin.readline())
    ended = threading.Event()
    threading.Thread(target=_until_closed, args=(ended,), daemon=True).start()
    threading.Thread(target=_watch, args=(ended, parent, settings.get("directory")), daemon=True).start()
    if os.getppid() == parent and not ended.is_set():
        server = _serve(settings)
        print(json.dumps({"listening": server.listening_address}), flush=True)
    while True:
        time.sleep(3600)


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["name"]}
    params.n_ctx = settings["context"]
    params.n_parallel = settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = 0
    params.hostnames = [settings["host"]]
    params.port = settings["port"]
    params.ui = False
    params.endpoint_slots = bool(settings.get("slots_told"))
    params.verbosity = 0
    params.cors_origins = "http://localhost"
    params.cors_credentials = False
    if settings.get("key"):
        params.api_keys = [settings["key"]]
    return xllamacpp.Server(params)


def _until_closed(ended: threading.Event) -> None:
    while sys.stdin.read(4096):
        pass
    ended.set()


def _watch(ended: threading.Event, parent: int, directory: str | None) -> None:
    while not ended.wait(POLL_SECONDS):
        if os.getppid() != parent:
            break
    if directory:
        shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
