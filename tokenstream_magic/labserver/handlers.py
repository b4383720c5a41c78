"""The addresses below ``/tokenstream/api/``: who may ask, what may be asked, and the answer as JSON.

Every request is authenticated, authorized and checked for its origin and XSRF token by jupyter_server's own rules; there
are none of ours. The database is read on threads, never on the server's loop. An answer is always JSON, also when
something is wrong: ``{"message", "hint"}``, one line each, without a traceback.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

_ULID = r"([0-7][0-9A-HJKMNP-TV-Z]{25})"
_THREADS = 2
_AT_ONCE = 32
_LONGEST = 1000  # characters of a filter

T = TypeVar("T")


def routes(base_url: str) -> list[tuple[str, type[APIHandler]]]:
    """The routes below the server's ``base_url``."""
    api = url_path_join(base_url, "tokenstream", "api")
    return [
        (url_path_join(api, "transcripts"), Transcripts),
        (url_path_join(api, "transcripts", _ULID), One),
        (url_path_join(api, "transcripts", _ULID, "cell"), Cell),
        (url_path_join(api, "models"), Models),
        (url_path_join(api, "status"), Status),
    ]


class _Handler(APIHandler):
    """What all of them share."""

    auth_resource = "tokenstream"
    _waiting = 0

    async def ask(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which is done on a thread. What is wrong becomes an answer in words."""
        from tokenstream_magic.errors import BadRequest, TokenstreamError, one_line
        from tokenstream_magic.labserver.reading import without_directories

        if _Handler._waiting >= _AT_ONCE:  # a database that hangs must not gather requests without end
            raise _Refused(503, "The transcripts are busy.", "Try again in a moment.")
        _Handler._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads(), work)
        except TokenstreamError as error:
            words = (without_directories(error.message), without_directories(error.hint))
            raise _Refused(400 if isinstance(error, BadRequest) else 503, *words) from None
        except Exception as error:  # a driver may raise anything; the reader gets a sentence, the server's log the rest
            self.log.exception("A request for transcripts failed")
            raise _Refused(
                500, f"The transcripts cannot be read: {one_line(type(error).__name__)}.", "The server's log says more."
            ) from None
        finally:
            _Handler._waiting -= 1

    def answer(self, data: Any) -> None:
        """Ends the request with JSON that no browser keeps and none takes for anything else."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(data, ensure_ascii=False, allow_nan=False))

    def set_default_headers(self) -> None:
        """Also says that JSON is JSON."""
        super().set_default_headers()
        self.set_header("X-Content-Type-Options", "nosniff")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """One line of JSON, without a traceback."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        known = {403: "You are not logged in to this server.", 404: "There is no such address.", 405: "That cannot be done here."}
        hint = error.hint if isinstance(error, _Refused) else ""
        message = error.words if isinstance(error, _Refused) else known.get(status_code, "The request failed.")
        self.finish(json.dumps({"message": message, "hint": hint}))

    def filters(self) -> dict[str, str]:
        """The filters of the address. Raises when one is unknown or too long."""
        # JupyterLab puts the time behind every address, so that no cache answers
        given = {name: self.get_query_argument(name) for name in self.request.query_arguments if not name.isdigit()}
        for name, value in given.items():
            if name not in _FILTERS:
                raise _Refused(400, "There is no such filter.", f"There are: {', '.join(sorted(_FILTERS - _NOT_OURS))}.")
            if len(value) > _LONGEST:
                raise _Refused(400, f"The filter {name} is too long.", f"At most {_LONGEST} characters.")
        return {name: value for name, value in given.items() if value and name not in _NOT_OURS}


_NOT_OURS = {"token", "no_track_activity"}  # jupyter_server's
_FILTERS = _NOT_OURS | {"query", "model", "outcome", "tag", "since", "notebook", "limit", "cursor"}


class _Refused(web.HTTPError):
    """An answer with a status and words of ours."""

    def __init__(self, status: int, words: str, hint: str = "") -> None:
        super().__init__(status, "%s", words)
        self.words, self.hint = words, hint


class Transcripts(_Handler):
    """``GET transcripts?query=&model=&outcome=&tag=&since=&notebook=&limit=&cursor=``: a page of a list, newest first."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """``{"transcripts": [...], "cursor": where the next page begins, or null}``."""
        filters = self.filters()

        def work() -> dict[str, Any]:
            from tokenstream_magic.labserver import reading

            return reading.page(filters)

        self.answer(await self.ask(work))


class One(_Handler):
    """``transcripts/ID``: GET the document, DELETE it for good."""

    @web.authenticated
    @authorized
    async def get(self, id: str) -> None:
        """The transcript as the content of a ``.tokenstream.json`` file."""

        def work() -> dict[str, Any] | None:
            from tokenstream_magic.labserver import reading

            return reading.document(id)

        self.answer(_found(await self.ask(work)))

    @web.authenticated
    @authorized
    async def delete(self, id: str) -> None:
        """``{"deleted": ID}``."""

        def work() -> dict[str, Any] | None:
            from tokenstream_magic.labserver import reading

            return reading.delete(id)

        self.answer(_found(await self.ask(work)))


class Cell(_Handler):
    """``GET transcripts/ID/cell``: a ``%%stream`` cell that asks the same again."""

    @web.authenticated
    @authorized
    async def get(self, id: str) -> None:
        """``{"source": the cell's text, "missing": what of the request is not in it}``."""

        def work() -> dict[str, Any] | None:
            from tokenstream_magic.labserver import reading

            return reading.cell(id)

        self.answer(_found(await self.ask(work)))


class Models(_Handler):
    """``GET models``: the models there are transcripts of."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """``{"models": [...]}``."""

        def work() -> dict[str, Any]:
            from tokenstream_magic.labserver import reading

            return reading.models()

        self.answer(await self.ask(work))


class Status(_Handler):
    """``GET status``: how it stands with the store."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Kind of database, size, count, version, and whether new runs are kept."""

        def work() -> dict[str, Any]:
            from tokenstream_magic.labserver import reading

            return reading.status()

        self.answer(await self.ask(work))


def _found(answer: T | None) -> T:
    if answer is None:
        raise _Refused(404, "There is no such transcript: it may have been deleted.", "The list shows what there is.")
    return answer


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenstream")
