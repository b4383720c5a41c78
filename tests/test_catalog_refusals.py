import copy
import dataclasses
import json
import pickle

import pytest

from tokenstream_magic.catalog import BUILT_IN, Endpoint, Secret, check_base_url, configuration, origin_of
from tokenstream_magic.errors import BadRequest, KeyRefused, TokenstreamError

KEY = "sk-proj-Abc123secret"


@pytest.fixture
def configure(tmp_path, monkeypatch):
    path = tmp_path / "tokenstream.toml"
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(path))
    return path.write_bytes


# a key shows itself nowhere

SECRET = Secret(KEY)
ENDPOINT = dataclasses.replace(BUILT_IN["openai"], key=SECRET)


def or_the_error(render, value):
    try:
        return str(render(value))
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("value", [SECRET, ENDPOINT, [SECRET], {"key": SECRET}], ids=["secret", "endpoint", "list", "dict"])
@pytest.mark.parametrize(
    "render",
    [
        *(repr, str, "{}".format, "{!r:>90}".format, "%s".__mod__, "%r".__mod__, ascii, lambda v: f"{v}", lambda v: f"{v!a}"),
        *(pickle.dumps, copy.copy, copy.deepcopy, json.dumps, lambda v: json.dumps(v, default=str), lambda v: json.dumps(v, default=vars)),
        *(dataclasses.asdict, dataclasses.astuple, vars, dir, lambda v: v.__reduce_ex__(2)),
    ],
)
def test_a_key_never_shows_itself(render, value):
    assert KEY not in or_the_error(render, value)


def test_a_key_is_written_as_a_mask_of_any_width():
    assert (repr(SECRET), str(SECRET), f"{SECRET:>6}", f"{SECRET!s:<5}|") == ("***", "***", "   ***", "***  |")
    assert "key=***" in repr(ENDPOINT)


def test_a_key_is_told_only_when_asked():
    assert SECRET.reveal() == KEY


@pytest.mark.parametrize("copying", [pickle.dumps, copy.deepcopy, dataclasses.asdict])
def test_an_endpoint_with_a_key_is_not_copied_out_of_the_process(copying):
    with pytest.raises(TypeError, match="not pickled"):
        copying(ENDPOINT)


# addresses


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://llm.example.org/v1/", "https://llm.example.org/v1"),
        (" http://localhost:8080 ", "http://localhost:8080"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("HTTPS://LLM.example.org", "HTTPS://LLM.example.org"),
    ],
)
def test_an_address_is_kept_without_its_trailing_slash(url, kept):
    assert check_base_url(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "llm.example.org/v1",
            "//llm.example.org",
            "localhost:8080",
            "ftp://llm.example.org",
            "file:///etc/passwd",
            "javascript:alert(1)",
        ),
        *("http://", "https:///v1", "http://:8080", "http://llm.example.org:port/v1", "http://llm.example.org:70000/v1"),
        *("http://[::1/v1", "http://::1]/v1", "https://api.openai.com\uff0f.evil.example/v1"),
    ],
)
def test_what_is_no_plain_address_is_refused_in_one_line(url):
    with pytest.raises(BadRequest) as caught:
        check_base_url(url)
    assert "http" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://{KEY}@llm.example.org/v1", f"https://user:{KEY}@llm.example.org/v1", f"https://:{KEY}@llm.example.org/v1"),
        *(f"https://llm.example.org/v1?key={KEY}", f"https://llm.example.org/v1#{KEY}"),
    ],
)
def test_an_address_that_carries_a_key_is_refused_and_not_repeated(url):
    with pytest.raises(KeyRefused) as caught:
        check_base_url(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"{KEY}@llm.example.org/v1", f"user:{KEY}@llm.example.org/v1", f"llm.example.org/v1?key={KEY}", f"ftp://{KEY}@llm.example.org/v1"],
)
def test_a_mistyped_address_that_carries_a_key_is_not_repeated(url):
    with pytest.raises(TokenstreamError) as caught:
        check_base_url(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("url", ["https://llm.example.org/v1\nX-Evil: 1", "https://llm.example.org/\tv1", "https://llm.exa\rmple.org/v1"])
def test_an_address_with_control_characters_is_refused(url):
    with pytest.raises(BadRequest):
        check_base_url(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.openai.com/v1", "https://api.openai.com"),
        ("https://api.openai.com:443/v1", "https://api.openai.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
        ("https://llm.example.org:8443/v1?x#y", "https://llm.example.org:8443"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
    ],
)
def test_an_origin_has_one_spelling(url, origin):
    assert origin_of(url) == origin
    assert Endpoint("e", base_url=url).origin == origin


# a configuration that says nonsense


@pytest.mark.parametrize(
    "text",
    [
        *("[endpoints", "= 1", "a = \n\nb", '[endpoints.lab]\nbase_url = "https://x.org"\n[endpoints.lab]\n'),
        *("[endpoints.lab]\n", "[endpoints.lab]\nbase_url = 5", "[endpoints]\nlab = 5", "endpoints = 5", "[[endpoints]]\nname = 1"),
        *('[endpoints.lab]\nbase_url = "llm.example.org"', '[endpoints.lab]\nbase_url = "https://x.org"\nprotocol = "smoke"'),
        *('[endpoints.lab]\nbase_url = "https://x.org"\nport = 5', '[endpoints.lab]\nbase_url = "https://x.org"\napi_key_env = 5'),
        *('[endpoints.lab]\nbase_url = "https://x.org"\nmodel = 5', '[endpoints.lab]\nbase_url = "https://x.org"\noptions = 5'),
        *("[aliases]\nfast = 5", "aliases = 5", 'aliases = ["fast"]', '[aliases.fast]\nmodel = "local"'),
    ],
)
def test_nonsense_is_answered_with_one_line_that_names_the_file(configure, text):
    configure(text.encode())
    with pytest.raises(BadRequest) as caught:
        configuration()
    assert "tokenstream.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_utf_8_is_answered_with_one_line(configure):
    configure(b'[aliases]\nfast = "\xff"')
    with pytest.raises(BadRequest, match="cannot be read"):
        configuration()


def test_an_unknown_field_is_answered_with_the_known_ones(configure):
    configure(b'[endpoints.lab]\nbase_url = "https://x.org"\nbaseurl = "x"')
    with pytest.raises(BadRequest, match=r"api_key_env, .*base_url, .*model, .*options, .*protocol"):
        configuration()
