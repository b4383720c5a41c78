"""``tokenstream.toml``: the user's own, and that of the project a notebook lies in.

The user's file defines endpoints, aliases and prompts. A project's file came with the project: it defines aliases and
prompts, which name what the user has, and never where a key goes. What is wrong in the user's file is an error; what
is wrong in a project's file is said once and left out.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenstream_magic.endpoint import BUILT_IN, Endpoint, check_key_header, check_protocol
from tokenstream_magic.errors import BadRequest, KeyRefused
from tokenstream_magic.proxies import check_proxy

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

log = logging.getLogger(__name__)

FILE = "tokenstream.toml"
SIZE_LIMIT = 1 << 20

_TABLES = ("endpoints", "aliases", "prompts")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGkmg]i?[Bb]|[Bb]|)")
_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_ALIAS = re.compile(r"[^\s/:,]{1,80}")
_ENDPOINT_KEYS: dict[str, Any] = {
    "protocol": str,
    "base_url": str,
    "api_key_env": str,
    "key_header": str,
    "api_version": str,
    "model": str,
    "options": dict,
    "proxy": str,
    "frame_limit": (int, str),
    "resumable": bool,
    "think_tags": str,
}
_KINDS = {
    str: "text",
    dict: "a table",
    int: "a whole number",
    bool: "true or false",
    (int, str): 'a number of bytes, or a size such as "64 MiB"',
}
_PROMPT_KEYS: dict[str, type] = {"prompt": str, "system": str, "model": str, "options": dict}

# no request field of a prompt may carry a key or an address, or take the place of what the cell says
KEY_NAMES = frozenset(("api_key", "apikey", "api-key", "authorization", "x-api-key", "x-goog-api-key", "key", "headers", "extra_headers"))
_ADDRESSES = frozenset(("base_url", "api_base", "api_key_env", "protocol", "proxy", "extra_query", "extra_body", "url", "server_url"))
_THE_CELLS = frozenset(("model", "messages", "contents", "input", "prompt", "stream", "stream_options"))
# and none of a project's prompt may have the provider act for the user
_ACTING = frozenset(("tools", "functions", "mcp_servers", "plugins", "container", "connectors", "webhook", "background"))


@dataclass(frozen=True)
class Configuration:
    """What the files say. ``said_in`` gives an alias's file; ``problems`` are what was left out of the project's, a line each."""

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said_in: Mapping[str, Path] = field(default_factory=dict)
    project: Path | None = None
    problems: tuple[str, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    mask_patterns: bool = True


def config_path() -> Path:
    """Where the user's ``tokenstream.toml`` is looked for; ``TOKENSTREAM_CONFIG`` names another file."""
    named = os.environ.get("TOKENSTREAM_CONFIG")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("tokenstream-magic", appauthor=False) / FILE


def project_path() -> Path | None:
    """The project's ``tokenstream.toml``: in the working directory, where a notebook's kernel starts, or the nearest above.

    The search ends at the project's root: the directory under version control, or else the one with ``pyproject.toml``.
    Outside of a project only the working directory counts, so that nobody's file in ``/tmp`` speaks for it.
    """
    try:
        here = Path.cwd()
        above = [here, *here.parents]
        roots = (
            next((d for d in above if any((d / mark).exists() for mark in marks)), None) for marks in ((".git", ".hg"), ("pyproject.toml",))
        )
        root = next(filter(None, roots), here)
        candidates = (directory / FILE for directory in above[: above.index(root) + 1])
        found = next((path for path in candidates if path.is_file()), None)
        return None if found is None or (config_path().exists() and found.samefile(config_path())) else found
    except OSError:
        return None


def configuration() -> Configuration:
    """The user's configuration and the project's below it, read again only when a file changed.

    Raises BadRequest on a user's file that says nonsense; what is wrong in a project's file is logged once.
    """
    path, project = config_path(), project_path()
    return _merged(path, _stamp(path), project, _stamp(project) if project else None)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)


@lru_cache(maxsize=4)
def _merged(path: Path, mine_at: tuple[int, ...] | None, project: Path | None, _project_at: tuple[int, ...] | None) -> Configuration:
    """Cached by what the files were when they were read: a changed file is read again."""
    mine = _users(path) if mine_at is not None else Configuration()
    if project is None:
        return mine
    theirs = _projects(project, mine)
    for problem in theirs.problems:
        log.warning("%s", problem)
    return Configuration(
        mine.endpoints,
        {**theirs.aliases, **mine.aliases},
        {**theirs.prompts, **mine.prompts},
        {**theirs.said_in, **mine.said_in},
        project,
        theirs.problems,
        mine.proxy,
        mine.mask_patterns,
    )


