"""Where things are, and ipykernels and front ends of several versions side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache"


def ipykernel_path(version: str) -> str | None:
    """A directory with that ipykernel, installed beside the others; None when it is the one of this environment."""
    import ipykernel

    if ipykernel.__version__ == version:
        return None
    return str(_beside(f"ipykernel-{version}", f"ipykernel=={version}", "nest-asyncio>=1.4"))


def front_end_path(name: str, *packages: str) -> Path:
    """A directory with these front-end packages, which comes before what this environment has."""
    return _beside(f"front-end-{name}", *packages)


def _beside(name: str, *packages: str) -> Path:
    """A directory in the cache with these packages and nothing they depend on."""
    target = CACHE / name
    if not (target / ".complete").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target), *packages]
        subprocess.run(command, check=True)
        (target / ".complete").touch()
    return target
