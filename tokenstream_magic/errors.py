"""What goes wrong in words a reader can act on.

Every failure a user can cause is one of these: one line that says what is wrong and one that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

MASK = "***"


class TokenstreamError(Exception):
    """A failure with a cause a reader understands.

    ``message`` says what is wrong, ``hint`` what to do next, ``type`` is the machine-readable name that a
    transcript keeps in ``error.type``. All three are single lines.
    """

    type = "error"

    def __init__(self, message: str, hint: str = "", *, type: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = one_line(hint)
        if type is not None:
            self.type = type
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadRequest(TokenstreamError, ValueError):
    """What was asked for cannot be done: an unknown model, flag, variable or option."""

    type = "bad_request"


class KeyRefused(TokenstreamError):
    """A key would have gone where it must not go (ARCHITECTURE decision 11)."""

    type = "key_refused"


class LocalModelError(TokenstreamError):
    """The embedded model could not be fetched or started."""

    type = "local_model"


class StoreError(TokenstreamError):
    """Transcripts could not be read or written."""

    type = "store"


def one_line(text: object) -> str:
    """``text`` with every run of white space folded, so that it stays one line wherever it is shown."""
    return " ".join(str(text).split())


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every occurrence of a secret masked. Secrets under four characters are left alone."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, MASK)
    return text
