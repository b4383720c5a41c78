"""The transcripts for the side panel of JupyterLab: an extension of the Jupyter server.

It reads the store that the kernels started by the same server write: ``TOKENSTREAM_DATABASE``, or the user's data
directory. What ``%config StreamMagics.database`` says in a notebook changes the store of that kernel only, not this one.
Enabled on installation by ``jupyter_server_config.d/tokenstream_magic.json``. Loading it must cost a starting server
nothing to speak of, so everything but the routes is imported with the first request.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "tokenstream_magic.labserver"}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    """Adds the routes to the server's."""
    from tokenstream_magic.labserver.handlers import routes

    server_app.web_app.add_handlers(".*$", routes(server_app.web_app.settings["base_url"]))