def _users(path: Path) -> Configuration:
    """The user's own file. Raises BadRequest."""
    loaded = _load(path, trusted=True)
    for table in loaded:
        if table not in (*_TABLES, "network", "privacy"):
            raise BadRequest(f"{path}: there is no table [{table}].", f"Known: {', '.join(_TABLES)}, network, privacy.")
    tables, aliases, prompts = (loaded.get(table, {}) for table in _TABLES)
    if not isinstance(tables, dict):
        raise BadRequest(f"{path}: an endpoint is a table.", "Example: [endpoints.lab].")
    if not isinstance(aliases, dict) or not all(isinstance(target, str) for target in aliases.values()):
        raise BadRequest(f"{path}: an alias is a name for one model, written as text.", 'Example: [aliases] fast = "local".')
    if not isinstance(prompts, dict):
        raise BadRequest(f"{path}: a prompt is a table.", "Example: [prompts.haiku].")
    return Configuration(
        {name: _endpoint_of(path, name, table) for name, table in tables.items()},
        aliases,
        {name: _prompt_of(path, name, table, project=False) for name, table in prompts.items()},
        dict.fromkeys(aliases, path),
        proxy=_network_proxy(path, loaded.get("network", {})),
        mask_patterns=_mask_patterns(path, loaded.get("privacy", {})),
    )


def _projects(path: Path, mine: Configuration) -> Configuration:
    """A project's file: what may be said there, and what else was."""
    try:
        loaded = _load(path, trusted=False)
    except BadRequest as error:
        return Configuration(problems=(str(error),))
    problems: list[str] = []
    aliases: dict[str, str] = {}
    prompts: dict[str, dict[str, Any]] = {}
    if "endpoints" in loaded:
        problems.append(f"{path}: a project defines no endpoints, and [endpoints] is left out. Your own belong into {config_path()}.")
    problems += [f"{path}: there is no table [{_shown(table)}]." for table in loaded if table not in _TABLES]
    taken = {*BUILT_IN, *mine.endpoints}

    def alias(name: str, target: Any) -> str:
        if not isinstance(target, str) or "://" in target or not target.isprintable() or len(target) > 200:
            raise BadRequest(f"{path}: the alias {_shown(name)} is no name of a model.", 'Example: [aliases] fast = "local".')
        if name in taken or not _ALIAS.fullmatch(name) or not name.isprintable():
            raise BadRequest(f"{path}: {_shown(name)} is no name for a project's alias: endpoints keep theirs.", "It is left out.")
        return target

    makers: tuple[tuple[str, Any, Callable[[str, Any], Any]], ...] = (
        ("aliases", aliases, alias),
        ("prompts", prompts, lambda name, table: _prompt_of(path, name, table, project=True)),
    )
    for table, kept, make in makers:
        said = loaded.get(table, {})
        if not isinstance(said, dict):
            problems.append(f"{path}: [{table}] is a table.")
            continue
        for name, value in said.items():
            try:
                kept[name] = make(name, value)
            except (BadRequest, KeyRefused) as error:
                problems.append(str(error))
    return Configuration({}, aliases, prompts, dict.fromkeys(aliases, path), path, tuple(problems[:20]))


def _load(path: Path, *, trusted: bool) -> dict[str, Any]:
    """The TOML in a file. Raises BadRequest: no file, too large, no TOML, or one with endpoints that others can change."""
    try:
        # a pipe of that name must not hold us
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BadRequest(f"{path} cannot be read: it is no file.")
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise BadRequest(f"{path} cannot be read: it is over 1 MiB.")
        loaded = tomllib.loads(data.decode())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BadRequest):
            raise
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise BadRequest(f"{path} cannot be read: {reason}.") from None
    if trusted and os.name == "posix" and (found.st_mode & stat.S_IWOTH or found.st_uid not in (0, os.getuid())):
        # it says where keys go: whoever can write it could have them
        raise BadRequest(f"{path} can be changed by other users and is not read.", f"Make it your own: chmod 600 {path}.")
    return loaded


