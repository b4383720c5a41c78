"""A scripted server: what it says, how fast, and how it fails is written down beforehand. For lessons and tests."""

from tokenstream_magic.mock.files import load
from tokenstream_magic.mock.script import SCRIPTS, Citation, Script, Tool, words
from tokenstream_magic.mock.server import MockServer

__all__ = ["SCRIPTS", "Citation", "MockServer", "Script", "Tool", "load", "words"]
