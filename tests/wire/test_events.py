from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tokenstream_magic.wire.events import Content, Failure, Finish, Reasoning, Refusal, SurrogateJoiner, Text, ToolCall, Usage


def joined(*pieces):
    joiner = SurrogateJoiner()
    return [joiner.feed(piece) for piece in pieces], joiner.end()


def test_whole_text_passes_as_it_is():
    assert joined("plain", "", "é😀 \u2028", "\x00") == (["plain", "", "é😀 \u2028", "\x00"], "")


def test_a_pair_split_over_two_pieces_becomes_one_character():
    assert joined("a\ud83d", "\ude00b") == (["a", "😀b"], "")


def test_a_pair_inside_one_piece_becomes_one_character():
    assert joined("\ud83d\ude00") == (["😀"], "")


def test_a_high_surrogate_is_held_over_an_empty_piece():
    assert joined("\ud83d", "", "\ude00") == (["", "", "😀"], "")


def test_a_lone_high_surrogate_becomes_a_replacement_character():
    assert joined("\ud83d", "x") == (["", "\ufffdx"], "")


def test_a_lone_low_surrogate_becomes_a_replacement_character():
    assert joined("\ude00x") == (["\ufffdx"], "")


def test_a_high_surrogate_held_at_the_end_becomes_a_replacement_character():
    assert joined("a\ud83d") == (["a"], "\ufffd")


def test_a_high_surrogate_after_another_is_held_in_its_place():
    assert joined("\ud83d\ud83d", "\ude00") == (["\ufffd", "😀"], "")


def test_nothing_is_held_after_the_end():
    joiner = SurrogateJoiner()
    joiner.feed("\ud83d")
    assert (joiner.end(), joiner.end(), joiner.feed("\ude00")) == ("\ufffd", "", "\ufffd")


CHARACTERS = st.characters(blacklist_categories=["Cs"])


@given(st.text(CHARACTERS, max_size=30), st.lists(st.integers(0, 60), max_size=5))
def test_text_cut_between_any_two_code_units_comes_back_whole(text, cuts):
    units = text.encode("utf-16-le")
    edges = [0, *sorted(min(2 * cut, len(units)) for cut in cuts), len(units)]
    pieces, rest = joined(*[units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(edges)])
    assert "".join(pieces) + rest == text


@given(st.lists(st.text(st.characters() | st.characters(whitelist_categories=["Cs"]), max_size=8), max_size=5))
def test_what_comes_out_can_always_be_encoded(pieces):
    whole, rest = joined(*pieces)
    "".join([*whole, rest]).encode()


@pytest.mark.parametrize("event", [Text("a"), Reasoning("a"), Refusal("a"), ToolCall(0)])
def test_what_the_model_generated_is_content(event):
    assert isinstance(event, Content)


@pytest.mark.parametrize("event", [Usage(), Finish("stop"), Failure("no")])
def test_facts_about_the_stream_are_no_content(event):
    assert not isinstance(event, Content)
