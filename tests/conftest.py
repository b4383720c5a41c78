"""What all tests share: a store and a configuration of their own, and a mock server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tokenstream_magic.mock.server import MockServer

# a shell that runs them in the background has them ignore an interrupt, and everything they start with them
signal.signal(signal.SIGINT, signal.default_int_handler)

for name in list(os.environ):
    if name.endswith("_API_KEY") or name.lower().endswith("_proxy"):
        del os.environ[name]


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's transcripts or configuration."""
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "store" / "transcripts.db"))
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "tokenstream.toml"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr("tokenstream_magic.redaction._in_use", set())
    yield
    if "tokenstream_magic.transcripts.store" in sys.modules:
        from tokenstream_magic.transcripts import store

        for opened in store._open.values():
            opened.close()
        store._open.clear()


@pytest.fixture
def mock() -> Iterator[MockServer]:
    with MockServer() as server:
        server.scripts["story"] = replace(server.scripts["story"], gap=0.01)  # two seconds of waiting would be no better test
        yield server
