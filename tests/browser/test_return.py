"""Reload and return: whatever happens to the page, the connection or the cell, nothing of a stream is lost or doubled."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest
from harness import MIME
from lab import Lab, Page
from playwright.sync_api import WebSocketRoute

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

LOAD = "%load_ext tokenstream_magic"
COUNTING = Script(tuple(f"{number} " for number in range(300)), gap=0.03)
QUICK = Script(COUNTING.pieces, gap=0.012)
COUNTED = "".join(COUNTING.pieces).strip()


@pytest.fixture
def notebook(lab: Lab, server: MockServer, request: pytest.FixtureRequest) -> str:
    """A stream that ends by itself after nine seconds, one that does not, the kernel's process, and one that ends after four seconds."""
    server.scripts |= {"counting": COUNTING, "quick": QUICK}
    name = re.sub(r"\W+", "-", request.node.name)[:60] + ".ipynb"
    streams = [f"%%stream {script} --base-url {server.base_url}\nCount." for script in ("counting", "endless", "quick")]
    lab.write(name, [LOAD, *streams[:2], "import os\nprint(os.getpid())", streams[2]])
    return name


def saved(lab: Lab, notebook: str, cell: int) -> list[dict[str, Any]]:
    """The transcripts in the file, in the outputs of a cell."""
    outputs = json.loads((lab.notebooks / notebook).read_text())["cells"][cell]["outputs"]
    return [output["data"][MIME] for output in outputs]


def press_stop(page: Page, cell: int) -> None:
    page.cell(cell).get_by_role("button", name="Stop", exact=True).click()


