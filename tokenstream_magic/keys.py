"""Keys: a text that shows itself nowhere, and the system keyring in which users may keep theirs.

An entry of the keyring is filed under the origin it belongs to, so a key that was kept for one server is found for no
other. The package ``keyring`` is optional. Its backends may ask the user, or hang: each is asked on a thread of its
own and waited for only so long.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tokenstream_magic.errors import MASK, BadRequest, TokenstreamError

SERVICE = "tokenstream-magic"
PATIENCE = 3.0

_lock = threading.Lock()
_asking: threading.Thread | None = None


class Secret:
    """A key that shows itself nowhere: every rendering is a mask, and only ``reveal`` gives the text."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> Any:
        raise TypeError("a key is not pickled")


class KeyringError(TokenstreamError):
    """The system keyring is locked, broken or silent."""

    type = "keyring"


def secret(text: str, where: str) -> Secret | None:
    """The key in ``text``, None when there is none. Raises BadRequest, which repeats nothing, when it cannot be a key."""
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadRequest(f"What {where} holds is no key: it has characters that no key has.", "Set it again, without line breaks.")
    return Secret(text) if text else None


def has_keyring() -> bool:
    """Whether the package ``keyring`` is installed."""
    return importlib.util.find_spec("keyring") is not None


def kept(origin: str, patience: float = PATIENCE) -> Secret | None:
    """The key the user keeps for ``origin``. Raises KeyringError when the keyring cannot be asked."""
    if not has_keyring():
        return None

    def look(keyring: Any) -> str | None:
        try:
            found = keyring.get_password(SERVICE, origin)
        except keyring.errors.NoKeyringError:  # a system without one keeps nothing
            return None
        return found if isinstance(found, str) else None

    found = _ask(look, patience)
    return secret(found, "the keyring") if found else None


def keep(origin: str, key: Secret, patience: float = 60.0) -> None:
    """Keeps ``key`` for ``origin``; the system may ask the user to unlock the keyring first."""
    _ask(lambda keyring: keyring.set_password(SERVICE, origin, key.reveal()), patience)


def forget(origin: str, patience: float = 60.0) -> bool:
    """Removes the key kept for ``origin``. False when there is none."""

    def remove(keyring: Any) -> bool:
        if keyring.get_password(SERVICE, origin) is None:
            return False
        keyring.delete_password(SERVICE, origin)
        return True

    return bool(_ask(remove, patience))


def backend(patience: float = PATIENCE) -> str:
    """Where the system keeps keys, in words. Raises KeyringError when there is no such place."""

    def name(keyring: Any) -> str:
        chosen = keyring.get_keyring()
        if getattr(chosen, "priority", 1) <= 0:  # the backends that only fail, or forget, have no priority
            raise keyring.errors.NoKeyringError
        return str(getattr(chosen, "name", type(chosen).__name__))

    return str(_ask(name, patience))


def _ask(action: Callable[[Any], Any], patience: float) -> Any:
    """What ``action`` gives for the package, waited for at most ``patience`` seconds. What a backend says is not repeated."""
    global _asking
    if not has_keyring():
        raise KeyringError("The package keyring is not installed.", 'pip install "tokenstream-magic[keyring]"')
    answered: Future[Any] = Future()

    def ask() -> None:
        try:
            import keyring
            import keyring.errors

            answered.set_result(action(keyring))
        except BaseException as error:  # a backend is somebody else's code and may raise anything
            answered.set_exception(_failure(error))

    with _lock:  # one question at a time: a backend that asks the user asks once
        if _asking is not None and _asking.is_alive():
            raise KeyringError("The system keyring does not answer.", "Unlock it, or use the environment variable.")
        _asking = threading.Thread(target=ask, name="tokenstream-keyring", daemon=True)
        _asking.start()
        _asking.join(patience)
        if not answered.done():
            raise KeyringError(f"The system keyring did not answer within {patience:g} s.", "Unlock it, or use the environment variable.")
    return answered.result()


def _failure(error: BaseException) -> KeyringError:
    known = {
        "NoKeyringError": ("This system has no keyring that Python can use.", "Set the environment variable instead."),
        "KeyringLocked": ("The system keyring is locked.", "Unlock it, or use the environment variable."),
    }
    for kind in type(error).__mro__:
        if kind.__name__ in known:
            return KeyringError(*known[kind.__name__])
    return KeyringError(f"The system keyring failed ({type(error).__name__}).", "Use the environment variable.")
