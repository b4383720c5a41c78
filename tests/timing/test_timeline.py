import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.timing.packing import decode, encode, extend, pack, unpack
from tokenstream_magic.timing.timeline import CHANNELS, KEPT_ALIVE, MOMENTS, Displayed, Stamp, Timeline

MS = 1_000_000
EVENT = st.tuples(st.integers(0, 10**11), st.integers(0, len(CHANNELS) - 1), st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 18))


def timeline(events, requested=5_000):
    """A timeline of events: (ns since the one before, channel, characters, whether it came with the read before, choice)."""
    made, at, read = Timeline(requested=requested), requested, -1
    for gap, channel, characters, same, choice in events:
        at += gap
        read += not same or read < 0
        made.add(at, channel, characters, read, choice)
    made.reads = read + 1
    return made


TIMELINES = st.lists(EVENT, max_size=30).map(timeline)


def test_stamps_count_from_the_request():
    made = Timeline(requested=100)
    made.add(150, CHANNELS.index("reasoning"), 3, 4)
    made.add(150, CHANNELS.index("text"), 2, 4, 1)
    made.add(400, CHANNELS.index("tool"), 0, 9)
    assert list(made) == [Stamp(50, "reasoning", 3, 0, 0), Stamp(50, "text", 2, 0, 1), Stamp(300, "tool", 0, 1, 0)]
    assert (len(made), made.first, made.last, made.gaps()) == (3, 150, 400, [0, 250])


def test_without_a_request_stamps_count_from_the_first_content():
    made = Timeline()
    made.add(150, 0, 1, 0)
    made.add(170, 0, 1, 1)
    assert [stamp.offset_ns for stamp in made] == [0, 20]


def test_an_empty_timeline_knows_nothing():
    made = Timeline()
    assert (len(made), list(made), made.first, made.last, made.gaps(), made.origin, pack(made)) == (0, [], None, None, [], 0, b"")
    assert set(made.moments().values()) == {None}


def test_the_first_content_is_found_on_each_channel():
    made = timeline([(10, 1, 1, False, 0), (10, 0, 1, False, 3), (10, 0, 1, False, 0)], requested=0)
    assert [made.first_on(channel) for channel in range(4)] == [20, 10, None, None]


def test_choices_behind_the_fifteenth_are_told_apart_and_nothing_else_costs_more():
    made = Timeline(requested=0)
    for choice in (0, 15, 16, 1000, 3):
        made.add(1, 3, 1, 0, choice)
    assert [(stamp.choice, stamp.channel) for stamp in made] == [(choice, "tool") for choice in (0, 15, 16, 1000, 3)]
    assert made.characters() == {(choice, "tool"): 1 for choice in (0, 15, 16, 1000, 3)}
    assert made.as_dict()["flag_runs"] == [0x83, 1, 0x7B, 1, 0x17B, 1, (1000 - 15) << 8 | 0x7B, 1, 0x1B, 1]
    column = encode(made)
    assert decode(column) == made
    assert [stamp.choice for stamp in decode(encode(made, 2))] == [0, 15]
    usual = timeline([(MS, 0, 3, False, number % 16) for number in range(400)])
    assert usual._later is None
    assert encode(usual)[0] == 5


@pytest.mark.parametrize(
    ("packed", "wrong"),
    [
        (pack, (b"\xfc\0\1\1", b"\x84\1\1\1", b"\xfc" + b"\xff" * 5 + b"\1\1\1", b"\xfc")),
        (encode, (b"\6\0\0\0\1\0\xfc\1\0\1\1\0\0\0", b"\6\0\0\0\1\0\x84\1\1\1\1\0\0\0", b"\6\0\0\0\1\0\xfc\1\1\1\1\0")),
    ],
)
def test_a_later_choice_that_is_none_is_damage(packed, wrong):
    made = Timeline(requested=0)
    made.add(1, 0, 1, 0, 16)
    assert [stamp.choice for stamp in decode(packed(made))] == [16]
    for column in wrong:
        with pytest.raises(ValueError, match="damaged"):
            decode(column)


def test_moments_are_milliseconds_from_the_request_to_a_microsecond():
    made = Timeline(requested=1000, connected=1000, first_byte=2_501_499, closed=1000 + 3 * MS)
    moments = made.moments()
    assert (moments["connected"], moments["first_byte"], moments["closed"]) == (0, 2.5, 3)
    assert moments["finished"] is None
    assert "requested" not in moments


