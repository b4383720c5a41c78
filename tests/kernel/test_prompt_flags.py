"""The prompt flags in a real kernel: what a cell names is found in the notebook, and what goes wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled

from tokenstream_magic.mock.script import Script, Tool
from tokenstream_magic.mock.server import MockServer


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        call = Tool("double", ('{"n": 21}',), "c1")
        running.scripts["calls"] = Script(pieces=(), tools=(call,), finish="tool_calls")
        running.scripts["code"] = Script(pieces=("Here:\n", "```python\nx", " = 1\n```\n", "Done."))
        yield running


@pytest.fixture(scope="module")
def kernel(server: MockServer) -> Iterator[Kernel]:
    with Kernel() as running:
        running.run("%load_ext tokenstream_magic")
        running.run("def double(n: int) -> int:\n    'Twice n.'\n    global ran\n    ran = n\n    return 2 * n")
        running.run("pixel = b'\\x89PNG\\r\\n\\x1a\\n...'; shape = {'type': 'object'}")
        yield running


def test_attachments_schemas_tools_and_parameters_are_found_in_the_notebook(kernel: Kernel, server: MockServer) -> None:
    kernel.run(f"%%stream hello --base-url {server.base_url} -a pixel --schema shape -T double -p who Ada\nLook, {{who}}")
    body = server.exchanges[-1].body
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]
    assert body["messages"][0]["content"][1]["text"] == "Look, Ada"
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["tools"][0]["function"]["description"] == "Twice n."
    assert kernel.value("'ran' in globals()") == "False"


def test_the_dry_run_shows_an_attachment_by_its_size(kernel: Kernel, server: MockServer) -> None:
    published = kernel.run(f"%%stream hello --base-url {server.base_url} -a pixel --dry-run\nLook")
    text = "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream")
    assert "data:image/png;base64,(11 bytes)" in text


@pytest.mark.parametrize("page", [True, False])
def test_tools_run_and_every_round_is_an_output(kernel: Kernel, server: MockServer, page: bool) -> None:
    before = len(server.exchanges)
    answer = server._answer

    def answering(exchange, writer):
        exchange.body["model"] = "hello" if "tool_call_id" in json.dumps(exchange.body) else "calls"
        return answer(exchange, writer)

    server._answer = answering
    try:
        published = kernel.run(f"%%stream calls --base-url {server.base_url} -T double --run-tools\nTwice 21?", page=page)
    finally:
        server._answer = answer
    assert [bundle.get("tool_calls", [{}])[0].get("name") for bundle in settled(published)] == ["double", None]
    assert kernel.value("(_stream.text, ran)") == "('Hello there.', 21)"
    assert server.exchanges[-1].body["messages"][-1]["content"] == "42"
    assert len(server.exchanges) == before + 2


def test_a_cell_goes_on_with_the_last(kernel: Kernel, server: MockServer) -> None:
    kernel.run(f"%%stream hello --base-url {server.base_url} --out first\nOne")
    kernel.run(f"%%stream hello --base-url {server.base_url} -c\nTwo")
    assert [m["content"] for m in server.exchanges[-1].body["messages"]] == ["One", "Hello there.", "Two"]
    assert kernel.value("_stream.parent_id == first.id") == "True"


@pytest.mark.parametrize("more", ["", " --bg"])
def test_the_first_fenced_block_is_bound_and_the_transcript_stays_whole(kernel: Kernel, server: MockServer, more: str) -> None:
    kernel.run("block = None")
    request = kernel.start(f"%%stream code --base-url {server.base_url} -x --out block{more}\nCode")
    kernel.wait_op(kernel.opened(request), "settled")
    kernel.finish(request)
    assert kernel.value("(block, _stream.text)") == repr(("x = 1\n", "Here:\n```python\nx = 1\n```\nDone."))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-T dubble", "There is no function 'dubble'"),
        ("-a nowhere.png", "nowhere.png cannot be read: No such file"),
        ("-a https://example.org/a.png", "nothing is fetched"),
        ("--schema 'a wrongtype'", "no field of a schema"),
        ("--schema shape --json", "asks for JSON already"),
        ("--run-tools", "There is no tool to run"),
        ("--run-tools -T double --bg", "waits for its rounds"),
        ("-x", "none is named"),
        ("--raw -p a b", "sends braces as typed"),
        ("-c --cid a", "two conversations"),
        ("-t nowhere", "no template 'nowhere'"),
        ("-o schema '{}'", "Write --schema S"),
        ("-p 'two words' x", "cannot be a parameter"),
    ],
)
def test_what_contradicts_or_is_missing_is_one_line_and_nothing_is_sent(kernel: Kernel, server: MockServer, line: str, said: str) -> None:
    before = len(server.exchanges)
    published = kernel.run(f"%%stream hello --base-url {server.base_url} {line}\nHi", page=False)
    assert not [m for m in published if m["msg_type"] in ("error", "stream")]
    (message,) = [m for m in published if m["msg_type"] == "display_data"]
    problem = message["content"]["data"][MIME]["error"]["message"]
    assert said in problem and "\n" not in problem
    assert len(server.exchanges) == before


def test_a_template_of_the_users(server: MockServer, tmp_path) -> None:
    (tmp_path / "own.toml").write_text(
        '[prompts.sum]\nprompt = "Sum up in {n} words: {input}"\nsystem = "Be {tone}."\nmodel = "mock/hello"\noptions = {temperature = 0.5, seed = 3}\n'
    )
    with Kernel(environment={"TOKENSTREAM_CONFIG": str(tmp_path / "own.toml")}) as kernel:
        kernel.run("%load_ext tokenstream_magic")
        kernel.run("tone = 'kind'")
        kernel.run("%%stream -t sum -p n 5 --seed 4\nA long text for {tone} people")
        assert kernel.value("(_stream.model, _stream.system, _stream.prompt)") == repr(
            ("mock/hello", "Be kind.", "Sum up in 5 words: A long text for kind people")
        )
        assert kernel.value("_stream.options") == "{'temperature': 0.5, 'seed': 4}"
        assert kernel.value("sorted(_stream.variables)") == "['input', 'n', 'tone']"
