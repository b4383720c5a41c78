"""``%%stream``, ``%stream`` and ``%transcripts``: parse the line, call the public face, nothing else.

Loading this module must stay instant: the public face, and with it everything heavy, is imported by the first cell
that streams.
"""

from __future__ import annotations

from typing import Any

from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class, needs_local_scope, no_var_expand
from traitlets import Bool, Unicode, observe

from tokenstream_magic.display import kernels

_REWRITTEN = "get_ipython().run_cell_magic('stream',"
_AWAITED = "get_ipython().run_cell_magic('astream',"
_LINE = "get_ipython().run_line_magic('transcripts', "
_AWAITED_LINE = "await get_ipython().run_line_magic('atranscripts', "
_PLAYING = (f"{_LINE}'replay", f"{_LINE}'rerun")


@magics_class
class StreamMagics(Magics):
    """The magics. ``%config StreamMagics.model = "..."`` sets the default model."""

    model = Unicode("local", help="The model %%stream uses when none is named.").tag(config=True)
    database = Unicode("", help="Where transcripts are kept: a path or an SQLAlchemy URL. Empty: the user's data directory.").tag(
        config=True
    )

    otel = Bool(
        False, help="Tell every run to OpenTelemetry: a span and metrics, without prompts and answers unless its own variable says so."
    ).tag(config=True)
    otel_profile = Unicode("semconv-1.41", help="The names of its attributes and metrics: semconv-1.41, or genai-main.").tag(config=True)

    @observe("otel", "otel_profile")
    def _otel_changed(self, change: Any) -> None:
        import os

        os.environ["TOKENSTREAM_OTEL_PROFILE"] = self.otel_profile
        if change["name"] == "otel":
            os.environ["TOKENSTREAM_OTEL"] = "1" if self.otel else "0"
        if self.otel:
            from tokenstream_magic import commands

            commands.check_telemetry()

    @observe("database")
    def _database_changed(self, change: Any) -> None:
        import os

        if change["new"]:
            os.environ["TOKENSTREAM_DATABASE"] = change["new"]

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def stream(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> None:
        """Send the cell to a model and watch the answer grow; as a line, manage streams.

        In a notebook cell this is awaited (see ``astream``); called directly it blocks until the answer is there.
        ``%%stream --help`` lists the flags, ``%stream help`` the commands.
        """
        from tokenstream_magic import commands

        if cell is None:
            commands.manage(self, line)
        else:
            commands.stream_cell(self, line, cell, local_ns)

    @no_var_expand
    @needs_local_scope
    @cell_magic
    async def astream(self, line: str, cell: str, local_ns: dict[str, Any] | None = None) -> None:
        """``%%stream`` for a cell that is awaited: the kernel stays free while tokens flow, so Stop arrives at once."""
        if kernels.is_abandoned(getattr(self.shell, "kernel", None)):
            return
        from tokenstream_magic import commands

        await commands.astream_cell(self, line, cell, local_ns)

    @no_var_expand
    @line_magic
    def transcripts(self, line: str) -> Any:
        """List, show and manage what was kept: ``%transcripts help`` tells how."""
        from tokenstream_magic import commands

        return commands.transcripts(self, line)

    @no_var_expand
    @line_magic
    async def atranscripts(self, line: str) -> Any:
        """``%transcripts`` for a replay or a rerun that is awaited: the kernel stays free, so Stop arrives at once."""
        if kernels.is_abandoned(getattr(self.shell, "kernel", None)):
            return None
        from tokenstream_magic import commands

        return await commands.atranscripts(self, line)


def await_stream_cells(lines: list[str]) -> list[str]:
    """The input transformer: a ``%%stream`` cell, and a line that replays or reruns, becomes an awaited call (ARCHITECTURE decision 1)."""
    if not lines or not lines[0].startswith(_REWRITTEN):
        return [_AWAITED_LINE + line.removeprefix(_LINE) if line.startswith(_PLAYING) else line for line in lines]
    first, *others = with_body(lines)
    return ["await " + first.replace(_REWRITTEN, _AWAITED, 1), *others]


def with_body(lines: list[str]) -> list[str]:
    """A ``%%stream`` cell with nothing below its line: IPython refuses it before we could say what is missing, or play what needs nothing."""
    if not lines or not lines[0].startswith(_REWRITTEN) or not lines[0].rstrip().endswith(", '')"):
        return lines
    return [lines[0].rstrip()[: -len("'')")] + "'\\n')\n", *lines[1:]]


def load(shell: Any) -> None:
    """Registers the magics, the transformer, and the target on which a page can stop a stream."""
    unload(shell)
    shell.register_magics(StreamMagics)

    kernel = getattr(shell, "kernel", None)

    def transform(lines: list[str]) -> list[str]:
        # a terminal has no page whose messages could come in, and its Ctrl-C reaches a blocking call; without autoawait
        # an await is a syntax error. The cell then blocks.
        return (await_stream_cells if kernel is not None and shell.autoawait else with_body)(lines)

    transform.tokenstream = True  # type: ignore[attr-defined]
    shell.input_transformers_post.append(transform)
    manager = getattr(kernel, "comm_manager", None)
    if manager is not None:
        manager.register_target("tokenstream.control", _control)
    if kernel is not None:
        kernels.mend(kernel)


def unload(shell: Any) -> None:
    """Takes back what :func:`load` registered."""
    hooks = shell.input_transformers_post
    hooks[:] = [hook for hook in hooks if not getattr(hook, "tokenstream", False)]
    manager = getattr(getattr(shell, "kernel", None), "comm_manager", None)
    if manager is not None and "tokenstream.control" in manager.targets:
        manager.unregister_target("tokenstream.control", _control)
    for kind, names in (("cell", ("stream", "astream")), ("line", ("stream", "transcripts", "atranscripts"))):
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)


def _control(comm: Any, _opened: Any) -> None:
    """The page's own road to Stop. The kernel never publishes here: that keeps the road open while a cell blocks."""

    @comm.on_msg
    def received(message: Any) -> None:
        data = message.get("content", {}).get("data")
        if isinstance(data, dict) and data.get("op") == "stop" and isinstance(data.get("stream_id"), str):
            from tokenstream_magic import api

            for run in api.running():
                if run.id == data["stream_id"]:
                    run.stop("button")
