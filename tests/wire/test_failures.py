import json

import pytest

from tokenstream_magic.wire.events import Failure
from tokenstream_magic.wire.failures import failure_of_response, failure_of_text, find_failure

SHAPES = {
    "openai": (
        {"error": {"message": "Bad model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}},
        Failure("Bad model", "invalid_request_error", None, "model_not_found"),
    ),
    "vllm, a status as its code": (
        {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}},
        Failure("too long", "BadRequestError", 400, 400),
    ),
    "llama.cpp, without a type": ({"error": {"code": 500, "message": "boom"}}, Failure("boom", "500", 500, 500)),
    "google, a status in words": (
        {"error": {"code": 499, "message": "The operation was cancelled.", "status": "CANCELLED"}},
        Failure("The operation was cancelled.", "CANCELLED", 499, 499),
    ),
    "google, wrapped in a list": (
        [{"error": {"message": "quota", "status": "RESOURCE_EXHAUSTED"}}],
        Failure("quota", "RESOURCE_EXHAUSTED"),
    ),
    "groq, a failed tool": (
        {
            "error": {
                "message": "no tool",
                "type": "invalid_request_error",
                "code": "tool_use_failed",
                "failed_generation": "x",
                "status_code": 400,
            }
        },
        Failure("no tool", "invalid_request_error", 400, "tool_use_failed"),
    ),
    "groq, only what failed": ({"error": {"failed_generation": "<f>"}}, Failure("<f>")),
    "groq, in x_groq": ({"x_groq": {"id": "r", "error": "over capacity"}}, Failure("over capacity", "server_error")),
    "ollama, a string": ({"error": "model not found"}, Failure("model not found")),
    "tgi, a string and a type": ({"error": "Out of memory", "error_type": "generation"}, Failure("Out of memory", "generation")),
    "old vllm": (
        {"object": "error", "message": "bad", "type": "NotFoundError", "code": 404},
        Failure("bad", "NotFoundError", 404, 404),
    ),
    "anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        Failure("Overloaded", "overloaded_error"),
    ),
    "anthropic, passed on inside an error": (
        {"error": {"type": "error", "error": {"type": "api_error", "message": "Internal"}}},
        Failure("Internal", "api_error"),
    ),
    "responses, flat": (
        {"type": "error", "code": "server_error", "message": "sorry"},
        Failure("sorry", "server_error", None, "server_error"),
    ),
    "mistral": ({"object": "error", "message": {"detail": ["x"]}, "type": "invalid"}, Failure('{"detail": ["x"]}', "invalid")),
    "error_message": ({"error_message": "no", "error_type": "quota"}, Failure("no", "quota")),
    "openrouter, in a choice": ({"choices": [{"error": {"code": 502, "message": "gone"}}]}, Failure("gone", "502", 502, 502)),
    "a string in a choice": ({"choices": [{"error": "gone"}]}, Failure("gone")),
    "an error that only has a code": ({"error": {"code": "rate_limited"}}, Failure("rate_limited", "rate_limited", None, "rate_limited")),
    "an error that says nothing": ({"error": {"param": None}}, Failure("the server reported an error")),
    "a message that is no text": ({"error": {"message": {"a": 1}}}, Failure('{"a": 1}')),
    "a code that is no code": ({"error": {"message": "m", "code": [1]}}, Failure("m")),
    "a code that is no status": ({"error": {"message": "m", "code": 1042}}, Failure("m", "1042", None, 1042)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_error_is_found(name):
    message, failure = SHAPES[name]
    assert find_failure(message) == failure


@pytest.mark.parametrize(
    "message",
    [
        *(None, 5, "error", [], ["error"], [[{"error": "x"}]], {}, {"error": None}, {"error": ""}, {"error": False}),
        *(
            {"choices": []},
            {"choices": [{"delta": {"content": "error"}}]},
            {"choices": [None]},
            {"x_groq": {"error": None}},
            {"type": "ping"},
        ),
        *({"error_message": None}, {"object": "chat.completion.chunk"}, {"choices": [{"error": None}]}),
    ],
)
def test_what_is_no_error_is_none(message):
    assert find_failure(message) is None


@pytest.mark.parametrize(
    "text",
    [
        ' {"error": {"message": "boom"}} ',
        '[{"error": {"message": "boom"}}]',
        '{\n "error": {\n  "message": "boom" }\n}\n',
        '{"detail": "boom"}',
    ],
)
def test_an_error_is_found_in_a_text(text):
    assert failure_of_text(text).message == "boom"


@pytest.mark.parametrize("text", ["", "boom", "<html>", '"error"', "{", '{"error": ', '{"ok": 1}', "[" * 100_000])
def test_a_text_without_an_error_has_none(text):
    assert failure_of_text(text) is None


def test_a_page_is_shown_by_its_first_words_and_its_status():
    page = "<html>\r\n<head><title>502 Bad\tGateway</title></head>\x1b[31m" + "x" * 5000
    failure = failure_of_response(502, "text/html", page)
    assert (failure.type, failure.status, failure.code) == ("http_error", 502, None)
    assert failure.message.startswith("HTTP 502: <html> <head><title>502 Bad Gateway</title></head> [31mxxx")
    assert len(failure.message) < 4200


def test_an_error_without_a_body_is_its_status():
    assert failure_of_response(503, "", "") == Failure("HTTP 503", "http_error", 503)


def test_a_json_error_keeps_its_words_and_the_status_of_the_response():
    body = json.dumps({"error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": "invalid_api_key"}})
    assert failure_of_response(401, "application/json", body) == Failure(
        "Incorrect API key", "invalid_request_error", 401, "invalid_api_key"
    )


def test_the_status_of_the_response_wins_over_one_in_the_body():
    assert failure_of_response(429, "application/json", '{"error": {"message": "slow", "code": 500}}').status == 429


@pytest.mark.parametrize(
    ("detail", "message"),
    [("Not Found", "Not Found"), ([{"loc": ["body"], "msg": "required"}], '[{"loc": ["body"], "msg": "required"}]'), (None, "error")],
)
def test_a_fastapi_detail_is_the_message(detail, message):
    assert failure_of_response(422, "application/json", json.dumps({"detail": detail})) == Failure(message, "http_error", 422)


def test_a_page_with_status_200_is_no_stream():
    failure = failure_of_response(200, "text/html", "<h1>Sign in</h1>")
    assert failure == Failure("the server answered text/html instead of a stream: <h1>Sign in</h1>", "not_a_stream")


def test_an_empty_answer_with_status_200_is_no_stream():
    assert failure_of_response(200, "", "") == Failure("the server answered nothing instead of a stream", "not_a_stream")


def test_an_error_with_status_200_keeps_its_type():
    failure = failure_of_response(200, "application/json", '{"error": {"message": "m", "type": "t"}}')
    assert failure == Failure("m", "t")
