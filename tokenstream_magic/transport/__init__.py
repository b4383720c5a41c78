"""Requests out, stamped reads in. Knows HTTP and the clock, no protocol.

``loop`` is the one thread all streams live on, ``seam`` what a client must be able to do, ``http`` the client we use,
``network`` what stamps its reads and ``extent`` where its body ends, ``body`` what the bytes of a response are,
``watch`` and ``retry`` when to give up and when to try again.
"""

from __future__ import annotations

from tokenstream_magic.transport.seam import Exchange


def new_exchange() -> Exchange:
    """An exchange of the client we use; httpx is imported when the first one is made."""
    from tokenstream_magic.transport.http import HttpExchange

    return HttpExchange()
