"""The addresses of the server extension, asked as a page and as strangers would, in a real Jupyter server."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import tokenstream_magic as ts
from tokenstream_magic.mock.server import MockServer

MARKUP = "<script>alert(1)</script>"


class Server:
    """A Jupyter server of its own, with the extensions that the installation enables."""

    def __init__(self, root: Path) -> None:
        self.token, self.database = secrets.token_hex(16), root / "kept" / "transcripts.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        own = {f"JUPYTER_{name}_DIR": str(root / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        self.log = root / "server.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={self.address.rpartition(':')[2]}"),
                    *(f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={root}", "--ServerApp.ip=127.0.0.1"),
                ],
                env={**os.environ, **own, "TOKENSTREAM_DATABASE": str(self.database)},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while self.ask("/api/status")[0] != 200:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.1)  # a server has no other sign that it is up

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
        """Status, JSON and headers of an answer; with the token unless the headers say something else."""
        sent = {"Authorization": f"token {self.token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.address + path, method=method, headers={k: v for k, v in sent.items() if v})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            body = error.read()
            return error.code, json.loads(body) if body.startswith(b"{") else body.decode(), error.headers
        except OSError:
            return 0, None, None

    def api(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
        return self.ask(f"/tokenstream/api/{path}", method, **headers)

    def list(self, **filters: Any) -> Any:
        status, answer, _ = self.api(f"transcripts?{urlencode(filters)}")
        assert status == 200, answer
        return answer

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, and a store of this process that is the same."""
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(running.database))
    yield running
    for kept in ts.transcripts.recent(1000):
        ts.transcripts.delete(kept.id)


def keep(mock: MockServer, prompt: str, model: str, **how: Any) -> ts.Transcript:
    """A transcript that is in the database."""
    return ts.transcripts.get(ts.stream(prompt, model, base_url=mock.base_url, **how).id)


def test_a_list_is_found_filtered_and_paged(server: Server, mock: MockServer) -> None:
    sent = [keep(mock, f"question {n} {MARKUP}", "hello", tag="even" if n % 2 == 0 else "odd") for n in range(5)]
    failed = keep(mock, "refused", "unauthorized")
    newest_first = [failed.id, *(t.id for t in reversed(sent))]
    assert [row["id"] for row in server.list()["transcripts"]] == newest_first
    (row,) = server.list(query="question 3")["transcripts"]
    assert (row["prompt"], row["text"], row["outcome"]) == (f"question 3 {MARKUP}", "Hello there.", "complete")
    assert row["ttft_ms"] > 0
    assert [row["id"] for row in server.list(outcome="failed")["transcripts"]] == [failed.id]
    assert server.list(outcome="failed")["transcripts"][0]["problem"] == failed.error["message"]
    assert {row["id"] for row in server.list(tag="odd", model=sent[0].model, since="1h")["transcripts"]} == {sent[1].id, sent[3].id}
    assert server.api("transcripts?limit=1&1763870000000")[0] == 200  # as JupyterLab asks, past every cache
    assert server.list(notebook="nowhere.ipynb") == {"transcripts": [], "cursor": None}
    seen, cursor = [], {}
    while cursor is not None:
        page = server.list(limit=4, **cursor)
        seen += [row["id"] for row in page["transcripts"]]
        if len(seen) == 4:
            ts.transcripts.delete(seen[3])  # what goes away between two pages moves nothing
        cursor = {"cursor": page["cursor"]} if page["cursor"] else None
    assert seen == newest_first
    assert server.api("models")[1] == {"models": sorted({failed.model, sent[0].model})}
    status = server.api("status")[1]
    assert (status["transcripts"], status["on"], status["database"]) == (5, True, "sqlite")
    assert str(server.database.parent) not in json.dumps(status)


def test_one_is_a_document_a_cell_and_gone(server: Server, mock: MockServer) -> None:
    sent = keep(mock, f"Say {MARKUP}", "hello", temperature=0.5, system="Be brief.")
    status, document, headers = server.api(f"transcripts/{sent.id}")
    assert status == 200
    assert (document["text"], document["tokenstream"]["id"]) == ("Hello there.", sent.id)
    assert document["tokenstream"]["timeline"] == json.loads(json.dumps(sent.timeline.as_dict()))
    assert document["tokenstream"]["asked"]["prompt"] == f"Say {MARKUP}"
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not headers["Access-Control-Allow-Origin"]  # only what jupyter_server says: the origin of a request with the token
    cell = server.api(f"transcripts/{sent.id}/cell")[1]
    assert cell["missing"] == ["address"]
    assert cell["source"].startswith("%%stream hello --temperature 0.5 -s 'Be brief.'\n")
    assert server.api(f"transcripts/{sent.id}", "DELETE")[:2] == (200, {"deleted": sent.id})
    assert MARKUP.encode() not in server.database.read_bytes()
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/cell")):
        status, answer, _ = server.api(f"transcripts/{sent.id}{path}", method)
        assert (status, answer["message"]) == (404, "There is no such transcript: it may have been deleted.")


