"""Where things are, and ipykernels of several versions side by side."""

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
    target = CACHE / f"ipykernel-{version}"
    if not (target / ".complete").exists():
        wanted = [f"ipykernel=={version}", "nest-asyncio>=1.4"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target), *wanted]
        subprocess.run(command, check=True)
        (target / ".complete").touch()
    return str(target)