def test_a_page_reloaded_in_mid_stream_shows_what_was_saved_and_then_all_of_it(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run(1)
    page.wait_text(1, 100)
    page.save()
    (live,) = saved(lab, notebook, 1)
    assert live["status"] == "live"
    assert COUNTED.startswith(live["text"].strip())
    page.open(notebook, kernel=False)
    page.wait_state(1, "lost", "streaming")
    assert COUNTED.startswith(live["text"].strip())
    assert page.text(1).startswith(live["text"].strip())
    page.wait_state(1, "streaming")
    page.wait_state(1, "complete")
    assert page.text(1) == COUNTED
    assert page.stream(1).count() == 1
    page.save()
    (settled,) = saved(lab, notebook, 1)
    assert (settled["status"], settled["text"].strip()) == ("settled", COUNTED)


def test_a_page_reloaded_before_anything_was_saved_gets_its_output_back(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_text(2, 100)
    exchange = server.exchanges[-1]
    page.open(notebook, kernel=False)
    page.wait_state(2, "streaming")
    press_stop(page, 2)
    page.wait_state(2, "stopped")
    assert exchange.closed.wait(10)
    assert "".join(server.scripts["endless"].pieces).startswith(page.text(2))
    # and once more, settled but not saved
    page.open(notebook, kernel=False)
    page.wait_state(2, "stopped")
    page.save()
    (settled,) = saved(lab, notebook, 2)
    assert settled["outcome"] == "stopped"


def test_a_stream_that_ended_while_no_page_was_open_is_whole_in_the_next_one(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run(4)
    page.wait_text(4, 50)
    page.save()
    page.page.goto("about:blank")
    lab.wait_idle(notebook)
    page.open(notebook)
    page.wait_state(4, "complete")
    assert page.text(4) == COUNTED
    page.save()
    (settled,) = saved(lab, notebook, 4)
    assert settled["text"].strip() == COUNTED


def test_two_tabs_show_the_same_stream_and_either_stops_it(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_text(2, 50)
    page.save()
    other = Page(page.page.context.new_page(), lab, single=True).open(notebook, kernel=False)
    other.wait_state(2, "streaming")
    press_stop(other, 2)
    other.wait_state(2, "stopped")
    page.wait_state(2, "stopped")
    assert page.text(2) == other.text(2)
    assert "".join(server.scripts["endless"].pieces).startswith(page.text(2))
    page.save()
    (settled,) = saved(lab, notebook, 2)
    assert settled["outcome"] == "stopped"
    other.page.close()


def test_the_kernel_being_killed_in_a_stream_is_said_and_the_text_stays(page: Page, lab: Lab, notebook: str) -> None:
    page.open(notebook).run_done(0)
    page.run_done(3)
    pid = int(page.cell(3).locator(".jp-OutputArea-output").inner_text())
    page.run(2)
    page.wait_text(2, 100)
    os.kill(pid, signal.SIGKILL)
    page.wait_state(2, "lost")
    shown = page.text(2)
    assert len(shown) > 100
    assert page.stream(2).get_by_role("button", name="Stop").count() == 0
    page.page.locator(".jp-Dialog button").first.click()
    page.save()
    (live,) = saved(lab, notebook, 2)
    assert live["text"].strip() == shown.strip()
    page.open(notebook)
    page.wait_state(2, "lost")
    assert page.text(2) == shown


class Line:
    """The page's websockets to its kernels: they can lose messages, and be cut."""

    def __init__(self, page: Page) -> None:
        self.page = page.page
        self.loses: bytes | None = None
        """Messages that hold this are lost."""
        self._is_up = True
        self._open: list[WebSocketRoute] = []
        self.page.route_web_socket(re.compile("/api/kernels/.*/channels"), self._connect)

    def cut(self) -> None:
        self._is_up = False
        while self._open:
            self._open.pop().close(code=1012)
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.connectionStatus !== 'connected'"
        )

    def mend(self) -> None:
        self._is_up = True

    def _connect(self, socket: WebSocketRoute) -> None:
        if not self._is_up:
            socket.close(code=1012)
            return
        kernel = socket.connect_to_server()
        kernel.on_message(lambda message: None if self._is_lost(message) else socket.send(message))
        self._open += [socket, kernel]

    def _is_lost(self, message: str | bytes) -> bool:
        return self.loses is not None and self.loses in (message.encode() if isinstance(message, str) else message)


def test_a_connection_that_was_cut_catches_up(page: Page, lab: Lab, notebook: str) -> None:
    """Cut for as long as the rest of the stream takes, some three seconds, so that its end is missed too."""
    line = Line(page)
    page.open(notebook).run_done(0)
    page.run(4)
    page.wait_text(4, 50)
    line.loses = b""  # what is sent now is lost, as when the server drops it
    page.page.wait_for_timeout(300)
    line.loses = None
    page.wait_text(4, 300)
    line.cut()
    lab.wait_idle(notebook)
    assert page.stream(4).get_attribute("data-state") == "streaming"
    line.mend()
    page.wait_state(4, "complete")
    assert page.text(4) == COUNTED
    page.save()
    (settled,) = saved(lab, notebook, 4)
    assert settled["text"].strip() == COUNTED


def test_a_reloaded_page_is_live_before_the_widget_manager_is(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    """Its request for the models waits for a busy kernel; here it is never answered while the cell runs."""
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_text(2, 100)
    page.save()
    exchange = server.exchanges[-1]
    line = Line(page)
    line.loses = b"update_states"
    page.open(notebook, kernel=False)
    page.wait_state(2, "streaming")
    page.wait_text(2, len(page.text(2)) + 50)
    assert "".join(server.scripts["endless"].pieces).startswith(page.text(2))
    press_stop(page, 2)
    assert exchange.closed.wait(10)
    page.wait_state(2, "stopped")
    shown = page.text(2)
    # then its model comes, and writes the output
    page.page.wait_for_function(
        "mime => window.jupyterapp.shell.currentWidget.content.model.cells.get(2).outputs.get(0).toJSON().data[mime].status === 'settled'",
        arg=MIME,
    )
    assert page.text(2) == shown
    page.save()
    (settled,) = saved(lab, notebook, 2)
    assert (settled["outcome"], settled["text"].strip()) == ("stopped", shown)


@pytest.mark.soak
@pytest.mark.parametrize("again", range(4))
def test_a_connection_cut_for_half_a_minute_catches_up_while_the_stream_goes_on(
    page: Page, lab: Lab, notebook: str, server: MockServer, again: int
) -> None:
    """JupyterLab's own attempts end, by chance, within the half minute or long after it."""
    server.scripts["counting"] = Script(COUNTING.pieces, gap=0.2)  # a minute
    line = Line(page)
    page.open(notebook).run_done(0)
    page.run(1)
    before = page.wait_text(1, 50)
    line.cut()
    page.page.wait_for_timeout(30_000)
    assert page.text(1).startswith(before.strip())
    assert page.stream(1).get_attribute("data-state") == "streaming"
    shown = len(page.text(1))
    line.mend()
    page.wait_text(1, shown + 400, timeout=20_000)
    assert page.stream(1).get_attribute("data-state") == "streaming"
    assert COUNTED.startswith(page.text(1).strip())
    page.wait_state(1, "complete")
    assert page.text(1) == COUNTED
    page.save()
    (settled,) = saved(lab, notebook, 1)
    assert settled["text"].strip() == COUNTED


def test_a_stream_whose_cell_is_cleared_run_again_or_deleted_is_stopped(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_text(2, 20)
    cleared = server.exchanges[-1]
    page.command("notebook:clear-cell-output", 2)
    assert cleared.closed.wait(20)
    page.wait_done(2)
    page.run(2)
    page.wait_text(2, 20)
    count, again = len(server.exchanges), server.exchanges[-1]
    page.command("notebook:run-cell", 2)
    assert again.closed.wait(20)
    page.wait_text(2, 20)
    assert len(server.exchanges) == count + 1
    assert page.stream(2).count() == 1
    deleted = server.exchanges[-1]
    page.command("notebook:delete-cell", 2)
    assert deleted.closed.wait(20)
    page.run_done(2)


def test_a_stream_whose_cell_is_moved_or_copied_goes_on_in_both_places(page: Page, lab: Lab, notebook: str, server: MockServer) -> None:
    page.open(notebook).run_done(0)
    page.run(2)
    page.wait_text(2, 20)
    exchange = server.exchanges[-1]
    page.command("notebook:move-cell-down", 2)
    length = len(page.wait_text(3, 50))
    page.command("notebook:cut-cell", 3)
    page.command("notebook:paste-cell-below", 1)
    page.wait_text(2, length + 50)
    page.command("notebook:copy-cell", 2)
    page.command("notebook:paste-cell-below", 3)
    page.wait_text(4, length + 100)
    trusted = "() => [...window.jupyterapp.shell.currentWidget.content.model.cells].map(cell => cell.trusted)"
    before = page.page.evaluate(trusted)
    assert not exchange.closed.is_set()
    press_stop(page, 4)
    for cell in (2, 4):
        page.wait_state(cell, "stopped")
    assert exchange.closed.wait(10)
    assert page.text(2) == page.text(4)
    assert "".join(server.scripts["endless"].pieces).startswith(page.text(2))
    page.page.wait_for_function(
        """mime => [2, 4].every(i => window.jupyterapp.shell.currentWidget.content.model.cells.get(i)
            .outputs.get(0).toJSON().data[mime].status === 'settled')""",
        arg=MIME,
    )
    assert page.page.evaluate(trusted) == before
    page.save()
    for cell in (2, 4):
        (settled,) = saved(lab, notebook, cell)
        assert settled["outcome"] == "stopped"
