"""Tools that are run, conversations that go on, and answers that are not the JSON that was asked for."""

import asyncio
import json
import threading

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api, asking, conversations, rounds, tools, transcripts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock.script import Script, Tool
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.wire.protocols import PROTOCOLS

ADD = Script(
    pieces=("Let me see.",), tools=(Tool("add", ('{"a": 1,', ' "b": 2}'), "c1"), Tool("add", ('{"a": "x"}',), "c2")), finish="tool_calls"
)
BASES = {"gemini": "/v1beta", "ollama": "/api"}


def add(a: int, b: int = 0) -> int:
    """Adds."""
    return a + b


@pytest.fixture(autouse=True)
def no_runs_before():
    conversations._here.clear()


@pytest.fixture
def adding(mock):
    """A server whose model ``add`` calls a tool in its first answer and answers in words once it has the result."""
    mock.scripts["add"] = ADD
    whole = mock._answer

    def answer(exchange, writer):
        has_result = any(
            word in json.dumps(exchange.body) for word in ('"tool_call_id"', "_output", "tool_result", "functionResponse", "tool_name")
        )
        mock.scripts["add"] = Script(pieces=("It", " is 3.")) if has_result else ADD
        return whole(exchange, writer)

    mock._answer = answer
    return mock


def where(mock, protocol="openai-chat"):
    base = f"http://127.0.0.1:{mock.port}{BASES.get(protocol, '/v1')}"
    return {"base_url": base, "protocol": protocol}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tools_are_run_and_the_model_asked_again_in_every_protocol(adding, protocol):
    last = api.stream("1+2?", "add", **where(adding, protocol), tool=add, run_tools=True)
    assert (last.text, last.outcome) == ("It is 3.", "complete")
    first = transcripts.get(last.parent_id)
    assert (first.conversation_id, last.conversation_id) == (first.id, first.id)
    assert [call["name"] for call in first.tool_calls] == ["add", "add"]
    *_, said, one, two = last.messages
    assert said["tool_calls"][0]["function"] == {"name": "add", "arguments": first.tool_calls[0]["arguments"]}
    assert (one["content"], one["name"]) == ("3", "add")
    assert "is not of type 'integer'" in two["content"]
    assert len(adding.exchanges) == 2


def test_calls_are_only_shown_unless_the_user_says_run(adding):
    def explode():
        pytest.fail("a tool ran")

    shown = api.stream("1+2?", "add", **where(adding), tool=[add, explode])
    assert [call["name"] for call in shown.tool_calls] == ["add", "add"]
    assert len(adding.exchanges) == 1
    assert [tool["function"]["name"] for tool in adding.exchanges[0].body["tools"]] == ["add", "explode"]
    assert (shown.conversation_id, shown.parent_id) == (None, None)


def test_a_model_that_never_stops_calling_is_stopped(mock):
    mock.scripts["again"] = ADD
    last = api.stream("1+2?", "again", **where(mock), tool=add, run_tools=True)
    assert len(mock.exchanges) == 1 + rounds.MOST_ROUNDS
    assert last.diagnostics == ["these calls were not run: tools are run in 5 rounds at most"]


@pytest.mark.parametrize(
    "script", [Script(tools=ADD.tools, finish="length"), Script(tools=ADD.tools, ending="cut"), Script(tools=ADD.tools, ending="no-finish")]
)
def test_an_answer_cut_short_runs_nothing(mock, script):
    mock.scripts["cut-short"] = script
    api.stream("1+2?", "cut-short", **where(mock), tool=add, run_tools=True)
    assert len(mock.exchanges) == 1


def test_a_stop_ends_the_rounds(mock):
    mock.scripts["slow-call"] = Script(tools=ADD.tools, finish="tool_calls", ending="stall")
    prepared = asking.ask("1+2?", "slow-call", **where(mock), tool=add, run_tools=True)

    class Stopping(api.views.Quiet):
        def content(self, run, channel, text, choice):
            run.stop("button")

    run = api.begin(prepared, sinks=[Stopping()])
    assert run.wait().outcome == "stopped"
    assert rounds.following(prepared, run.transcript) is None


