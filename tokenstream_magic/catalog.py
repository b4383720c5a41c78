"""``endpoint/model`` to Endpoint: the built-in table, the user's ``tokenstream.toml``, the environment.

A key is bound to the origin it was configured for and is never sent anywhere else. A cell may name a ``--base-url``,
but a key goes there only if the user's own configuration, which no notebook carries, says so.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tokenstream_magic.errors import MASK, BadRequest, KeyRefused

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

PROTOCOLS = ("openai-chat", "openai-responses", "anthropic", "gemini", "ollama")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_MODEL = "local"
LOCAL_ORIGIN = "http://local"

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_KNOWN_KEYS: dict[str, type] = {"protocol": str, "base_url": str, "api_key_env": str, "model": str, "options": dict}


class Secret:
    """A key that shows itself nowhere: every rendering is a mask, and only ``reveal`` gives the text."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> Any:
        raise TypeError("a key is not pickled")


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served and how it is spoken to.

    ``body`` is sent with every request, below the user's own options. ``socket`` is a Unix socket path that takes
    the place of the host in ``base_url``. ``starts`` names what must run first: ``local``, ``mock`` or nothing.
    """

    name: str
    protocol: str = "openai-chat"
    base_url: str = ""
    api_key_env: str | None = None
    needs_key: bool = False
    model: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    socket: str | None = None
    starts: str | None = None
    key: Secret | None = None
    advice: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a key is bound to."""
        return origin_of(self.base_url)


def _remote(name: str, base_url: str, api_key_env: str, **more: Any) -> Endpoint:
    return Endpoint(name, base_url=base_url, api_key_env=api_key_env, needs_key=True, **more)


def _here(name: str, base_url: str, advice: str, **more: Any) -> Endpoint:
    return Endpoint(name, base_url=base_url, advice=advice, **more)


