"""A ``logs.db`` that ``llm`` itself made (make_llm_logs.py), with all that it logs, comes in; a hostile one does not."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest

MADE = Path(__file__).parent / "llm-0.36-logs.db"


def by_prompt() -> dict[str, ts.Transcript]:
    return {found.prompt: found for found in ts.transcripts.recent(50)}


def test_what_llm_logged_comes_in_and_once() -> None:
    assert ts.transcripts.import_file(MADE) == (9, 0)
    assert ts.transcripts.import_file(MADE) == (0, 9)
    found = by_prompt()
    plain = found["hello"]
    assert (plain.text, plain.model, plain.resolved_model, plain.outcome) == ("You said: hello", "parrot-1", "parrot-1-2026", "complete")
    assert (plain.usage.input_tokens, plain.usage.output_tokens, plain.usage.source, plain.tags) == (7, 3, "reported", ["llm"])
    assert plain.messages == [{"role": "user", "content": "hello"}]
    assert plain.timing.e2e_ms is not None
    assert found["hi of old"].text == "hello of old"


def test_a_conversation_has_its_past_its_options_and_its_reasoning() -> None:
    ts.transcripts.import_file(MADE)
    found = by_prompt()
    first, second = found["first"], found["second: think"]
    assert (first.system, first.options, second.options) == ("Be brief.", {"temperature": 0.5}, {"temperature": 0.7})
    assert first.conversation_id == second.conversation_id
    assert (second.reasoning, second.text) == ("Let me see.", "You said: second: think")
    assert [(message["role"], message["content"]) for message in second.messages] == [
        ("system", "Be brief."),
        ("user", "first"),
        ("assistant", "You said: first"),
        ("user", "second: think"),
    ]


def test_tools_attachments_and_fragments_are_what_was_sent() -> None:
    ts.transcripts.import_file(MADE)
    asked, answered = [found for found in reversed(ts.transcripts.recent(50)) if found.prompt == "how is the weather?"]
    assert asked.tool_calls == [{"id": "call-1", "name": "weather", "arguments": '{"city": "Bern"}'}]
    assert answered.messages[-1] == {"role": "tool", "tool_call_id": "call-1", "name": "weather", "content": "Snow in Bern."}
    assert answered.messages[-2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Bern"}'}
    found = by_prompt()
    attachment, text = found["look"].messages[0]["content"]
    assert (attachment["type"], attachment["media_type"], attachment["size"]) == ("attachment", "image/png", 29)
    assert text == {"type": "text", "text": "look"}
    assert found["a long text " * 20 + "\nsum it up"].text.endswith("sum it up")


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE messages SET parent_hash = (SELECT hash FROM messages AS m WHERE m.parent_hash = messages.hash)", "in a circle"),
        ("UPDATE turns SET tip_message_hash = 'b2:none'", "message that is not there"),
        ("UPDATE parts SET payload = '[1]'", "no JSON"),
        ("UPDATE parts SET payload = '{' WHERE id = 10", "no JSON"),
        ("UPDATE parts SET text = x'00'", "text that is none"),
        ("UPDATE turns SET datetime_utc = 'soon'", "no date"),
        ("UPDATE turns SET input_tokens = -1", "no number"),
        ("ALTER TABLE turns RENAME TO other; CREATE VIEW turns AS SELECT load_extension('x') AS id FROM other", "no logs.db"),
    ],
)
def test_a_hostile_log_is_refused_whole(tmp_path: Path, statement: str, problem: str) -> None:
    file = tmp_path / "logs.db"
    shutil.copy(MADE, file)
    with sqlite3.connect(file) as connection:
        connection.executescript(statement)
    connection.close()
    with pytest.raises(BadRequest, match=problem):
        ts.transcripts.import_file(file)
    assert ts.transcripts.recent() == []