def _endpoint_of(path: Path, name: str, table: Any) -> Endpoint:
    where = f"{path}: [endpoints.{name}]"
    if not isinstance(table, dict) or not isinstance(table.get("base_url"), str):
        raise BadRequest(f'{where} needs a base_url, for example base_url = "https://llm.example.org/v1".')
    for key, value in table.items():
        if key == "api_key":
            raise BadRequest(
                f"{where} holds a literal key.",
                'Put it in an environment variable: api_key_env = "NAME"; or in the keyring: tokenstream key set.',
            )
        if key not in _ENDPOINT_KEYS:
            raise BadRequest(f"{where} has an unknown key {key!r}.", f"Known: {', '.join(sorted(_ENDPOINT_KEYS))}.")
        if not isinstance(value, _ENDPOINT_KEYS[key]):
            raise BadRequest(f"{where}: {key} is {_KINDS[_ENDPOINT_KEYS[key]]}.")
    variable = table.get("api_key_env")
    if variable is not None and not _VARIABLE.fullmatch(variable):  # perhaps a key: it is not repeated
        raise BadRequest(f"{where}: api_key_env is the name of an environment variable, not a key.", 'Example: "LAB_KEY".')
    built_in = BUILT_IN.get(name)
    # one that has no address of its own is completed; any other is replaced whole, so that its key stays with its origin
    base = built_in if built_in is not None and not built_in.base_url else Endpoint(name)
    more: dict[str, Any] = {"model": table.get("model"), "body": table.get("options", {})}
    if variable is not None:
        more |= {"api_key_env": variable, "needs_key": True}
    try:
        if "protocol" in table:
            more["protocol"] = check_protocol(table["protocol"])
        if "proxy" in table:
            more["proxy"] = check_proxy(table["proxy"])
        if "frame_limit" in table:
            more["frame_limit"] = _size(table["frame_limit"])
        more["resumable"] = table.get("resumable", False)
        if table.get("think_tags") not in (None, "tagged", "open"):
            raise BadRequest('think_tags is "tagged" or "open".', "Open: the model's answers begin inside the tag.")
        more["think_tags"] = table.get("think_tags")
        if "key_header" in table:
            more["key_header"] = check_key_header(table["key_header"])
        return replace(base.at(table["base_url"], table.get("api_version")), **more)
    except (BadRequest, KeyRefused) as error:
        raise BadRequest(f"{where}: {error.message}", error.hint) from None


def _network_proxy(path: Path, table: Any) -> str | None:
    """The proxy for every endpoint that is not on this machine and names no other."""
    if not isinstance(table, dict) or set(table) - {"proxy"} or not isinstance(table.get("proxy", ""), str):
        raise BadRequest(f"{path}: [network] knows one key, proxy.", 'Example: proxy = "http://proxy.example.org:3128".')
    try:
        return check_proxy(table.get("proxy", "")) or None
    except BadRequest as error:
        raise BadRequest(f"{path}: [network]: {error.message}", error.hint) from None


def _mask_patterns(path: Path, table: Any) -> bool:
    """Whether text that looks like a key is masked; keys in use always are."""
    chosen = table.get("mask_patterns", True) if isinstance(table, dict) else None
    if not isinstance(chosen, bool) or set(table) - {"mask_patterns"}:
        raise BadRequest(f"{path}: [privacy] knows one key, mask_patterns, true or false.", "Example: mask_patterns = false.")
    return chosen


def _size(value: int | str) -> int:
    """A number of bytes, from a number or from text such as ``64 MiB``. Raises BadRequest."""
    found = _SIZE.fullmatch(str(value).strip())
    size = int(found[1]) * _UNITS[(found[2] or "").lower()] if found and not isinstance(value, bool) else 0
    if not 1024 <= size <= 1 << 40:
        raise BadRequest("frame_limit is a size from 1 KiB up.", 'Example: frame_limit = "64 MiB".')
    return size


def _prompt_of(path: Path, name: str, table: Any, *, project: bool) -> dict[str, Any]:
    """A prompt: its text, what it is asked with, and the file that says so."""
    where = f"{path}: [prompts.{_shown(name)}]"
    table = {"prompt": table} if isinstance(table, str) else table
    if not isinstance(table, dict) or not isinstance(table.get("prompt"), str):
        raise BadRequest(f'{where} needs a prompt, for example prompt = "Write a haiku about {{topic}}."')
    for key, value in table.items():
        if key not in _PROMPT_KEYS:
            raise BadRequest(f"{where} has an unknown key {_shown(key)}.", f"Known: {', '.join(_PROMPT_KEYS)}.")
        if not isinstance(value, _PROMPT_KEYS[key]):
            raise BadRequest(f"{where}: {key} is {_KINDS[_PROMPT_KEYS[key]]}.")
    if "://" in table.get("model", ""):
        raise BadRequest(f"{where}: an address is no model.", 'Example: model = "local".')
    options = table.get("options", {})
    refused = KEY_NAMES | _ADDRESSES
    bad = {option for option in options if option.lower() in refused | _THE_CELLS}
    if project:
        bad |= {option for option in options if option.lower() in _ACTING} | {key for key in _keys_in(options) if key.lower() in refused}
    if bad:
        raise KeyRefused(f"{where}: {_shown(min(bad))} is no option of a prompt.", "A prompt says what is asked, not where or as whom.")
    return {
        "prompt": table["prompt"],
        "system": table.get("system"),
        "model": table.get("model"),
        "options": dict(options),
        "source": str(path),
        "project": project,
    }


def _keys_in(value: Any) -> set[str]:
    """All names in nested tables."""
    if isinstance(value, dict):
        return {*value, *(key for item in value.values() for key in _keys_in(item))}
    if isinstance(value, list):
        return {key for item in value for key in _keys_in(item)}
    return set()


def _shown(name: str) -> str:
    """A name from a file, cut and with whatever is not printable written out."""
    return repr(name if len(name) <= 80 else name[:79] + "…").strip("'")