def test_a_dictionary_of_a_timeline_adds_up_to_the_microsecond():
    made = timeline([(1_700, 0, 1, False, 0), (1_700, 1, 2, True, 0), (1_700, 0, 3, False, 1)], requested=0)
    whole = made.as_dict()
    assert whole["delta_us"] == [1, 2, 2]
    assert whole["characters"] == [1, 2, 3]
    assert sum(whole["flag_runs"][1::2]) == 3
    assert whole["reads"] == 2


@settings(deadline=None)
@given(TIMELINES)
def test_a_packed_timeline_comes_back_the_same(made):
    back = unpack(pack(made))
    assert list(back) == list(made)
    assert (back.requested, back.reads, len(back)) == (0, made.reads, len(made))
    assert pack(back) == pack(made)


@settings(deadline=None)
@given(TIMELINES, st.lists(st.integers(0, 30), max_size=5))
def test_packs_of_parts_put_end_to_end_are_the_pack_of_the_whole(made, cuts):
    edges = [0, *sorted(min(cut, len(made)) for cut in cuts), len(made)]
    assert b"".join(pack(made, start, stop) for start, stop in pairwise(edges)) == pack(made)


def test_a_pack_may_be_continued_while_the_stream_goes_on():
    made = timeline([(10, 0, 1, False, 0)])
    first = pack(made)
    made.add(9_000, 0, 5, 1)
    assert unpack(first + pack(made, 1)).gaps() == made.gaps()


@given(st.lists(st.tuples(st.integers(5 * MS, 15 * MS), st.integers(1, 127)), min_size=1, max_size=60))
def test_an_event_takes_at_most_six_bytes_at_the_usual_speed(events):
    made = timeline([(gap, 0, characters, False, 0) for gap, characters in events])
    assert len(pack(made)) <= 6 * len(events)


def test_a_long_wait_for_the_first_token_costs_one_event_only():
    made = timeline([(30_000 * MS, 0, 4, False, 0)] + [(10 * MS, 0, 4, False, 0)] * 999)
    assert len(pack(made)) <= 6 * 1000 + 2


GOOD = pack(timeline([(10 * MS, 0, 4, False, 0)] * 2))


@pytest.mark.parametrize(
    "packed",
    [
        *(b"\x80", b"\x80\x01", b"\x80\x81", GOOD[:-1], GOOD[:-3], GOOD + b"\x00", GOOD + b"\x00\x01"),
        b"\x80\x01" + b"\xff" * 20,
        b"\x80\x01" + b"\xff" * 9 + b"\x7f",
        b"\x80" + b"\xff" * 5 + b"\x01\x01",
        b"\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 2,
        b"\x84\x01\x01",
        b"\x87\x01\x01",
    ],
    ids=[
        *("flags alone", "no offset", "open characters", "cut", "cut in an offset", "flags behind", "half an event behind"),
        *("endless offset", "offset of 70 bits", "characters of 36 bits", "offsets that add up to 64 bits", "channel 4", "channel 7"),
    ],
)
def test_a_damaged_pack_raises_a_value_error(packed):
    with pytest.raises(ValueError, match="damaged"):
        unpack(packed)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_timeline_or_a_value_error(packed):
    try:
        made = unpack(packed)
    except ValueError:
        return
    assert len(list(made)) == len(made)
    assert len(made.as_dict()["delta_us"]) == len(made)


# the column of the store


@settings(deadline=None)
@given(TIMELINES, st.one_of(st.none(), st.integers(0, 10**12)), st.integers(0, 10**6))
def test_an_encoded_timeline_comes_back_to_the_nanosecond(made, closed, keep_alives):
    made.closed, made.connected, made.keep_alives = closed, 1, keep_alives
    back = decode(encode(made))
    assert back == made
    assert list(back) == list(made)
    assert encode(back) == encode(made)


@settings(deadline=None)
@given(TIMELINES, st.lists(st.integers(0, 10**12), max_size=40), st.one_of(st.none(), st.tuples(*[st.integers(0, 2**62)] * 7)))
def test_keep_alives_and_the_display_come_back_with_it(made, alive, displayed):
    for at in alive:
        made.alive(at)
    made.displayed, made.server_busy = displayed and Displayed(*displayed), 5
    assert decode(encode(made)) == made
    old = bytes((2,)) + zlib.compress(bytes(10) + bytes((0, 3, 0)))
    assert (decode(old).keep_alives, decode(old).keep_alive_offsets, decode(old).displayed) == (3, None, None)


