"""llama.cpp's own server in a child process, one for each Python process that uses ``local``.

It listens on a Unix socket in a directory only the user can enter; where there are none, on loopback with a random
key. A child keeps a crash of llama.cpp out of the kernel, and nobody else on the host may talk to it. It starts on
first use, is started again when found dead, and ends with its parent however that ends (see ``child``).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from tokenstream_magic.catalog import Endpoint, Secret
from tokenstream_magic.errors import BadRequest, LocalModelError, one_line
from tokenstream_magic.local.fetch import MODEL

START_TIMEOUT = 60.0
CONTEXT = 8192
SLOTS = 4


class LocalServer:
    """The child, its socket, and where to reach it.

    With a ``port`` (0: any that is free) it listens on loopback for other programs, and wants ``key`` unless that is None.
    """

    def __init__(self, model: Path, port: int | None = None, key: Secret | None = None) -> None:
        self._model = model
        self._directory = Path(tempfile.mkdtemp(prefix="tokenstream-", dir=_runtime_directory()))  # 0700 by mkdtemp
        self._socket = self._directory / "llama.sock" if port is None and _has_unix_sockets() else None
        self._port = port or 0
        self._key = key if port is not None else None if self._socket else random_key()
        self._address = ""
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the child runs."""
        return self._process.poll() is None

    @property
    def base_url(self) -> str:
        """Where it listens, when that is loopback."""
        return self._address + "/v1"

    def wait(self) -> int:
        """Blocks until the child ends, and returns its exit code."""
        return self._process.wait()

    def address(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` with the address of this server."""
        if self._socket is not None:
            return replace(endpoint, socket=str(self._socket))
        return replace(endpoint, base_url=self.base_url, key=self._key)

    def close(self) -> None:
        """Ends the child and removes its directory."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> subprocess.Popen[str]:
        settings = {
            "model": str(self._model),
            "name": MODEL,
            "context": CONTEXT,
            "slots": SLOTS,
            "threads": max(1, min(os.cpu_count() or 1, 4)),
            "host": str(self._socket) if self._socket else "127.0.0.1",
            "port": self._port,
            "directory": str(self._directory),
            "key": self._key.reveal() if self._key else None,
            "slots_told": self._socket is not None,  # after a Stop it is asked whether it still generates; on a port it tells nobody
        }
        log = self._directory / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tokenstream_magic.local.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self._directory,
                env=_environment(),
                start_new_session=True,  # the kernel's interrupt is not the server's
            )
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(START_TIMEOUT, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
            ready = process.stdout.readline()
            self._address = json.loads(ready)["listening"]
        except BaseException as error:  # an interrupt too: nobody would end the child
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(OSError):  # what could not be written
                process.stdin.close()
            reason = _last_line(log)
            shutil.rmtree(self._directory, ignore_errors=True)
            if not isinstance(error, (OSError, ValueError)):
                raise
            raise LocalModelError(
                f"The local model's server did not start: {reason}.", "Try again; tokenstream pull checks the model."
            ) from None
        finally:
            timer.cancel()
        return process


def serve(model: Path, port: int = 0, key: Secret | None = None) -> LocalServer:
    """A server on loopback for other programs, which wants ``key`` unless that is None. The caller closes it.

    Raises BadRequest when the port cannot be had, LocalModelError when llama.cpp is not installed or does not start.
    """
    _needs_llama()
    try:
        with socket.socket() as probe:  # llama.cpp would only say that it did not start
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it is no port"
        raise BadRequest(f"Port {port} cannot be used: {reason}.", "Name another, or none for one that is free.") from None
    return LocalServer(model, port, key)


def random_key() -> Secret:
    """A new key nobody can guess: 256 bits."""
    return Secret(secrets.token_hex(32))


_lock = threading.Lock()
_current: LocalServer | None = None
_owner = 0


def ensure(model: Path) -> LocalServer:
    """The running server of this process; starts it, or starts it again when it is found dead. Blocks while it loads.

    Raises LocalModelError when llama.cpp is not installed or does not start.
    """
    global _current, _owner
    with _lock:
        if _owner != os.getpid():  # in a forked child the server belongs to the parent
            _current, _owner = None, os.getpid()
        if _current is not None and not _current.is_alive:
            _current.close()
            _current = None
        if _current is None:
            _needs_llama()
            _current = LocalServer(model)
        return _current


def running() -> LocalServer | None:
    """The server of this process if there is one and it lives."""
    return _current if _current is not None and _owner == os.getpid() and _current.is_alive else None


@atexit.register
def close() -> None:
    """Ends the server of this process, if there is one."""
    global _current
    with _lock:
        if _current is not None and _owner == os.getpid():
            _current.close()
            _current = None


def _needs_llama() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError("The local model needs llama.cpp.", 'Install it: pip install "tokenstream-magic[local]".')


def _has_unix_sockets() -> bool:
    return hasattr(socket, "AF_UNIX")


def _runtime_directory() -> str | None:
    """``XDG_RUNTIME_DIR`` when it is the user's own; else the temporary directory. A socket's path must be short."""
    directory = os.environ.get("XDG_RUNTIME_DIR")
    if directory and len(directory) < 60 and os.access(directory, os.W_OK):
        with contextlib.suppress(OSError):
            if Path(directory).stat().st_uid == os.getuid():
                return directory
    long = os.name == "posix" and len(tempfile.gettempdir()) >= 60
    return "/tmp" if long else None  # noqa: S108 - mkdtemp makes a directory of its own in it, 0700


def _environment() -> dict[str, str]:
    """The child's environment: this one without anything that looks like a key, and with our package importable."""
    kept = {k: v for k, v in os.environ.items() if not any(s in k.upper() for s in ("KEY", "TOKEN", "SECRET", "PASSWORD"))}
    root = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [kept.get("PYTHONPATH")])])
    kept.pop("TOKENSTREAM_DATABASE", None)
    return kept


def _last_line(log: Path) -> str:
    try:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return one_line(lines[-1])[:200].rstrip(".") if lines else "it said nothing"