BUILT_IN = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(
            "local",
            base_url=LOCAL_ORIGIN + "/v1",
            model="SmolLM2-135M-Instruct",
            # a cached prefix changes the batch shapes and with them the last bits of the logits: without the cache
            # a seed gives the same words every time
            body={"cache_prompt": False, "max_tokens": 1024},  # so small a model rambles when it is let
            starts="local",
        ),
        _remote("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        _remote("openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY", protocol="openai-responses"),
        _remote("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", protocol="anthropic"),
        _remote("gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", protocol="gemini"),
        _remote("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        _remote("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        _remote("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        _remote("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
        _remote("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
        _remote("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        _here("llamacpp", "http://localhost:8080/v1", "Start it with: llama-server -m MODEL.gguf"),
        _here("vllm", "http://localhost:8000/v1", "Start it with: vllm serve MODEL"),
        _here("lmstudio", "http://localhost:1234/v1", "Start the server in LM Studio's Developer tab."),
        Endpoint("mock", base_url="http://mock/v1", model="story", starts="mock"),
        _here("ollama", "http://localhost:11434/api", "Start it with: ollama serve", protocol="ollama"),
    )
}


@dataclass(frozen=True)
class Configuration:
    """The user's own endpoints and aliases."""

    endpoints: Mapping[str, Endpoint]
    aliases: Mapping[str, str]


def config_path() -> Path:
    """Where the user's ``tokenstream.toml`` is looked for; ``TOKENSTREAM_CONFIG`` names another file."""
    named = os.environ.get("TOKENSTREAM_CONFIG")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("tokenstream-magic", appauthor=False) / "tokenstream.toml"


def configuration() -> Configuration:
    """The user's configuration, read again only when the file changed. Raises BadRequest on a file that says nonsense."""
    path = config_path()
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return Configuration({}, {})
    return _read(path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Configuration:  # noqa: ARG001 - part of the key: a changed file is read again
    try:
        with path.open("rb") as file:
            loaded = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise BadRequest(f"{path} cannot be read: {error}.") from None
    for table in loaded:
        if table not in ("endpoints", "aliases"):
            raise BadRequest(f"{path}: there is no table [{table}].", "Known: endpoints, aliases.")
    tables, aliases = loaded.get("endpoints", {}), loaded.get("aliases", {})
    if not isinstance(tables, dict):
        raise BadRequest(f"{path}: an endpoint is a table.", "Example: [endpoints.lab].")
    if not isinstance(aliases, dict) or not all(isinstance(target, str) for target in aliases.values()):
        raise BadRequest(f"{path}: an alias is a name for one model, written as text.", 'Example: [aliases] fast = "local".')
    endpoints = {name: _endpoint_of(path, name, table) for name, table in tables.items()}
    return Configuration(endpoints, aliases)


def _endpoint_of(path: Path, name: str, table: Any) -> Endpoint:
    where = f"{path}: [endpoints.{name}]"
    if not isinstance(table, dict) or not isinstance(table.get("base_url"), str):
        raise BadRequest(f'{where} needs a base_url, for example base_url = "https://llm.example.org/v1".')
    for key, value in table.items():
        if key == "api_key":
            raise BadRequest(f"{where} holds a literal key.", 'Put it in an environment variable: api_key_env = "NAME".')
        if key not in _KNOWN_KEYS:
            raise BadRequest(f"{where} has an unknown key {key!r}.", f"Known: {', '.join(sorted(_KNOWN_KEYS))}.")
        if not isinstance(value, _KNOWN_KEYS[key]):
            raise BadRequest(f"{where}: {key} is {'a table' if key == 'options' else 'text'}.")
    variable = table.get("api_key_env")
    if variable is not None and not _VARIABLE.fullmatch(variable):  # perhaps a key: it is not repeated
        raise BadRequest(f"{where}: api_key_env is the name of an environment variable, not a key.", 'Example: "LAB_KEY".')
    try:
        protocol, base_url = check_protocol(table.get("protocol", "openai-chat")), check_base_url(table["base_url"])
    except (BadRequest, KeyRefused) as error:
        raise BadRequest(f"{where}: {error.message}", error.hint) from None
    return Endpoint(
        name,
        protocol=protocol,
        base_url=base_url,
        api_key_env=variable,
        needs_key=variable is not None,
        model=table.get("model"),
        body=table.get("options", {}),
    )


def resolve(
    model: str | None = None,
    *,
    base_url: str | None = None,
    protocol: str | None = None,
    api_key_env: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Endpoint, str]:
    """The endpoint and the name of the model on it, for what the user named.

    ``model`` is ``endpoint/model``, ``endpoint:model``, an endpoint with a default model, or an alias; with
    ``base_url`` it is the model's name at that address. Raises BadRequest or KeyRefused, which say what to do.
    """
    known = configuration()
    environment = os.environ if environment is None else environment
    alias, model = model, known.aliases.get(model or "", model) or DEFAULT_MODEL
    if base_url:
        endpoint = _on_the_line(base_url, protocol, api_key_env, known)
        name = model if model != DEFAULT_MODEL else "default"
    else:
        try:
            endpoint, name = _named(model, known)
        except BadRequest as error:
            if alias in known.aliases:
                raise BadRequest(f"The alias {alias!r} in {config_path()} leads nowhere: {error.message}", error.hint) from None
            raise
        if protocol:
            endpoint = replace(endpoint, protocol=check_protocol(protocol))
        if api_key_env:
            endpoint = _with_key_variable(endpoint, api_key_env, known)
    return with_key(endpoint, environment), name


def endpoints() -> dict[str, Endpoint]:
    """All endpoints by name, the user's before the built-in ones."""
    return {**BUILT_IN, **configuration().endpoints}


def has_key(endpoint: Endpoint) -> bool:
    """Whether the endpoint needs no key or its variable is set."""
    return not endpoint.needs_key or bool(os.environ.get(endpoint.api_key_env or ""))


def _named(model: str, known: Configuration) -> tuple[Endpoint, str]:
    table = {**BUILT_IN, **known.endpoints}
    for separator in ("/", ":"):
        head, found, rest = model.partition(separator)
        if head in table and (found or separator == ":"):
            endpoint = table[head]
            name = rest or endpoint.model
            if endpoint.starts == "local" and name != endpoint.model:
                raise BadRequest(f"{head} has one model, {endpoint.model}.", "Write local; %stream models lists other endpoints.")
            if not name:
                raise BadRequest(f"{head} needs the name of a model.", f"Write it behind a slash: {head}/MODEL.")
            return endpoint, name
    if "://" in model:
        raise BadRequest("That is an address and not a model.", "Write the model's name, and the address behind --base-url.")
    close = get_close_matches(model.split("/", maxsplit=1)[0], [*table, *known.aliases], n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    raise BadRequest(
        f"There is no model {model!r}.",
        f"{meant}Write endpoint/model, for example local or openai/MODEL; %stream models lists the endpoints.",
    )


def _on_the_line(base_url: str, protocol: str | None, api_key_env: str | None, known: Configuration) -> Endpoint:
    """An endpoint a cell names by its address; without a variable it gets the key the user configured for that origin."""
    url = check_base_url(base_url)
    endpoint = Endpoint(urlsplit(url).hostname or url, protocol=check_protocol(protocol or "openai-chat"), base_url=url)
    if api_key_env:
        return _with_key_variable(endpoint, api_key_env, known)
    here = [configured for configured in known.endpoints.values() if configured.origin == endpoint.origin and configured.api_key_env]
    return replace(endpoint, api_key_env=here[0].api_key_env, needs_key=True) if here else endpoint


def _with_key_variable(endpoint: Endpoint, variable: str, known: Configuration) -> Endpoint:
    """``endpoint`` with the key of an environment variable a cell named, if that key may go there."""
    bound = {e.origin for e in (*BUILT_IN.values(), *known.endpoints.values()) if e.api_key_env == variable}
    if not _VARIABLE.fullmatch(variable) and variable not in os.environ:  # perhaps a key: it is not repeated
        raise KeyRefused("--api-key-env takes the name of an environment variable, not a key.", "Example: --api-key-env OPENAI_API_KEY.")
    host = urlsplit(endpoint.base_url).hostname or ""
    allowed = endpoint.origin in bound or (not bound and host in LOOPBACK)
    if not allowed:
        belongs = f"belongs to {', '.join(sorted(bound))}" if bound else f"is not configured for {endpoint.origin}"
        raise KeyRefused(
            f"The key in {variable} {belongs} and is not sent to {endpoint.origin}.",
            f'If you mean it, add to {config_path()}: [endpoints.NAME] base_url = "{endpoint.base_url}" api_key_env = "{variable}".',
        )
    return replace(endpoint, api_key_env=variable, needs_key=True)


def with_key(endpoint: Endpoint, environment: Mapping[str, str] | None = None) -> Endpoint:
    """``endpoint`` with its key, if it has one. Raises BadRequest or KeyRefused when it cannot be had or sent."""
    environment = os.environ if environment is None else environment
    if not endpoint.api_key_env:
        return endpoint
    key = environment.get(endpoint.api_key_env, "").strip()
    if not key:
        raise BadRequest(
            f"{endpoint.name} needs a key and {endpoint.api_key_env} is not set.",
            f"Set the environment variable {endpoint.api_key_env} before you start Jupyter, or use -m local.",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadRequest(
            f"What {endpoint.api_key_env} holds is no key: it has characters that no key has.", "Set it again, without line breaks."
        )
    parts = urlsplit(endpoint.base_url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise KeyRefused(f"{endpoint.origin} is not encrypted: the key is not sent there.", "Use an https:// address.")
    return replace(endpoint, key=Secret(key))


def check_base_url(url: str) -> str:
    """``url`` without a trailing slash. Raises BadRequest unless it is a plain http(s) address without a key in it.

    What is refused is not repeated: it may hold a key.
    """
    example = "Example: http://localhost:8080/v1."
    url = url.strip()
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadRequest("The base URL holds characters that belong in no address.", example)
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise BadRequest("The host or port of the base URL is wrong.", example) from None
    if parts.username or parts.password or parts.query or parts.fragment or "@" in parts.netloc or "?" in url:
        raise KeyRefused(
            "A base URL carries no user, password or query.", "Put a key in an environment variable and name it: --api-key-env NAME."
        )
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise BadRequest("The base URL is no http:// or https:// address.", example)
    return url.rstrip("/")


def check_protocol(name: str) -> str:
    """``name`` if it is a protocol we speak; raises BadRequest otherwise."""
    if name not in PROTOCOLS:
        raise BadRequest(f"There is no protocol {name!r}.", f"Known: {', '.join(PROTOCOLS)}.")
    return name


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling: lower case, default port left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")
