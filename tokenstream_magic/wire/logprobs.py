"""How likely each token was, in the shapes servers say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenstream_magic.wire.events import Logprobs, Token
from tokenstream_magic.wire.values import mapping, mappings

MOST_ALTERNATIVES = 64


def listed(tokens: Any, choice: int = 0) -> list[Logprobs]:
    """One event for ``[{token, logprob, bytes, top_logprobs}]``: OpenAI's shape, which Ollama and llama.cpp share; none for anything else."""
    found = [
        Token(text, chance, _alternatives(mappings(token.get("top_logprobs"))))
        for token in mappings(tokens)
        if (text := _text(token)) is not None and (chance := _chance(token.get("logprob"))) is not None
    ]
    return [Logprobs(found, choice)] if found else []


def of_choice(logprobs: Any, choice: int = 0) -> list[Logprobs]:
    """The same under ``content`` and ``refusal``, as a choice of Chat Completions has it."""
    told = mapping(logprobs)
    return [*listed(told.get("content"), choice), *listed(told.get("refusal"), choice)]


def of_candidate(result: Any, choice: int = 0) -> list[Logprobs]:
    """Gemini's ``logprobsResult``: the chosen tokens and, beside each, the likeliest."""
    told = mapping(result)
    tops = mappings(told.get("topCandidates"))
    found = []
    for number, token in enumerate(mappings(told.get("chosenCandidates"))):
        text, chance = token.get("token"), _chance(token.get("logProbability"))
        if isinstance(text, str) and chance is not None:
            top = mappings(tops[number].get("candidates")) if number < len(tops) else []
            found.append(Token(text, chance, _alternatives(top, "logProbability")))
    return [Logprobs(found, choice)] if found else []


def _alternatives(tokens: list[Mapping[str, Any]], name: str = "logprob") -> tuple[tuple[str, float], ...]:
    return tuple(
        (text, chance)
        for token in tokens[:MOST_ALTERNATIVES]
        if (text := _text(token)) is not None and (chance := _chance(token.get(name))) is not None
    )


def _chance(value: Any) -> float | None:
    """A natural logarithm of a probability; NaN and anything above zero by more than rounding is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 1e-6 else None


def _text(token: Mapping[str, Any]) -> str | None:
    """The token by its bytes, where they are whole characters; else as the server writes it."""
    text, raw = token.get("token"), token.get("bytes")
    if isinstance(raw, list) and raw:
        try:
            return bytes(raw).decode("utf-8")
        except (TypeError, ValueError):
            pass
    return text if isinstance(text, str) else None
