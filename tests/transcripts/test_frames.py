"""DataFrames with types that hold: dates with a zone, unknown figures missing, categories; and one row a chunk."""

from __future__ import annotations

import pandas as pd
import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer


def test_one_row_a_transcript(mock: MockServer) -> None:
    good = ts.stream("Hi", "hello", base_url=mock.base_url, temperature=0.5, tag="kept")
    bad = ts.stream("Hi", "unauthorized", base_url=mock.base_url)
    frame = ts.transcripts.to_pandas()
    assert list(frame["id"]) == [bad.id, good.id]
    assert str(frame["created_at"].dt.tz) == "UTC"
    assert abs((frame["created_at"][1] - pd.Timestamp(good.created_at)).total_seconds()) < 1e-6
    kinds = {
        "model": "category",
        "outcome": "category",
        "text": "string",
        "ttft_ms": "Float64",
        "output_tokens": "Int64",
        "chunks": "Int64",
    }
    assert {name: str(frame[name].dtype) for name in kinds} == kinds
    assert frame["ttft_ms"].isna().tolist() == [True, False]
    assert frame["ttft_ms"][1] == good.timing.ttft_ms
    assert frame["error_status"].tolist()[0] == 401
    assert (frame["options"][1], frame["tags"][1]) == ({"temperature": 0.5}, ["kept"])
    assert ts.transcripts.to_pandas(status="failed")["id"].tolist() == [bad.id]


def test_one_row_a_chunk(mock: MockServer) -> None:
    mock.scripts["two"] = Script(("One ", "two", " three"), reasoning=("let me ", "think"), gap=0.002)
    sent = ts.stream("Hi", "two", base_url=mock.base_url)
    frame = ts.transcripts.to_pandas("chunks")
    assert frame["text"].tolist() == ["let me ", "think", "One ", "two", " three"]
    assert frame["channel"].tolist() == ["reasoning"] * 2 + ["text"] * 3
    assert frame["characters"].sum() == len(sent.text) + len(sent.reasoning)
    assert frame["gap_ms"].isna().tolist() == [True, False, False, False, False]
    assert frame["ms"].is_monotonic_increasing
    assert frame["ms"].iloc[0] == pytest.approx(sent.timing.ttft_ms, abs=0.001)
    assert set(frame["transcript"]) == {sent.id}
    assert frame["gap_ms"].iloc[1:].tolist() == pytest.approx([gap / 1e6 for gap in sent.timeline.gaps()])


def test_nothing_gives_the_same_columns() -> None:
    for kind in ("transcripts", "chunks"):
        frame = ts.transcripts.to_pandas(kind)
        assert len(frame) == 0
        assert len(frame.columns) > 8
    with pytest.raises(BadRequest):
        ts.transcripts.to_pandas("sentences")