def test_keep_alives_have_stamps_in_silences_and_never_more_than_so_many():
    one = timeline([(1_000 * MS, 0, 3, False, 0)], requested=0)
    for at in (1_050, 1_101, 1_102, 1_190, 1_250):
        one.alive(at * MS)
    assert (one.keep_alives, one.keep_alive_offsets) == (5, [1_101 * MS, 1_250 * MS])
    for number in range(20_000):
        one.alive((2_000 + 300 * number) * MS)
    kept = one.keep_alive_offsets
    assert KEPT_ALIVE / 2 <= len(kept) <= KEPT_ALIVE
    assert kept[-1] > 5_900_000 * MS
    gaps = [after - before for before, after in pairwise(kept)]
    assert max(gaps) <= 20_000 * MS
    assert one.keep_alives == 20_005


def test_timelines_that_differ_in_anything_are_not_equal():
    def made():
        one = timeline([(10, 0, 3, False, 0), (20, 1, 2, False, 0)])
        one.closed = 90_000
        return one

    assert made() == made()
    for change in ({"closed": 1}, {"keep_alives": 1}, {"reads": 9}, {"requested": 4_999}):
        other = made()
        for name, value in change.items():
            setattr(other, name, value)
        assert other != made(), change
    longer = made()
    longer.add(1, 0, 1, 9)
    assert longer != made()


def test_a_column_of_version_1_is_a_pack():
    made = timeline([(10, 0, 3, False, 0), (20, 1, 2, True, 0)])
    assert list(decode(pack(made))) == list(made)
    assert list(decode(b"")) == []


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=40), TIMELINES.map(encode)), st.data())
def test_a_damaged_column_raises_a_value_error_and_nothing_else(column, data):
    if column:
        at = data.draw(st.integers(0, len(column) - 1))
        column = column[:at] + data.draw(st.binary(max_size=2)) + column[at + 1 :]
    try:
        assert len(list(decode(column))) >= 0
    except ValueError:
        return


OLD_PLAIN = "040181897a81aaea5581b3e45600000000819cc99b0500000002020480098208030405068084af5f86897a929bee029eade2040000"
OLD_ZIPPED = (
    "032891636cecac6a5cf52ab471f393300620689c7372362b901661d668e06ce268e4224c32b3b0b2b173707271f3f0f2f10b080a098b888a894b484a49cb"
    "c8cac92b282a29aba8aaa96b686a35b4ac8f6febac9a34fb1dd3bcb58f5856edbfc6b6ede2298e438ff7719dfbba89e756fb72be6733670b7c5add2ff46f"
    "6fb348d785efa2d31ebd165ff4e5bee4bab62bd2bb669c903db66a8ffca53d1b14ef9d5ba2fceac10cd56f9f7ad49b5a1b35fba67fd59ab5f2a5ceb2dd77"
    "f5369dbd68b0effe51a3531f779a5c6b5e67f668ea228b77cba759fddad965d376e69feda47b9fece77d78e6b8aae9b6f3b629e75d0f2d3bec7e6ec7764f"
    "a6861f4d6bc51800ce1877dd"
)


@pytest.mark.parametrize(("column", "events"), [(OLD_PLAIN, 4), (OLD_ZIPPED, 40)])
def test_columns_of_versions_3_and_4_are_read(column, events):
    made = Timeline(requested=0, connected=MS, headers=90 * MS, first_byte=91 * MS, stop_requested=700 * MS)
    for number in range(events):
        made.add(100 * MS + number * number * 1_000_003, number % 3, 3 + number, number // 2, number % 2)
    made.reads, made.keep_alives = (events + 1) // 2, 2
    if events == 40:
        made.alive(3_000 * MS)
    assert decode(bytes.fromhex(column)) == made


@pytest.mark.parametrize("far", [0, (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 63, -(1 << 63) - 1])
def test_few_events_come_back_wherever_their_moments_are(far):
    for events in (0, 1, 24, 128, 129):
        for characters in (0, 7, 8, 127, 128, 255, 256):
            for reads in (events, 255, 256):
                made = timeline([(MS, 1, characters, False, 3)] * events, requested=0)
                made.headers, made.closed, made.reads = 7, far, reads
                column = encode(made)
                assert decode(column) == made
                fits = -(1 << 63) <= far < 1 << 63
                assert (column[0] == 8) == (events <= 128 and (not events or characters < 256) and reads < 256 and fits)


FEW = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 1 << 24), st.integers(0, 1 << 59)),
        st.sampled_from((1, 0)),
        st.sampled_from((3, 9, 200)),
        st.booleans(),
        st.just(2),
    ),
    max_size=9,
)


