"""``tokenstream doctor``: whether every configured endpoint can be used, in a line each, and what to do if not.

Keys are sent only to the origin they belong to, and shown nowhere. An endpoint without its key is not contacted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import catalog, keys, proxies
from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.errors import MASK, TokenstreamError
from tokenstream_magic.survey import Answer, ask_all, served, summary

__all__ = ["Finding", "Report", "examine", "report", "served"]

PATIENCE = 5.0

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Finding:
    """What is with one endpoint: whether it works, what was seen, and what to do.

    ``needed``: somebody set it up (it is in the user's file, or it has its key), so that not working is a fault.
    """

    endpoint: str
    works: bool
    said: str
    advice: str = ""
    needed: bool = False

    @property
    def mark(self) -> str:
        """``works``, ``fails`` when it was set up, ``-`` when it was not."""
        return "works" if self.works else "fails" if self.needed else "-"


@dataclass(frozen=True)
class Report:
    """All findings, and what else decides whether an endpoint can be reached, each in a line."""

    endpoints: list[Finding]
    configuration: str
    project: str
    keyring: str
    proxies: str

    @property
    def healthy(self) -> bool:
        """Whether everything that was set up works."""
        return not any(finding.needed and not finding.works for finding in self.endpoints)

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        found = [{"endpoint": f.endpoint, "works": f.works, "needed": f.needed, "said": f.said, "advice": f.advice} for f in self.endpoints]
        about = {name: getattr(self, name) for name in ("configuration", "project", "keyring", "proxies")}
        return {"healthy": self.healthy, "endpoints": found, **about}

    def lines(self) -> list[str]:
        """For a reader: a line an endpoint, then the rest."""
        width = max(len(name) for name in (*(f.endpoint for f in self.endpoints), "configuration"))
        lines = [f"{f.mark:<5}  {f.endpoint.ljust(width)}  {f.said} {f.advice}".rstrip() for f in self.endpoints]
        about = ("configuration", "project", "keyring", "proxies")
        return [*lines, "", *(f"{name.ljust(width + 7)}  {getattr(self, name)}" for name in about)]


def report() -> Report:
    """Everything there is to say."""
    mine, known = catalog.config_path(), catalog.configuration()
    project = f"{known.project}: {len(known.problems) or 'no'} problems" if known.project else "no tokenstream.toml"
    return Report(
        examine(),
        f"{mine}" + ("" if mine.exists() else " (not there yet)"),
        " ".join([project, *known.problems]),
        _keyring(),
        _proxies(known.proxy, os.environ),
    )


def examine(endpoints: dict[str, Endpoint] | None = None) -> list[Finding]:
    """All endpoints, checked at once; blocks for as long as the slowest, at most five seconds."""
    mine = catalog.configuration().endpoints
    return [_finding(answer, answer.endpoint.name in mine) for answer in ask_all(endpoints, PATIENCE)]


def _finding(answer: Answer, mine: bool) -> Finding:
    endpoint = answer.endpoint
    key = f" (key {MASK} from {'the keyring' if endpoint.key_source == 'keyring' else endpoint.key_source})" if endpoint.key else ""
    said = f"{summary(answer) if answer.works and not answer.said else answer.said}{key}"
    return Finding(endpoint.name, answer.works, said, answer.advice, needed=mine or endpoint.key is not None)


def _keyring() -> str:
    if not keys.has_keyring():
        return 'not installed: pip install "tokenstream-magic[keyring]" to keep keys in the system keyring'
    try:
        return f"{keys.backend()}: tokenstream key set ENDPOINT keeps a key there"
    except TokenstreamError as error:
        return str(error)


def _proxies(configured: str | None, environment: Mapping[str, str]) -> str:
    """The proxy in use, without its password, and those of the environment, which are not used: their values are not shown."""
    used = f"{proxies.shown(configured)} for all that is not on this machine" if configured else "none in use"
    ignored = [name for name in _PROXIES if environment.get(name) or environment.get(name.lower())]
    if not ignored or configured:
        return used
    where = f'[network] proxy = "http://HOST:PORT" in {catalog.config_path()}'
    return f"{used}; {', '.join(ignored)} in the environment {'is' if len(ignored) == 1 else 'are'} not followed: {where} is"
