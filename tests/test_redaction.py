"""Keys are masked in what is kept, however they are cut into pieces; prose about keys stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.redaction import HOLD, Growing, Passage, Redactor, advance

# put together here, so that no scanner takes this file for a leak
BODY = "aB3" * 16
KEYS = {
    "openai": "sk-" + BODY,
    "openai project": "sk-proj-" + BODY[:20] + "_" + BODY[:20],
    "anthropic": "sk-ant-api03-" + BODY,
    "google": "AIza" + BODY[:35],
    "groq": "gsk_" + BODY,
    "xai": "xai-" + BODY,
    "hugging face": "hf_" + BODY[:34],
    "github": "ghp_" + BODY[:36],
    "github fine-grained": "github_pat_" + BODY,
    "aws": "AKIA" + "ABCDEFGH01234567",
    "jwt": "eyJ" + BODY[:20] + "." + "eyJ" + BODY[:30] + "." + BODY[:43],
    "slack": "xoxb-" + BODY[:30],
    "gitlab": "glpat-" + BODY[:20],
}
VALUE = "lab key: 9 letters & more"


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_of_a_known_kind_is_masked_and_the_rest_stays(key: str) -> None:
    text = f"before {key}, after"
    masked = Redactor().text(text)
    assert masked == "before " + "*" * len(key) + ", after"


@pytest.mark.parametrize("key", [*KEYS.values(), f"Bearer {BODY}", "a://me:secret@host", VALUE], ids=str)
def test_a_look_ahead_never_misses_what_would_be_masked(key: str) -> None:
    redactor = Redactor([VALUE])
    assert redactor.text(key) != key
    assert redactor.may_find(f"before {key}, after")
    assert redactor.may_find(key)
    assert not redactor.may_find("plain words")


def test_a_bearer_header_and_an_address_with_a_password_are_masked() -> None:
    redactor = Redactor()
    assert redactor.text(f"Authorization: Bearer {BODY}") == "Authorization: Bearer " + "*" * len(BODY)
    assert redactor.text("postgresql://me:secret@host/db") == "postgresql://*********@host/db"
    assert redactor.masked == 2


@pytest.mark.parametrize(
    "prose",
    [
        "task-oriented-risk-averse-disk-management-for-everyone",
        "the bearer responsibilities and internationalisation",
        "hf_hub, ghp_, sk-learn, AKIA and eyJ are beginnings",
        "https://example.org/a:b@c, see http://user@host and 12:30",
        "AIzawl is no key",
    ],
)
def test_prose_stays(prose: str) -> None:
    assert Redactor(["ollama", "none"]).text(prose + " ollama none") == prose + " ollama none"


def test_data_is_masked_in_names_and_values() -> None:
    redactor = Redactor([VALUE])
    masked = redactor.data({"a": [VALUE, 1, None, {KEYS["github"]: KEYS["aws"]}], "b": True})
    assert VALUE not in str(masked)
    assert masked["a"][1:3] == [1, None]
    assert masked["b"] is True
    assert redactor.masked == 3


SECRETS = st.sampled_from([*KEYS.values(), VALUE, "Bearer " + BODY, "x" * 300 + " " + KEYS["openai"]])
WORDS = st.text(st.sampled_from("ab sk-hf_.:/@eyJ\n"), max_size=12).map(lambda text: f" {text} ")


@given(st.lists(st.one_of(SECRETS, WORDS), max_size=6).map(" ".join), st.data())
def test_text_in_pieces_is_masked_as_the_whole_is(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    passage, written = Passage(), ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        grown = advance(Redactor([VALUE]), passage, text[start:end])
        passage = grown.passage
        written += grown.text
        assert len(written) + len(passage.held) == end
        for key in (*KEYS.values(), VALUE, BODY):
            assert key not in written
    written += passage.held
    whole = Redactor([VALUE]).text(text)
    assert len(written) == len(whole)
    assert all(w in (t, "*") for w, t in zip(written, text, strict=True))


OVERLAPPING = ["abcd1234 x", "1234 xefghijkl", "abababab", "/b@c d:efg", "sk-zzzzzzzzzzzzzz"]
FRAGMENTS = st.one_of(
    SECRETS,
    WORDS,
    st.sampled_from([*KEYS.values(), *OVERLAPPING, "a://me:secret@host", "://x/y:z@q"]).flatmap(
        lambda whole: st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole))).map(lambda cut: whole[min(cut) : max(cut)])
    ),
)


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=7), st.sampled_from(["", " "]), st.sets(st.sampled_from([*OVERLAPPING, VALUE])), st.data())
def test_any_cutting_gives_the_masked_whole(parts: list[str], between: str, values: set[str], data: st.DataObject) -> None:
    text = between.join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20) | st.just(list(range(len(text))))))
    redactor, whole = Redactor(values), Redactor(values)
    growing = Growing(redactor)
    shown = [growing.feed(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(shown) + growing.end() == whole.text(text)
    assert redactor.masked == whole.masked
    assert growing.end() == ""


def test_text_that_can_be_no_key_is_not_held_back() -> None:
    growing = Growing(Redactor([VALUE]))
    for piece in ("The ", "quick,", " brown", " fox", "; skip", " it. ", "2 + 2", "\n", "é", "task-based ", "risk", "-averse", "!"):
        assert growing.feed(piece) == piece
    assert [growing.feed(piece) for piece in ("a", " s", "ea", " sk", "-learn", " is", ".")] == [
        "a",
        " ",
        "sea",
        " ",
        "",
        "sk-learn is",
        ".",
    ]


def test_a_key_without_an_end_is_masked_as_it_comes() -> None:
    key = "sk-" + "aB3" * HOLD
    passage, written = Passage(), ""
    for start in range(0, len(key), 100):
        grown = advance(Redactor(), passage, key[start : start + 100])
        passage, written = grown.passage, written + grown.text
        assert len(passage.held) <= HOLD
    written += advance(Redactor(), passage, " and words").text
    assert written == "*" * len(key) + " and words"


def test_hostile_text_takes_linear_time() -> None:
    from time import perf_counter

    redactor = Redactor([VALUE])
    for seed in ("sk-", "eyJaaaaaaaa-", "-eyJ", "://a:", "Bearer ", "hf_", "AKIA", "a.b-"):
        text = seed * (1_000_000 // len(seed))
        started = perf_counter()
        redactor.text(text)
        redactor.open_from(text)
        assert perf_counter() - started < 2, seed
