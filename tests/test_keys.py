"""Keys in the system keyring: filed by origin, second to the environment, never shown, never waited for long."""

from __future__ import annotations

import io
import sys
import threading
import time

import keyring
import keyring.backend
import keyring.errors
import pytest

from tokenstream_magic import catalog, cli, keys
from tokenstream_magic.errors import BadRequest

KEY = "sk-canary-0123456789"
OTHER = "sk-canary-9876543210"


class Memory(keyring.backend.KeyringBackend):
    """A keyring of this test's own."""

    priority = 1
    name = "Memory"

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service, username):
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        self.entries[service, username] = password

    def delete_password(self, service, username):
        del self.entries[service, username]


class Failing(Memory):
    """A keyring that answers everything with an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service, username):
        raise self.error


class Hanging(Memory):
    """A keyring that waits for somebody who does not come."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def get_password(self, service, username):
        self.release.wait(30)


@pytest.fixture
def use():
    """Makes a backend the system's, for one test."""
    before = keyring.get_keyring()
    yield lambda backend: keyring.set_keyring(backend) or backend
    keyring.set_keyring(before)


@pytest.fixture
def memory(use) -> Memory:
    return use(Memory())


def typed(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_key_is_kept_for_its_origin_and_used_there_only(memory, monkeypatch, capsys):
    typed(monkeypatch, f"{KEY}\n")
    assert cli.main(["key", "set", "openai"]) == 0
    assert memory.entries == {("tokenstream-magic", "https://api.openai.com"): KEY}
    for name in ("openai/m", "openai-responses/m"):  # one origin
        endpoint, _ = catalog.resolve(name, environment={})
        assert (endpoint.key.reveal(), endpoint.key_source) == (KEY, "keyring")
    with pytest.raises(BadRequest, match="GROQ_API_KEY is not set"):
        catalog.resolve("groq/m", environment={})
    assert catalog.resolve("m", base_url="https://api.openai.com/v1", environment={})[0].key is None
    assert cli.main(["key", "delete", "openai"]) == 0
    assert memory.entries == {}
    assert cli.main(["key", "delete", "openai"]) == 0
    assert KEY not in "".join(capsys.readouterr())


def test_a_key_does_not_follow_an_endpoint_to_another_origin(memory, monkeypatch):
    path = catalog.config_path()
    path.write_text('[endpoints.lab]\nbase_url = "https://one.example/v1"\napi_key_env = "LAB_KEY"\nmodel = "m"')
    typed(monkeypatch, KEY)
    assert cli.main(["key", "set", "lab"]) == 0
    assert catalog.resolve("lab", environment={})[0].key.reveal() == KEY
    path.write_text('[endpoints.lab]\nbase_url = "https://other.example/v1"\napi_key_env = "LAB_KEY"\nmodel = "m"')
    with pytest.raises(BadRequest, match="LAB_KEY is not set"):
        catalog.resolve("lab", environment={})


def test_the_environment_comes_first(memory, monkeypatch, capsys):
    memory.set_password(keys.SERVICE, "https://api.openai.com", OTHER)
    endpoint, _ = catalog.resolve("openai/m", environment={"OPENAI_API_KEY": KEY})
    assert (endpoint.key.reveal(), endpoint.key_source) == (KEY, "OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    typed(monkeypatch, OTHER)
    assert cli.main(["key", "set", "openai"]) == 0
    assert "OPENAI_API_KEY is set too, and comes first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (keyring.errors.KeyringLocked(KEY), "The system keyring is locked."),
        (keyring.errors.InitError(KEY), "The system keyring failed (InitError)."),
        (RuntimeError(KEY), "The system keyring failed (RuntimeError)."),
        (SystemExit(KEY), "The system keyring failed (SystemExit)."),
        (keyring.errors.NoKeyringError(), "openai needs a key and OPENAI_API_KEY is not set."),
    ],
)
def test_a_keyring_that_cannot_be_asked_is_said_in_a_line_that_repeats_nothing(use, error, said):
    use(Failing(error))
    with pytest.raises(BadRequest) as caught:
        catalog.resolve("openai/m", environment={})
    assert said in str(caught.value)
    assert "Set OPENAI_API_KEY" in caught.value.hint
    assert KEY not in str(caught.value)
    assert catalog.resolve("openai/m", environment={"OPENAI_API_KEY": KEY})[0].key is not None


def test_a_keyring_that_hangs_is_given_up_and_asked_again_when_it_came_back(use, monkeypatch):
    monkeypatch.setattr(keys, "PATIENCE", 0.2)
    hanging = use(Hanging())
    began = time.monotonic()
    with pytest.raises(keys.KeyringError, match=r"did not answer within 0.2 s"):
        keys.kept("https://api.openai.com", 0.2)
    with pytest.raises(keys.KeyringError, match="does not answer"):  # at once: there is no second question
        keys.kept("https://api.openai.com", 20)
    assert time.monotonic() - began < 5
    assert [t.name for t in threading.enumerate()].count("tokenstream-keyring") == 1
    waiting = keys._asking
    hanging.release.set()
    waiting.join(10)
    use(Memory()).set_password(keys.SERVICE, "https://api.openai.com", KEY)
    assert keys.kept("https://api.openai.com").reveal() == KEY


def test_what_the_keyring_holds_must_be_a_key(memory):
    memory.set_password(keys.SERVICE, "https://api.openai.com", f"{KEY}\nX-Evil: 1")
    with pytest.raises(BadRequest, match="What the keyring holds is no key") as caught:
        catalog.resolve("openai/m", environment={})
    assert KEY not in str(caught.value)


def test_without_the_package_the_environment_is_all_there_is(monkeypatch):
    monkeypatch.setattr(keys, "has_keyring", lambda: False)
    assert keys.kept("https://api.openai.com") is None
    assert catalog.resolve("openai/m", environment={"OPENAI_API_KEY": KEY})[0].key is not None
    with pytest.raises(keys.KeyringError, match=r"tokenstream-magic\[keyring\]"):
        keys.keep("https://api.openai.com", keys.Secret(KEY))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "openai", KEY], "never written on the command line"),
        (["set", "openai", f"--key={KEY}"], "never written on the command line"),
        (["set", f"--key={KEY}"], "no endpoint"),
        (["set", KEY], "no endpoint"),
        ([KEY], "takes set or delete"),
        (["set"], "takes set or delete"),
        (["set", "opnai"], "Did you mean openai?"),
        (["set", "ollama"], "set up without a key"),
        (["set", "azure"], "Set AZURE_OPENAI_ENDPOINT first"),
        (["set", "openai"], "no key on standard input"),
    ],
)
def test_wrong_use_says_what_is_right_and_keeps_nothing(memory, monkeypatch, capsys, words, said):
    typed(monkeypatch, "")
    assert cli.main(["key", *words]) in (2, 4)
    printed = "".join(capsys.readouterr())
    assert said in printed
    assert KEY not in printed
    assert memory.entries == {}


def test_without_a_keyring_nothing_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # it is not read
    assert cli.main(["key", "set", "openai"]) == 4
    assert "no keyring" in capsys.readouterr().err
