"""What a report says of a fit, from planted curves."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.fitting.figures import learned_by_model, recall_by_step
from indexscope.analysis.fitting.panel import charts, draw, words
from indexscope.analysis.fitting.tables import CURVES, HELD_OUT
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.style import look


def planted() -> dict[str, pl.DataFrame]:
    """Two layers over 40 steps: KL falls from 2 and from 4 to 1, recall rises from 0.5 to 0.9."""
    curves = [
        {"step": step, "stage": "dense" if step <= 30 else "sparse", "indexer": "h2-d8", "layer": layer, "topk": None,
         "kl": (high if step <= 20 else 1.0)}
        for step in range(1, 41) for layer, high in ((0, 2.0), (1, 4.0))
    ]  # fmt: skip
    held_out = [
        {"step": step, "attention": attention, "indexer": "h2-d8", "topk": topk, "layer": layer, "sample": sample,
         "queries_in_effect": 10, "selection_recall": recall * 0.8, "oracle_recall": 0.8, "random_recall": 0.1,
         "queries": 12, "kl": 1.0}
        for step, attention, recall in ((20, "dense", 0.5), (40, "dense", 0.9), (40, "sparse", 0.7))
        for topk in (4, 8) for layer in (0, 1) for sample in range(3)
    ]  # fmt: skip
    return {
        "fit_curves": pl.DataFrame(curves, schema=CURVES.schema),
        "fit_held_out": pl.DataFrame(held_out, schema=HELD_OUT.schema),
    }


def test_the_sentences_tell_where_divergence_and_recall_began_and_ended() -> None:
    first, second = words(planted())
    assert "fitted in 40 steps" in first and "from 3 to 1 nats" in first
    assert second == (
        "On held-out text it kept 50\u202f% of the best choice's recall at step 20 and 90\u202f% at step 40."
    ), second


def test_a_model_without_a_fit_has_nothing_to_say() -> None:
    assert words({}) == () and draw({}) == [] and charts({}) == []


def test_recall_by_step_leaves_out_what_was_measured_with_the_body_sparse() -> None:
    found = recall_by_step(planted()["fit_held_out"])
    assert found["step"].to_list() == [20, 40]
    assert found["recall_of_oracle"].to_list() == pytest.approx([0.5, 0.9])


def test_charts_are_of_one_layer_at_a_time() -> None:
    curves, skill = charts(planted())
    assert curves.layered and skill.layered
    assert len(curves.frame) == 80
    own = skill.frame.filter(layer=1, keys="8 keys").sort("step")
    assert own["selection_skill"].to_list() == pytest.approx([(0.4 - 0.1) / 0.7, (0.72 - 0.1) / 0.7])


def test_the_figure_of_all_models_holds_mean_divergence_and_recall_of_those_that_were_fitted() -> None:
    frames = planted()
    figure = learned_by_model(
        {"fitted": frames["fit_curves"]}, {"fitted": frames["fit_held_out"]}, {"base": look(0), "fitted": look(1)}
    )
    assert isinstance(figure, Drawing)
    kl = figure.data.filter(panel="KL").sort("step")
    assert (kl["kl"][0], kl["kl"][-1]) == (3.0, 1.0)
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]
    assert learned_by_model({}, {}, {"base": look(0)}) is None
    (drawn,) = draw(frames)
    assert drawn.figure is not None
