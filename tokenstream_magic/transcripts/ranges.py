"""Narrow ranges of values, for quantiles: counts of them say near which value a rank is, so that few values are walked over.

A range is at most a hundred-and-twenty-eighth of its values wide. Its bounds are multiples of powers of two, which floating
point holds exactly: the database and this module agree about every value. Below 0 and above 4.3 thousand million there is one
range each.
"""

from __future__ import annotations

PARTS = 128
_STEP = 1000  # numbers of ranges between two powers of four; at most 512 are used
_POWERS = 17


def sql(column: str) -> str:
    """The number of the range of a column's value, in SQL: larger for larger values."""
    cases = [f"WHEN {column} < 0 THEN -1", f"WHEN {column} < 1 THEN CAST({column} * {PARTS} AS INTEGER)"]
    cases += [
        f"WHEN {column} < {4**power}.0 THEN {power * _STEP} + CAST({column} * {PARTS / 4 ** (power - 1)!r} AS INTEGER)"
        for power in range(1, _POWERS)
    ]
    return f"CASE {' '.join(cases)} ELSE {_POWERS * _STEP} END"


def lowest(number: int) -> float:
    """The smallest value that can be in a range."""
    if number < 0:
        return float("-inf")
    power, part = divmod(number, _STEP)
    if power == _POWERS:
        return float(4 ** (_POWERS - 1))
    return part / PARTS * (4 ** (power - 1) if power else 1)
