"""Replays in a real kernel: shown live, stopped while they play, and the same in a notebook that is executed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import MIME, Kernel, settled

CELLS = ["%%stream --replay last --speed 0.2\n", "%transcripts replay last --speed 0.2", "%%stream replay/last --speed 0.2\n"]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as running:
        running.run("%load_ext tokenstream_magic")
        yield running


def test_a_replay_is_live_and_its_stop_button_works(kernel: Kernel) -> None:
    (original,) = settled(kernel.run("%%stream mock/story\nTell me a story.", page=False))
    for cell in CELLS:
        request = kernel.start(cell)
        comm = kernel.opened(request)
        kernel.wait_op(comm, "append", count=2)
        kernel.comm(comm, {"op": "stop"}, kernel.subshell())
        (bundle,) = settled(kernel.finish(request, timeout=20))
        assert (bundle["outcome"], bundle["stop_cause"]) == ("stopped", "button")
        assert original["text"].startswith(bundle["text"])
        assert 0 < len(bundle["text"]) < len(original["text"])
        assert kernel.value("_stream.outcome") == "'stopped'"


def test_an_executed_notebook_gets_the_data_of_the_original(kernel: Kernel) -> None:
    for script in ("tools", "choices", "cut", "unauthorized"):
        (original,) = settled(kernel.run(f"%%stream mock/{script}\nhi", page=False))
        for cell in (
            "%%stream --replay last --speed instant\n",
            "%transcripts replay last --speed 8",
            "%%stream replay/last --as buffered\n",
        ):
            published = kernel.run(cell, page=False)
            assert settled(published) == [original]
            (output,) = [m["content"] for m in published if m["msg_type"] == "display_data"]
            assert output["metadata"]["tokenstream"]["replayed"]["of"] == kernel.value("_stream.parent_id").strip("'")


def test_a_rerun_in_a_cell_is_kept_and_bound(kernel: Kernel) -> None:
    kernel.run("%%stream mock/hello\nhi", page=False)
    before = kernel.value("_stream.id")
    kernel.run("%transcripts rerun last -m mock/reasoning --temperature 0.5", page=False)
    assert kernel.value("_stream.parent_id") == before
    assert kernel.value("(_stream.model, _stream.options, _stream.outcome)") == "('mock/reasoning', {'temperature': 0.5}, 'complete')"
    published = kernel.run("%transcripts diff last~1 last", page=False)
    (shown,) = [m["content"]["data"] for m in published if m["msg_type"] == "execute_result"]
    assert "~~Hello there~~" in shown["text/markdown"]
    assert "{+There are twelve+}" in shown["text/plain"]


def test_an_answer_that_shows_itself_is_not_shown_again_as_the_value_of_its_cell(kernel: Kernel) -> None:
    kernel.run("import tokenstream_magic as ts")
    kernel.run("%%stream mock/hello\nhi", page=False)
    for page in (True, False):
        for code in ("_stream.replay()", 'await ts.astream("hi", "mock/hello")', "t = _stream.rerun()\nt"):
            published = kernel.run(code, page=page)
            assert [bundle["text"] for bundle in settled(published)] == ["Hello there."], code
            assert not [m for m in published if m["msg_type"] == "execute_result"], code
            assert kernel.value("_.outcome") == "'complete'"  # which is there all the same
    published = kernel.run("t = _stream.replay()\ndisplay(t)")  # it was asked for
    assert [bundle["text"] for bundle in settled(published)] == ["Hello there."] * 2
    (drawn,) = [m["content"]["data"] for m in kernel.run("t") if m["msg_type"] == "execute_result"]
    assert drawn[MIME]["text"] == "Hello there."
