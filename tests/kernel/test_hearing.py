"""A kernel goes on hearing: whatever a reply meets on its way out, and wherever in a cell an interrupt strikes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled
from support import ipykernel_path

from tokenstream_magic.mock.server import MockServer

# the next request is there when the reply to this one leaves
SLOW_REPLIES = """
import time, zmq
def slowly(self, *args, _send=zmq.Socket.send_multipart, **how):
    if self is get_ipython().kernel.shell_stream.socket:
        time.sleep(0.2)
    return _send(self, *args, **how)
zmq.Socket.send_multipart = slowly
"""
# an interrupt between the scheduling of an async cell and the moment from which the kernel takes interrupts for it
STRUCK = """
kernel = get_ipython().kernel
def strike(future):
    del kernel._cancel_on_sigint
    raise KeyboardInterrupt
kernel._cancel_on_sigint = strike
"""
RUNNING = "[run.id for run in __import__('tokenstream_magic.api').api.running()]"
AWAITED = "%%stream {script} --base-url {url}\nTell me a story."
BLOCKING = "shell = get_ipython(); shell.run_cell_magic('stream', '{script} --base-url {url}', 'Tell me a story.')"


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.mark.parametrize("version", ["7.0.1", "7.3.0", "7.4.0"])
def test_a_request_that_meets_a_reply_is_answered(version: str) -> None:
    """ipykernel 7.0 to 7.3 would sleep through it, and through every one after it, if their replies went out as they are sent."""
    with Kernel(ipykernel_path(version)) as kernel:
        kernel.run("%load_ext tokenstream_magic")
        kernel.run("%reload_ext tokenstream_magic")
        early = kernel.subshell()
        kernel.run(SLOW_REPLIES)
        late = kernel.subshell()
        for subshell in (None, None, early, None, late, None):
            published = kernel.run("print(1)", subshell=subshell)
            assert "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream") == "1\n"  # in one message or two


@pytest.mark.parametrize("version", ["6.31.0", "7.3.0", "7.4.0"])
def test_a_cell_that_the_kernel_gave_up_does_not_run_behind_its_back(server: MockServer, version: str) -> None:
    with Kernel(ipykernel_path(version)) as kernel:
        kernel.run("%load_ext tokenstream_magic")
        kernel.run(STRUCK)
        published = kernel.run(AWAITED.format(script="endless", url=server.base_url))
        assert kernel.value(RUNNING) == "[]"
        assert [m["msg_type"] for m in published] == ["status", "execute_input", "status"]
        assert settled(kernel.run(AWAITED.format(script="hello", url=server.base_url)))[0]["text"] == "Hello there."


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cell", [AWAITED, BLOCKING], ids=["awaited", "blocking"])
@pytest.mark.parametrize("version", ["6.31.0", "7.0.1", "7.3.0", "7.4.0"])
def test_an_interrupt_at_any_instant_leaves_nothing_running_and_a_kernel_that_hears(server: MockServer, version: str, cell: str) -> None:
    """One interrupt a cell, from the moment the kernel takes the cell; half of them in its first thirtieth of a second, some at its end.

    In the first of these moments it may strike IPython's own code, which now and then swallows it: then the next one counts.
    """
    dice, swallowed = random.Random(version + cell), 0
    with Kernel(ipykernel_path(version)) as kernel:
        kernel.run("%load_ext tokenstream_magic")
        kernel.run(AWAITED.format(script="hello", url=server.base_url))
        for number in range(250):
            kernel.messages.clear()
            script, moment = dice.choice(["endless", "stall", "silent", "hello"]), dice.choice(["begun", "begun", "shown", "first", "over"])
            after = dice.choice([0, dice.uniform(0, 0.003), dice.uniform(0, 0.03), dice.uniform(0, 0.2)])
            request = kernel.start(cell.format(script=script, url=server.base_url))
            kernel.wait(lambda m, own=request: m["msg_type"] == "execute_input" and m["parent_header"].get("msg_id") == own)
            if moment != "begun":
                comm = kernel.opened(request)
                if moment == "first" and script != "silent":
                    kernel.wait_op(comm, "append")
                elif moment == "over" and script == "hello":
                    kernel.wait_op(comm, "settled")
            time.sleep(after)
            kernel.interrupt()
            what = f"{number}: {script}, {after * 1000:.1f} ms after {moment}"
            try:
                try:
                    published = kernel.finish(request, timeout=10)
                except TimeoutError:
                    assert moment == "begun", what
                    swallowed += 1
                    kernel.interrupt()
                    published = kernel.finish(request)
                assert kernel.value(RUNNING) == "[]", what
            except TimeoutError as error:
                raise AssertionError(f"{what}; alive: {kernel.manager.is_alive()}") from error
            if any(MIME in m["content"].get("data", {}) for m in published if m["msg_type"] == "display_data"):
                assert settled(published), what
        assert swallowed <= 3
