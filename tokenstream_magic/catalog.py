"""``endpoint/model`` to Endpoint: the built-in table, the user's ``tokenstream.toml``, the environment, the keyring.

A key is bound to the origin it was configured for and is never sent anywhere else. A cell may name a ``--base-url``,
but a key goes there only if the user's own configuration, which no notebook carries, says so.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from tokenstream_magic import keys
from tokenstream_magic.configuration import Configuration, config_path, configuration, project_path
from tokenstream_magic.endpoint import (
    BUILT_IN,
    LOCAL_ORIGIN,
    LOOPBACK,
    PROTOCOLS,
    Endpoint,
    check_base_url,
    check_protocol,
    origin_of,
)
from tokenstream_magic.errors import BadRequest, KeyRefused, TokenstreamError
from tokenstream_magic.keys import Secret
from tokenstream_magic.redaction import Redactor, remembered

__all__ = [
    "BUILT_IN",
    "DEFAULT_MODEL",
    "LOCAL_ORIGIN",
    "LOOPBACK",
    "PROTOCOLS",
    "Configuration",
    "Endpoint",
    "Secret",
    "check_base_url",
    "check_protocol",
    "config_path",
    "configuration",
    "endpoints",
    "has_key",
    "named",
    "origin_of",
    "project_path",
    "prompts",
    "replayed",
    "resolve",
    "with_key",
]

DEFAULT_MODEL = "local"

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


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
    table = endpoints(environment)
    if base_url:
        endpoint, name = _on_the_line(base_url, protocol, api_key_env, table), model or "default"
    else:
        alias, model = model or "", known.aliases.get(model or "", model) or DEFAULT_MODEL
        try:
            endpoint, name = _named(model, table, known)
        except BadRequest as error:
            if alias in known.aliases:
                raise BadRequest(f"The alias {alias!r} in {known.said_in[alias]} leads nowhere: {error.message}", error.hint) from None
            raise
        if protocol:
            endpoint = replace(endpoint, protocol=check_protocol(protocol))
        if api_key_env:
            endpoint = _with_key_variable(endpoint, api_key_env, table)
    return with_key(_through(endpoint, known.proxy), environment), name


def replayed(model: str | None) -> str | None:
    """The id of the transcript that ``replay/ID`` means, an alias of it included; None for every other model."""
    known = configuration()
    model = known.aliases.get(model or "", model) or ""
    for separator in ("/", ":"):
        head, _, rest = model.partition(separator)
        if head == "replay" and "replay" not in known.endpoints:
            return rest or "last"
    return None


def endpoints(environment: Mapping[str, str] | None = None) -> dict[str, Endpoint]:
    """All endpoints by name, the user's before the built-in ones, and with addresses that the environment gives."""
    environment = os.environ if environment is None else environment
    known = configuration()
    return {name: _through(_completed(endpoint, environment), known.proxy) for name, endpoint in {**BUILT_IN, **known.endpoints}.items()}


def named(name: str) -> Endpoint:
    """The endpoint of that name, without its key. Raises BadRequest when there is none."""
    table = endpoints()
    if name not in table:
        close = get_close_matches(name, table, n=1)
        meant = f"Did you mean {close[0]}? " if close else ""
        # the name is not repeated: who keeps a key may have written it there
        raise BadRequest("There is no endpoint of that name.", f"{meant}%stream models lists them.")
    return table[name]


def prompts() -> dict[str, dict[str, Any]]:
    """The user's prompts by name, and the project's below them.

    Each has ``prompt``, ``system``, ``model`` (None when not said), ``options`` (request fields), ``source`` (the file that
    says so) and ``project`` (whether that is a project's).
    """
    return {name: dict(prompt) for name, prompt in configuration().prompts.items()}


