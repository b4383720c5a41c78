"""What all tests share: a store and a configuration of their own, a mock server, kernels of several versions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenstream_magic.mock.server import MockServer

sys.path.insert(0, str(Path(__file__).parent / "kernel"))
sys.path.insert(0, str(Path(__file__).parent / "browser"))

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache"

for name in list(os.environ):
    if name.endswith("_API_KEY") or name.lower().endswith("_proxy"):
        del os.environ[name]


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's transcripts or configuration."""
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "store" / "transcripts.db"))
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "tokenstream.toml"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield
    if "tokenstream_magic.transcripts.store" in sys.modules:
        from tokenstream_magic.transcripts import store

        for opened in store._open.values():
            opened.close()
        store._open.clear()


@pytest.fixture
def mock() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def ipykernel_path(version: str) -> str | None:
    """A directory with that ipykernel, installed beside the others; None when it is the one of this environment."""
    import ipykernel

    if ipykernel.__version__ == version:
        return None
    target = CACHE / f"ipykernel-{version}"
    if not (target / ".complete").exists():
        wanted = [f"ipykernel=={version}", "nest-asyncio>=1.4"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target), *wanted]
        subprocess.run(command, check=True)
        (target / ".complete").touch()
    return str(target)
