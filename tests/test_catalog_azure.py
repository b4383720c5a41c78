"""Azure: an address from the environment or the user's file, the key in its own header, both forms of its paths."""

from __future__ import annotations

import pytest

import tokenstream_magic as ts
from tokenstream_magic import catalog
from tokenstream_magic.errors import BadRequest, KeyRefused
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.run import Plan

KEY = "azure-canary-0123456789"
ADDRESS = "https://mine.openai.azure.com"
SET = {"AZURE_OPENAI_ENDPOINT": ADDRESS + "/", "AZURE_OPENAI_API_KEY": KEY}


def configure(text: str) -> None:
    catalog.config_path().write_text(text)


def call(model: str = "azure/gpt-4o", options=None, **environment: str):
    endpoint, name = catalog.resolve(model, environment={**SET, **environment})
    return Plan(endpoint, name, [{"role": "user", "content": "hi"}], options or {}).call()


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "/", ADDRESS + "/openai", ADDRESS + "/openai/v1/"])
def test_the_environment_gives_the_address_and_the_v1_form_is_the_default(address):
    made = call(AZURE_OPENAI_ENDPOINT=address)
    assert made.url == f"{ADDRESS}/openai/v1/chat/completions"
    assert made.headers["api-key"] == KEY
    assert "Authorization" not in made.headers
    assert made.body["model"] == "gpt-4o"


def test_a_dated_version_is_the_classic_form_of_a_deployment():
    made = call("azure/my deploy/../x", OPENAI_API_VERSION="2024-10-21")
    assert made.url == f"{ADDRESS}/openai/deployments/my%20deploy%2F..%2Fx/chat/completions?api-version=2024-10-21"
    endpoint, _ = catalog.resolve("azure/m", environment={**SET, "OPENAI_API_VERSION": "2024-10-21"})
    assert endpoint.url("/models") == f"{ADDRESS}/openai/models?api-version=2024-10-21"
    assert call(OPENAI_API_VERSION="preview").url == f"{ADDRESS}/openai/v1/chat/completions?api-version=preview"


def test_the_users_file_completes_it_too():
    configure(f'[endpoints.azure]\nbase_url = "{ADDRESS}"\napi_version = "2024-10-21"\nmodel = "gpt"\n')
    made = call("azure", AZURE_OPENAI_ENDPOINT="https://other.openai.azure.com")
    assert made.url == f"{ADDRESS}/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert made.headers["api-key"] == KEY
    configure(
        f'[endpoints.eu]\nbase_url = "{ADDRESS}/openai/deployments/gpt4"\napi_key_env = "AZURE_OPENAI_API_KEY"\n'
        'key_header = "api-key"\napi_version = "2024-10-21"\nmodel = "gpt4"\n'
    )
    made = call("eu")
    assert made.url == f"{ADDRESS}/openai/deployments/gpt4/chat/completions?api-version=2024-10-21"
    assert made.headers["api-key"] == KEY


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "azure needs an address and AZURE_OPENAI_ENDPOINT is not set. Set AZURE_OPENAI_ENDPOINT to https://RESOURCE"),
        ({"AZURE_OPENAI_ENDPOINT": "mine.openai.azure.com"}, "AZURE_OPENAI_ENDPOINT: The base URL is no http"),
        ({"AZURE_OPENAI_ENDPOINT": ADDRESS}, "AZURE_OPENAI_API_KEY is not set"),
        ({"AZURE_OPENAI_ENDPOINT": f"{ADDRESS}/openai?key={KEY}"}, "AZURE_OPENAI_ENDPOINT: A base URL carries no user"),
    ],
)
def test_what_is_missing_is_said_with_what_to_set(environment, said):
    with pytest.raises(BadRequest) as caught:
        catalog.resolve("azure/gpt", environment=environment)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_key_goes_to_its_resource_and_nowhere_else():
    with pytest.raises(KeyRefused, match="not encrypted"):
        call(AZURE_OPENAI_ENDPOINT="http://mine.openai.azure.com")
    for environment, base_url in (
        (SET, "https://evil.openai.azure.com/openai/v1"),
        ({"AZURE_OPENAI_API_KEY": KEY}, "http://localhost:1/v1"),
    ):
        with pytest.raises(KeyRefused, match="AZURE_OPENAI_API_KEY belongs to"):
            catalog.resolve("m", base_url=base_url, api_key_env="AZURE_OPENAI_API_KEY", environment=environment)
    endpoint, _ = catalog.resolve("m", base_url=f"{ADDRESS}/openai/v1", api_key_env="AZURE_OPENAI_API_KEY", environment=SET)
    assert endpoint.authorization() == {"api-key": KEY}


