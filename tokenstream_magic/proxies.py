"""The URL of a proxy: what it may be, and how it is shown. A proxy is used only when the user's own configuration names it."""

from __future__ import annotations

from urllib.parse import urlsplit

from tokenstream_magic.errors import BadRequest

_EXAMPLE = 'Example: proxy = "http://proxy.example.org:3128".'


def check_proxy(url: str) -> str:
    """``url`` without a trailing slash; "" is no proxy. Raises BadRequest, which does not repeat it: it may hold a password."""
    url = url.strip()
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise BadRequest("The host or port of the proxy is wrong.", _EXAMPLE) from None
    if parts.scheme.startswith("socks"):
        raise BadRequest("A SOCKS proxy cannot be used.", "Name an HTTP proxy: most SOCKS proxies can be one too.")
    if parts.scheme == "https":
        raise BadRequest("The proxy itself is spoken to over http.", "Write http://: what goes through it is encrypted all the same.")
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or parts.scheme != "http" or not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadRequest("The proxy is no http:// address.", _EXAMPLE)
    return url.rstrip("/")


def shown(url: str) -> str:
    """A proxy's URL without its user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def passwords(url: str | None) -> list[str]:
    """What of a proxy's URL is shown nowhere."""
    parts = urlsplit(url or "")
    return [secret for secret in (parts.netloc.rpartition("@")[0], parts.password) if secret]
