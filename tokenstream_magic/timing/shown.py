"""How far a display is behind the network: what to tell it while it shows, what it says afterwards."""

from __future__ import annotations

from array import array

KEPT = 4096


class Shown:
    """The lag between the arrival of pieces and their showing. Keeps at most :data:`KEPT` of them, evenly spread.

    ``pieces`` is how many were shown, ``last_ms`` and ``max_ms`` the lag of the last and the worst.
    """

    def __init__(self) -> None:
        self.pieces = 0
        self.last_ms = 0.0
        self.max_ms = 0.0
        self._lags = array("d")
        self._every = 1

    def add(self, arrived: int, shown: int) -> None:
        """A piece that arrived at ``arrived`` was shown at ``shown``, both in ns of one clock."""
        self.last_ms = lag = max(0, shown - arrived) / 1e6
        self.max_ms = max(self.max_ms, lag)
        if self.pieces % self._every == 0:
            self._lags.append(lag)
            if len(self._lags) == KEPT:
                self._lags = self._lags[::2]
                self._every *= 2
        self.pieces += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The lag that ``percent`` of the pieces do not exceed (nearest rank); None when nothing was shown."""
        ordered = sorted(self._lags)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None
