"""How a process that is one command ends when it is interrupted. Imports nothing large: it is there before anything else is."""

from __future__ import annotations

import os

INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it."""


def end(*_: object) -> None:
    """An interrupt while something is being imported: the process ends here.

    A KeyboardInterrupt in an import may become another error, or tear down a compiled module in the middle.
    """
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