def has_key(endpoint: Endpoint, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the endpoint needs no key, or its variable is set, or the keyring has its key."""
    try:
        return not endpoint.needs_key or with_key(endpoint, environment).key is not None
    except TokenstreamError:
        return False


def keys_in_use(endpoint: Endpoint | None = None) -> list[str]:
    """The keys that must be written nowhere: of ``endpoint``, of this process's runs so far, and in the variables that endpoints name."""
    found = [*([endpoint.key.reveal()] if endpoint is not None and endpoint.key is not None else []), *remembered()]
    with contextlib.suppress(TokenstreamError):  # a broken configuration is told by what asks for a model
        found += filter(None, (os.environ.get(each.api_key_env or "") for each in endpoints().values()))
    return found


def redactor(endpoint: Endpoint | None = None) -> Redactor:
    """What masks in all that is shown, kept and taken out: the keys in use, and what looks like one unless the user's file says not to."""
    patterns = True
    with contextlib.suppress(TokenstreamError):
        patterns = configuration().mask_patterns
    return Redactor(keys_in_use(endpoint), patterns=patterns)


def _through(endpoint: Endpoint, proxy: str | None) -> Endpoint:
    """``endpoint`` with the proxy the user configured for all, if it names none of its own and is not on this machine."""
    return endpoint if endpoint.proxy is not None or endpoint.is_here else replace(endpoint, proxy=proxy)


def _completed(endpoint: Endpoint, environment: Mapping[str, str]) -> Endpoint:
    """``endpoint`` with the address its variable gives; as it is, with a word of advice, when it gives none."""
    if endpoint.base_url or not endpoint.base_url_env:
        return endpoint
    address = environment.get(endpoint.base_url_env, "")
    if not address.strip():
        return endpoint
    try:
        return endpoint.at(address, environment.get("OPENAI_API_VERSION") or None)
    except TokenstreamError as error:
        return replace(endpoint, advice=f"{endpoint.base_url_env}: {error}")


def _named(model: str, table: Mapping[str, Endpoint], known: Configuration) -> tuple[Endpoint, str]:
    for separator in ("/", ":"):
        head, found, rest = model.partition(separator)
        if head in table and (found or separator == ":"):
            endpoint = table[head]
            name = rest or endpoint.model
            if endpoint.starts == "local" and name != endpoint.model:
                raise BadRequest(f"{head} has one model, {endpoint.model}.", "Write local; %stream models lists other endpoints.")
            if not name:
                raise BadRequest(f"{head} needs the name of a model.", f"Write it behind a slash: {head}/MODEL.")
            if not endpoint.base_url:
                raise _no_address(endpoint)
            return endpoint, name
    if "://" in model:
        raise BadRequest("That is an address and not a model.", "Write the model's name, and the address behind --base-url.")
    close = get_close_matches(model.split("/", maxsplit=1)[0], [*table, *known.aliases], n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    raise BadRequest(
        f"There is no model {model!r}.",
        f"{meant}Write endpoint/model, for example local or openai/MODEL; %stream models lists the endpoints.",
    )


def _no_address(endpoint: Endpoint) -> BadRequest:
    variable = endpoint.base_url_env
    wrong = endpoint.advice or f"{endpoint.name} needs an address and {variable} is not set."
    return BadRequest(
        wrong,
        f"Set {variable} to https://RESOURCE.openai.azure.com and {endpoint.api_key_env} to its key, or write into {config_path()}: "
        f'[endpoints.{endpoint.name}] base_url = "https://RESOURCE.openai.azure.com".',
    )


def _on_the_line(base_url: str, protocol: str | None, api_key_env: str | None, table: Mapping[str, Endpoint]) -> Endpoint:
    """An endpoint a cell names by its address; without a variable it gets the key the user configured for that origin."""
    url = check_base_url(base_url)
    endpoint = Endpoint(urlsplit(url).hostname or url, protocol=check_protocol(protocol or "openai-chat"), base_url=url)
    if api_key_env:
        return _with_key_variable(endpoint, api_key_env, table)
    configured = configuration().endpoints.values()
    here = [mine for mine in configured if mine.base_url and mine.origin == endpoint.origin and mine.api_key_env]
    return _keyed_like(endpoint, here[0], here[0].api_key_env) if here else endpoint


def _with_key_variable(endpoint: Endpoint, variable: str, table: Mapping[str, Endpoint]) -> Endpoint:
    """``endpoint`` with the key of an environment variable a cell named, if that key may go there."""
    # also what a user's endpoint of the same name stands before: its key has not changed hands
    owners = [e for e in (*BUILT_IN.values(), *table.values()) if e.api_key_env == variable]
    if not _VARIABLE.fullmatch(variable) and variable not in os.environ:  # perhaps a key: it is not repeated
        raise KeyRefused("--api-key-env takes the name of an environment variable, not a key.", "Example: --api-key-env OPENAI_API_KEY.")
    here = [owner for owner in owners if owner.base_url and owner.origin == endpoint.origin]
    if here:
        return _keyed_like(endpoint, here[0], variable)
    if owners or urlsplit(endpoint.base_url).hostname not in LOOPBACK:
        bound = {owner.origin if owner.base_url else owner.name for owner in owners}
        belongs = f"belongs to {', '.join(sorted(bound))}" if bound else f"is not configured for {endpoint.origin}"
        raise KeyRefused(
            f"The key in {variable} {belongs} and is not sent to {endpoint.origin}.",
            f'If you mean it, add to {config_path()}: [endpoints.NAME] base_url = "{endpoint.base_url}" api_key_env = "{variable}".',
        )
    return replace(endpoint, api_key_env=variable, needs_key=True)


def _keyed_like(endpoint: Endpoint, owner: Endpoint, variable: str | None) -> Endpoint:
    """``endpoint`` with the key of one at the same origin, in the header and under the API version used there."""
    header = endpoint.key_header or owner.key_header
    version = endpoint.api_version or owner.api_version
    return replace(endpoint, api_key_env=variable, needs_key=True, key_header=header, api_version=version)


def with_key(endpoint: Endpoint, environment: Mapping[str, str] | None = None, patience: float = keys.PATIENCE) -> Endpoint:
    """``endpoint`` with its key, if it has one: from its environment variable, or else from the system keyring.

    Raises BadRequest or KeyRefused when the key cannot be had or sent; the keyring is waited for ``patience`` seconds.
    """
    environment = os.environ if environment is None else environment
    variable = endpoint.api_key_env
    if not variable:
        return endpoint
    if not endpoint.base_url:
        raise _no_address(endpoint)
    parts = urlsplit(endpoint.base_url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise KeyRefused(f"{endpoint.origin} is not encrypted: the key is not sent there.", "Use an https:// address.")
    key, source, trouble = keys.secret(environment.get(variable, ""), variable), variable, ""
    if key is None:
        try:
            key, source = keys.kept(endpoint.origin, patience), "keyring"
        except keys.KeyringError as error:
            trouble = f" {error.message}"
    if key is None:
        configured = endpoint.name in BUILT_IN or endpoint.name in configuration().endpoints
        in_keyring = f"or keep the key in the keyring (tokenstream key set {endpoint.name}), " if configured else ""
        raise BadRequest(
            f"{endpoint.name} needs a key and {variable} is not set.{trouble}",
            f"Set {variable} before you start Jupyter, {in_keyring}or use -m local.",
        )
    return replace(endpoint, key=key, key_source=source)
