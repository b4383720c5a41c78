"""Bytes to events: how long a chunk takes from the body to what it means, beside its peers in the same run.

20,000 chunks of OpenAI's shape (about 330 bytes each) in reads of 4 KiB, the best of several rounds taken in turn.
Bar: at most 3 µs an event, and at least 30 times faster than the openai client's stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from time import perf_counter

import httpx
from httpx_sse import EventSource
from peers import print_table

from tokenstream_magic.wire.events import Text
from tokenstream_magic.wire.framing import EventStreamFraming
from tokenstream_magic.wire.openai_chat import Decoder

EVENTS = 20_000
READ = 4096
ROUNDS = 5

_CHUNK = {
    "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz0123", "object": "chat.completion.chunk", "created": 1767225600,
    "model": "a-model-2026-01-01", "service_tier": "default", "system_fingerprint": "fp_0123456789",
    "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}], "usage": None, "obfuscation": "x8Yz",
}  # fmt: skip


def body() -> bytes:
    """A stream of chunks."""
    return b"".join(b"data: " + json.dumps(_CHUNK).encode() + b"\n\n" for _ in range(EVENTS)) + b"data: [DONE]\n\n"


def reads(data: bytes) -> Iterator[bytes]:
    """The body as the network might deliver it."""
    return (data[start : start + READ] for start in range(0, len(data), READ))


def ours(data: bytes) -> int:
    """Our framing and decoder."""
    framing, decoder, count = EventStreamFraming(), Decoder(), 0
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


def main() -> None:
    """Prints µs an event, ours and the peers'."""
    data = body()
    named: list[tuple[str, Callable[[bytes], int]]] = [
        ("ours: framing and decoder", ours), ("ours: framing alone", framing_only), ("httpx-sse + json", sse_and_json),
    ]  # fmt: skip
    try:
        import openai  # noqa: F401

        named.append(("openai client", openai_client))
    except ImportError:
        print("the openai client is not installed: its row is missing")
    best = dict.fromkeys((name for name, _ in named), float("inf"))
    for _ in range(ROUNDS):
        for name, run in named:
            started = perf_counter()
            assert run(data) == EVENTS, name
            best[name] = min(best[name], (perf_counter() - started) / EVENTS * 1e6)
    mine = best["ours: framing and decoder"]
    print_table(["20,000 chunks, best of 5", "µs an event", "ratio to ours"], [[n, f"{t:.2f}", f"{t / mine:.1f}"] for n, t in best.items()])
    client = best.get("openai client")
    verdict = "met" if mine <= 3 and (client is None or client / mine >= 30) else "MISSED"
    print(f"bar: 3 µs an event, 30 times the openai client: {verdict}")


if __name__ == "__main__":
    main()
