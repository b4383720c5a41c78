"""Where a model is served and how it is spoken to: the Endpoint, the built-in ones, and what an address may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from tokenstream_magic.errors import BadRequest, KeyRefused
from tokenstream_magic.keys import Secret
from tokenstream_magic.wire.protocols import PROTOCOLS as _SPOKEN

PROTOCOLS = tuple(_SPOKEN)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LOCAL_ORIGIN = "http://local"

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PREFIXES = {"authorization": "Bearer "}  # what stands before the key in a header; in every other the key stands alone
_TAKEN = frozenset("accept accept-encoding cache-control connection content-length content-type cookie host transfer-encoding".split())
_DATED = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_DEPLOYMENT = re.compile(r"/deployments/[^/]+$")


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served and how it is spoken to.

    ``body`` is sent with every request, below the user's own options. ``renamed``: by protocol, request fields
    that have another name here. ``key_header`` carries the key where it is not the protocol's own header. ``socket`` is a Unix socket
    path that takes the place of the host in ``base_url``. ``starts`` names what must run first: ``local``, ``mock`` or
    nothing; ``replay`` is a transcript that is played and asks nobody.

    A ``base_url`` may hold ``{model}``, and ``api_version`` goes into the query. An endpoint without an address of its
    own takes it from the variable ``base_url_env``; ``path``, or ``dated_path`` when the API's version is a date, is
    what such an address goes on with.

    ``proxy`` is the URL of an HTTP proxy, perhaps with a password in it ("": none, whatever is configured for all).
    ``think_tags``: ``tagged`` takes a text between ``<think>`` tags as reasoning, ``open`` also one that begins inside.
    ``frame_limit``: bytes of one frame. ``resumable``: answers are asked for that go on when the connection is gone.
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
    key_header: str | None = None
    key_source: str = ""
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    api_version: str | None = None
    base_url_env: str | None = None
    path: str = ""
    dated_path: str = ""
    proxy: str | None = field(default=None, repr=False)
    frame_limit: int | None = None
    think_tags: str | None = None
    resumable: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a key is bound to."""
        return origin_of(self.base_url)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return bool(self.starts or self.socket) or urlsplit(self.base_url).hostname in LOOPBACK

    def at(self, address: str, api_version: str | None = None) -> Endpoint:
        """This endpoint at ``address``, completed by its own path when the address has none."""
        url = check_base_url(address)
        parts = urlsplit(url)
        if self.path and (not parts.path or self.path.startswith(parts.path + "/")):
            dated = self.dated_path and _DATED.fullmatch(api_version or "")
            url = f"{parts.scheme}://{parts.netloc}{self.dated_path if dated else self.path}"
        return replace(self, base_url=url, api_version=api_version)

    def url(self, path: str, model: str | None = None) -> str:
        """The address of ``path``; without a model that of something common to all its models."""
        base = self.base_url.replace("{model}", quote(model, safe="")) if model is not None else _DEPLOYMENT.sub("", self.base_url)
        version = f"{'&' if '?' in path else '?'}api-version={quote(self.api_version)}" if self.api_version else ""
        return base + path + version

    def authorization(self) -> dict[str, str]:
        """The header that carries the key; none without a key."""
        if self.key is None:
            return {}
        if self.key_header is None:
            return _SPOKEN[self.protocol].authorization(self.key.reveal())
        return {self.key_header: _PREFIXES.get(self.key_header.lower(), "") + self.key.reveal()}

    def name_of(self, model: str) -> str:
        """What runs of a model are kept by: the endpoint's name alone where it is the one that is asked unless another is named."""
        return self.name if model == self.model else f"{self.name}/{model}"

    def fields(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The request's fields: what is always sent, then the user's ``options``, under this endpoint's names."""
        renamed = self.renamed.get(self.protocol, {})
        return {renamed.get(name, name): value for name, value in {**self.body, **options}.items()}


def _remote(name: str, base_url: str, api_key_env: str, **more: Any) -> Endpoint:
    return Endpoint(name, base_url=base_url, api_key_env=api_key_env, needs_key=True, **more)


def _here(name: str, base_url: str, advice: str, **more: Any) -> Endpoint:
    return Endpoint(name, base_url=base_url, advice=advice, **more)


# OpenAI's reasoning models refuse max_tokens; the new name is understood by all its models, but not by others' servers
_OPENAI = {"openai-chat": {"max_tokens": "max_completion_tokens"}}

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
        _remote("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", renamed=_OPENAI),
        _remote("openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY", protocol="openai-responses"),
        _remote(
            "azure",
            "",
            "AZURE_OPENAI_API_KEY",
            key_header="api-key",
            renamed=_OPENAI,
            base_url_env="AZURE_OPENAI_ENDPOINT",
            path="/openai/v1",
            dated_path="/openai/deployments/{model}",
        ),
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
        Endpoint("replay", base_url="http://replay", model="last", starts="replay"),
        _here("ollama", "http://localhost:11434/api", "Start it with: ollama serve", protocol="ollama"),
    )
}


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
            "A base URL carries no user, password or query.",
            "Write it without; a key goes into an environment variable, an API's version into api_version of tokenstream.toml.",
        )
    if parts.scheme not in ("http", "https") or not host or port == 0 or "{" in parts.netloc:
        raise BadRequest("The base URL is no http:// or https:// address.", example)
    return url.rstrip("/")


def check_protocol(name: str) -> str:
    """``name`` if it is a protocol we speak; raises BadRequest otherwise."""
    if name not in PROTOCOLS:
        raise BadRequest(f"There is no protocol {name!r}.", f"Known: {', '.join(PROTOCOLS)}.")
    return name


def check_key_header(name: str) -> str:
    """``name`` if a key may stand in a header of that name; raises BadRequest otherwise."""
    if not _HEADER.fullmatch(name) or name.lower() in _TAKEN:
        raise BadRequest("key_header is the name of the header that carries the key.", 'Example: "api-key".')
    return name


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling: lower case, default port left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")
