"""The event stream rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation."""

from itertools import pairwise, product

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import example, given, settings, strategies as st

from tokenstream_magic.wire.framing import EventStreamFraming, Frame, FramingError

BOM = b"\xef\xbb\xbf"
ENDINGS = (b"\n", b"\r", b"\r\n")


def plain(pieces):
    return [
        ("frame", p.event, p.data, p.id, p.retry, p.terminated) if isinstance(p, Frame) else (type(p).__name__.lower(), p.text)
        for p in pieces
    ]


def pieces_of(*reads, **limits):
    framing = EventStreamFraming(**limits)
    pieces = [piece for read in reads for piece in framing.feed(read)]
    return plain(pieces + framing.end())


def data_of(*reads):
    return [piece[2] for piece in pieces_of(*reads) if piece[0] == "frame"]


def frame(data, event="message", id="", retry=None, terminated=True):
    return ("frame", event, data, id, retry, terminated)


def test_one_byte_order_mark_is_stripped():
    assert pieces_of(BOM + b"data: a\n\n") == [frame("a")]


def test_a_byte_order_mark_split_over_reads_is_stripped():
    assert pieces_of(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [frame("a")]


def test_a_second_byte_order_mark_is_not_stripped():
    assert pieces_of(BOM + BOM + b"data: a\n\ndata: b\n\n") == [("stray", "\ufeffdata: a"), frame("b")]


def test_a_byte_order_mark_after_the_start_stays_in_the_data():
    assert pieces_of(b"data: a\n\n", b"data: " + BOM + b"b\n\n") == [frame("a"), frame("\ufeffb")]


MIXTURES = [mixture for mixture in product(ENDINGS, repeat=3) if (b"\r", b"\n") not in pairwise(mixture)]


@pytest.mark.parametrize(("first", "second", "third"), [pytest.param(*m, id=repr(m)) for m in MIXTURES])
def test_every_mixture_of_line_endings_ends_lines(first, second, third):
    assert pieces_of(b"event: e" + first + b"data: a" + second + third + b"data: b\n\n") == [frame("a", "e"), frame("b")]


@pytest.mark.parametrize("body", [b"data: a\r\r", b"data: a\r\n\r", b"data: a\n\r"])
def test_a_carriage_return_dispatches_at_once(body):
    framing = EventStreamFraming()
    assert plain(framing.feed(body)) == [frame("a")]
    assert framing.feed(b"\n") == []
    assert plain(framing.feed(b"data: b\n\n")) == [frame("b")]


def test_a_line_feed_that_is_not_part_of_a_crlf_still_ends_a_line():
    assert pieces_of(b"data: a\r", b"\n\n", b"data: b\n\n") == [frame("a"), frame("b")]


def test_a_character_split_over_three_reads_arrives_whole():
    smile = "😀".encode()
    assert pieces_of(b"data: x" + smile[:1], smile[1:3], smile[3:] + b"y\n\n") == [frame("x😀y")]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_other_unicode_line_breaks_end_no_line(character):
    assert pieces_of(f"data: a{character}b\n\n".encode()) == [frame(f"a{character}b")]


def test_bytes_that_are_no_utf_8_become_replacement_characters():
    assert pieces_of(b"data: a\xffb\n\n") == [frame("a\ufffdb")]


def test_lines_of_data_are_joined_by_a_newline():
    assert pieces_of(b'data: {\ndata:  "a": 1\ndata: }\n\n') == [frame('{\n "a": 1\n}')]


@pytest.mark.parametrize(
    ("line", "data"),
    [(b"data:a", "a"), (b"data: a", "a"), (b"data:  a", " a"), (b"data:\ta", "\ta"), (b"data: a ", "a "), (b"data::a", ":a")],
)
def test_one_space_after_the_colon_is_dropped_and_no_more(line, data):
    assert pieces_of(line + b"\n\n") == [frame(data)]


def test_data_fields_without_a_value_make_empty_lines():
    assert data_of(b"data:\n\ndata\ndata\n\ndata\n\n") == ["", "\n", ""]


@pytest.mark.parametrize("block", [b"", b": ping", b"id: 7", b"event: e", b"retry: 5", b"event: e\nid: 7\n: x"])
def test_nothing_is_dispatched_without_data(block):
    assert data_of(b"id: 1\n\n" + block + b"\n\n\n") == []


def test_an_event_name_is_forgotten_at_the_blank_line():
    assert pieces_of(b"event: e\n\ndata: a\n\n") == [frame("a")]


def test_an_empty_event_name_is_message():
    assert pieces_of(b"event: e\nevent:\ndata: a\n\n") == [frame("a", "message")]


def test_an_id_stays_for_the_frames_after_it_until_it_is_emptied():
    assert pieces_of(b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n") == [frame("a", id="1"), frame("b", id="1"), frame("c")]


def test_an_id_with_a_nul_is_ignored():
    assert pieces_of(b"id: 1\n\nid: 2\x003\ndata: a\n\n") == [frame("a", id="1")]


@pytest.mark.parametrize(
    ("value", "retry"),
    [(b"1500", 1500), (b"0", 0), (b"1.5", None), (b"-1", None), (b"+1", None), (b" 5", None), (b"5x", None), (b"", None)],
)
def test_only_digits_are_a_retry(value, retry):
    assert pieces_of(b"retry: " + value + b"\ndata: a\n\n") == [frame("a", retry=retry)]


def test_digits_of_other_scripts_are_no_retry():
    assert pieces_of("retry: ٣\ndata: a\n\n".encode()) == [frame("a")]


def test_a_retry_with_five_thousand_digits_is_ignored():
    assert pieces_of(b"retry: " + b"9" * 5000 + b"\ndata: a\n\n") == [frame("a")]


def test_field_names_are_compared_as_they_are():
    assert pieces_of(b"Data: a\n data: b\n\n") == [("stray", "Data: a\n data: b")]


def test_comments_are_kept():
    assert pieces_of(b": OPENROUTER PROCESSING\n:\n:x\n\ndata: a\n\n") == [
        ("comment", "OPENROUTER PROCESSING"),
        ("comment", ""),
        ("comment", "x"),
        frame("a"),
    ]


def test_a_comment_inside_a_frame_does_not_end_it():
    assert pieces_of(b"data: a\n: ping\ndata: b\n\n") == [("comment", "ping"), frame("a\nb")]


def test_stray_lines_are_kept_together_up_to_the_blank_line():
    assert pieces_of(b'{\n  "error": {"code": 499}\n}\n\ndata: a\n\n') == [("stray", '{\n  "error": {"code": 499}\n}'), frame("a")]


def test_stray_lines_that_no_blank_line_ended_are_kept_at_the_end():
    assert pieces_of(b"data: a\n\n{\n}") == [frame("a"), ("stray", "{\n}")]


def test_an_error_field_is_handed_on_at_once():
    framing = EventStreamFraming()
    assert plain(framing.feed(b'error: {"code": 500}\n')) == [("stray", '{"code": 500}')]


def test_stray_lines_are_bounded():
    pieces = pieces_of(*[b"x" * 40 + b"\n"] * 100, b"\ndata: a\n\n", stray_limit=100)
    assert pieces == [("stray", "x" * 40 + "\n" + "x" * 40 + "\n" + "x" * 18), frame("a")]


def test_the_bound_on_stray_lines_starts_anew_after_a_blank_line():
    assert pieces_of(b"yyyyyyy\n\nzz\n\n", stray_limit=4) == [("stray", "yyyy"), ("stray", "zz")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_a_last_frame_that_was_never_closed_is_handed_on_as_unterminated(end):
    assert pieces_of(b"data: a\n\nevent: e\ndata: b" + end) == [frame("a"), frame("b", "e", terminated=False)]


def test_an_unterminated_block_without_data_is_no_frame():
    assert pieces_of(b"data: a\n\nevent: e\nid: 1") == [frame("a")]


@pytest.mark.parametrize("reads", [[b"data: " + b"x" * 200 + b"\n\n"], [b"data: ", *[b"x"] * 200], [b"data: xxxx\n"] * 30])
def test_a_frame_over_the_limit_raises(reads):
    framing = EventStreamFraming(frame_limit=100)
    with pytest.raises(FramingError):
        for read in reads:
            framing.feed(read)


def test_the_limit_is_for_a_frame_and_not_for_the_stream():
    assert data_of(*[b"data: " + b"x" * 60 + b"\n\n"] * 50) == ["x" * 60] * 50
    framing = EventStreamFraming(frame_limit=100)
    assert sum(len(framing.feed(b"data: " + b"x" * 60 + b"\n\n")) for _ in range(50)) == 50


def test_a_frame_near_the_limit_is_judged_alike_however_it_is_cut():
    def raises(*reads):
        try:
            pieces_of(*reads, frame_limit=100)
        except FramingError:
            return True
        return False

    sizes = range(80, 120)
    whole = [size for size in sizes if raises(b"data: " + b"x" * size + b"\n\n")]
    assert [size for size in sizes if raises(b"data: " + b"x" * size, b"\n\n")] == whole


def test_an_empty_read_changes_nothing():
    assert pieces_of(b"", b"data: a\r", b"", b"\n\r", b"", b"\n") == [frame("a")]


TOKENS = [
    *(b"data:", b"data", b"data: x", b"id: 1", b"id: \0", b"event: e", b"retry: 5", b"error: {}", b": ping", b"stray", b" ", b":"),
    *(b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", BOM, "é😀\u2028".encode(), b"\xff", b"\0", b'{"a": 1}'),
]
BODIES = st.lists(st.sampled_from(TOKENS), max_size=25).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(BODIES, st.lists(st.integers(0, 200), max_size=12))
@example(BOM + b"data: a\r\n\r\n", [1, 2, 11, 12, 13, 14])
def test_any_chunking_of_any_body_gives_the_same_pieces(body, cuts):
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert pieces_of(*[body[a:b] for a, b in pairwise(edges)]) == pieces_of(body)


@settings(max_examples=100, deadline=None)
@given(BODIES)
def test_a_body_fed_byte_by_byte_gives_the_same_pieces(body):
    assert pieces_of(*[bytes([byte]) for byte in body]) == pieces_of(body)


LINE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\0"), max_size=12)
BLOCK = st.tuples(st.one_of(st.none(), LINE), st.one_of(st.none(), LINE), st.lists(LINE, min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCK, max_size=6), st.sampled_from(["\n", "\r", "\r\n"]))
def test_well_formed_bodies_are_framed_as_httpx_sse_frames_them(blocks, ending):
    lines = []
    for event, id, data in blocks:
        lines += [f"event: {event}"] * (event is not None) + [f"id: {id}"] * (id is not None) + [f"data: {d}" for d in data] + [""]
    body = "".join(line + ending for line in lines).encode()
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    expected = [(sse.event, sse.data, sse.id) for sse in EventSource(response).iter_sse()]
    assert [piece[1:4] for piece in pieces_of(body)] == expected
    assert len(expected) == len(blocks)