def test_strangers_get_nothing(server: Server, mock: MockServer) -> None:
    sent = keep(mock, "secret words", "hello")
    for path in ("transcripts", "status", "models", f"transcripts/{sent.id}", f"transcripts/{sent.id}/cell"):
        status, answer, _ = server.api(path, Authorization="")
        assert (status, answer["message"]) == (403, "You are not logged in to this server.")
        assert "secret words" not in json.dumps(server.api(path, Authorization="", Origin="https://evil.example")[1])
    assert server.api(f"transcripts/{sent.id}", "DELETE", Authorization="")[0] == 403
    # a page that is logged in by its cookie must show the XSRF token to delete
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(f"{server.address}/api/me?token={server.token}").read()
    here = f"{server.address}/tokenstream/api/transcripts/{sent.id}"
    assert json.load(opener.open(here))["text"] == "Hello there."
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(here, method="DELETE"))
    assert refused.value.code == 403
    evil = urllib.request.Request(here, headers={"Origin": "https://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(evil)
    assert refused.value.code in (403, 404)
    assert "secret words" not in refused.value.read().decode()
    assert ts.transcripts.get(sent.id).text == "Hello there."


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("transcripts?outcome=nonsense", 400, "no such outcome"),
        ("transcripts?since=soon", 400, "is no date"),
        ("transcripts?limit=0", 400, "limit is a whole number"),
        ("transcripts?limit=-5", 400, "limit is a whole number"),
        ("transcripts?limit=1e9", 400, "limit is a whole number"),
        ("transcripts?cursor=0%20OR%201=1", 400, "cursor is a whole number"),
        ("transcripts?order=id", 400, "no such filter"),
        (f"transcripts?query={'x' * 1001}", 400, "too long"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_of_json(server: Server, path: str, status: int, words: str) -> None:
    got, answer, _ = server.api(path)
    assert got == status
    assert words in answer["message"]
    assert set(answer) == {"message", "hint"}
    assert "\n" not in json.dumps(answer, ensure_ascii=False).replace("\\n", "\n")


@pytest.mark.parametrize("id", ["last", "..%2F..%2Fetc%2Fpasswd", "01", "'%20OR%201=1", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"])
def test_only_a_whole_id_is_an_address(server: Server, mock: MockServer, id: str) -> None:
    sent = keep(mock, "kept", "hello")
    assert server.api(f"transcripts/{id}")[0] == 404
    assert server.api(f"transcripts/{id}", "DELETE")[0] in (403, 404, 405)
    assert ts.transcripts.get("last").id == sent.id


def test_a_database_that_cannot_be_read_names_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenstream_magic.errors import StoreError
    from tokenstream_magic.labserver import reading

    (tmp_path / "not.db").mkdir()
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "not.db"))
    with pytest.raises(StoreError) as refused:
        reading.page({})
    words = reading.without_directories(str(refused.value))
    assert "not.db" in words
    assert str(tmp_path) not in words


@pytest.mark.parametrize("named", ["postgresql://127.0.0.1:port/x", "no address://x", "~nobody-of-that-name/x.db", "a name? %41/not.db"])
def test_what_is_no_database_is_told_in_one_sentence(tmp_path: Path, monkeypatch, named: str) -> None:
    from tokenstream_magic.errors import StoreError
    from tokenstream_magic.labserver import reading

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a name? %41").touch()  # no directory
    monkeypatch.setenv("TOKENSTREAM_DATABASE", named)
    with pytest.raises(StoreError) as refused:
        reading.page({})
    words = reading.without_directories(str(refused.value))
    assert words
    assert str(tmp_path) not in words


def test_the_server_starts_without_loading_a_database() -> None:
    program = (
        "import sys, jupyter_server.serverapp as s, jupyter_server.auth.decorator as d; before = set(sys.modules);"
        "import tokenstream_magic.labserver as l; l._load_jupyter_server_extension(type('A', (), {'web_app': type('W', (),"
        "{'settings': {'base_url': '/'}, 'add_handlers': lambda self, host, routes: print(len(routes))})()}));"
        "print(sorted(n for n in set(sys.modules) - before if not n.startswith('tokenstream_magic')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    routes, loaded = ran.stdout.splitlines()
    assert (int(routes), loaded) == (5, "[]")
