"""Pictures: drawn from what happened, honest axes, and a sentence where there is nothing to draw."""

from __future__ import annotations

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments import picture as pictures, plots_of_runs
from tokenstream_magic.mock.script import Script, words

SECRET = r"$\frac{1}{0}$ é 日本"


@pytest.fixture
def lab(mock):
    mock.scripts |= {
        "talks": Script(text="one two three four five six seven eight", first=0.02, gap=0.004, reasoning=words("well now")),
        "fast": Script(text="one two three four", gap=0.001),
    }
    return {"base_url": mock.base_url, "protocol": "openai-chat", "max_retries": 0}


def drawn(figure) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(pictures.png(figure))).convert("RGB"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_kind_is_drawn_in_light_and_dark(lab, theme):
    transcript = ts.stream("hi", "talks", **lab)
    result = ts.sweep("{x}", ["talks", "fast"], {"x": [1, SECRET], "temperature": [0, 1]}, repeat=2, **lab)
    kinds = [(transcript, kind) for kind in ("timeline", "reading", "gaps")]
    kinds += [(result, kind) for kind in ("distribution", "ecdf", "box", "heatmap", "gaps", "drift")]
    for subject, kind in kinds:
        picture = drawn(subject.plot(kind, theme=theme))
        paper = np.asarray([int(pictures.THEMES[theme].paper[i : i + 2], 16) for i in (1, 3, 5)])
        assert (picture[0, -1] == paper).all(), kind
        assert 0.01 < (np.abs(picture.astype(int) - paper).sum(axis=2) > 60).mean() < 0.8, kind  # something, and not a wall of ink


def test_a_timeline_has_a_line_for_every_chunk(lab):
    transcript = ts.stream("hi", "talks", **lab)
    (axes,) = transcript.plot().axes
    lines = sum(len(collection.get_segments()) for collection in axes.collections if hasattr(collection, "get_segments"))
    assert lines == len(transcript.timeline)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["text", "reasoning"]
    assert axes.get_xlim()[0] == 0 and "(ms)" in axes.get_xlabel()


def test_a_reader_waits_for_a_slow_model_and_not_for_a_fast_one():
    slow, waited = plots_of_runs._read([1.0, 2.0, 3.0], [1, 2, 3], speed=4.0)
    assert waited == pytest.approx(1.5) and slow[-1] == (3.25, 3.0)
    _, none = plots_of_runs._read([1.0, 1.1, 1.2], [5, 10, 15], speed=4.0)
    assert none == 0


def test_amounts_begin_at_zero_and_decades_are_logarithmic_and_say_so(lab, mock):
    mock.scripts["glacial"] = Script(text="a b", first=0.5)
    near = ts.sweep("{x}", ["talks"], {"x": [1]}, repeat=3, **lab).plot("box", figures=["e2e_ms"]).axes[0]
    assert near.get_xscale() == "linear" and near.get_xlim()[0] == 0
    far = ts.sweep("{x}", ["fast", "glacial"], {"x": [1]}, repeat=2, **lab).plot("box", figures=["ttft_ms"]).axes[0]
    assert far.get_xscale() == "log" and "logarithmic" in far.get_xlabel()


def test_a_heat_map_writes_the_medians(lab):
    result = ts.sweep("{x}", ["talks"], {"x": [1, 2, 3], "temperature": [0, 1]}, repeat=1, **lab)
    texts = [text.get_text() for text in result.plot("heatmap", figure="output_tokens").axes[0].texts]
    assert texts == ["10"] * 6


def test_what_cannot_be_drawn_is_said(lab):
    failed = ts.stream("hi", "unauthorized", **lab)
    with pytest.raises(BadRequest, match="Nothing arrived"):
        failed.plot()
    with pytest.raises(BadRequest, match="no plot 'pie'"):
        failed.plot("pie")
    with pytest.raises(BadRequest, match="no theme"):
        failed.plot(theme="pink")
    nothing = ts.sweep("{x}", ["unauthorized"], {"x": [1]}, **lab)
    with pytest.raises(BadRequest, match="No run is complete"):
        nothing.plot()
    assert "image/png" not in nothing._repr_mimebundle_()[0]
    with pytest.raises(BadRequest, match="two columns"):
        ts.sweep("{x}", ["talks"], {"x": [1]}, **lab).plot("heatmap")


def test_the_theme_follows_matplotlibs_own(lab):
    transcript = ts.stream("hi", "talks", **lab)
    with mpl.rc_context({"figure.facecolor": "black"}):
        assert mpl.colors.to_hex(transcript.plot().get_facecolor()) == pictures.THEMES["dark"].paper
    assert transcript.plot()._repr_png_()[:4] == b"\x89PNG"


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys, tokenstream_magic as ts; r = ts.sweep('{x}', ['mock/hello'], {'x': [1]}, no_log=True); repr(r);"
        "print([m for m in ('matplotlib', 'pandas', 'numpy', 'distributed', 'dask') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "[]"


def test_a_column_with_too_many_values_is_refused_when_named_and_left_out_otherwise(lab):
    result = ts.sweep("{x}", ["fast"], {"x": list(range(12)), "temperature": [0, 1]}, **lab)
    assert [label.get_text() for label in result.plot("box").axes[0].get_yticklabels()] == ["1", "0"]
    with pytest.raises(BadRequest, match="12 values"):
        result.plot("box", by="x")
    assert "image/png" in ts.sweep("{x}", ["fast"], {"x": list(range(12))}, **lab)._repr_mimebundle_()[0]


def test_growth_draws_each_side_of_a_comparison_and_keeps_a_blind_one_blind(lab):
    result = ts.compare("hi", ["talks", "fast"], blind=True, order_seed=1, **lab)
    labels = [text.get_text() for text in result.plot().axes[0].get_legend().get_texts()]
    assert [label[:2] for label in labels] == ["A:", "B:"] and not any("talks" in label or "fast" in label for label in labels)
    result.vote("tie")
    labels = [text.get_text() for text in result.plot().axes[0].get_legend().get_texts()]
    assert sorted(label.split(":")[0].split("/")[-1] for label in labels) == ["fast", "talks"]


def test_a_timeline_says_what_came_together_and_marks_the_silence_in_which_a_run_ended(mock, lab):
    mock.scripts |= {
        "whole": Script(text="one two three four five six", gap=0.02, buffered=True),
        "dies": Script(text="one two three four five six", gap=0.02, stall_after=4),
    }
    assert {"\u00d76"} <= {text.get_text() for text in ts.stream("hi", "whole", **lab).plot().axes[0].texts}
    dead = ts.stream("hi", "dies", idle_timeout=1.2, **lab).plot()
    assert any(text.get_text().startswith("silence 1.2") for text in dead.axes[0].texts)
