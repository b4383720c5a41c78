"""``%%stream a,b``, ``-r`` and ``--sweep`` in a real kernel: one output, which can be stopped while it grows."""

from __future__ import annotations

import json

import pytest
from harness import MIME, Kernel

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiment_commands import begin, is_wanted
from tokenstream_magic.flags import parse_stream
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer


@pytest.fixture
def kernel(mock: MockServer):
    mock.scripts |= {"red": Script(text="I am red", gap=0.005), "green": Script(text="I am green", gap=0.005)}
    with Kernel() as kernel:
        kernel.run("%load_ext tokenstream_magic\nwho = 'Ann'")
        yield kernel


def line(mock: MockServer, models: str, flags: str = "") -> str:
    return f"%%stream {models} --base-url {mock.base_url} --protocol openai-chat --max-retries 0 {flags}\n"


def outputs(published, kind="display_data"):
    return [m["content"] for m in published if m["msg_type"] == kind]


def test_a_sweep_leaves_one_output_and_its_result(kernel, mock):
    published = kernel.run(line(mock, "red,green", "--sweep city=Oslo,Lima --sweep temperature=0,1 -r 2 --out res") + "{who} in {city} {x}")
    assert len(outputs(published)) == 1
    first, last = outputs(published)[0], outputs(published, "update_display_data")[-1]
    assert first["data"][MIME]["status"] == "live" and MIME not in last["data"]
    assert "16 runs" in last["data"]["text/plain"] and "/red | Oslo | 1 | 2 |" in last["data"]["text/markdown"]
    assert last["data"]["image/png"] and last["metadata"]["tokenstream"]["seed"] >= 0
    asked = sorted({e.body["messages"][-1]["content"] for e in mock.exchanges})
    assert asked == ["Ann in Lima {x}", "Ann in Oslo {x}"] and len(mock.exchanges) == 16
    assert kernel.value("sorted(set(res.to_pandas()['city']))") == "['Lima', 'Oslo']"
    assert kernel.value("_stream is res") == "True"


@pytest.mark.parametrize("flags", ["-r 0", "-j 0 -r 2", "--warmup -1", "-r 0 --sweep temperature=0,1"])
def test_a_count_that_is_none_is_refused_and_not_taken_for_one(flags):
    parsed, keywords = parse_stream(flags)
    assert is_wanted(parsed, "mock/hello")
    with pytest.raises(BadRequest, match="is a whole number from"):
        begin(parsed, keywords, "Hi", "mock/hello", None)


def test_its_progress_is_live_and_the_pages_stop_ends_the_whole(kernel, mock):
    request = kernel.start(line(mock, "endless", "--sweep x=1,2,3") + "{x}")
    comm = kernel.opened(request)
    mock.wait_for(1)
    kernel.comm(comm, {"op": "stop"}, kernel.subshell())  # as JupyterLab sends it: before ipykernel 7.4 nothing else is heard now
    published = kernel.finish(request)
    assert kernel.wait_op(comm, "stopping")
    assert not outputs(published, "error") and len(mock.exchanges) == 1
    assert "1 of 3 runs · 1 stopped · ended early" in outputs(published, "update_display_data")[-1]["data"]["text/plain"]
    assert kernel.value("[t.stop_cause for t in _stream]") == "['button']"
    published = kernel.run(line(mock, "red", "--sweep x=1,2,3") + "{x}")
    told = kernel.said(kernel.opened(published[0]["parent_header"]["msg_id"]))
    assert any("1 of 3 runs" in said.get("text", "") for said in told if said["op"] == "snapshot")


def test_an_interrupt_ends_the_whole_and_resume_goes_on(kernel, mock):
    mock.scripts["turns"] = Script(text="a b c", gap=0.02)
    cell = line(mock, "turns", "--sweep x=1,2,3,4,5,6 {more}") + "{x}"
    request = kernel.start(cell.replace("{more}", ""))
    mock.wait_for(3)
    kernel.interrupt()
    published = kernel.finish(request)
    assert not [m for m in published if m["msg_type"] == "error"]
    assert kernel.value("_stream.stopped") == "'interrupt'"
    done = json.loads(kernel.value("[t.prompt for t in _stream if t.outcome == 'complete']").replace("'", '"'))
    before = len(mock.exchanges)
    kernel.run(cell.replace("{more}", "--resume last"))
    again = [e.body["messages"][-1]["content"] for e in mock.exchanges[before:]]
    assert not set(again) & set(done) and len(again) + len(done) == 6
    assert kernel.value("len(_stream)") == "6"


def test_a_comparison_is_columns_and_a_blind_one_hides_their_names(kernel, mock):
    published = kernel.run(line(mock, "red,green") + "who?")
    assert len(outputs(published)) == 1
    last = outputs(published, "update_display_data")[-1]["data"][MIME]
    assert [column["text"] for column in last["columns"]] == ["I am red", "I am green"]
    mock.scripts |= {"red": Script(text="one", gap=0.005), "green": Script(text="two", gap=0.005)}
    request = kernel.start(line(mock, "red,green", "--blind") + "who?")
    comm = kernel.opened(request)
    published = kernel.finish(request)
    for op, answer in (("sync", "snapshot"), ("bundle", "bundle")):  # a page that reloaded asks for everything
        kernel.comm(comm, {"op": op})
        kernel.wait_op(comm, answer)
    told = [m["content"] for m in published if m["msg_type"] not in ("execute_input", "status")]
    public = json.dumps([told, kernel.said(comm)])
    assert "red" not in public and "green" not in public and "127.0.0.1" not in public
    assert '"model": "A"' in public and "two" in public
    published = kernel.run("%stream vote A")
    shown = json.dumps([m["content"] for m in published])
    assert "You voted for" in shown and "127.0.0.1/red" in shown and "127.0.0.1/green" in shown


def test_where_nobody_watches_a_sweep_is_one_output(kernel, mock):
    published = kernel.run(line(mock, "red", "-r 3") + "hi", page=False)
    assert len(outputs(published)) == 1 and not outputs(published, "update_display_data")
    assert "3 runs" in outputs(published)[0]["data"]["text/plain"]


def test_what_cannot_be_begun_is_one_readable_line(kernel, mock):
    for flags, problem in {
        "--sweep temperature": "names no values",
        "-r 2 --bg": "waits for an experiment",
        "--blind": "there is one",
        "-r 2 -x --out a": "takes a block out of one answer",
    }.items():
        published = kernel.run(line(mock, "red", flags) + "hi")
        assert problem in json.dumps(outputs(published)), flags
    assert not mock.exchanges


def test_a_call_that_blocks_its_cell_is_interrupted_and_its_runs_know_their_cell(kernel, mock):
    call = f"import tokenstream_magic as ts\nr = ts.sweep('{{x}}', ['endless'], {{'x': [1, 2]}}, base_url={mock.base_url!r}, protocol='openai-chat')"
    request = kernel.start(call)
    mock.wait_for(1)
    kernel.opened(request)
    kernel.interrupt()
    published = kernel.finish(request)
    assert not outputs(published, "error")
    assert kernel.value("(r.stopped, len(r), r.transcripts[0].stop_cause)") == "('interrupt', 1, 'interrupt')"
    assert kernel.value("r.transcripts[0].execution_count > 0") == "True"
    assert outputs(published, "update_display_data")[-1]["data"] == {"text/plain": "sweep · 1 of 2 runs · 1 stopped · ended early"}
