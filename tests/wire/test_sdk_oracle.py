"""The official SDKs as oracles: the same bytes served to them over loopback and given to ``decode``. None speaks Ollama."""

import json
from functools import reduce
from importlib import import_module
from itertools import chain, zip_longest

import anthropic
import openai
import pytest
from google import genai

from tokenstream_magic import decode
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

GENAI = int(genai.__version__.partition(".")[0])
TEXT = ("Grüße, ", "世界 ", "👩‍🚀 ", "line\u2028sep\u0085 ", 'end "q"\n')
CALLS = [("weather", '{"city": "Zür', 'ich", "days": [1, 2]}'), ("clock", '{"zone": {"name"', ': "東京"}}')]
MESSAGES = [{"role": "user", "content": "Hi"}]
DONE, BOM, LONE_ID = b"data: [DONE]\n\n", b"\xef\xbb\xbf", b"id: 7\n\n"
CHAT_COUNTS = {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20}
CHAT_DETAILS = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}}
COUNTS = {"input_tokens": 11, "output_tokens": 9, "total_tokens": 20}
DETAILS = {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3}}


def sse(*messages, event=False):
    lines = ((f"event: {m['type']}\n" if event else "") + f"data: {json.dumps(m, ensure_ascii=False)}\n\n" for m in messages)
    return "".join(lines).encode()


def delta(index=0, finish=None, **fields):
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def calling(index, id=None, **function):
    return delta(tool_calls=[{"index": index, "function": function} | ({"id": id, "type": "function"} if id else {})])


def chat(*messages, finish="stop", usage=True):
    last = [delta() | {"choices": [], "usage": CHAT_COUNTS | CHAT_DETAILS}] if usage else []
    return sse(delta(role="assistant", content=""), *messages, delta(finish=finish), *last) + DONE


def responses(*items, end="completed", **fields):
    """``items``: (item, its event, pieces); the pieces of all come interleaved, as parallel calls may."""
    whole = [{"id": f"i{n}", **item} for n, (item, _, _) in enumerate(items)]
    empty = {"content": [], "arguments": ""}
    fixed = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "tools": []}
    at = [{"type": f"response.{i[1]}.delta", "output_index": n, "item_id": f"i{n}", "content_index": 0} for n, i in enumerate(items)]
    item_event = "response.output_item"
    events = [
        {"type": "response.created", "response": {**fixed, "status": "in_progress", "output": []}},
        *({"type": f"{item_event}.added", "output_index": n, "item": i | empty} for n, i in enumerate(whole)),
        *(at[n] | {"delta": piece} for row in zip_longest(*(pieces for _, _, pieces in items)) for n, piece in enumerate(row) if piece),
        *({"type": f"{item_event}.done", "output_index": n, "item": i} for n, i in enumerate(whole)),
        {"type": f"response.{end}", "response": {**fixed, "status": end, "output": whole, "usage": COUNTS | DETAILS, **fields}},
    ]
    return sse(*[{**event, "sequence_number": n} for n, event in enumerate(events)], event=True)


def item(pieces, event="output_text", field="text", type="message"):
    content = [{"type": event, field: "".join(pieces), "annotations": []}]
    return {"type": type, "role": "assistant", "status": "completed", "content": content, "summary": []}, event, pieces


def block(index, start, *deltas):
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for one in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": one}
    yield {"type": "content_block_stop", "index": index}


def said_block(index, pieces, kind="text"):
    more = [{"type": "signature_delta", "signature": "x=="}] if kind == "thinking" else []
    start = {"type": kind, kind: ""} | ({"signature": ""} if more else {})
    return block(index, start, *({"type": f"{kind}_delta", kind: piece} for piece in pieces), *more)


def messages(*blocks, stop="end_turn", event=True, **more):
    counts = {"input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 1}
    start = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "usage": counts}
    end = {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None, **more}, "usage": {"output_tokens": 9}}
    opening = [{"type": "message_start", "message": start}, {"type": "ping"}]
    return sse(*opening, *chain(*blocks), end, {"type": "message_stop"}, event=event)


def part(*parts, finish=None, usage=True, **more):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0} | ({"finishReason": finish} if finish else {})
    counts = {"promptTokenCount": 11, "candidatesTokenCount": 6, "thoughtsTokenCount": 3, "cachedContentTokenCount": 4}
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "g1"} | ({"usageMetadata": counts} if usage else {}) | more