def test_a_cancellation_while_a_tool_runs_ends_the_rounds(adding):
    began, go = threading.Event(), threading.Event()

    def slow(a: int, b: int = 0):
        began.set()
        go.wait(20)

    slow.__name__ = "add"

    async def main():
        task = asyncio.ensure_future(api.astream("1+2?", "add", **where(adding), tool=slow, run_tools=True))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        return await task

    transcript = asyncio.run(main())
    go.set()
    assert transcript.tool_calls and transcript.outcome == "complete"
    assert len(adding.exchanges) == 1


def test_events_go_through_all_rounds(adding):
    flags = {**where(adding), "tool": add, "run_tools": True}
    pieces = list(ts.events("1+2?", "add", **flags))
    assert "".join(p.text for p in pieces if p.channel == "text") == "Let me see.It is 3."

    async def gather():
        return [piece async for piece in ts.aevents("1+2?", "add", **flags)]

    assert [(p.channel, p.text) for p in asyncio.run(gather())] == [(p.channel, p.text) for p in pieces]


# conversations


def sent(mock):
    return [(m["role"], m["content"]) for m in mock.exchanges[-1].body["messages"]]


def test_by_default_there_is_no_history(mock):
    api.stream("One", "hello", **where(mock))
    second = api.stream("Two", "hello", **where(mock))
    assert sent(mock) == [("user", "Two")]
    assert (second.conversation_id, second.parent_id) == (None, None)


def test_continue_sends_what_was_said(mock):
    first = api.stream("One", "hello", system="Be brief.", **where(mock))
    second = api.stream("Two", "hello", continue_=True, **where(mock))
    assert sent(mock) == [("system", "Be brief."), ("user", "One"), ("assistant", "Hello there."), ("user", "Two")]
    assert (second.conversation_id, second.parent_id, second.prompt) == (first.id, first.id, "Two")
    third = api.stream("Three", **where(mock), system="Shout.", **{"continue": True})
    assert sent(mock)[0] == ("system", "Shout.") and len(sent(mock)) == 6
    assert (third.conversation_id, third.parent_id, third.model.rpartition("/")[2]) == (first.id, second.id, "hello")


def test_a_named_conversation_outlives_the_kernel(mock):
    api.stream("One", "hello", cid="trip", **where(mock))
    conversations._here.clear()
    second = api.stream("Two", "hello", cid="trip", **where(mock))
    assert sent(mock) == [("user", "One"), ("assistant", "Hello there."), ("user", "Two")]
    assert second.conversation_id == "trip"
    api.stream("Other", "hello", cid="tri", **where(mock))
    assert sent(mock) == [("user", "Other")]


def test_a_run_or_its_conversation_is_found_by_the_start_of_its_id(mock):
    first = api.stream("One", "hello", **where(mock))
    second = api.stream("Two", "hello", cid=first.id[:20].lower(), **where(mock))
    third = api.stream("Three", "hello", cid=first.id, **where(mock))
    assert second.parent_id == first.id and third.parent_id == second.id
    assert third.conversation_id == first.id
    with pytest.raises(BadRequest, match="no conversation"):
        asking.ask("x", "hello", cid="01" + "Z" * 24, **where(mock))


def test_a_stopped_answer_is_history_as_far_as_it_came_and_a_failed_one_is_left_out(mock):
    api.stream("One", "cut", **where(mock))
    partial = conversations._here[-1].text
    api.stream("Two", "unauthorized", continue_=True, **where(mock))
    third = api.stream("Three", "hello", continue_=True, **where(mock))
    assert partial and sent(mock) == [("user", "One"), ("assistant", partial), ("user", "Three")]
    assert third.parent_id == conversations._here[0].id


