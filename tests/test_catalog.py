import os
import traceback

import pytest

from tokenstream_magic.catalog import BUILT_IN, config_path, configuration, endpoints, has_key, resolve
from tokenstream_magic.errors import BadRequest, KeyRefused

KEY = "sk-proj-Abc123secret"
ENVIRONMENT = dict.fromkeys(("OPENAI_API_KEY", "GROQ_API_KEY", "LAB_KEY", "OPENROUTER_API_KEY"), KEY)
LAB = """
[endpoints.lab]
protocol = "openai-chat"
base_url = "https://llm.example.org/v1/"
api_key_env = "LAB_KEY"
model = "lab-1"
[endpoints.lab.options]
temperature = 0
[endpoints.open]
base_url = "http://10.0.0.7:8000/v1"
[aliases]
fast = "groq/llama-3.3-70b-versatile"
small = "local"
mine = "lab"
"""


@pytest.fixture(autouse=True)
def configure(tmp_path, monkeypatch):
    """Writes the user's tokenstream.toml; without a call there is none."""
    path = tmp_path / "tokenstream.toml"
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(path))
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return path.write_text


def found(model=None, **more):
    endpoint, name = resolve(model, environment=ENVIRONMENT, **more)
    return endpoint.name, name


def refused(kind, *arguments, **more):
    """The words of the error that resolve raises, one line with a hint, which repeat no key."""
    with pytest.raises(kind) as caught:
        resolve(*arguments, **{"environment": ENVIRONMENT} | more)
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "endpoint", "name"),
    [
        (None, "local", "SmolLM2-135M-Instruct"),
        ("local", "local", "SmolLM2-135M-Instruct"),
        ("mock/other", "mock", "other"),
        ("openai/gpt-x", "openai", "gpt-x"),
        ("openai:gpt-x", "openai", "gpt-x"),
        ("ollama/qwen3:0.6b", "ollama", "qwen3:0.6b"),
        ("ollama:library/qwen3", "ollama", "library/qwen3"),
        ("openrouter/meta-llama/llama-3:free", "openrouter", "meta-llama/llama-3:free"),
    ],
)
def test_a_model_is_named_behind_its_endpoint(model, endpoint, name):
    assert found(model) == (endpoint, name)


def test_aliases_and_the_users_endpoints_come_from_the_configuration(configure):
    configure(LAB)
    assert found("fast") == ("groq", "llama-3.3-70b-versatile")
    assert found("small") == ("local", "SmolLM2-135M-Instruct")
    assert found("mine") == found("lab") == ("lab", "lab-1")
    assert found("lab/lab-2") == ("lab", "lab-2")
    endpoint, _ = resolve("lab", environment=ENVIRONMENT)
    assert (endpoint.base_url, endpoint.body, endpoint.key.reveal()) == ("https://llm.example.org/v1", {"temperature": 0}, KEY)


def test_the_users_endpoint_comes_before_the_built_in_one_of_its_name(configure):
    configure('[endpoints.openai]\nbase_url = "http://localhost:9/v1"\nmodel = "m"')
    endpoint, _ = resolve("openai", environment=ENVIRONMENT)
    assert (endpoint.base_url, endpoint.key) == ("http://localhost:9/v1", None)
    assert endpoints()["openai"].base_url == "http://localhost:9/v1"
    assert set(BUILT_IN) <= set(endpoints())


def test_a_changed_configuration_is_read_again(configure):
    configure('[aliases]\nfast = "mock/a"')
    assert found("fast")[1] == "a"
    configure('[aliases]\nfast = "mock/b"')
    os.utime(config_path(), ns=(1, 1))
    assert found("fast")[1] == "b"


def test_without_a_file_nothing_is_configured():
    assert (configuration().endpoints, configuration().aliases) == ({}, {})


def test_an_unknown_model_suggests_the_nearest_endpoint(configure):
    assert "Did you mean openai?" in refused(BadRequest, "opnai/gpt-x")
    configure(LAB)
    assert "Did you mean fast?" in refused(BadRequest, "fsat")
    message = refused(BadRequest, "zzzz")
    assert "Did you mean" not in message
    assert "There is no model 'zzzz'." in message


@pytest.mark.parametrize("model", ["openai", "openai/", "openai:", "ollama"])
def test_an_endpoint_without_a_default_needs_the_name_of_a_model(model):
    assert f"{model.rstrip('/:')}/MODEL" in refused(BadRequest, model)


def test_an_unknown_protocol_is_refused():
    assert "openai-chat" in refused(BadRequest, "local", protocol="smoke-signals")


# an address on the line


def test_an_address_on_the_line_gets_no_key_unasked():
    for base_url in ("https://llm.example.org/v1", "https://api.openai.com/v1", "http://localhost:8080/v1"):
        endpoint, name = resolve("m", base_url=base_url, environment=ENVIRONMENT)
        assert (endpoint.base_url, endpoint.key, name) == (base_url, None, "m")


def test_an_address_the_user_configured_gets_its_key(configure):
    configure(LAB)
    endpoint, _ = resolve("m", base_url="https://LLM.example.org:443/other", environment=ENVIRONMENT)
    assert endpoint.key.reveal() == KEY


