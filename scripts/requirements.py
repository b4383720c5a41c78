"""Prints what pyproject.toml asks for, one requirement a line, as ``pip install -r`` reads it.

``python scripts/requirements.py build``: what the package is built with; ``... run EXTRA ...``: what it runs with, and these extras.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def main(kind: str, *extras: str) -> None:
    """Prints the requirements of that kind."""
    described = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    project = described["project"]
    lists = [described["build-system"]["requires"]] if kind == "build" else [project["dependencies"]]
    lists += [project["optional-dependencies"][extra] for extra in extras]
    print("\n".join(requirement for each in lists for requirement in each))


if __name__ == "__main__":
    main(*sys.argv[1:])
