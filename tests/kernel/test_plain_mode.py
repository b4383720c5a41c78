"""Front ends without our extension: text that grows and a Stop button by their own means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled
from support import ipykernel_path

from tokenstream_magic.display.plain import INSTEAD
from tokenstream_magic.mock import Script
from tokenstream_magic.mock.server import MockServer

ENDLESS = Script(("word ",) * 100_000, gap=0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer({"words": ENDLESS}) as running:
        yield running


@pytest.fixture(scope="module", params=["7.3.0", "7.4.0"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(ipykernel_path(request.param)) as running:
        running.hears_a_running_cell = request.param == "7.4.0"  # else only through a subshell, as JupyterLab makes one
        running.run("%load_ext tokenstream_magic")
        yield running


def begin(kernel: Kernel, server: MockServer) -> str:
    return kernel.start(f"%%stream words --base-url {server.base_url}\nHi")


def is_button(message: dict) -> bool:
    return message["msg_type"] == "comm_open" and message["content"]["data"].get("state", {}).get("_model_name") == "ButtonModel"


def of(request: str, message: dict) -> bool:
    return message["parent_header"].get("msg_id") == request


def grown(message: dict, request: str, size: int) -> bool:
    data = message["content"].get("data", {})
    return message["msg_type"] == "update_display_data" and of(request, message) and len(data.get("text/plain", "")) >= size


def tell(kernel: Kernel, comm: str, data: dict) -> None:
    kernel.comm(comm, data, None if kernel.hears_a_running_cell else kernel.subshell())


def press(kernel: Kernel, request: str) -> None:
    button = kernel.wait(lambda m: is_button(m) and of(request, m))
    tell(kernel, button["content"]["comm_id"], {"event": "click"})


def check_stopped(kernel: Kernel, request: str, cause: str = "button") -> None:
    published = kernel.finish(request)
    (bundle,) = settled(published)
    assert (bundle["outcome"], bundle["stop_cause"]) == ("stopped", cause)
    assert not [m for m in published if m["msg_type"] in ("stream", "error")]
    if cause != "button":
        return
    closed = [m["content"]["comm_id"] for m in published if m["msg_type"] == "comm_close"]
    assert next(m["content"]["comm_id"] for m in published if is_button(m)) in closed


def test_vs_code_gets_growing_text_and_what_stops_it_at_once(kernel: Kernel, server: MockServer) -> None:
    kernel.run("__vsc_ipynb_file__ = 'notebook.ipynb'")
    request = begin(kernel, server)
    kernel.wait(lambda m: grown(m, request, 5))
    update = kernel.wait(lambda m: grown(m, request, 200))["content"]["data"]
    assert update[MIME]["status"] == "live"
    assert update["text/markdown"].split() == update["text/plain"].split()
    if kernel.hears_a_running_cell:
        press(kernel, request)
        check_stopped(kernel, request)
    else:  # a click would be heard when the cell is over
        kernel.wait(lambda m: of(request, m) and m["content"].get("data", {}).get("text/plain") == INSTEAD)
        kernel.interrupt()
        check_stopped(kernel, request, "interrupt")
        assert not [m for m in kernel.messages if is_button(m)]
    kernel.run("del __vsc_ipynb_file__")


def test_a_page_that_never_says_hello_gets_them_after_a_while(kernel: Kernel, server: MockServer) -> None:
    request = begin(kernel, server)
    kernel.wait(lambda m: grown(m, request, 200))
    press(kernel, request)
    check_stopped(kernel, request)


def test_a_page_that_says_hello_gets_neither(kernel: Kernel, server: MockServer) -> None:
    request = begin(kernel, server)
    comm = kernel.opened(request)
    tell(kernel, comm, {"op": "hello"})
    kernel.wait_op(comm, "append", count=90)  # three seconds of frames
    tell(kernel, comm, {"op": "stop"})
    published = kernel.finish(request)
    assert not [m for m in published if is_button(m)]
    assert len([m for m in published if m["msg_type"] == "update_display_data"]) == 1