def test_a_key_goes_to_the_origin_it_belongs_to():
    endpoint, _ = resolve("m", base_url="https://API.openai.com:443/v1", api_key_env="OPENAI_API_KEY", environment=ENVIRONMENT)
    assert endpoint.key.reveal() == KEY


@pytest.mark.parametrize(
    "base_url",
    [
        *(
            "https://evil.example/v1",
            "https://api.openai.com.evil/v1",
            "https://api.openai.com@evil.example/v1",
            "https://evil-api.openai.com/v1",
        ),
        *("https://api.openai.com:8443/v1", "https://api.openai.com:0/v1", "https://api.openai.com./v1", "https://openai.com/v1"),
        *("http://api.openai.com/v1", "https://api.openai.com:80/v1", "https://xn--pi-8ia.openai.com/v1", "https://\uff41pi.openai.com/v1"),
        *(
            "https://api.openai.com\\.evil.example/v1",
            "https://api.openai.com%2eevil.example/v1",
            "https://api.openai.com:443@evil.example/v1",
        ),
        *(
            "https://user:pass@api.openai.com/v1",
            "http://localhost:8080/v1",
            "http://127.0.0.1/v1",
            "https://api.groq.com/v1",
            "https://[::1]/v1",
        ),
    ],
)
def test_a_key_is_refused_to_every_other_origin(base_url):
    refused((BadRequest, KeyRefused), "m", base_url=base_url, api_key_env="OPENAI_API_KEY")


def test_the_refusal_names_where_the_key_belongs():
    message = refused(KeyRefused, "m", base_url="https://evil.example/v1", api_key_env="OPENAI_API_KEY")
    assert "belongs to https://api.openai.com" in message
    assert "not sent to https://evil.example" in message


def test_a_key_nobody_configured_goes_to_this_machine_only():
    endpoint, _ = resolve("m", base_url="http://localhost:8080/v1", api_key_env="LAB_KEY", environment=ENVIRONMENT)
    assert endpoint.key.reveal() == KEY
    for base_url in ("https://llm.example.org/v1", "http://localhost.evil.example/v1", "http://127.0.0.1.evil.example/v1"):
        assert "LAB_KEY" in refused(KeyRefused, "m", base_url=base_url, api_key_env="LAB_KEY")


def test_a_built_in_endpoint_does_not_take_the_key_of_another():
    refused(KeyRefused, "openai/gpt-x", api_key_env="GROQ_API_KEY")


def test_a_named_key_is_found_among_several_endpoints_of_one_origin(configure):
    configure(
        '[endpoints.a]\nbase_url = "https://llm.example.org/v1"\n'
        '[endpoints.b]\nbase_url = "https://llm.example.org/v1"\napi_key_env = "LAB_KEY"'
    )
    endpoint, _ = resolve("m", base_url="https://llm.example.org/v1", api_key_env="LAB_KEY", environment=ENVIRONMENT)
    assert endpoint.key is not None


@pytest.mark.parametrize("where", [{"model": "openai/gpt-x"}, {"model": "m", "base_url": "http://localhost:1/v1"}, {"model": "local"}])
@pytest.mark.parametrize("literal", [KEY, "gsk_abc123secret", "sk-ant-api03-X_y", "AIzaSyExample"])
def test_a_literal_key_is_refused_and_not_repeated(where, literal):
    with pytest.raises(KeyRefused) as caught:
        resolve(**where, api_key_env=literal, environment=ENVIRONMENT)
    assert literal not in "".join(traceback.format_exception_only(caught.value)) + caught.value.hint + repr(caught.value.args)


@pytest.mark.parametrize("field", ["api_key", "api_key_env"])
def test_a_literal_key_in_the_configuration_is_refused_and_not_repeated(configure, field):
    configure(f'[endpoints.lab]\nbase_url = "https://llm.example.org/v1"\nmodel = "m"\n{field} = "{KEY}"')
    refused((BadRequest, KeyRefused), "lab")


@pytest.mark.parametrize("base_url", ["http://llm.example.org/v1", "http://10.0.0.7:8000/v1", "http://localhost.example.org/v1"])
def test_a_key_is_not_sent_unencrypted_to_another_machine(configure, base_url):
    configure(f'[endpoints.lab]\nbase_url = "{base_url}"\napi_key_env = "LAB_KEY"')
    assert "https://" in refused(KeyRefused, "lab/m")


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_a_key_may_go_unencrypted_to_this_machine(configure, host):
    configure(f'[endpoints.here]\nbase_url = "http://{host}/v1"\napi_key_env = "LAB_KEY"')
    assert resolve("here/m", environment=ENVIRONMENT)[0].key.reveal() == KEY


@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}])
def test_a_missing_key_is_named_by_its_variable(environment):
    message = refused(BadRequest, "openai/gpt-x", environment=environment)
    assert "OPENAI_API_KEY is not set" in message


def test_a_key_is_taken_without_the_white_space_around_it():
    assert resolve("openai/m", environment={"OPENAI_API_KEY": f" {KEY}\n"})[0].key.reveal() == KEY


def test_has_key_tells_whether_the_variable_is_set(monkeypatch):
    assert has_key(BUILT_IN["local"])
    assert not has_key(BUILT_IN["openai"])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert has_key(BUILT_IN["openai"])
