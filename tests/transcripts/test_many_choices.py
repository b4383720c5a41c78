"""A run of more choices than the flags of an event can number: each keeps its own chunks, wherever its timeline goes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

CHOICES = 40
ANSWERS = [tuple(f"{choice}.{piece} " for piece in range(3)) for choice in range(CHOICES)]
SCRIPT = Script(ANSWERS[0], choices=tuple(ANSWERS[1:]))


def test_a_run_of_forty_choices_is_itself_read_back_replayed_and_taken_out_and_in(mock: MockServer, tmp_path: Path) -> None:
    mock.scripts["many"] = SCRIPT
    sent = ts.stream("Hi", "many", base_url=mock.base_url)
    texts = ["".join(pieces) for pieces in ANSWERS]
    assert [choice.text for choice in sent.choices] == texts
    assert sent.timeline.characters() == {(choice, "text"): len(text) for choice, text in enumerate(texts)}

    kept = ts.transcripts.last()
    assert kept.timeline == sent.timeline
    frame = ts.transcripts.to_pandas("chunks")
    said = {choice: chunks.tolist() for choice, chunks in frame[frame["characters"] > 0].groupby("choice")["text"]}
    assert said == dict(enumerate(map(list, ANSWERS)))

    replayed = api.start("", replay=sent.id, speed="instant").wait()
    assert replayed.timeline == sent.timeline
    assert settled(replayed)[0] == settled(sent)[0]

    for form in ("jsonl", "tokenstream.json"):
        file = ts.transcripts.export(tmp_path / f"one.{form}")
        ts.transcripts.delete(sent.id)
        assert ts.transcripts.import_file(file) == (1, 0)
        assert ts.transcripts.last().timeline == sent.timeline


def test_a_file_of_before_in_which_later_choices_share_a_number_is_brought_in(mock: MockServer, tmp_path: Path) -> None:
    mock.scripts["many"] = SCRIPT
    sent = ts.stream("Hi", "many", base_url=mock.base_url)
    data = json.loads(ts.transcripts.export(tmp_path / "one.jsonl").read_text())
    ts.transcripts.delete(sent.id)
    runs = data["timeline"]["flag_runs"]
    runs[::2] = [flags & 0xFF for flags in runs[::2]]
    (tmp_path / "old.jsonl").write_text(json.dumps(data) + "\n")
    assert ts.transcripts.import_file(tmp_path / "old.jsonl") == (1, 0)
    counted, texts = ts.transcripts.last().timeline.characters(), [len("".join(pieces)) for pieces in ANSWERS]
    assert counted == {**{(choice, "text"): texts[choice] for choice in range(15)}, (15, "text"): sum(texts[15:])}

    for flags in (1 << 8, 0xFC, 0x1FC, 1 << 40 | 0xF8, -1):  # a later choice that is early, a mark of columns, one that cannot be
        data["timeline"]["flag_runs"] = [flags, *runs[1:]]
        (tmp_path / "wrong.jsonl").write_text(json.dumps({**data, "id": ts.record.new_id()}) + "\n")
        with pytest.raises(BadRequest, match=r"cannot be|does not match"):
            ts.transcripts.import_file(tmp_path / "wrong.jsonl")


def test_what_a_killed_process_had_of_many_choices_is_found(mock: MockServer) -> None:
    mock.scripts["long"] = Script(ANSWERS[0] * 500, choices=tuple(answer * 500 for answer in ANSWERS[1:]), gap=0.001)
    program = f"""
        import tokenstream_magic as ts
        for place, piece in enumerate(ts.events("Hi", "long", base_url={mock.base_url!r})):
            if place == 1500:
                ts.transcripts.open_store().writer.flush()
                print("now", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = ts.transcripts.last()
    assert found.stop_cause == "crash"
    counted = found.timeline.characters()
    assert {choice for choice, _ in counted} == set(range(CHOICES))
    assert all(counted[choice.index, "text"] >= len(choice.text) > 0 for choice in found.choices)
