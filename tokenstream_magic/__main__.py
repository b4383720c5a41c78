"""Where ``tokenstream`` begins: nothing large is imported before an interrupt has somewhere to go."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # all of ``signal`` that is needed, without what that imports
import sys

from tokenstream_magic.ending import end


def main() -> int:
    """Runs the command line, and returns its exit code."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, end)
    from tokenstream_magic import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
