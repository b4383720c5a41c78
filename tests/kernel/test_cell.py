"""The cell, in a real kernel: what it publishes, what it binds, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled

from tokenstream_magic.mock.server import MockServer

CANARY = "sk-canary-1234567890abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(environment={"CANARY_KEY": CANARY}) as running:
        running.run("%load_ext tokenstream_magic")
        yield running


def displays(published: list[dict]) -> list[dict]:
    return [m for m in published if m["msg_type"] not in ("status", "execute_input")]


def test_without_a_page_one_display_is_published_and_nothing_else(kernel: Kernel, server: MockServer) -> None:
    (message,) = displays(kernel.run(f"%%stream hello --base-url {server.base_url}\nHi", page=False))
    assert message["msg_type"] == "display_data"
    data, metadata = message["content"]["data"], message["content"]["metadata"]["tokenstream"]
    assert set(data) == {MIME, "text/markdown", "text/plain"}
    assert data["text/plain"] == "Hello there."
    assert (data[MIME]["text"], data[MIME]["outcome"]) == ("Hello there.", "complete")
    assert metadata["timing"]["ttft_ms"] > 0
    assert metadata["usage"]["output_tokens"] == 3


def test_the_magic_returns_nothing_and_binds_the_transcript(kernel: Kernel, server: MockServer) -> None:
    published = kernel.run(f"%%stream hello --base-url {server.base_url} --out mine\nHi")
    assert not [m for m in published if m["msg_type"] == "execute_result"]
    assert kernel.value("(mine is _stream, mine.text, mine.outcome)") == "(True, 'Hello there.', 'complete')"
    (input,) = [m["content"]["execution_count"] for m in published if m["msg_type"] == "execute_input"]
    assert kernel.value("mine.execution_count") == str(input)


def test_the_live_view_gets_deltas_that_add_up_and_is_settled_by_the_kernel(kernel: Kernel, server: MockServer) -> None:
    request = kernel.start(f"%%stream story --base-url {server.base_url}\nTell me")
    comm = kernel.opened(request)
    published = kernel.finish(request)
    appends = [m for m in kernel.said(comm) if m["op"] == "append"]
    (bundle,) = settled(published)
    assert "".join(m["text"] for m in appends) == bundle["text"]
    assert [m["seq"] for m in appends] == list(range(1, len(appends) + 1))
    assert len(appends) > 5
    update = [m for m in published if m["msg_type"] == "update_display_data"]
    live = [m for m in published if m["msg_type"] == "display_data"]
    assert update[0]["content"]["transient"] == live[0]["content"]["transient"]


def test_a_page_that_missed_a_delta_gets_everything_at_once(kernel: Kernel, server: MockServer) -> None:
    request = kernel.start(f"%%stream endless --base-url {server.base_url}\nTell me")
    comm = kernel.opened(request)
    kernel.wait_op(comm, "append", count=4)
    kernel.comm(comm, {"op": "sync"}, kernel.subshell())
    snapshot = kernel.wait_op(comm, "snapshot")
    kernel.interrupt()
    kernel.finish(request)
    before = [m["text"] for m in kernel.said(comm) if m["op"] == "append" and m["seq"] <= snapshot["seq"]]
    assert snapshot["text"] == "".join(before)


def test_variables_are_filled_in_and_other_braces_stay(kernel: Kernel, server: MockServer) -> None:
    kernel.run("row = {'name': 'Ada'}")
    kernel.run(f'%%stream hello --base-url {server.base_url} -s "Be {{row[name]}}"\n{{row[name]!r}} {{nobody}} {{"json": 1}}')
    body = server.exchanges[-1].body
    assert [m["content"] for m in body["messages"]] == ["Be Ada", "'Ada' {nobody} {\"json\": 1}"]
    kernel.run(f"%%stream hello --base-url {server.base_url} --raw\n{{row[name]}}")
    assert server.exchanges[-1].body["messages"][0]["content"] == "{row[name]}"


def test_flags_reach_the_request(kernel: Kernel, server: MockServer) -> None:
    kernel.run(f"%%stream -m hello --base-url {server.base_url} --temperature 0.5 --max-tokens 9 --seed 3 -o top_k 5 -o tags '[1]'\nHi")
    body = server.exchanges[-1].body
    assert {k: body[k] for k in ("temperature", "max_tokens", "seed", "top_k", "tags", "stream")} == {
        "temperature": 0.5, "max_tokens": 9, "seed": 3, "top_k": 5, "tags": [1], "stream": True,
    }  # fmt: skip


def test_a_dry_run_shows_the_request_with_its_key_masked_and_sends_nothing(kernel: Kernel, server: MockServer) -> None:
    count = len(server.exchanges)
    published = kernel.run(f"%%stream hello --base-url {server.base_url} --api-key-env CANARY_KEY --dry-run\nHi")
    text = "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream")
    assert "Authorization: Bearer ***" in text
    assert '"content": "Hi"' in text
    assert CANARY not in text
    assert len(server.exchanges) == count


def test_a_key_goes_to_the_server_and_nowhere_else(kernel: Kernel, server: MockServer) -> None:
    published = kernel.run(f"%%stream hello --base-url {server.base_url} --api-key-env CANARY_KEY\nHi")
    assert server.exchanges[-1].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in json.dumps(published, default=str)
    path = eval(kernel.value("__import__('tokenstream_magic').transcripts.open_store().path"))
    for name in os.listdir(os.path.dirname(path)):
        with open(os.path.join(os.path.dirname(path), name), "rb") as file:
            assert CANARY.encode() not in file.read()


@pytest.mark.parametrize(
    ("cell", "message", "advice"),
    [
        ("%%stream nosuch/model\nHi", "There is no model 'nosuch/model'.", "%stream models"),
        ("%%stream --bogus\nHi", "Unrecognized arguments: --bogus.", "--help"),
        ("%%stream --temperature hot\nHi", "Argument --temperature: invalid float value: 'hot'.", "--help"),
        ("%%stream local\n", "There is no prompt", "Example"),
        ("%%stream 'local\nHi", "A quote is not closed.", "quotes"),
        ("%%stream openai/some-model\nHi", "OPENAI_API_KEY is not set", "before you start Jupyter"),
        (f"%%stream x --api-key {CANARY}\nHi", "A key is never written into a cell", "--api-key-env NAME"),
        (f"%%stream x --base-url http://127.0.0.1:9/v1 --api-key-env {CANARY}\nHi", "takes the name of an environment variable", "OPENAI_API_KEY"),
        ("%%stream x --base-url http://127.0.0.1:9/v1 -o api_key abc\nHi", "A key does not go into the request.", "--api-key-env NAME"),
        ("%%stream x --base-url http://127.0.0.1:9/v1\nHi", "Nothing is listening at http://127.0.0.1:9.", "Start the server"),
        ("%%stream x --base-url http://example.invalid/v1\nHi", "The host of http://example.invalid is not known.", "Check the address"),
        ("%%stream unauthorized --base-url {url}\nHi", "Incorrect API key provided.", "--api-key-env"),
        ("%%stream no-such-script --base-url {url}\nHi", "The model 'no-such-script' does not exist.", "Check the model name"),
        ("%%stream overloaded --base-url {url}\nHi", "The server is overloaded.", "try again later"),
        ("%%stream page --base-url {url}\nHi", "the server answered text/html instead of a stream", ""),
        ("%%stream redirect --base-url {url}\nHi", "redirects are not followed", ""),
        ("%%stream hello --base-url {url} --token-limit 0\nHi", "--token-limit is a whole number from 1 up.", ""),
        ("%%stream hello --base-url {url} --out 1x\nHi", "'1x' is no name for a variable.", "--out answer"),
        ("%%stream hello --base-url {url}\n{absent_key_holder[none]}", "There is no {absent_key_holder[none]} to fill in", "--raw"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", [True, False])
def test_what_a_user_gets_wrong_is_one_readable_line(
    kernel: Kernel, server: MockServer, cell: str, message: str, advice: str, page: bool
) -> None:
    kernel.run("absent_key_holder = {}")
    published = kernel.run(cell.replace("{url}", server.base_url), page=page)
    assert not [m for m in published if m["msg_type"] in ("error", "stream")]
    (bundle,) = settled(published)
    said = bundle["error"]["message"]
    assert bundle["outcome"] == "failed"
    assert message in said
    assert advice in said
    assert "\n" not in said
    assert CANARY not in json.dumps(published, default=str).replace(json.dumps(cell)[1:-1], "")
    assert kernel.value("_stream.outcome") == "'failed'"


def test_a_dead_stream_keeps_what_had_arrived(kernel: Kernel, server: MockServer) -> None:
    for script, kind in (("cut", "connection_lost"), ("reset", "connection_lost"), ("stall", "idle_timeout")):
        (bundle,) = settled(kernel.run(f"%%stream {script} --base-url {server.base_url} --idle-timeout 0.3\nHi"))
        assert bundle["outcome"] == "truncated"
        assert bundle["error"]["type"] == kind
        assert bundle["text"].startswith("The lighthouse had been dark")


def test_loading_twice_and_unloading_leaves_one_transformer_or_none(kernel: Kernel) -> None:
    kernel.run("%reload_ext tokenstream_magic")
    count = "len([h for h in get_ipython().input_transformers_post if getattr(h, 'tokenstream', False)])"
    assert kernel.value(count) == "1"
    kernel.run("%unload_ext tokenstream_magic")
    assert kernel.value(count) == "0"
    assert [m["msg_type"] for m in displays(kernel.run("%%stream local\nHi"))] == ["stream"]
    kernel.run("%load_ext tokenstream_magic")


def test_loading_imports_nothing_heavy() -> None:
    heavy = ("httpx", "httpcore", "httpx_sse", "sqlalchemy", "ipywidgets", "xllamacpp", "pandas", "tqdm")
    with Kernel() as kernel:
        before = kernel.value("sorted(__import__('sys').modules)")
        kernel.run("%load_ext tokenstream_magic")
        loaded = set(eval(kernel.value("sorted(__import__('sys').modules)"))) - set(eval(before))
        assert [name for name in heavy if name in loaded] == []
        assert "tokenstream_magic.magics" in loaded


def test_transcripts_are_listed_and_shown(kernel: Kernel, server: MockServer) -> None:
    kernel.run(f"%%stream hello --base-url {server.base_url}\nA question to find")
    (table,) = [m["content"] for m in kernel.run("%transcripts -n 1") if m["msg_type"] == "display_data"]
    listed = table["data"]["text/plain"]
    identity = eval(kernel.value("_stream.id"))
    (row,) = table["data"]["application/vnd.tokenstream.listing+json"]["rows"]
    assert (row["prompt"], row["text"], row["outcome"]) == ("A question to find", "Hello there.", "complete")
    assert identity not in str(row)
    assert table["metadata"]["tokenstream"]["rows"][0]["id"] == identity
    assert identity in listed
    assert "A question to find → Hello there." in listed
    (bundle,) = settled(kernel.run(f"%transcripts show {identity[:20].lower()}"))
    assert bundle["text"] == "Hello there."
    said = [m["content"]["text"] for m in kernel.run("%transcripts show 0000") if m["msg_type"] == "stream"]
    assert said == ["There is no transcript '0000'. %transcripts lists them.\n"]


def test_nothing_is_kept_of_a_run_that_says_so(kernel: Kernel, server: MockServer) -> None:
    kernel.run(f"%%stream hello --base-url {server.base_url} -n\nunkept words")
    listed = "".join(m["content"]["text"] for m in kernel.run("%transcripts -q 'unkept words'") if m["msg_type"] == "stream")
    assert listed == "No transcript matches.\n"
    assert kernel.value("_stream.outcome") == "'complete'"
