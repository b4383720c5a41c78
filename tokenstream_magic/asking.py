"""From a prompt and flags to what is sent: a cell's line and the keywords of a call become a Plan here, or are refused.

What the user got wrong (an unknown model, a field that is none, a missing variable) raises
:class:`~tokenstream_magic.errors.BadRequest` before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from tokenstream_magic import attachments, catalog, conversations, prompt as prompts, schemas, tools
from tokenstream_magic.display import views
from tokenstream_magic.errors import BadRequest, KeyRefused, TokenstreamError
from tokenstream_magic.plain import plain, plain_text
from tokenstream_magic.plan import Plan
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import FORMATS, Transcript
from tokenstream_magic.rounds import Prepared
from tokenstream_magic.starters import STARTERS
from tokenstream_magic.transcripts.replaying import playback
from tokenstream_magic.transport.watch import FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT, MAX_RETRIES, Limits
from tokenstream_magic.version import __version__
from tokenstream_magic.wire.protocols import PROTOCOLS

NEVER = 1e7  # seconds; longer limits are none
_BEYOND = 1 << 63
_FIELDS = ("temperature", "top_p", "max_tokens", "seed", "stop", "reasoning_effort", "logprobs")
_SHORT = {"n": "no_log", "s": "system", "o": "option", "m": "model", "api_base": "base_url", "c": "continue_"} | {
    short: name
    for name, others in {"attachment": "a attachments", "template": "t", "param": "p params", "tool": "T tools"}.items()
    for short in others.split()
}
_CELL_ONLY = {
    "out": "The call returns the transcript: name it there.",
    "bg": "Use start() or a task of your own.",
    "raw": "In a call braces are always sent as typed.",
    "dry_run": "prepare() gives the request without sending it.",
    "extract": "tokenstream_magic.fences.first(transcript.text) is the first fenced block.",
}
# what our own flags write into the request, in whatever spelling
_STRUCTURED = ("response_format", "format", "json_schema", "grammar", "output_format")
_NESTED = ("output_config", "text", "generationConfig")
_FORBIDDEN = ("api_key", "apikey", "api-key", "authorization", "x-api-key", "key")
Ask = str | Prompt | list[Mapping[str, Any]]
"""What may be asked: text, messages (``{"role", "content"}``), or a Prompt."""


def prepare(prompt: Ask, model: str | None = None, **flags: Any) -> tuple[Plan, Prompt]:
    """What would be sent, without sending it. Raises BadRequest or KeyRefused when it cannot be."""
    prepared = ask(prompt, model, **flags)
    if prepared.playback is not None:
        raise BadRequest("A replay sends no request.", "Leave out --dry-run.")
    return prepared.plan, prepared.prompt


def again(original: Transcript, model: str | None = None, *, base_url: str | None = None, **flags: Any) -> Prepared:
    """The request of a transcript, ready to be sent again and linked to it: on another model, or with other flags. Raises BadRequest."""
    messages = attachments.recalled(original.messages)
    if not messages:
        raise BadRequest(f"{original.id} keeps no messages that could be sent again.", "Write the prompt into a cell.")
    lost = attachments.lost(messages)
    if lost is not None:
        raise BadRequest(f"What was attached is not kept, and {lost} is gone with its kernel.", "Ask again with -a.")
    if model is None:
        if not base_url and original.endpoint not in catalog.endpoints():
            raise BadRequest(
                f"It was asked of {original.model or 'nobody'}, at an address of its own.", "Name it: -m MODEL --base-url URL."
            )
        model = _model_of(conversations.Past([], "", original), base_url)
    options = {name: value for name, value in original.options.items() if flags.get(name) is None}
    asked = Prompt(messages, original.template or original.prompt, dict(original.variables))
    flags["option"] = {**options, **(flags.get("option") or {})}
    prepared = ask(asked, model, base_url=base_url, **flags)
    return replace(prepared, parent_id=(original.replayed or {}).get("of", original.id), conversation_id=original.conversation_id)


def ask(
    prompt: Ask,
    model: str | None = None,
    *,
    default_model: str | None = None,
    system: str | None = None,
    template: str | None = None,
    param: Mapping[str, Any] | None = None,
    attachment: Any = None,
    schema: Any = None,
    json: bool = False,
    tool: Any = None,
    run_tools: bool = False,
    continue_: bool = False,
    cid: str | None = None,
    no_log: bool = False,
    tag: str | Sequence[str] = (),
    note: str | None = None,
    format: str | None = None,
    wire: bool = False,
    option: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    protocol: str | None = None,
    api_key_env: str | None = None,
    timeout: float | None = FIRST_TOKEN_TIMEOUT,
    idle_timeout: float | None = IDLE_TIMEOUT,
    time_limit: float | None = None,
    token_limit: int | None = None,
    max_retries: int = MAX_RETRIES,
    replay: str | Transcript | None = None,
    speed: float | str | None = None,
    as_: str | None = None,
    **fields: Any,
) -> Prepared:
    """A run that can begin, nothing of it sent. Raises BadRequest or KeyRefused when it cannot be.

    ``template`` names a configured prompt and ``param`` fills in its variables and those of the text; ``attachment`` is a path, bytes,
    a picture, a table or a list of them; ``schema`` a JSON Schema, a class, a file or fields as text, ``json`` JSON without one;
    ``tool`` a function, a definition or a list of them, run only with ``run_tools``; ``continue_`` goes on with this kernel's last
    conversation and ``cid`` with a kept or named one. ``default_model`` is used when nothing names a model.
    ``replay`` is a transcript, or the id of one, that is played again instead of asking anybody, ``speed`` times as fast (``"instant"``: at
    once) and delivered another way with ``as_``; the model ``replay/ID`` says the same.
    """
    continue_ = bool(fields.pop("continue", False)) or continue_
    for name in fields:
        if name in _CELL_ONLY:
            raise BadRequest(f"{name} is a flag of cells.", _CELL_ONLY[name])
        if name not in _FIELDS:
            long, close = _SHORT.get(name), get_close_matches(name, (*_FIELDS, *(ask.__kwdefaults__ or ())), n=1)
            meant = f"Did you mean {close[0]}? " if close else ""
            hint = f"Its name is {long}." if long else meant + 'A field of the request goes into option={"name": value}.'
            raise BadRequest(f"There is no flag {name!r}.", hint)
    if option is not None and not isinstance(option, Mapping):
        raise BadRequest("option is a dictionary.", 'Example: option={"top_k": 5}.')
    limits = Limits(
        _positive("timeout", timeout),
        _positive("idle-timeout", idle_timeout),
        _positive("time-limit", time_limit),
        token_limit,
        max_retries,
    )
    if token_limit is not None and token_limit < 1:
        raise BadRequest("--token-limit is a whole number from 1 up.")
    if max_retries < 0:
        raise BadRequest("--max-retries is a whole number from 0 up.")
    if format not in (None, *FORMATS):
        raise BadRequest(f"There is no format {format!r}.", f"Known: {', '.join(FORMATS)}.")
    tags = list(tag) if isinstance(tag, Iterable) and not isinstance(tag, str) else [tag]
    if not all(isinstance(text, str) for text in (*tags, note or "")):
        raise BadRequest("A tag and a note are text.", 'Example: tag="draft".')
    kept_with: dict[str, Any] = {"tags": tuple(plain(tags)), "note": plain(note)}
    model, cid = plain(model), plain(cid)
    if replay is None and not base_url:
        replay = catalog.replayed(model)
    if replay is not None:
        return _played(replay, prompt, (speed, as_), limits, {**kept_with, "format": format})
    around = named_template(template)
    asked = _asked(prompt, system or around.get("system"), around.get("prompt"), param)
    past = _past(continue_, cid)
    model = model or around.get("model") or _model_of(past, base_url) or default_model
    if not base_url and (replay := catalog.replayed(model)) is not None:
        return _played(replay, prompt, (speed, as_), limits, {**kept_with, "format": format})
    if speed is not None or as_ is not None:
        raise BadRequest("--speed and --as are for a replay.", "Name what to play: --replay last.")
    endpoint, name = catalog.resolve(model, base_url=base_url, protocol=protocol, api_key_env=api_key_env)
    options = {**(around.get("options") or {}), **{k: v for k, v in fields.items() if v is not None}, **(option or {})}
    # a template, or the options of a transcript that is run again, may hold what has keywords of its own
    kept = {name: options.pop(name, None) for name in ("schema", "json", "tool")}
    schema = kept["schema"] if schema is None else schema
    json, tool = json or bool(kept["json"]), kept["tool"] if tool is None else tool
    structured = json or schema is not None
    defined = _tools(tool, run_tools)
    options |= _structure(endpoint.protocol, schema, json, options)
    if defined or (past is not None and past.tools):
        if "tools" in options:
            raise BadRequest("Tools are given twice, with -T and with -o tools.", "Leave one of them out.")
        options["tool"] = [one.definition for one in defined] or (past.tools if past is not None else [])
    asked = _complete(asked, attachment, past, endpoint.protocol)
    _check(options, endpoint.protocol)
    starter = STARTERS.get(endpoint.starts or "")
    plan = Plan(endpoint, name, plain(list(asked.messages)), plain(options), limits, starter, wire=bool(wire))
    return Prepared(
        plan,
        asked,
        tools=tuple(defined) if run_tools else (),
        no_log=no_log,
        **kept_with,
        conversation_id=past.conversation_id if past is not None else None,
        parent_id=(past.parent.replayed or {}).get("of", past.parent.id) if past is not None and past.parent is not None else None,
        format=format or ("json" if structured else None),
    )


def _check(options: Mapping[str, Any], protocol: str) -> None:
    """Raises for an option that cannot be sent as it is, or must not be."""
    for name in sorted(PROTOCOLS[protocol].LACKS & options.keys()):
        raise BadRequest(
            f"{protocol} has no field for {name}: it would be left out and nobody would know.",
            "Leave it out, or ask a model of another endpoint.",
        )
    for name, value in options.items():
        if isinstance(value, (int, float)) and not -_BEYOND < value < _BEYOND:  # it would be sent as null, or as text
            raise BadRequest(f"{name} is no number that can be sent.", "Write one that is finite, and below 2 to the 63rd.")
        if name.lower() in _FORBIDDEN:
            raise KeyRefused("A key does not go into the request.", "Put it in an environment variable and name it: --api-key-env NAME.")


def _played(
    replay: str | Transcript, prompt: Ask, how: tuple[float | str | None, str | None], limits: Limits, kept_with: Mapping[str, Any]
) -> Prepared:
    """A replay that can begin. What stands in the cell is sent to nobody; where it is not what was asked, the replay says so."""
    from tokenstream_magic import transcripts

    original = replay if isinstance(replay, Transcript) else transcripts.get(replay)
    said = prompt.text if isinstance(prompt, Prompt) else prompt if isinstance(prompt, str) else ""
    another = bool(said.strip()) and said.strip() not in (original.prompt.strip(), (original.template or "").strip())
    speed, as_ = how
    played = playback(original, 1.0 if speed is None else speed, as_, another_prompt=another)
    endpoint = catalog.named("replay")
    plan = Plan(endpoint, original.model, original.messages, original.options, limits)
    return Prepared(plan, Prompt(list(original.messages), original.prompt), no_log=True, playback=played, **kept_with)


def request_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the flags that say what is sent; the others say what is kept of it."""
    return {name: value for name, value in flags.items() if name not in ("no_log", "tag", "note", "format")}


