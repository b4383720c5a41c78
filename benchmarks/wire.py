"""Bytes to events: how long a chunk takes from the body to what it means, beside its peers in the same run.

20,000 chunks of OpenAI's and of Anthropic's shape in reads of 4 KiB, the best of several rounds taken in turn. The words
differ, some hold quotes, line ends and other scripts, the padding differs with each chunk and the date now and then, as
on the wire. Bar: at most 3 µs an event, and at least 30 times faster than the openai client's stream.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from time import perf_counter

import httpx
from httpx_sse import EventSource
from peers import print_table

from tokenstream_magic.wire import anthropic as messages, openai_chat
from tokenstream_magic.wire.events import Text
from tokenstream_magic.wire.framing import EventStreamFraming

EVENTS = 20_000
READ = 4096
ROUNDS = 5

_WORDS = ' the| of| light|house|,| and|.|\n\n| said "| é|t|é| 灯台| 🌊|ing| 12|\t|```|-| a| sea'.split("|")
_CHUNK = {
    "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz0123", "object": "chat.completion.chunk", "created": 1767225600,
    "model": "a-model-2026-01-01", "service_tier": "default", "system_fingerprint": "fp_0123456789",
    "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}], "usage": None, "obfuscation": "x8Yz",
}  # fmt: skip


def body() -> bytes:
    """A stream of Chat Completions chunks."""
    chance = random.Random(1)
    frames = []
    for number in range(EVENTS):
        _CHUNK["choices"][0]["delta"]["content"] = chance.choice(_WORDS)  # type: ignore[index]
        _CHUNK["created"] = 1767225600 + number // 80
        _CHUNK["obfuscation"] = "".join(chance.choices("abcdefghijkXYZ0123456789", k=chance.randint(4, 12)))
        frames.append(b"data: " + json.dumps(_CHUNK, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n")
    return b"".join(frames) + b"data: [DONE]\n\n"


def anthropic_body() -> bytes:
    """A stream of Anthropic's messages."""
    chance = random.Random(1)
    start = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": chance.choice(_WORDS)}}
            for _ in range(EVENTS)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": EVENTS}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e, separators=(',', ':'))}\n\n".encode() for e in events)


def reads(data: bytes) -> Iterator[bytes]:
    """The body as the network might deliver it."""
    return (data[start : start + READ] for start in range(0, len(data), READ))


def ours(data: bytes) -> int:
    """Our framing and decoder of Chat Completions."""
    return _decoded(data, openai_chat.Decoder())


def our_anthropic(data: bytes) -> int:
    """Our framing and decoder of Anthropic's messages."""
    return _decoded(data, messages.Decoder())


def _decoded(data: bytes, decoder: openai_chat.Decoder | messages.Decoder) -> int:
    framing, count = EventStreamFraming(), 0
    for read in reads(data):
        for piece in framing.feed(read):
            for event in decoder.decode(piece):
                count += type(event) is Text
    return count


def framing_only(data: bytes) -> int:
    """Our framing without decoding."""
    framing = EventStreamFraming()
    return sum(len(framing.feed(read)) for read in reads(data)) - 1


def sse_and_json(data: bytes) -> int:
    """httpx-sse and json: what a careful user writes."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=reads(data))
    count = 0
    for event in EventSource(response).iter_sse():
        if event.data != "[DONE]":
            count += bool(json.loads(event.data)["choices"][0]["delta"]["content"])
    return count


def openai_client(data: bytes) -> int:
    """The openai client's stream, over the same bytes."""
    import openai

    http = openai.DefaultHttpxClient.__mro__[1].__module__.split(".")[0]
    library = __import__(http)
    transport = library.MockTransport(
        lambda request: library.Response(200, headers={"content-type": "text/event-stream"}, content=reads(data))
    )
    client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1/v1", http_client=library.Client(transport=transport))
    stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    return sum(bool(chunk.choices[0].delta.content) for chunk in stream)


def anthropic_client(data: bytes) -> int:
    """The anthropic client's stream, over the same bytes."""
    import anthropic

    library = __import__(anthropic.DefaultHttpxClient.__mro__[1].__module__.split(".")[0])
    transport = library.MockTransport(
        lambda request: library.Response(200, headers={"content-type": "text/event-stream"}, content=reads(data))
    )
    client = anthropic.Anthropic(api_key="x", base_url="http://127.0.0.1", http_client=library.Client(transport=transport))
    stream = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True)
    return sum(event.type == "content_block_delta" for event in stream)


def main() -> None:
    """Prints µs an event, ours and the peers'."""
    chat, claude = body(), anthropic_body()
    named: list[tuple[str, Callable[[bytes], int], bytes]] = [
        ("ours: framing and decoder", ours, chat), ("ours: framing alone", framing_only, chat), ("httpx-sse + json", sse_and_json, chat),
        ("openai client", openai_client, chat), ("ours: anthropic", our_anthropic, claude), ("anthropic client", anthropic_client, claude),
    ]  # fmt: skip
    best = dict.fromkeys((name for name, _, _ in named), float("inf"))
    for _ in range(ROUNDS):
        for name, run, data in named:
            started = perf_counter()
            assert run(data) == EVENTS, name
            best[name] = min(best[name], (perf_counter() - started) / EVENTS * 1e6)
    mine, claudes = best["ours: framing and decoder"], best["ours: anthropic"]
    rows = [[name, f"{time:.2f}", f"{time / (claudes if 'anthropic' in name else mine):.1f}"] for name, time in best.items()]
    print_table(["20,000 chunks, best of 5", "µs an event", "ratio to ours"], rows)
    verdict = "met" if max(mine, claudes) <= 3 and best["openai client"] / mine >= 30 else "MISSED"
    print(f"bar: 3 µs an event, 30 times the openai client: {verdict}")


if __name__ == "__main__":
    main()
