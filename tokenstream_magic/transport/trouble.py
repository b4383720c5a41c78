"""What went wrong between here and the server, in one line, and what to do about it."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import httpcore

from tokenstream_magic.errors import one_line, redact
from tokenstream_magic.proxies import passwords, shown
from tokenstream_magic.transport.network import HOST_UNKNOWN, LINK_LOCAL, HandshakeError
from tokenstream_magic.transport.seam import CONNECT_TIMEOUT, Call, ExchangeError

ERRORS = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.UnsupportedProtocol,
    httpcore.ProxyError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
)
"""What httpcore raises."""

_NETWORK = "Check the address and your network."
# verify codes of OpenSSL -> what is wrong with a certificate, what to do
_CERTIFICATES = {
    10: ("its certificate has expired", "Its operator must renew it; check this machine's clock too."),
    9: ("its certificate is not valid yet", "Check this machine's clock."),
    62: ("its certificate is for another name", "Check the address: something else answers there."),
    64: ("its certificate is for another address", "Check the address: something else answers there."),
}
_UNTRUSTED = (
    "no authority trusted here has signed its certificate",
    "If the server is your own, name the file of its authority in the environment variable SSL_CERT_FILE.",
)
# parts of OpenSSL's reasons -> what they mean, what to do
_HANDSHAKES = (
    (
        ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH", "UNEXPECTED_MESSAGE"),
        "what answers there does not speak https",
        "If it is a server without encryption, write http://.",
    ),
    (
        ("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE", "ALERT_HANDSHAKE_FAILURE"),
        "it offers only versions of TLS or ciphers that are no longer safe",
        "Its operator must update it.",
    ),
)
_LOST = ("Server disconnected without sending a response", "peer closed connection")


def translated(call: Call, error: Exception) -> ExchangeError:
    """The error to raise for what httpcore raised while ``call`` was under way. Holds no key and no password."""
    if isinstance(error, httpcore.ProxyError):
        return _proxy_refused(call, error)
    if isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.UnsupportedProtocol)):
        message, hint = _no_connection(call, error)
        return ExchangeError(message, hint, type="no_connection")
    if isinstance(error, httpcore.LocalProtocolError):  # its words may hold the header it is about
        return ExchangeError(
            "The request cannot be written as HTTP.", "Check the key: it holds characters no header may hold.", type="bad_request"
        )
    if isinstance(error, httpcore.RemoteProtocolError) and not str(error).startswith(_LOST):
        secure = "\\x15\\x03" in str(error) and urlsplit(call.url).scheme == "http"
        if secure:
            return ExchangeError(f"{_where(call)} speaks https and not http.", "Write https://.", type="bad_response")
        said = _plain(str(error))[:160]
        return ExchangeError(f"What answers at {_where(call)} is no proper HTTP: {said}.", "Check the address.", type="bad_response")
    if str(error).startswith(_LOST[1]):
        return ExchangeError("The connection broke off before the answer was complete.", type="connection_lost")
    hint = ""
    if str(error).startswith(_LOST[0]) and urlsplit(call.url).scheme == "http":
        hint = "If the server speaks https, write https://."
    return ExchangeError(f"The connection broke off: {_plain(str(error)) or type(error).__name__}.", hint, type="connection_lost")


def _proxy_refused(call: Call, error: Exception) -> ExchangeError:
    said = redact(_plain(str(error)), passwords(call.proxy))[:160]
    wants_login = said.startswith("407")
    hint = "Give it user and password in its URL in tokenstream.toml." if wants_login else "Check the proxy in tokenstream.toml."
    return ExchangeError(f"The proxy {shown(call.proxy or '')} let nothing through: {said}.", hint, type="proxy")


def _no_connection(call: Call, error: Exception) -> tuple[str, str]:
    where, reason = _where(call), str(error)
    if isinstance(error, httpcore.ConnectTimeout):
        return f"{where} did not answer within {CONNECT_TIMEOUT:.0f} s.", _NETWORK
    if isinstance(error, HandshakeError):
        what, hint = _insecure(error.cause, reason)
        return f"No secure connection to {_origin(call)}: {what}.", hint
    if call.proxy is not None:
        return f"The proxy {where} cannot be reached.", "Check the proxy in tokenstream.toml."
    if reason == HOST_UNKNOWN:
        return f"The host of {where} is not known.", _NETWORK
    if reason == LINK_LOCAL:
        return f"{where} leads to a link-local address, where clouds keep credentials: nothing was sent.", "Check the address."
    if "Multiple exceptions" in reason or "Connect call failed" in reason or "Connection refused" in reason:
        return f"Nothing is listening at {where}.", "Start the server, or check the address."
    return f"No connection to {where}: {_plain(reason)}.", _NETWORK


def _insecure(error: BaseException | None, reason: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code, _UNTRUSTED)
    name = f"{getattr(error, 'reason', '')} {reason}".upper().replace(" ", "_")
    for parts, what, hint in _HANDSHAKES:
        if any(part in name for part in parts):
            return what, hint
    return _plain(reason), "Check the address, and whether it speaks https."


def _where(call: Call) -> str:
    """What was connected to: a socket, a proxy, or the origin of the URL."""
    return call.socket or (shown(call.proxy) if call.proxy else _origin(call))


def _origin(call: Call) -> str:
    parts = urlsplit(call.url)
    return f"{parts.scheme}://{parts.netloc}"


def _plain(reason: str) -> str:
    return one_line(reason).rstrip(".")
