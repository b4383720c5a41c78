"""The sources an answer points to, in the shapes servers send them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenstream_magic.wire.events import Annotation
from tokenstream_magic.wire.values import integer, mapping, mappings, string

_LONGEST = 2000


def annotation(told: Any, choice: int = 0) -> Annotation | None:
    """One annotation: OpenAI's (flat in Responses, nested under its type in Chat) or Anthropic's; None when it names no source."""
    told = mapping(told)
    kind = string(told.get("type")) or "citation"
    about: Mapping[str, Any] = {**told, **mapping(told.get(kind))}
    found = Annotation(
        kind[:80],
        url=_first(about, "url", "uri", "source"),
        title=_first(about, "title", "document_title", "filename", "file_id"),
        quote=_first(about, "cited_text", "quote", "text"),
        start=_count(about, "start_index", "startIndex", "start_char_index", "start_page_number", "start_block_index"),
        end=_count(about, "end_index", "endIndex", "end_char_index", "end_page_number", "end_block_index"),
        choice=choice,
    )
    return found if found.url or found.title or found.quote else None


def listed(told: Any, choice: int = 0) -> list[Annotation]:
    """A list of annotations."""
    return [found for item in mappings(told) if (found := annotation(item, choice)) is not None]


def addresses(told: Any, choice: int = 0) -> list[Annotation]:
    """A list of bare addresses, as Perplexity and xAI send beside the choices."""
    urls = told if isinstance(told, list) else []
    return [Annotation("url_citation", url=url[:_LONGEST], choice=choice) for url in urls if isinstance(url, str) and url]


def of_candidate(candidate: Mapping[str, Any], choice: int = 0) -> list[Annotation]:
    """Gemini's ``citationMetadata`` and the web pages and passages of its ``groundingMetadata``."""
    cited = mapping(candidate.get("citationMetadata"))
    found = listed(cited.get("citations") or cited.get("citationSources"), choice)
    for chunk in mappings(mapping(candidate.get("groundingMetadata")).get("groundingChunks")):
        for kind in ("web", "retrievedContext", "maps"):
            source = annotation({"type": kind, **mapping(chunk.get(kind))}, choice)
            if source is not None:
                found.append(source)
    return found


def _first(about: Mapping[str, Any], *names: str) -> str | None:
    return next((text[:_LONGEST] for name in names if (text := string(about.get(name)))), None)


def _count(about: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := integer(about.get(name))) is not None), None)
