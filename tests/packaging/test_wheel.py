"""The wheel: built without node on PATH, installed into an empty environment, working there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.timeout(600)

# what this test asks of the environment: Python and pip, and no node anywhere on PATH
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON", "TOKENSTREAM"))}


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with the system's tools and without node."""
    tools = tmp_path_factory.mktemp("bin")
    for name in ("sh", "env", "uname", "cat", "ls", "mkdir", "rm", "cp", "git", "tar"):
        for directory in os.environ["PATH"].split(os.pathsep):
            if (Path(directory) / name).exists():
                (tools / name).symlink_to(Path(directory) / name)
                break
    return str(tools)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, bare_path: str) -> Path:
    """``pip wheel .`` of a copy of the sources, with nothing built before."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file() and not name.startswith(("tests/", ".cache/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    assert not (source / "tokenstream_magic" / "labextension").exists()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)]
    built = subprocess.run(command, env={**BARE, "PATH": bare_path}, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_holds_the_prebuilt_front_end_once_and_no_sources(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = [name for name in names if name.endswith("labextensions/tokenstream-magic/package.json")]
    assert len(package) == 1
    assert [name for name in names if "remoteEntry" in name]
    assert not [name for name in names if name.startswith(("tokenstream_magic/labextension", "tests/", "labextension/"))]
    assert "tokenstream_magic/quickstart.ipynb" in names
    assert [name for name in names if name.endswith("data/etc/jupyter/jupyter_server_config.d/tokenstream_magic.json")]


def test_installed_into_an_empty_environment_the_extension_is_enabled_and_ok(wheel: Path, tmp_path: Path, bare_path: str) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    bare = {**BARE, "PATH": bare_path, "HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    # what is imported is compiled then
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", str(wheel)]
    installed = subprocess.run(command, env={**BARE}, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr[-3000:]
    listed = subprocess.run([python, "-m", "jupyter", "labextension", "list"], env=bare, capture_output=True, text=True)
    (line,) = [line for line in (listed.stdout + listed.stderr).splitlines() if "tokenstream-magic" in line]
    assert "enabled" in line
    assert "OK" in line
    listed = subprocess.run([python, "-m", "jupyter", "server", "extension", "list"], env=bare, capture_output=True, text=True)
    told = [line for line in (listed.stdout + listed.stderr).splitlines() if "tokenstream_magic.labserver" in line]
    assert [line for line in told if "enabled" in line]
    assert [line for line in told if "OK" in line]
    program = "import tokenstream_magic as ts; print(ts.__version__, 'httpx' in __import__('sys').modules)"
    ran = subprocess.run([python, "-c", program], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert ran.stdout.strip() == "0.1.0 False", ran.stderr
    helped = subprocess.run([environment / "bin" / "tokenstream", "models"], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert "local/SmolLM2-135M-Instruct" in helped.stdout
