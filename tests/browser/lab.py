"""A real JupyterLab in headless Chromium, for tests, benchmarks and screenshots alike."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


def chromium() -> str:
    """A browser that is there: ``TOKENSTREAM_CHROMIUM``, or one of the usual names."""
    named = os.environ.get("TOKENSTREAM_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if not found:
        raise RuntimeError("No Chromium found. Install it (Debian: apt-get install chromium) or set TOKENSTREAM_CHROMIUM to one.")
    return found


class Lab:
    """A JupyterLab server on a directory of its own, with settings and data of its own."""

    def __init__(
        self,
        root: Path,
        environment: dict[str, str] | None = None,
        dark: bool = False,
        packages: Path | None = None,
        application: str = "jupyterlab",
    ) -> None:
        """``packages`` is a directory that comes before the environment's own; ``application`` ``jupyterlab`` or ``notebook``."""
        self.root = root
        self.application = application
        self.notebooks = root / "notebooks"
        self.notebooks.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(16)
        self.port = _free_port()
        settings = {**SETTINGS, "@jupyterlab/apputils-extension/themes": {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"}}
        for name, values in settings.items():
            path = root / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        own = {
            "JUPYTER_CONFIG_DIR": str(root / "config"),
            "JUPYTER_DATA_DIR": str(root / "data"),
            "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
            "IPYTHONDIR": str(root / "ipython"),
        }
        if packages is not None:
            own["PYTHONPATH"] = str(packages)
            own["JUPYTER_PATH"] = str(packages / "share" / "jupyter")
            own["JUPYTER_CONFIG_PATH"] = str(packages / "etc" / "jupyter")
        self._log = (root / "server.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                application,
                "--no-browser",
                "--allow-root",
                f"--port={self.port}",
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={self.notebooks}",
                "--ServerApp.ip=127.0.0.1",
                f"--{'JupyterNotebookApp' if application == 'notebook' else 'LabApp'}.expose_app_in_browser=True",
                *(
                    [f"--LabApp.app_dir={packages / 'share/jupyter/lab'}"]
                    if packages and application == "jupyterlab" and (packages / "share/jupyter/lab").exists()
                    else []
                ),
            ],
            env={**os.environ, **own, **(environment or {})},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._wait()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, notebook: str, single: bool = False) -> str:
        where = "notebooks" if self.application == "notebook" else "doc/tree" if single else "lab/tree"
        return f"{self.address}/{where}/{notebook}?token={self.token}&reset"

    def write(self, name: str, sources: list[str], kernel: str = "python3") -> Path:
        """A notebook with these code cells."""
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        path = self.notebooks / name
        nbformat.write(notebook, path)
        return path

    def add_kernel(self, name: str, path: str) -> None:
        """A kernel with what is in ``path`` before what the environment has."""
        spec = self.root / "data" / "kernels" / name
        spec.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        described = {"argv": argv, "display_name": name, "language": "python", "env": {"PYTHONPATH": path}}
        (spec / "kernel.json").write_text(json.dumps(described))

    def sessions(self) -> list[dict[str, Any]]:
        """The server's sessions, each with its kernel and what that is doing."""
        with urllib.request.urlopen(f"{self.address}/api/sessions?token={self.token}", timeout=10) as answer:
            return list(json.load(answer))

    def end_sessions(self) -> None:
        """Ends all kernels."""
        for session in self.sessions():
            address = f"{self.address}/api/sessions/{session['id']}?token={self.token}"
            with contextlib.suppress(urllib.error.HTTPError):  # a kernel that is being restarted cannot be ended
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()

    def wait_idle(self, notebook: str, timeout: float = 60) -> None:
        """Waits until the kernel of a notebook has nothing to do, whether or not a page watches."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if any(each["path"] == notebook and each["kernel"]["execution_state"] == "idle" for each in self.sessions()):
                return
            time.sleep(0.1)  # the server has no other sign of it
        raise RuntimeError(f"the kernel of {notebook} is still busy")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/api/status?token={self.token}", timeout=2).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)  # a server has no other sign that it is up
        raise RuntimeError(f"JupyterLab did not start: {(self.root / 'server.log').read_text()[-2000:]}")


class Page:
    """One notebook in the browser, in the words of its user."""

    def __init__(self, page: Any, lab: Lab, single: bool = False) -> None:
        self.page = page
        self.lab = lab
        self.single = single

    def open(self, notebook: str, kernel: bool = True) -> Page:
        self.page.goto(self.lab.url(notebook, self.single))
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        if kernel:
            self.page.wait_for_selector('.jp-NotebookPanel-toolbar [data-status="idle"]', timeout=60_000)
            self._wait_for_keys()
        return self

    def _wait_for_keys(self) -> None:
        """JupyterLab takes its keys a while after it shows the notebook: until Escape leaves the editor, no key runs a cell."""
        for _ in range(50):
            try:
                self._accept_kernel()
                self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click(timeout=2000)
                self.page.wait_for_selector(".jp-Notebook.jp-mod-editMode", timeout=2000)
                self.page.keyboard.press("Escape")
                self.page.wait_for_selector(".jp-Notebook.jp-mod-commandMode", timeout=500)
            except Exception:  # not yet: Playwright's own timeout error
                continue
            return
        raise RuntimeError("JupyterLab does not take keys")

    def cell(self, index: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def run(self, index: int) -> None:
        """Runs a cell, as a person would, and does not wait for its end; presses again when the page was not ready for it."""
        prompt = "i => document.querySelectorAll('.jp-Notebook .jp-Cell')[i].querySelector('.jp-InputPrompt').textContent"
        before = self.page.evaluate(prompt, index)
        for _ in range(10):
            try:
                self._accept_kernel()
                self.cell(index).locator(".cm-content").first.click(timeout=5000)
                self.page.wait_for_selector(".jp-Notebook.jp-mod-editMode", timeout=5000)
                self.page.keyboard.press("Control+Enter")
                self.page.wait_for_function(f"([i, before]) => ({prompt})(i) !== before", arg=[index, before], timeout=1500)
            except Exception:  # Playwright's own timeout error
                continue
            return
        raise RuntimeError(f"cell {index} did not run")

    def _accept_kernel(self) -> None:
        """On a machine that has much to do, a cell run early makes JupyterLab ask which kernel, though it has begun one."""
        accept = self.page.locator(".jp-Dialog", has_text="Select Kernel").locator(".jp-mod-accept")
        if accept.count():
            accept.first.click(timeout=2000)

    def run_done(self, index: int, timeout: float = 20_000) -> None:
        """Runs a cell and waits until its prompt shows a number."""
        self.run(index)
        self.wait_done(index, timeout)

    def wait_done(self, index: int, timeout: float = 60_000) -> None:
        self.page.wait_for_function(
            """i => /\\[\\d+\\]/.test(document.querySelectorAll('.jp-Notebook .jp-Cell')[i].querySelector('.jp-InputPrompt').textContent)""",
            arg=index,
            timeout=timeout,
        )

    def stream(self, index: int) -> Any:
        return self.cell(index).locator(".ts-Stream")

    def wait_state(self, index: int, *states: str, timeout: float = 60_000) -> None:
        wanted = ", ".join(f'.ts-Stream[data-state="{state}"]' for state in states)
        self.cell(index).locator(wanted).first.wait_for(timeout=timeout)

    def text(self, index: int) -> str:
        return self.stream(index).locator(".ts-Answer").last.inner_text()

    def command(self, command: str, index: int | None = None) -> None:
        """Executes a command of JupyterLab, on a cell where one is named."""
        if index is not None:
            self.page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i }", index)
        self.page.evaluate("command => { void window.jupyterapp.commands.execute(command) }", command)

    def wait_text(self, index: int, longer_than: int, timeout: float = 60_000) -> str:
        """Waits until an answer is longer than that, and returns it."""
        self.page.wait_for_function(
            """([i, n]) => document.querySelectorAll('.jp-Notebook .jp-Cell')[i]
                .querySelector('.ts-Stream > .ts-Answer')?.textContent.length > n""",
            arg=[index, longer_than],
            timeout=timeout,
        )
        return self.text(index)

    def save(self) -> None:
        """Saves, and waits until the server has written the file."""
        with self.page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url):
            self.page.keyboard.press("Control+s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