@settings(deadline=None)
@given(FEW, st.sampled_from((None, 0, 5_000, 1 << 40)), st.lists(st.sampled_from(MOMENTS[1:])), st.integers(-(1 << 62), 1 << 62), st.data())
def test_few_events_of_every_form_come_back_and_damage_is_found(events, requested, known, at, data):
    made = timeline(events, requested=requested or 0)
    made.requested = requested
    for name in known:
        setattr(made, name, at)
    column = encode(made)
    assert decode(column) == made
    for wrong in (column[:-1], column + b"\0"):
        with pytest.raises(ValueError, match="damaged"):
            decode(wrong)
    place = data.draw(st.integers(1, len(column) - 1))
    try:
        assert len(list(decode(column[:place] + data.draw(st.binary(min_size=1, max_size=1)) + column[place + 1 :]))) <= 128
    except ValueError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    ("events", "gap", "most"), [(12, 12, 86), (12, 60, 98), (28, 60, 6 * 28), (100, 60, 6 * 100), (128, 16_000, 6.5 * 128)]
)
def test_short_answers_take_six_bytes_an_event_and_little_beside_them(events, gap, most):
    made = timeline([(300 * MS, 0, 5, False, 0)] + [(gap * MS + number, 0, 12 * (number % 2), False, 0) for number in range(events - 1)])
    made.headers, made.first_byte, made.finished, made.ended, made.closed = (made.origin + at * MS for at in (1, 299, 1_500, 1_501, 1_502))
    assert len(encode(made)) <= most
    assert decode(encode(made)) == made


@pytest.mark.parametrize("cut", [*range(1, 9), 30])
def test_a_cut_column_of_few_events_is_damaged(cut):
    column = encode(timeline([(10 * MS, 0, 4, False, 0)] * 12))
    with pytest.raises(ValueError, match="damaged"):
        decode(column[:cut])


OLD_FEW = {
    300 * MS: "07020204049a80018200000000c0bdf0ff80841e00c0c62d00000000800000008000000080000000800000008000a3e1110000008000000080"
    "00e1f50500e1f505",
    3_000 * MS: "07020208049a8001820000000000000000c0bdf0ffffffffff80841e0000000000c0c62d0000000000000000000000008000000000000000"
    "80000000000000008000000000000000800000000000000080005ed0b200000000000000000000008000000000000000"
    "8000e1f50500e1f505",
}


@pytest.mark.parametrize("closed", [300 * MS, 3_000 * MS])
def test_a_column_of_version_7_is_read(closed):
    made = Timeline(requested=0, connected=-MS, headers=2 * MS, first_byte=3 * MS, closed=closed)
    made.add(100 * MS, 2, 1, 0, 3)
    made.add(200 * MS, 0, 130, 1)
    made.reads = 2
    column = bytes.fromhex(OLD_FEW[closed])
    assert decode(column) == made
    for wrong in (column[:-1], column + b"\0", column[:3] + b"\5" + column[4:], column[:4]):
        with pytest.raises(ValueError, match="damaged"):
            decode(wrong)


PLAIN = "060f02000203008000800084098d001e3d5b8280010103040000c2c2ebeb0b0b0100"


def test_a_column_of_version_6_is_read():
    made = Timeline(requested=0, connected=MS, headers=2 * MS, first_byte=3 * MS)
    made.add(100 * MS, 2, 1, 0)
    made.add(200 * MS, 0, 3, 1)
    made.reads = 2
    assert decode(bytes.fromhex(PLAIN)) == made


LEAST, MOST = -(1 << 63), (1 << 63) - 1


@pytest.mark.parametrize("stamps", [(LEAST, MOST, LEAST, 0), (MOST, LEAST), (1 << 62, LEAST, 0), (0, -1, 1 << 62), (5, 4)])
def test_steps_of_any_size_come_back(stamps):
    for size in (1, 1 << 8):
        made = Timeline(requested=0)
        for number, at in enumerate(stamps):
            made.add(at, 0, size, number)
        back = decode(encode(made))
        assert [stamp.offset_ns for stamp in back] == list(stamps)
        assert back == made


def test_a_small_column_cannot_claim_very_many_events():
    zipped = zlib.compress(b"\0\0\0" + bytes((0xFF, 0xFF, 0xFF, 0x1F)) + bytes(1 << 26))  # 2^26 - 1 of them
    with pytest.raises(ValueError, match="damaged"):
        decode(bytes((5,)) + zipped)


def test_a_column_that_unpacks_without_end_is_refused():
    with pytest.raises(ValueError, match="damaged"):
        decode(bytes((2,)) + zlib.compress(bytes(300_000_000), 9))


def test_a_timeline_is_continued_by_packs():
    whole = timeline([(10 * MS, n % 2, n, n % 3 == 0, 0) for n in range(40)])
    base = decode(encode(whole, 15))
    extend(base, pack(whole, 15, 30))
    extend(base, pack(whole, 30))
    assert list(base) == list(whole)
