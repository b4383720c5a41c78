"""Stop against real kernels: every road ends in the same record, whatever the ipykernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled
from support import ipykernel_path

from tokenstream_magic.mock.server import MockServer

VERSIONS = ["6.31.0", "7.0.1", "7.3.0", "7.4.0"]
WITH_SUBSHELLS = ["7.0.1", "7.3.0", "7.4.0"]

SECONDS = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture(scope="module", params=VERSIONS)
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    with Kernel(ipykernel_path(request.param)) as made:
        made.version = request.param
        made.run("%load_ext tokenstream_magic")
        assert made.value("__import__('ipykernel').__version__") == repr(request.param)
        yield made


def cell(server: MockServer, script: str, flags: str = "") -> str:
    return f"%%stream {script} --base-url {server.base_url} {flags}\nTell me a story."


def begin(kernel: Kernel, server: MockServer, script: str, flags: str = "") -> tuple[str, str, object]:
    """Starts a stream and returns the request, its comm, and the exchange once the server has it."""
    count = len(server.exchanges)
    request = kernel.start(cell(server, script, flags))
    comm = kernel.opened(request)
    return request, comm, server.wait_for(count + 1)


def press(kernel: Kernel, comm: str) -> None:
    """The Stop button as JupyterLab presses it on this kernel."""
    if kernel.version in WITH_SUBSHELLS:
        kernel.comm(comm, {"op": "stop"}, kernel.subshell())
    else:
        kernel.comm(comm, {"op": "stop"})
        kernel.interrupt()


def assert_stopped(kernel: Kernel, request: str, exchange, causes: tuple[str, ...]) -> dict:
    published = kernel.finish(request, timeout=15)
    assert exchange.closed.wait(SECONDS), "the server never saw the connection close"
    assert not [m for m in published if m["msg_type"] in ("error", "stream")], published
    (bundle,) = settled(published)
    assert bundle["outcome"] == "stopped"
    assert bundle["stop_cause"] in causes
    assert kernel.value("1 + 1") == "2"
    assert kernel.value("_stream.outcome") == "'stopped'"
    return bundle


def test_the_button_stops_a_stream_and_keeps_its_text(kernel: Kernel, server: MockServer) -> None:
    request, comm, exchange = begin(kernel, server, "endless")
    kernel.wait_op(comm, "append", count=3)
    press(kernel, comm)
    bundle = assert_stopped(kernel, request, exchange, ("button", "interrupt"))
    kernel.wait_op(comm, "settled")
    appended = "".join(m["text"] for m in kernel.said(comm) if m["op"] == "append")
    assert bundle["text"] == appended != ""


def test_the_button_is_named_as_the_cause_where_comms_reach_a_running_cell(kernel: Kernel, server: MockServer) -> None:
    request, comm, exchange = begin(kernel, server, "endless")
    kernel.wait_op(comm, "append")
    press(kernel, comm)
    assert_stopped(kernel, request, exchange, ("button",) if kernel.version in WITH_SUBSHELLS else ("interrupt",))


@pytest.mark.parametrize("script", ["silent", "stall", "endless"])
def test_an_interrupt_stops_a_stream_without_a_traceback(kernel: Kernel, server: MockServer, script: str) -> None:
    request, comm, exchange = begin(kernel, server, script)
    kernel.wait_op(comm, *(("state",) if script == "silent" else ("append",)))
    kernel.interrupt()
    bundle = assert_stopped(kernel, request, exchange, ("interrupt",))
    assert bool(bundle["text"]) == (script != "silent")


@pytest.mark.parametrize("script", ["silent", "stall"])
def test_the_button_works_where_nothing_arrives(kernel: Kernel, server: MockServer, script: str) -> None:
    request, comm, exchange = begin(kernel, server, script)
    if script == "stall":
        kernel.wait_op(comm, "append", n=8)
    press(kernel, comm)
    assert_stopped(kernel, request, exchange, ("button", "interrupt"))


def test_stopping_twice_is_stopping_once(kernel: Kernel, server: MockServer) -> None:
    """By the button, pressed twice; by two interrupts where a running cell hears nothing else.

    Not by interrupts on ipykernel 7: a second one may strike the kernel's own code while the cell is ending.
    """
    request, comm, exchange = begin(kernel, server, "endless")
    kernel.wait_op(comm, "append")
    if kernel.version in WITH_SUBSHELLS:
        subshell = kernel.subshell()
        kernel.comm(comm, {"op": "stop"}, subshell)
        kernel.comm(comm, {"op": "stop"}, subshell)
    else:
        kernel.interrupt()
        kernel.interrupt()
    assert_stopped(kernel, request, exchange, ("interrupt", "button"))
    kernel.wait_op(comm, "settled")
    assert len([m for m in kernel.said(comm) if m["op"] == "settled"]) == 1


def test_a_stop_after_the_end_changes_nothing(kernel: Kernel, server: MockServer) -> None:
    request, comm, _ = begin(kernel, server, "hello")
    (bundle,) = settled(kernel.finish(request))
    kernel.comm(comm, {"op": "stop"})
    assert kernel.value("(_stream.outcome, _stream.stop_cause)") == "('complete', None)"
    assert bundle["text"] == "Hello there."
    assert not [m for m in kernel.said(comm) if m["op"] == "stopping"]


def test_a_stop_from_another_front_end(kernel: Kernel, server: MockServer) -> None:
    """Through a subshell where there is one; without subshells the kernel runs nothing beside a cell, so --bg."""
    if kernel.version in WITH_SUBSHELLS:
        request, comm, exchange = begin(kernel, server, "endless")
        kernel.wait_op(comm, "append")
        kernel.run("%stream stop", subshell=kernel.subshell())
        assert_stopped(kernel, request, exchange, ("api",))
    else:
        request, comm, exchange = begin(kernel, server, "endless", "--bg")
        kernel.finish(request)
        kernel.wait_op(comm, "append")
        kernel.run("%stream stop")
        kernel.wait_op(comm, "settled")
        assert exchange.closed.wait(SECONDS)
        assert kernel.value("(_stream.outcome, _stream.stop_cause)") == "('stopped', 'api')"


def test_the_control_target_stops_a_blocking_call_on_kernels_with_subshells(kernel: Kernel, server: MockServer) -> None:
    count = len(server.exchanges)
    kernel.run("import tokenstream_magic as ts")
    request = kernel.start(f"t = ts.stream('Tell me a story.', 'endless', base_url={server.base_url!r})")
    comm = kernel.opened(request)
    exchange = server.wait_for(count + 1)
    kernel.wait_op(comm, "append")
    opening = kernel.wait(lambda m: m["msg_type"] == "comm_open" and m["content"]["comm_id"] == comm)
    stream_id = opening["content"]["data"]["state"]["meta"]["stream_id"]
    if kernel.version in WITH_SUBSHELLS:
        kernel.open_control({"op": "stop", "stream_id": stream_id}, kernel.subshell())
        cause = "button"
    else:
        kernel.interrupt()
        cause = "interrupt"
    kernel.finish(request)
    assert exchange.closed.wait(SECONDS)
    assert kernel.value("(t.outcome, t.stop_cause)") == f"('stopped', {cause!r})"


def test_a_blocking_cell_magic_is_stopped_by_an_interrupt(kernel: Kernel, server: MockServer) -> None:
    count = len(server.exchanges)
    line = f"endless --base-url {server.base_url}"
    request = kernel.start(f"shell = get_ipython()\nshell.run_cell_magic('stream', {line!r}, 'Tell me a story.')\n'went on'")
    kernel.wait_op(kernel.opened(request), "append")
    kernel.interrupt()
    published = kernel.finish(request, timeout=15)
    assert server.wait_for(count + 1).closed.wait(SECONDS)
    assert settled(published)[0]["outcome"] == "stopped"
    assert [m["content"]["data"]["text/plain"] for m in published if m["msg_type"] == "execute_result"] == ["'went on'"]


def test_a_call_that_blocks_an_async_cell_is_stopped_by_an_interrupt(kernel: Kernel, server: MockServer) -> None:
    """There the kernel only schedules a cancellation, which a blocked loop never comes to."""
    count = len(server.exchanges)
    kernel.run("import asyncio, tokenstream_magic as ts; t = None")
    request = kernel.start(f"await asyncio.sleep(0)\nt = ts.stream('Tell me a story.', 'endless', base_url={server.base_url!r})")
    kernel.wait_op(kernel.opened(request), "append")
    kernel.interrupt()
    kernel.finish(request, timeout=15)
    assert server.wait_for(count + 1).closed.wait(SECONDS)
    assert kernel.value("(t.outcome, t.stop_cause)") == "('stopped', 'interrupt')"


def test_limits_stop_a_stream(kernel: Kernel, server: MockServer) -> None:
    (by_tokens,) = settled(kernel.run(cell(server, "endless", "--token-limit 5")))
    assert (by_tokens["outcome"], by_tokens["stop_cause"]) == ("stopped", "limit:tokens")
    assert kernel.value("len(_stream.timeline)") == "5"
    (by_time,) = settled(kernel.run(cell(server, "silent", "--time-limit 0.2")))
    assert (by_time["outcome"], by_time["stop_cause"]) == ("stopped", "limit:time")


def test_the_cell_after_a_stopped_one_is_not_interrupted(kernel: Kernel, server: MockServer) -> None:
    request, comm, exchange = begin(kernel, server, "endless")
    after = kernel.start("print('ran')")
    kernel.wait_op(comm, "append")
    press(kernel, comm)
    assert_stopped(kernel, request, exchange, ("button", "interrupt"))
    assert "".join(m["content"]["text"] for m in kernel.finish(after) if m["msg_type"] == "stream") == "ran\n"


def test_a_page_whose_notebook_was_loaded_without_the_output_is_given_one(kernel: Kernel, server: MockServer) -> None:
    request, comm, exchange = begin(kernel, server, "endless", "--bg")
    kernel.finish(request)
    kernel.wait_op(comm, "append")
    kernel.comm(comm, {"op": "place"})
    live = kernel.wait_op(comm, "place")["output"]["data"]
    assert (live[MIME]["status"], live[MIME]["model_id"]) == ("live", comm)
    kernel.comm(comm, {"op": "stop"})
    kernel.wait_op(comm, "settled")
    kernel.comm(comm, {"op": "place"})
    settled_now = kernel.wait_op(comm, "place", count=2)["output"]["data"]
    assert settled_now[MIME]["outcome"] == "stopped"
    assert exchange.closed.wait(SECONDS)