def test_a_limit_of_tokens_has_the_name_that_openais_models_take():
    assert call(options={"max_tokens": 5}).body["max_completion_tokens"] == 5
    endpoint, name = catalog.resolve("azure/m", protocol="openai-responses", environment=SET)
    made = Plan(endpoint, name, [], {"max_tokens": 5}).call()
    assert (made.url, made.body["max_output_tokens"]) == (f"{ADDRESS}/openai/v1/responses", 5)
    endpoint, name = catalog.resolve("groq/m", environment={"GROQ_API_KEY": KEY})
    assert Plan(endpoint, name, [], {"max_tokens": 5}).call().body["max_tokens"] == 5


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", {"Authorization": f"Bearer {KEY}"}),
        ('key_header = "api-key"', {"api-key": KEY}),
        ('key_header = "X-Gateway-Token"', {"X-Gateway-Token": KEY}),
        ('key_header = "authorization"\nprotocol = "anthropic"', {"authorization": f"Bearer {KEY}"}),
        ('protocol = "anthropic"', {"x-api-key": KEY}),
        ('protocol = "gemini"', {"x-goog-api-key": KEY}),
    ],
)
def test_the_header_of_a_key_is_the_protocols_or_the_one_the_user_names(written, sent):
    configure(f'[endpoints.lab]\nbase_url = "https://llm.example/v1"\napi_key_env = "LAB_KEY"\n{written}\n')
    endpoint, _ = catalog.resolve("lab/m", environment={"LAB_KEY": KEY})
    assert endpoint.authorization() == sent
    assert KEY not in repr(endpoint)


@pytest.mark.parametrize("header", ["Host", "content-length", "Cookie", "X Y", "", "X:", "Transfer-Encoding"])
def test_a_header_that_a_request_needs_itself_carries_no_key(header):
    configure(f'[endpoints.lab]\nbase_url = "https://llm.example/v1"\nkey_header = "{header}"\n')
    with pytest.raises(BadRequest, match="key_header is the name of the header"):
        catalog.configuration()


def test_an_answer_with_its_filters_streams(mock: MockServer, monkeypatch):
    filters = '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}'
    text = '{"id":"c","model":"gpt-4o-2024","choices":[{"index":0,"delta":{"content":"Hi"},"content_filter_results":{}}]}'
    late = '{"id":"","model":"","choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{"check_offset":1}}]}'
    end = '{"id":"c","model":"gpt-4o-2024","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    body = "".join(f"data: {data}\n\n" for data in (filters, text, late, end, "[DONE]"))
    mock.scripts["gpt"] = Script(body=body.encode(), content_type="text/event-stream")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"http://127.0.0.1:{mock.port}")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    transcript = ts.stream("hi", "azure/gpt", no_log=True)
    assert (transcript.outcome, transcript.text, transcript.resolved_model) == ("complete", "Hi", "gpt-4o-2024"), transcript.error
    (exchange,) = mock.exchanges
    assert exchange.path == "/openai/v1/chat/completions"
    assert {name.lower(): value for name, value in exchange.headers.items()}["api-key"] == KEY
