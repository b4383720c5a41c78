"""Makes ``llm-0.36-logs.db`` with the package llm itself, for test_import_llm.py; run by hand in an environment of its own::

    python -m venv /tmp/llm && /tmp/llm/bin/pip install llm==0.36
    /tmp/llm/bin/python tests/transcripts/make_llm_logs.py

A model of this script's own answers, so that no network and no key is needed. What is logged is what ``llm`` logs: a plain
prompt, a conversation with a system prompt and options, reasoning, a tool called, an attachment, a fragment, a schema, and
a row of the tables that versions before 0.35 wrote.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llm
import sqlite_utils
from llm.migrations import migrate
from llm.parts import StreamEvent

HERE = Path(__file__).parent
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000")


class Parrot(llm.Model):
    """Says back what it was asked."""

    model_id = "parrot-1"
    can_stream = True
    supports_tools = True
    supports_schema = True
    attachment_types = {"image/png"}  # noqa: RUF012 - as llm asks for it

    class Options(llm.Options):
        temperature: float | None = None

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Any:
        response.set_usage(input=7, output=3, details={"cached": 2})
        response.set_resolved_model("parrot-1-2026")
        if prompt.tools and not prompt.tool_results:
            response.add_tool_call(llm.ToolCall(name=prompt.tools[0].name, arguments={"city": "Bern"}, tool_call_id="call-1"))
            return
        if "think" in (prompt.prompt or ""):
            yield StreamEvent(type="reasoning", chunk="Let me see.")
        yield StreamEvent(type="text", chunk="You said: ")
        yield StreamEvent(type="text", chunk=prompt.prompt or "what a tool said")


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Snow in {city}."


def main() -> None:
    """Writes the file beside this script."""
    file = HERE / f"llm-{__import__('importlib.metadata', fromlist=['version']).version('llm')}-logs.db"
    file.unlink(missing_ok=True)
    db = sqlite_utils.Database(file)
    migrate(db)
    model = Parrot()

    def logged(response: Any) -> Any:
        response.text()
        response.log_to_db(db)
        return response

    logged(model.prompt("hello"))
    talk = model.conversation()
    logged(talk.prompt("first", system="Be brief.", temperature=0.5))
    logged(talk.prompt("second: think", temperature=0.7))
    logged(model.prompt("look", attachments=[llm.Attachment(content=PNG, type="image/png")]))
    logged(model.prompt("sum it up", fragments=["a long text " * 20]))
    logged(model.prompt("a dog", schema={"type": "object", "properties": {"name": {"type": "string"}}}))
    chain = model.conversation(tools=[weather]).chain("how is the weather?")
    chain.text()
    chain.log_to_db(db)
    old = {"id": "01jabcdefghjkmnpqrstvwxyz0", "model": "gpt-4o", "prompt": "hi of old", "system": "be brief", "response": "hello of old"}
    old |= {"options_json": "{}", "duration_ms": 1234, "datetime_utc": "2025-02-03T04:05:06.789", "input_tokens": 5, "output_tokens": 7}
    db["responses"].insert(old)
    db.execute("PRAGMA journal_mode=DELETE")
    db.execute("PRAGMA page_size=512")
    db.vacuum()
    db.close()


if __name__ == "__main__":
    main()
