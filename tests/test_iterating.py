"""An answer piece by piece: what is handed on, and that leaving stops the run."""

import asyncio

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest


def test_the_pieces_are_the_answer_with_the_time_of_each(mock):
    pieces = list(ts.events("Hi", "story", base_url=mock.base_url))
    assert "".join(piece.text for piece in pieces) == ts.transcripts.last().text
    times = [piece.ms for piece in pieces]
    assert times == sorted(times)
    assert {(piece.channel, piece.choice) for piece in pieces} == {("text", 0)}


def test_leaving_a_with_block_stops_the_run(mock):
    with ts.events("Hi", "endless", base_url=mock.base_url) as pieces:
        first = next(pieces)
        assert pieces.transcript.outcome == "running"
    assert mock.wait_for(1).closed.wait(5)
    assert (pieces.transcript.outcome, pieces.transcript.stop_cause) == ("stopped", "api")
    assert pieces.transcript.text.startswith(first.text)


def test_leaving_an_async_with_block_stops_the_run(mock):
    async def first():
        async with ts.aevents("Hi", "endless", base_url=mock.base_url) as pieces:
            async for _ in pieces:
                break
        return pieces.transcript

    transcript = asyncio.run(first())
    assert mock.wait_for(1).closed.wait(5)
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "api")


def test_stop_ends_the_loop_and_keeps_what_came(mock):
    pieces = ts.events("Hi", "endless", base_url=mock.base_url)
    came = []
    for piece in pieces:
        came.append(piece.text)
        pieces.stop()
    assert pieces.transcript.text == "".join(came)


def test_what_is_wrong_is_said_before_the_first_piece_is_asked_for():
    with pytest.raises(BadRequest, match="no model"):
        ts.events("Hi", "nonsense")
    with pytest.raises(BadRequest, match="no flag"):
        ts.aevents("Hi", "local", temperatur=1)
