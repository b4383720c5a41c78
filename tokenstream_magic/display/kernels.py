"""Two faults of ipykernel, and how cells of ours live with them.

**A lost request.** ipykernel 7.0 to 7.3 reads requests through a stream that is woken once for what arrives, and sends replies
past that stream on the same socket. The sending may swallow the wake-up, and then nothing ever looks again: the kernel is
deaf (https://github.com/ipython/ipykernel/pull/1529, mended in 7.4). A page that tells the kernel what it has drawn, as
ours does when a cell ends, meets that instant about once in three hundred cells.

**A cell that is given up and runs nevertheless.** Of every version: the coroutine of an async cell is scheduled a moment
before interrupts are taken for it. One in between ends the cell for the kernel and for its reader, and then the coroutine
runs, and nobody can interrupt it.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


def mend(kernel: Any) -> bool:
    """Sends the replies of a kernel that may lose requests through its stream, as 7.4 does. False where there is nothing to mend."""
    stream = getattr(kernel, "shell_stream", None)
    manager: Any = getattr(getattr(kernel, "shell_channel_thread", None), "manager", None)
    known = ("_shell_socket", "_shell_channel_io_loop", "_main_to_shell_channel", "_send_on_shell_channel", "_cache")
    if stream is None or not all(hasattr(manager, name) for name in known) or "_send_on_shell_channel" in vars(manager):
        return False
    loop = manager._shell_channel_io_loop  # noqa: SLF001

    def reply(message: Any) -> None:
        stream.send_multipart(message)

    def exchange() -> None:
        subshells = [subshell.subshell_to_shell_channel for subshell in manager._cache.values()]  # noqa: SLF001 - changed on this thread only
        for pair in [manager._main_to_shell_channel, *subshells]:  # noqa: SLF001
            pair.on_recv(loop, reply)

    manager._send_on_shell_channel = reply  # noqa: SLF001 - what the subshells yet to come are given
    loop.add_callback(exchange)
    return True


def is_abandoned(kernel: Any) -> bool:
    """Whether the cell that is about to take its first step was given up by an interrupt: between cells, and only there, none is taken."""
    if not getattr(getattr(type(kernel), "pre_handler_hook", None), "__module__", "").startswith("ipykernel."):
        return False
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
