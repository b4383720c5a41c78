"""Where things are, and ipykernels and front ends of several versions side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache"


def ipykernel_path(version: str) -> str | None:
    """A directory with that ipykernel, installed beside the others; None when it is the one of this environment."""
    import ipykernel

    if ipykernel.__version__ == version:
        return None
    if sys.version_info < (3, 11) and tuple(map(int, version.split("."))) >= (7, 4):
        pytest.skip("ipykernel 7.4 needs Python 3.11")
    return str(_beside(f"ipykernel-{version}", f"ipykernel=={version}", "nest-asyncio>=1.4"))


def front_end_path(name: str, *packages: str) -> Path:
    """A directory with these front-end packages, which comes before what this environment has."""
    return _beside(f"front-end-{name}", *packages)


def collaboration_path() -> Path:
    """A directory with jupyter-collaboration and what it needs beside a JupyterLab."""
    packages = (
        "jupyter-collaboration==5.0.4",
        "jupyter-collaboration-ui==3.0.4",
        "jupyter-docprovider==3.0.4",
        "jupyter-server-ydoc==3.0.4",
        "jupyter-ydoc==4.2.1",
        "jupyter_server_fileid==0.10.0",
        "pycrdt==0.14.13",
        "pycrdt-store==0.1.5",
        "pycrdt-websocket==0.16.5",
        "sqlite-anyio==0.2.10",
    )
    return _beside("collaboration", *packages)


def _beside(name: str, *packages: str) -> Path:
    """A directory in the cache with these packages and nothing they depend on."""
    target = CACHE / name
    if not (target / ".complete").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target), *packages]
        subprocess.run(command, check=True)
        (target / ".complete").touch()
    return target
