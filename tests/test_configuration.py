"""The files: what a user's may say, and that a project's names models and prompts and never where a key goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenstream_magic import catalog, configuration
from tokenstream_magic.errors import BadRequest

KEY = "sk-canary-0123456789"
EVIL = "https://evil.example/v1"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project under version control with a notebook's directory in it, where the kernel is; writes its file."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    (root / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(root / "notebooks" / "deep")

    def write(text: str, where: str = ".") -> Path:
        path = root / where / "tokenstream.toml"
        path.write_text(text)
        return path

    return write


def mine(text: str) -> None:
    catalog.config_path().write_text(text)


def found(model: str) -> tuple[str, str]:
    endpoint, name = catalog.resolve(model, environment={"GROQ_API_KEY": KEY, "OPENAI_API_KEY": KEY})
    return endpoint.name, name


def test_a_projects_aliases_and_prompts_are_known_below_the_users_own(project):
    path = project('[aliases]\nfast = "groq/llama"\nours = "mock/other"\n[prompts]\nhaiku = "A haiku about {topic}."\nboth = "theirs"\n')
    mine('[aliases]\nfast = "openai/gpt"\n[prompts.both]\nprompt = "mine"\nsystem = "s"\nmodel = "fast"\noptions = { temperature = 0 }\n')
    assert found("ours") == ("mock", "other")
    assert found("fast") == ("openai", "gpt")
    assert catalog.prompts() == {
        "haiku": {
            "prompt": "A haiku about {topic}.",
            "system": None,
            "model": None,
            "options": {},
            "source": str(path),
            "project": True,
        },
        "both": {
            "prompt": "mine",
            "system": "s",
            "model": "fast",
            "options": {"temperature": 0},
            "source": str(catalog.config_path()),
            "project": False,
        },
    }


def test_the_nearest_file_up_to_the_projects_root_counts(project, tmp_path, monkeypatch):
    (tmp_path / "tokenstream.toml").unlink(missing_ok=True)
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "none.toml"))
    (tmp_path / "tokenstream.toml").write_text('[aliases]\nabove = "mock/above"\n')  # outside of the project
    assert catalog.project_path() is None
    top = project('[aliases]\na = "mock/top"\n')
    assert catalog.project_path() == top
    near = project('[aliases]\na = "mock/near"\n', "notebooks")
    assert catalog.project_path() == near
    assert found("a") == ("mock", "near")


def test_outside_of_a_project_only_the_working_directory_counts(tmp_path, monkeypatch):
    outer, inner = tmp_path / "shared", tmp_path / "shared" / "work"
    inner.mkdir(parents=True)
    (outer / "tokenstream.toml").write_text('[aliases]\na = "mock/b"\n')
    monkeypatch.chdir(inner)
    assert catalog.project_path() is None
    monkeypatch.chdir(outer)
    assert catalog.project_path() == outer / "tokenstream.toml"


def test_the_users_own_file_is_not_also_the_projects(tmp_path, monkeypatch):
    mine('[endpoints.lab]\nbase_url = "https://llm.example/v1"\n')
    monkeypatch.chdir(tmp_path)
    assert catalog.project_path() is None
    assert catalog.configuration().problems == ()


def test_an_endpoint_in_a_project_is_left_out_and_said_once_with_where_it_belongs(project, caplog, monkeypatch):
    project(
        f'[endpoints.openai]\nbase_url = "{EVIL}"\napi_key_env = "OPENAI_API_KEY"\n'
        f'[endpoints.evil]\nbase_url = "{EVIL}"\napi_key_env = "OPENAI_API_KEY"\n[aliases]\nok = "mock/a"\n'
    )
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for _ in range(3):
        endpoint, _name = catalog.resolve("openai/m")
        assert endpoint.origin == "https://api.openai.com"
    with pytest.raises(BadRequest, match="There is no model"):
        catalog.resolve("evil/m")
    assert catalog.resolve("m", base_url=EVIL)[0].key is None
    (record,) = caplog.records
    assert str(catalog.config_path()) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert found("ok") == ("mock", "a")


@pytest.mark.parametrize(
    "aliases",
    [
        'local = "openrouter/m"',
        'openai = "groq/m"',
        'lab = "groq/m"',
        '"openai/gpt" = "groq/m"',
        f'a = "{EVIL}"',
        f'a = "openai/{EVIL}"',
        "a = 5",
        'a = ["local"]',
        '"a b" = "local"',
        'a = "local\\u202e"',
    ],
)
def test_a_projects_alias_stands_before_no_endpoint_and_is_no_address(project, aliases):
    mine('[endpoints.lab]\nbase_url = "https://llm.example/v1"\nmodel = "m"\n')
    before = {name: catalog.resolve(name)[0].origin for name in ("local", "lab")}
    project(f"[aliases]\n{aliases}\n")
    assert catalog.configuration().aliases == {}
    assert len(catalog.configuration().problems) == 1
    assert {name: catalog.resolve(name)[0].origin for name in ("local", "lab")} == before


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        *(f'api_key = "{KEY}"', f'Authorization = "Bearer {KEY}"', f'base_url = "{EVIL}"', 'api_key_env = "OPENAI_API_KEY"'),
        *(f'proxy = "{EVIL}"', 'model = "openai/gpt"', "messages = []", "stream = false", 'protocol = "gemini"'),
    ],
)
def test_a_prompt_carries_no_key_and_no_address(project, options, trusted):
    text = f'[prompts.p]\nprompt = "hi"\noptions = {{ {options} }}\n'
    if trusted:
        mine(text)
        with pytest.raises(Exception, match="no option of a prompt") as caught:
            catalog.prompts()
        said = str(caught.value)
    else:
        project(text)
        assert catalog.prompts() == {}
        (said,) = catalog.configuration().problems
    assert KEY not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "options",
    [f'tools = [{{ type = "mcp", server_url = "{EVIL}" }}]', "mcp_servers = []", f'own = {{ deep = [ {{ url = "{EVIL}" }} ] }}'],
)
def test_a_projects_prompt_has_the_provider_do_nothing_for_the_user(project, options):
    project(f'[prompts.p]\nprompt = "hi"\noptions = {{ {options} }}\n')
    assert catalog.prompts() == {}
    assert len(catalog.configuration().problems) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[prompts.p]\nsystem = 's'\n", "needs a prompt"),
        ("[prompts.p]\nprompt = 'a'\nkey = 'b'\n", "unknown key key"),
        ("[prompts.p]\nprompt = 'a'\nsystem = 5\n", "system is text"),
        ("prompts = 5\n", "a prompt is a table"),
    ],
)
def test_a_prompt_that_says_nonsense_is_an_error_of_the_users_file(text, said):
    mine(text)
    with pytest.raises(BadRequest, match=said):
        catalog.prompts()


@pytest.mark.parametrize("text", ["[aliases", "\0", "a = " + "[" * 5000, "#" * (1 << 20) + "\n"])
def test_a_projects_file_that_cannot_be_read_is_said_and_nothing_else_suffers(project, caplog, text):
    project(text)
    assert found("local")[0] == "local"
    assert "cannot be read" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


def test_a_pipe_in_the_place_of_a_file_holds_nobody(project, monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "pipe.toml"))
    with pytest.raises(BadRequest, match="it is no file"):
        catalog.configuration()
    os.mkfifo("tokenstream.toml")
    monkeypatch.setenv("TOKENSTREAM_CONFIG", str(tmp_path / "none.toml"))
    assert catalog.configuration().aliases == {}


def test_a_users_file_that_others_can_change_is_not_read():
    mine('[endpoints.lab]\nbase_url = "https://llm.example/v1"\napi_key_env = "LAB_KEY"\n')
    catalog.config_path().chmod(0o646)
    with pytest.raises(BadRequest, match="can be changed by other users"):
        catalog.resolve("local")
    catalog.config_path().chmod(0o644)
    assert "lab" in catalog.endpoints()
    if os.getuid() == 0:
        os.chown(catalog.config_path(), 65534, 65534)
        with pytest.raises(BadRequest, match="can be changed by other users"):
            catalog.resolve("local")


def test_an_alias_that_leads_nowhere_names_its_file(project):
    path = project('[aliases]\na = "opnai/x"\n')
    with pytest.raises(BadRequest) as caught:
        catalog.resolve("a")
    assert str(path) in str(caught.value)
    assert "Did you mean openai?" in str(caught.value)


def test_a_changed_project_file_is_read_again(project):
    path = project('[aliases]\na = "mock/one"\n')
    assert found("a") == ("mock", "one")
    path.write_text('[aliases]\na = "mock/three"\n')
    assert found("a") == ("mock", "three")
    path.unlink()
    assert configuration.configuration().aliases == {}
