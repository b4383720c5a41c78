"""A real ipykernel, spoken to as a front end does, message by message."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client import KernelManager
from jupyter_core.utils import ensure_event_loop

MIME = "application/vnd.tokenstream.transcript+json"


class Kernel:
    """One kernel with one client. Everything it publishes is kept, and any of it can be waited for."""

    def __init__(self, ipykernel: str | None = None, environment: dict[str, str] | None = None) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="tokenstream-kernel-")
        own = {"TOKENSTREAM_DATABASE": str(Path(self._home.name) / "transcripts.db")}
        env = {**os.environ, **own, **(environment or {})}
        if ipykernel:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [ipykernel, env.get("PYTHONPATH", "")]))
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=env, extra_arguments=["--IPKernelApp.log_level=ERROR"])
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.messages: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._done = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        self._done.set()
        self._reader.join(10)
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self._home.cleanup()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    # asking

    def start(self, code: str, *, page: bool = True, subshell: str | None = None) -> str:
        """Sends a cell and returns the id of the request. ``page`` False is a runner nobody watches."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": page, "stop_on_error": True}
        return self._send("execute_request", content, subshell)

    def run(self, code: str, **how: Any) -> list[dict[str, Any]]:
        """Runs a cell to its end and returns what it published."""
        return self.finish(self.start(code, **how))

    def finish(self, request: str, timeout: float = 60) -> list[dict[str, Any]]:
        """Waits for the end of a cell and returns what it published."""
        self.wait(lambda m: _parent(m) == request and m["msg_type"] == "status" and m["content"]["execution_state"] == "idle", timeout)
        with self._news:
            return [m for m in self.messages if _parent(m) == request]

    def value(self, expression: str, **how: Any) -> str:
        """The repr of an expression in the kernel."""
        published = self.run(f"print(repr({expression}))", **how)
        problems = [m["content"]["evalue"] for m in published if m["msg_type"] == "error"]
        assert not problems, problems
        return "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream").strip()

    def comm(self, comm_id: str, data: dict[str, Any], subshell: str | None = None) -> None:
        """A custom message of the page to a widget."""
        self._send("comm_msg", {"comm_id": comm_id, "data": {"method": "custom", "content": data}}, subshell)

    def open_control(self, data: dict[str, Any], subshell: str | None = None) -> None:
        """The page's own road to Stop: open the control target and say it there."""
        self._send("comm_open", {"comm_id": "control-1", "target_name": "tokenstream.control", "data": {}}, subshell)
        self._send("comm_msg", {"comm_id": "control-1", "data": data}, subshell)

    def subshell(self) -> str:
        """A new subshell, as JupyterLab makes one for comms."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        while True:
            reply = self.client.control_channel.get_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return str(reply["content"]["subshell_id"])

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    # listening

    def wait(self, matches: Callable[[dict[str, Any]], bool], timeout: float = 60) -> dict[str, Any]:
        """The first message, past or to come, that matches."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [m for m in self.messages if matches(m)]
            return bool(found)

        with self._news:
            if not self._news.wait_for(look, timeout):
                raise TimeoutError(f"not seen among {[(m['msg_type'], str(m['content'])[:200]) for m in self.messages[-12:]]}")
            return found[0]

    def opened(self, request: str) -> str:
        """The comm of the stream a cell started."""
        message = self.wait(lambda m: m["msg_type"] == "comm_open" and _parent(m) == request and _is_stream(m))
        return str(message["content"]["comm_id"])

    def wait_op(self, comm_id: str, op: str, count: int = 1, **content: Any) -> dict[str, Any]:
        """The ``count``-th message of a stream with this ``op`` and content."""
        seen: list[dict[str, Any]] = []

        def enough(_: dict[str, Any]) -> bool:
            told = (said for m in self.messages for said in _custom(m, comm_id))
            seen[:] = [said for said in told if said.get("op") == op and content.items() <= said.items()]
            return len(seen) >= count

        self.wait(enough)
        return seen[count - 1]

    def said(self, comm_id: str) -> list[dict[str, Any]]:
        """Everything a stream has told its page."""
        with self._news:
            return [said for m in self.messages for said in _custom(m, comm_id)]

    def _send(self, kind: str, content: dict[str, Any], subshell: str | None) -> str:
        message = self.client.session.msg(kind, content)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def _read(self) -> None:
        while not self._done.is_set():
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            with self._news:
                self.messages.append(message)
                self._news.notify_all()
        ensure_event_loop().close()  # the one that the client made for this thread


def settled(published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settled bundles among what a cell published."""
    bundles = [m["content"]["data"][MIME] for m in published if MIME in m["content"].get("data", {})]
    return [bundle for bundle in bundles if bundle["status"] == "settled"]


def _parent(message: dict[str, Any]) -> str | None:
    return message["parent_header"].get("msg_id")


def _is_stream(message: dict[str, Any]) -> bool:
    return message["content"].get("data", {}).get("state", {}).get("_model_name") == "StreamModel"


def _custom(message: dict[str, Any], comm_id: str) -> list[dict[str, Any]]:
    """What a message tells the page of a stream; a frame, over whatever comm, holds messages for several."""
    if message["msg_type"] != "comm_msg" or message["content"]["data"].get("method") != "custom":
        return []
    content = message["content"]["data"]["content"]
    if content.get("op") == "frame":
        return list(content["streams"].get(comm_id, []))
    return [content] if message["content"]["comm_id"] == comm_id else []
