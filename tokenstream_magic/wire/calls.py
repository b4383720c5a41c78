"""Which tool call a piece belongs to, whatever the server's indexes and ids do."""

from __future__ import annotations

MOST_CALLS = 1024


class Calls:
    """The tool calls of one choice, by their ids and by the indexes the server gives them."""

    def __init__(self) -> None:
        self._ids: list[str | None] = []
        self._by_id: dict[str, int] = {}
        self._by_index: dict[int, int] = {}
        self._shared: set[int] = set()  # indexes that more than one call was given

    def place(self, identifier: str | None, index: int | None) -> int:
        """The position of the call a piece belongs to; opens a new one when it belongs to none."""
        if identifier is not None and identifier in self._by_id:
            return self._by_id[identifier]
        known = self._by_index.get(index) if index is not None and index not in self._shared else None
        if known is not None and (identifier is None or self._ids[known] is None):
            self._name(known, identifier)
            return known
        if self._ids and (len(self._ids) >= MOST_CALLS or (identifier is None and (index is None or index in self._shared))):
            return len(self._ids) - 1
        if index is not None:
            if index in self._by_index:
                self._shared.add(index)
            self._by_index[index] = len(self._ids)
        self._ids.append(None)
        self._name(len(self._ids) - 1, identifier)
        return len(self._ids) - 1

    def _name(self, position: int, identifier: str | None) -> None:
        if identifier is not None and self._ids[position] is None:
            self._ids[position] = identifier
            self._by_id[identifier] = position
