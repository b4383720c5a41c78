"""Stop in a real page, on every ipykernel we promise: seen at once, heard at once, and never by another cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, Page
from support import ipykernel_path

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

VERSIONS = ["6.31.0", "7.0.1", "7.3.0", "7.4.0"]

PRESS_TWICE = """cell => {
    const button = cell.querySelector('.ts-Stop');
    const from = performance.now();
    button.click();
    const after = performance.now() - from;
    const words = cell.querySelector('.ts-Words').textContent;
    button.click();
    void window.jupyterapp.commands.execute('tokenstream:stop-all');
    return [words, after];
}"""

LATER = "import time\nfor _ in range(16):\n    time.sleep(0.1)\nprint('went on')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One of its own: with several kernels to choose from, JupyterLab may ask which."""
    root = tmp_path_factory.mktemp("stop-roads")
    running = Lab(root, {"TOKENSTREAM_DATABASE": str(root / "transcripts.db"), "TOKENSTREAM_CONFIG": str(root / "none.toml")})
    yield running
    running.close()


@pytest.fixture(scope="module")
def kernels(lab: Lab) -> dict[str, str]:
    """The kernel of each version: the environment's own, or one of those beside it."""
    beside = {version: path for version in VERSIONS if (path := ipykernel_path(version))}
    for version, path in beside.items():
        lab.add_kernel(f"ipykernel-{version}", path)
    return {version: f"ipykernel-{version}" if version in beside else "python3" for version in VERSIONS}


@pytest.fixture(params=[v if v in ("6.31.0", "7.4.0") else pytest.param(v, marks=pytest.mark.soak) for v in VERSIONS])
def notebook(lab: Lab, kernels: dict[str, str], server: MockServer, request: pytest.FixtureRequest) -> str:
    name = f"stop-{request.param}.ipynb"
    load = "import ipykernel\nimport tokenstream_magic as ts\n%load_ext tokenstream_magic\nprint(ipykernel.__version__)"
    blocking = f"t = ts.stream('Tell me a story.', 'endless', base_url={server.base_url!r})"
    cells = [load, f"%%stream endless --base-url {server.base_url}\nTell me a story.", LATER, blocking, LATER]
    lab.write(name, cells, kernel=kernels[request.param])
    return name


def press_twice(page: Page, cell: int) -> list[Any]:
    """Clicks Stop twice, stops all besides, and returns what the view said after the first click, before any answer could come."""
    return list(page.cell(cell).locator(".ts-Stream").evaluate(PRESS_TWICE))


def test_stop_is_seen_at_once_and_the_cell_behind_is_not_interrupted(
    page: Page, notebook: str, server: MockServer, request: pytest.FixtureRequest
) -> None:
    version = request.node.callspec.params["notebook"]
    interrupts: list[str] = []
    page.page.on("request", lambda asked: interrupts.append(asked.url) if "/interrupt" in asked.url else None)
    page.open(notebook).run_done(0)
    assert page.cell(0).locator(".jp-OutputArea-output").last.inner_text().strip() == version
    for stream, behind in ((1, 2), (3, 4)):
        page.run(stream)
        page.wait_text(stream, 100)
        page.run(behind)
        exchange = server.exchanges[-1]
        words, _ = press_twice(page, stream)
        assert words == "stopping…"
        page.wait_state(stream, "stopped")
        assert exchange.closed.wait(10)
        page.wait_done(behind)
        assert page.cell(behind).locator(".jp-OutputArea-output").all_inner_texts() == ["went on\n"]
    # where comms reach a running cell there is nothing to interrupt; elsewhere it is done once a stream
    assert len(interrupts) == (2 if version.startswith("6.") else 0)