def bound(flags: Mapping[str, Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of a cell with what they name in its ``namespace``: attachments, a schema, tools."""
    found = dict(flags)
    if found.get("attachment"):
        found["attachment"] = [attachments.named(word, namespace) for word in found["attachment"]]
    if found.get("schema") is not None:
        found["schema"] = schemas.of(found["schema"], namespace)
    if found.get("tool"):
        found["tool"] = [tools.named(word, namespace) for word in found["tool"]]
    return found


def named_template(name: str | None) -> Mapping[str, Any]:
    """A configured prompt; an empty one for None. Raises BadRequest when there is none of that name."""
    if name is None:
        return {}
    known = catalog.prompts()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        meant = f"Did you mean {close[0]}? " if close else ""
        raise BadRequest(
            f"There is no template {name!r}.", f'{meant}Write it into {catalog.config_path()}: [prompts] {name} = "Sum up: {{input}}".'
        )
    return known[name]


def _tools(given: Any, run_tools: bool) -> list[tools.Tool]:
    if given is None or (isinstance(given, (list, tuple)) and not given):
        if run_tools:
            raise BadRequest("There is no tool to run.", "Name a function: -T NAME --run-tools.")
        return []
    defined = tools.toolbox(given)
    if run_tools and all(one.function is None for one in defined):
        raise BadRequest("Only functions can be run, and these tools are descriptions.", "Leave out --run-tools, or name a function.")
    return defined


def _structure(protocol: str, schema: Any, json: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that ask for JSON, under our own names; every protocol writes them in its own way."""
    if schema is None and not json:
        return {}
    if schema is not None and json:
        raise BadRequest("--schema asks for JSON already.", "Leave out --json.")
    nested = {name: options[name] for name in _NESTED if isinstance(options.get(name), Mapping)}
    twice = next((name for name in _STRUCTURED if name in options), None)
    twice = next((name for name, value in nested.items() if {"format", "responseMimeType"} & value.keys()), twice)
    if twice is not None:
        raise BadRequest(f"The shape of the answer is said twice, also with -o {twice}.", "Leave one of them out.")
    if schema is not None:
        return {"schema": schemas.of(schema)}
    if not PROTOCOLS[protocol].JSON_MODE:
        raise BadRequest(f"{protocol} has no JSON mode.", "Say what the JSON holds: --schema 'name, age int'.")
    return {"json": True}


def _past(continue_: bool, cid: str | None) -> conversations.Past | None:
    if continue_ and cid is not None:
        raise BadRequest("-c and --cid name two conversations.", "Leave one of them out.")
    if cid is not None:
        return conversations.find(cid)
    return conversations.last() if continue_ else None


def _model_of(past: conversations.Past | None, base_url: str | None) -> str | None:
    """The model a conversation was had with; under another address its name there."""
    if past is None or past.parent is None:
        return None
    said = past.parent
    if base_url:
        return said.model.partition("/")[2] or said.model
    if said.endpoint not in catalog.endpoints():
        raise BadRequest(
            f"The conversation was with {said.model}, at an address of its own.", "Name it again: MODEL --base-url URL, or choose a model."
        )
    return said.model


def _complete(asked: Prompt, attachment: Any, past: conversations.Past | None, protocol: str) -> Prompt:
    """The Prompt with its attachments, behind what was said before."""
    messages = [dict(message) for message in asked.messages]
    several = isinstance(attachment, (list, tuple))
    attached = [attachments.load(one) for one in (attachment if several else [] if attachment is None else [attachment])]
    if attached:
        place = max((n for n, message in enumerate(messages) if message.get("role") == "user"), default=None)
        if place is None:
            raise BadRequest("An attachment belongs to what the user says, and nothing is.", "Add a line that is exactly: --- user.")
        messages[place] = attachments.attach(messages[place], attached)
    if past is not None:
        renewed = any(message.get("role") == "system" for message in messages)
        messages = [*(m for m in past.messages if not renewed or m.get("role") != "system"), *messages]
        messages.sort(key=lambda message: message.get("role") != "system")  # stable: instructions first, the rest as it was said
    attachments.check(messages, protocol, PROTOCOLS[protocol].ATTACHMENTS)
    return replace(asked, messages=messages)


def _asked(prompt: Any, system: str | None, around: str | None = None, param: Mapping[str, Any] | None = None) -> Prompt:
    """The Prompt of what a caller gives: text, messages, or one that was built before."""
    if isinstance(prompt, Prompt):
        return prompt
    if param is not None and not isinstance(param, Mapping):
        raise BadRequest("param is a dictionary.", 'Example: param={"city": "Oslo"}.')
    if isinstance(prompt, str):
        return prompts.build(prompt, None, system, around=around, params=param)
    if around is not None or param:
        raise BadRequest("A template and its parameters go with a text, not with messages.", "Give the prompt as text.")
    if isinstance(prompt, list) and prompt and all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in prompt):
        first = [{"role": "system", "content": system}] if system else []
        return Prompt([*first, *(dict(m) for m in prompt)], "")
    raise BadRequest("The prompt is text, or a list of messages.", 'Example: [{"role": "user", "content": "Hi"}].')


def describe(plan: Plan, asked: Prompt) -> Transcript:
    """The transcript of a run that is about to start."""
    endpoint = plan.endpoint
    return Transcript(
        model=endpoint.name_of(plan.model),
        endpoint=endpoint.name,
        protocol=endpoint.protocol,
        prompt=plain_text(asked.text),
        system=plain(asked.system),
        messages=plain(attachments.without_bytes(asked.messages)),
        options=plain(plan.options),
        template=plain_text(asked.template) if asked.variables else None,
        variables=plain(asked.variables),
        package_version=__version__,
        **plain(views.where()),
    )


def refused(error: TokenstreamError, model: str | None, text: str) -> Transcript:
    """The transcript of a request that could not be made: outcome ``failed``, and the reason."""
    return Transcript(
        model=model or catalog.DEFAULT_MODEL,
        prompt=text,
        outcome="failed",
        error={"type": error.type, "status": None, "code": None, "message": str(error)},
        package_version=__version__,
        **plain(views.where()),
    )


def _positive(flag: str, seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise BadRequest(f"--{flag} is a number of seconds above 0.")
    return None if seconds is None or seconds > NEVER else seconds