SAID = [delta(content=piece) for piece in TEXT]
TWO_CALLS = [calling(n, f"call_{n}", name=name, arguments="") for n, (name, _, _) in enumerate(CALLS)]
TWO_CALLS += [calling(n, arguments=call[half]) for half in (1, 2) for n, call in enumerate(CALLS)]
CALL_ITEMS = [
    ({"type": "function_call", "call_id": name, "name": name, "arguments": one + two}, "function_call_arguments", (one, two))
    for name, one, two in CALLS
]
TOOL = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
CALL_BLOCKS = [
    block(n, {**TOOL, "id": f"t{n}", "name": name}, *({"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)))
    for n, (name, *pieces) in enumerate(CALLS, 1)
]
GEMINI_SAID = [part({"text": piece}, usage=False) for piece in TEXT]
GEMINI_CALLS = [{"functionCall": {"name": name, "args": json.loads(one + two)}} for name, one, two in CALLS]

BODIES = {
    "openai-chat": {
        "text and usage": chat(*SAID),
        "reasoning": chat(delta(reasoning_content="Hö"), delta(reasoning_content="m"), *SAID),
        "interleaved tool calls": chat(*TWO_CALLS, finish="tool_calls"),
        "length": chat(*SAID[:2], finish="length", usage=False),
        "refusal": chat(delta(refusal="I can’t "), delta(refusal="do that.")),
        "two choices": chat(*chain(*((delta(n, content=f"{n}{p}") for n in (0, 1)) for p in TEXT)), delta(1, finish="length")),
    },
    "openai-responses": {
        "text and usage": responses(item(TEXT)),
        "reasoning": responses(item(("Hö", "m"), "reasoning_text", type="reasoning"), item(TEXT)),
        "interleaved tool calls": responses(*CALL_ITEMS),
        "length": responses(item(TEXT[:2]), end="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        "refusal": responses(item(["I can’t ", "do that."], "refusal", "refusal")),
    },
    "anthropic": {
        "text and usage": messages(said_block(0, TEXT)),
        "thinking": messages(said_block(0, ("Hö", "m"), "thinking"), said_block(1, TEXT)),
        "interleaved tool calls": messages(said_block(0, TEXT), chain(*zip(*CALL_BLOCKS)), stop="tool_use"),
        "a call without arguments": messages(block(0, TOOL), stop="tool_use"),
        "length": messages(said_block(0, TEXT[:2]), stop="max_tokens"),
        "refusal": messages(said_block(0, TEXT[:1]), stop="refusal"),
    },
    "gemini": {
        "text and usage": sse(*GEMINI_SAID, part(finish="STOP")),
        "thoughts": sse(part({"text": "Höm", "thought": True}), *GEMINI_SAID, part(finish="STOP")),
        "tool calls": sse(*map(part, GEMINI_CALLS), part(finish="STOP")),
        "tool calls in one frame": sse(part(*GEMINI_CALLS, finish="STOP")),
        "length": sse(*GEMINI_SAID[:2], part(finish="MAX_TOKENS")),
        "safety": sse(*GEMINI_SAID[:1], part(finish="SAFETY")),
    },
}
for protocol, bodies in BODIES.items():
    mock = import_module(f"tokenstream_magic.mock.{protocol.replace('-', '_')}")
    for name, script in (("plain", Script(TEXT)), ("thinking", Script(TEXT, reasoning=("a", "ß"))), ("length", Script(finish="length"))):
        bodies[f"mock {name}"] = b"".join(mock.frames(script, "m")) + mock.ending(script, "m")
    bodies["CRLF"] = bodies["text and usage"].replace(b"\n", b"\r\n")


def ours(body, protocol):
    seen = decode(body, protocol)
    read = str if protocol.startswith("openai") else json.loads
    calls = [[(call["name"], read(call["arguments"])) for call in c.tool_calls] for c in seen.choices]
    choices = [(c.text, c.reasoning, c.refusal, k, c.finish_reason) for c, k in zip(seen.choices, calls, strict=True)]
    u = seen.usage
    return choices, (u.input_tokens, u.output_tokens, u.reasoning_tokens or 0, u.cached_input_tokens or 0)


@pytest.fixture(scope="module")
def served():
    with MockServer() as server:

        def ask(body, protocol):
            server.scripts["m"] = Script(body=body, content_type="text/event-stream")
            return ORACLES[protocol](server.base_url)

        yield ask


def counts(usage, *paths):
    found = [reduce(lambda value, name: getattr(value, name, None), path.split("."), usage) for path in paths]
    return (*found[:2], found[2] or 0, found[3] or 0)


def chat_sdk(url):
    with openai.OpenAI(api_key="k", base_url=url).chat.completions.stream(model="m", messages=MESSAGES) as stream:
        seen = stream.until_done().current_completion_snapshot  # get_final_completion raises on a length-stop
    choices = []
    for choice in seen.choices:
        m = choice.message
        calls = [(call.function.name, call.function.arguments) for call in m.tool_calls or ()]
        choices.append((m.content or "", getattr(m, "reasoning_content", ""), m.refusal or "", calls, choice.finish_reason))
    details = ("completion_tokens_details.reasoning_tokens", "prompt_tokens_details.cached_tokens")
    return choices, counts(seen.usage, "prompt_tokens", "completion_tokens", *details)


def responses_sdk(url):
    events = list(openai.OpenAI(api_key="k", base_url=url).responses.create(model="m", input="Hi", stream=True))
    seen = getattr(events[-1], "response", events[0].response)
    kinds = ("output_text", "reasoning_text", "refusal")
    texts = ["".join(e.delta for e in events if e.type == f"response.{kind}.delta") for kind in kinds]
    assert not seen.output or seen.output_text == texts[0]
    calls = [(item.name, item.arguments) for item in seen.output if item.type == "function_call"]
    finish = "stop" if seen.status == "completed" else getattr(seen.incomplete_details, "reason", None)
    details = ("output_tokens_details.reasoning_tokens", "input_tokens_details.cached_tokens")
    return [(*texts, calls, finish)], counts(seen.usage, "input_tokens", "output_tokens", *details)


def anthropic_sdk(url):
    client = anthropic.Anthropic(api_key="k", base_url=url.removesuffix("/v1"))
    with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        seen = stream.get_final_message()
    text, thinking = ("".join(getattr(b, kind) for b in seen.content if b.type == kind) for kind in ("text", "thinking"))
    calls = [(b.name, b.input) for b in seen.content if b.type == "tool_use"]
    details = ("output_tokens_details.thinking_tokens", "cache_read_input_tokens")
    given, *others = counts(seen.usage, "input_tokens", "output_tokens", *details)
    given += (seen.usage.cache_creation_input_tokens or 0) + others[-1]  # ours is the whole prompt
    return [(text, thinking, "", calls, seen.stop_reason)], (given, *others)


def gemini_sdk(url):
    client = genai.Client(api_key="k", http_options={"base_url": url.removesuffix("/v1")})
    seen = list(client.models.generate_content_stream(model="m", contents="Hi"))
    parts = [p for one in seen for p in one.candidates[0].content.parts or ()]
    text, thoughts = ("".join(p.text or "" for p in parts if bool(p.thought) is thought) for thought in (False, True))
    calls = [(p.function_call.name, p.function_call.args) for p in parts if p.function_call]
    finish = ([None] + [one.candidates[0].finish_reason.value for one in seen if one.candidates[0].finish_reason])[-1]
    paths = ("prompt_token_count", "candidates_token_count", "thoughts_token_count", "cached_content_token_count")
    given, produced, reasoned, cached = counts(seen[-1].usage_metadata, *paths)
    return [(text, thoughts, "", calls, finish)], (given, None if produced is None else produced + reasoned, reasoned, cached)


ORACLES = {"openai-chat": chat_sdk, "openai-responses": responses_sdk, "anthropic": anthropic_sdk, "gemini": gemini_sdk}


@pytest.mark.parametrize(("protocol", "name"), [(p, name) for p, bodies in BODIES.items() for name in bodies])
def test_the_sdk_and_we_understand_the_same(served, protocol, name):
    body = BODIES[protocol][name]
    if protocol != "gemini" or "\u2028".encode() not in body or GENAI >= 3:  # 2, the last for Python 3.10, breaks lines there
        assert ours(body, protocol) == served(body, protocol)
    assert ours([body[at : at + 5] for at in range(0, len(body), 5)], protocol) == ours(body, protocol)
    assert decode(body, protocol).outcome == "complete"


HI = delta(content="Hi")
ERROR = {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
CALL_A, CALL_B = ({"tool_calls": [{"index": 0, "id": i, "type": "function", "function": {"name": i, "arguments": "{}"}}]} for i in "ab")
NO_INDEX = {"tool_calls": [{"id": "a", "type": "function", "function": {"name": "a", "arguments": "{}"}}]}
MERGED, FROM_1 = chat(delta(**CALL_A), delta(**CALL_B)), calling(1, "a", name="a", arguments="{}")
A, R, G = messages(said_block(0, ["Hi"])), responses(item(["Hi"])), sse(part({"text": "Hi"}, finish="STOP"))
A_OPEN, R_OPEN = A.partition(b"event: message_delta")[0], R.partition(b"event: response.completed")[0]
FAIL = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
STREAMED = [{"name": "f", "willContinue": True}, {"partialArgs": [{"jsonPath": "$.a", "stringValue": "b"}]}]
G_CALL = sse(*(part({"functionCall": call}) for call in STREAMED), part(finish="STOP"))
BAD_JSON, UNREAD = json.JSONDecodeError, genai.errors.UnknownApiResponseError
HTTP_ERRORS = (openai.APIError, anthropic.APIStatusError, genai.errors.ServerError)
ONE, OPEN = ("", "stop", ("a", "{}")), ("Hi", None)
# per protocol: why, the bytes, our answer (text, finish, calls) and outcome; then what the SDK raises, or takes for a whole answer
DIFFERENCES = {
    "openai-chat": [
        ("a lone id is dispatched as an empty event", LONE_ID + chat(HI), ("Hi", "stop"), "complete", BAD_JSON),
        ("a comment sent as data is parsed", b"data: : ping\n\n" + chat(HI), ("Hi", "stop"), "complete", BAD_JSON),
        ("an error raises and loses the text", sse(HI, ERROR), OPEN, "failed", HTTP_ERRORS),
        ("broken bytes raise", chat(HI).replace(b"Hi", b"H\xff"), ("H\ufffd", "stop"), "complete", UnicodeDecodeError),
        ("an unreadable frame raises", sse(HI) + b"data: {oops\n\n" + DONE, OPEN, "truncated", BAD_JSON),
        ("a last frame without its blank line is lost", sse(HI, delta(finish="stop"))[:-2], ("Hi", "stop"), "complete", OPEN),
        ("a cut stream passes for whole", sse(HI), OPEN, "truncated", OPEN),
        ("calls of one index are merged", MERGED, (*ONE, ("b", "{}")), "complete", ("", "stop", ("ab", "{}{}"))),
        ("a call without index raises", chat(delta(**NO_INDEX)), ONE, "complete", TypeError),
        ("calls numbered from 1 raise", chat(FROM_1), ONE, "complete", IndexError),
    ],
    "openai-responses": [
        ("a lone id is dispatched as an empty event", LONE_ID + R, ("Hi", "stop"), "complete", BAD_JSON),
        ("a cut stream passes for whole", R_OPEN, OPEN, "truncated", OPEN),
    ],
    "anthropic": [
        ("a byte order mark hides the first event", BOM + A, ("Hi", "end_turn"), "complete", AssertionError),
        ("events without an event line are skipped", A.replace(b"event: ", b": "), ("Hi", "end_turn"), "complete", AssertionError),
        ("an error raises and loses the text", A_OPEN + sse(FAIL, event=True), OPEN, "failed", HTTP_ERRORS),
        ("an error without its event line is skipped", A_OPEN + sse(FAIL), OPEN, "failed", OPEN),
        ("a cut stream passes for whole", A_OPEN, OPEN, "truncated", OPEN),
        ("a second answer is appended", A_OPEN + A.replace(b"m1", b"m2"), OPEN, "failed", ("HiHi", "end_turn")),
        ("usage null raises", A.replace(b'{"output_tokens": 9}', b"null"), ("Hi", "end_turn"), "complete", AttributeError),
    ],
    "gemini": [
        ("a byte order mark raises", BOM + G, ("Hi", "STOP"), "complete", UNREAD),
        ("a comment raises", b": hi\n\n" + G, ("Hi", "STOP"), "complete", UNREAD),
        ("data without a space raises", G.replace(b"data: ", b"data:"), ("Hi", "STOP"), "complete", UNREAD),
        ("[DONE] raises", G + DONE, ("Hi", "STOP"), "complete", UNREAD),
        ("an error raises and loses the text", sse(part({"text": "Hi"}), ERROR), OPEN, "failed", HTTP_ERRORS),
        ("a cut stream passes for whole", sse(part({"text": "Hi"})), OPEN, "truncated", OPEN),
        ("a streamed call stays in pieces", G_CALL, ("", "STOP", ("f", {"a": "b"})), "complete", ("", "STOP", ("f", None), (None, None))),
    ],
}


@pytest.mark.parametrize(("protocol", "case"), [pytest.param(p, c, id=f"{p}: {c[0]}") for p, cases in DIFFERENCES.items() for c in cases])
def test_where_the_sdk_differs_and_why(served, protocol, case):
    def short(answer):
        ((text, _, _, calls, finish),) = answer[0]
        return (text, finish, *calls)

    _, body, answer, outcome, theirs = case
    assert (short(ours(body, protocol)), decode(body, protocol).outcome) == (answer, outcome)
    if isinstance(theirs[0] if theirs is HTTP_ERRORS else theirs, type):
        with pytest.raises(theirs):
            served(body, protocol)
    else:
        assert short(served(body, protocol)) == theirs
        assert (theirs, "complete") != (answer, outcome)