def test_nothing_to_continue_is_said(mock):
    with pytest.raises(BadRequest, match="asked nothing yet"):
        api.stream("x", "hello", continue_=True, **where(mock))
    api.stream("One", "unauthorized", **where(mock))
    with pytest.raises(BadRequest, match="gave no answer"):
        api.stream("x", "hello", continue_=True, **where(mock))
    for wrong, said in {"continue_": "two conversations"}.items():
        with pytest.raises(BadRequest, match=said):
            asking.ask("x", "hello", cid="a", **{wrong: True}, **where(mock))
    with pytest.raises(BadRequest, match="no name"):
        asking.ask("x", "hello", cid="../etc", **where(mock))


def test_calls_that_were_not_run_are_answered_so_and_their_tools_shown_again(adding):
    api.stream("1+2?", "add", **where(adding), tool=add)
    api.stream("And?", "hello", continue_=True, **where(adding))
    body = adding.exchanges[-1].body
    assert [m["content"] for m in body["messages"] if m["role"] == "tool"] == [conversations.NOT_RUN] * 2
    assert body["tools"][0]["function"]["name"] == "add"


def test_calls_without_ids_get_ids_of_their_own():
    calls = [
        {"id": None, "name": "f", "arguments": "{}"},
        {"id": "c", "name": "f", "arguments": ""},
        {"id": "c", "name": None, "arguments": "x"},
    ]
    named = conversations.called(Transcript(choices=[Choice(tool_calls=calls)]))
    assert len({call["id"] for call in named}) == 3
    assert [call["function"]["arguments"] for call in named] == ["{}", "{}", "x"]


# structured output


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ('{"n": 1}', {"schema": "n int"}, None),
        ('{"n": "one"}', {"schema": "n int"}, "breaks the schema at $.n"),
        ('Sure: {"n": 1}', {"schema": "n int"}, "no JSON: expecting value at line 1, column 1"),
        ("Hello", {"json": True}, "no JSON"),
        ("[1]", {"json": True}, None),
        ("Hello", {}, None),
    ],
)
def test_an_answer_that_is_not_as_asked_is_noted_and_stays_complete(mock, text, flags, said):
    mock.scripts["says"] = Script().saying(text)
    transcript = api.stream("x", "says", **flags, **where(mock))
    assert (transcript.outcome, transcript.text) == ("complete", text)
    assert transcript.diagnostics == [] if said is None else said in transcript.diagnostics[0]
    assert transcripts.get(transcript.id).diagnostics == transcript.diagnostics


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"schema": "n int", "json": True}, "asks for JSON already"),
        ({"schema": "n int", "option": {"response_format": {}}}, "said twice"),
        ({"json": True, "protocol": "anthropic"}, "no JSON mode"),
        ({"run_tools": True}, "no tool to run"),
        ({"tool": {"name": "f"}, "run_tools": True}, "Only functions"),
        ({"tool": add, "option": {"tools": []}}, "given twice"),
        ({"template": "nowhere"}, "no template 'nowhere'"),
        ({"param": "x"}, "param is a dictionary"),
        ({"param": {"input": "x"}}, "cannot be a parameter"),
        ({"tools": [add]}, "no flag 'tools'"),
        ({"extract": True}, "flag of cells"),
    ],
)
def test_flags_that_contradict_are_refused_in_one_line(flags, said):
    with pytest.raises(BadRequest, match=said):
        asking.ask("x", "m", **{"base_url": "http://127.0.0.1:9/v1", **flags})


def test_tools_run_off_the_thread_that_streams():
    seen = []

    def look():
        seen.append(threading.current_thread().name)

    tools.carried_out([tools.tool(look)], [{"name": "look", "arguments": ""}]).result(10)
    assert seen == ["tokenstream-tools"]


def test_what_a_transcript_kept_can_be_asked_again(mock):
    first = api.stream("x", "hello", schema="n int", tool=add, **where(mock))
    body = mock.exchanges[-1].body
    api.stream("x", "hello", option=first.options, **where(mock))
    assert mock.exchanges[-1].body == body
