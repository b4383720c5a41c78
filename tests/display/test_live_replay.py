"""What the page of a replay is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tokenstream_magic.display import live as live_module
from tokenstream_magic.display.live import LiveView
from tokenstream_magic.record import Transcript


class Opened:
    """The widget model as it is opened, with what a page gets at once."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def on_msg(self, _call: Any) -> None:
        """No page answers."""


@pytest.mark.parametrize("replayed", [None, {"of": "01H", "speed": 2.0, "as": "buffered"}])
def test_a_page_is_told_at_once_what_it_is_a_replay_of(monkeypatch: pytest.MonkeyPatch, replayed: dict[str, Any] | None) -> None:
    monkeypatch.setattr(live_module, "StreamModel", Opened)
    view = LiveView()
    run: Any = SimpleNamespace(id="r", transcript=Transcript(model="m", replayed=replayed))
    view.attach(run)
    opened: Any = view.connect()
    assert opened.state["meta"].get("replayed") == replayed
    assert opened.source()["meta"].get("replayed") == replayed
