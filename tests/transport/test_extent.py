"""Where a body ends: h11 is the oracle, however the bytes are cut into reads and whatever is wrong with them."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.transport.extent import LONGEST_LINE, LONGEST_TRAILER, Chunked, Extent, Sized, UntilClosed, extent

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def fed(body: Extent, data: bytes, cuts: list[int]) -> tuple[bytes, str]:
    """The body's bytes, and how it ended."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    inside = b""
    for start, end in pairwise(edges):
        if start == end:
            continue
        inside += body.feed(data[start:end])
        if body.problem is not None:
            return inside, "broken"
        if body.done:
            return inside, "whole"
    return inside, "whole" if body.end() is None else "cut"


def oracle(data: bytes) -> tuple[bytes, str]:
    """What h11 makes of the same chunks."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(HEAD + data)
    assert isinstance(http.next_event(), h11.Response)
    inside = b""
    try:
        while True:
            event = http.next_event()
            if isinstance(event, h11.Data):
                inside += bytes(event.data)
            elif event is h11.NEED_DATA:
                return inside, "cut"
            else:
                return inside, "whole"
    except h11.RemoteProtocolError:
        return inside, "broken"


chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(["", ";a=b", ";q", " ", "\t"]), st.booleans()), max_size=6)
trailers = st.sampled_from([b"", b"X-Done: yes\r\n", b"A: 1\r\nB: 2\r\n"])


def written(pieces: list[tuple[bytes, str, bool]], trailer: bytes) -> bytes:
    sizes = [(f"{len(data):X}" if upper else f"00{len(data):x}") + more for data, more, upper in pieces]
    body = b"".join(size.encode() + b"\r\n" + data + b"\r\n" for size, (data, _, _) in zip(sizes, pieces, strict=True))
    return body + b"0\r\n" + trailer + b"\r\n"


@given(chunks, trailers, st.lists(st.integers(0, 10_000), max_size=12), st.binary(max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_cut_of_a_chunked_body_gives_its_bytes(pieces, trailer: bytes, cuts: list[int], after: bytes) -> None:
    data = written(pieces, trailer)
    body = b"".join(piece for piece, _, _ in pieces)
    assert fed(Chunked(), data + after, cuts) == (body, "whole") == oracle(data)
    assert fed(Chunked(), data, list(range(len(data)))) == (body, "whole")


@given(chunks, trailers, st.lists(st.integers(0, 10_000), max_size=8), st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
@settings(max_examples=1500, deadline=None)
def test_a_damaged_chunked_body_is_never_more_than_h11_takes_it_for(
    pieces, trailer: bytes, cuts: list[int], at: int, put: bytes, taken: int
) -> None:
    data = written(pieces, trailer)
    at %= len(data) + 1
    data = data[:at] + put + data[at + taken :]
    inside, end = fed(Chunked(), data, cuts)
    theirs, verdict = oracle(data)
    assert (inside, end) == fed(Chunked(), data, []), "the cuts change nothing"
    if verdict == "whole":
        assert (inside, end) == (theirs, "whole") or end == "broken", "stricter, perhaps"
    elif data.rpartition(b"\r\n0\r\n")[2] == data:  # what the trailer says is passed over and not looked at
        assert end != "whole" or inside == theirs
    assert theirs.startswith(inside) or inside.startswith(theirs)


@pytest.mark.parametrize(
    "data",
    [b"g\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"1_0\r\n", b" 5\r\nhello\r\n", b"5\nhello\n", b"\r\n", b"5\rhello", b"5\r\nhelloXX",
     b"5\r\nhello\n", b"11111111111111111\r\n", b"5;" + b"x" * LONGEST_LINE, b"0\r\n" + b"x" * (LONGEST_TRAILER + 1), b"0\r\n" + b"a: b\r\n" * 20_000],
)  # fmt: skip
def test_what_is_no_chunk_is_a_problem_in_bounded_memory(data: bytes) -> None:
    body = Chunked()
    body.feed(data)
    if data == b"5\rhello":
        assert body.problem is None
        body.feed(b"\n")
    assert body.problem is not None
    assert not body.done


def test_the_extent_follows_from_the_head() -> None:
    assert type(extent("GET", 200, {"transfer-encoding": "chunked", "content-length": "5"})) is Chunked
    assert type(extent("GET", 200, {"content-length": "5"})) is Sized
    assert type(extent("GET", 200, {})) is UntilClosed
    for verb, status in (("HEAD", 200), ("GET", 204), ("POST", 304), ("GET", 101)):
        assert extent(verb, status, {"content-length": "5"}).done
    sized = Sized(5)
    assert (sized.feed(b"hel"), sized.done, "received 3 bytes, expected 5" in str(sized.end())) == (b"hel", False, True)
    assert (sized.feed(b"lo and more"), sized.done, sized.end()) == (b"lo", True, None)
