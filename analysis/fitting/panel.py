"""The panel on how a fitted indexer was fitted; only models under one have it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.fitting.figures import learned_by_model, learning_curves, recall_by_step
from indexscope.analysis.fitting.summary import summarised
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import number, percent
from indexscope.analysis.report.overlaid import looks
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel

#: Steps whose mean stands for the beginning and for the end.
FEW = 10


def words(frames: Frames) -> Sequence[str]:
    """Steps, divergence at the beginning and in the end, and recall on held-out text."""
    curves, held_out = frames.get("fit_curves"), frames.get("fit_held_out")
    if curves is None or curves.is_empty():
        return ()
    by_step = curves.group_by("step").agg(pl.col("kl").mean()).sort("step")
    first, last = (float(by_step["kl"].slice(start, FEW).mean()) for start in (0, -FEW))  # type: ignore[arg-type]
    said = [
        f"Its indexer was fitted in {int(by_step['step'][-1])} steps, with the model frozen: KL to the attention went "
        f"from {number(first)} to {number(last)} nats on training text (mean of layers, of {FEW} steps each)."
    ]
    looked = recall_by_step(held_out) if held_out is not None else pl.DataFrame()
    if looked.height > 1:
        shares = [percent(looked["recall_of_oracle"][place]) for place in (0, -1)]
        said.append(
            f"On held-out text it kept {shares[0]} of the best choice's recall at step {looked['step'][0]} and "
            f"{shares[1]} at step {looked['step'][-1]}."
        )
    return said


def draw(frames: Frames) -> list[Drawn]:
    """Learning curves by layer."""
    curves, held_out = frames.get("fit_curves"), frames.get("fit_held_out")
    if curves is None or curves.is_empty() or held_out is None:
        return []
    budgets = sorted(held_out["topk"].unique()) or [0]
    topk = budgets[len(budgets) // 2]
    caption = "A line a layer; the dotted line is where the sparse stage begins, whose KL is over the selected keys."
    figure = learning_curves(curves, held_out.filter(attention="dense"), topk)
    return [Drawn("learning", "Learning curves", caption, figure)]


def across(report: ReportInput) -> list[Drawn]:
    """KL and held-out recall over steps, of all models under a fitted indexer."""
    caption = (
        "Left, KL of the head-mean attention to the softmax of the index scores on training text, mean of layers; in a "
        "sparse stage over the selected keys. Right, recall of the selection relative to the best choice on held-out "
        "text, the model's own attention dense."
    )
    curves, held_out = report.frames("fitting", "fit_curves"), report.frames("fitting", "fit_held_out")
    return [Drawn("learned", "How fitted indexers learned", caption, learned_by_model(curves, held_out, looks(report)))]


def charts(frames: Frames) -> list[Chart]:
    """KL and held-out skill of the chosen layer over steps."""
    curves, held_out = frames.get("fit_curves"), frames.get("fit_held_out")
    found = []
    if curves is not None and len(curves):
        found.append(
            Chart(
                title="KL while the indexer was fitted",
                about="On training text.",
                kind="line",
                frame=chart_rows(curves.sort("layer", "stage", "step"), "layer", "stage", "step", "kl"),
                x="step",
                y="kl",
                xlabel="step",
                ylabel="KL (nats)",
                series="stage",
            )
        )
    if held_out is not None and len(dense := held_out.filter(attention="dense")):
        looked = summarised(dense, ("topk", "layer", "step")).sort("layer", "topk", "step")
        looked = looked.with_columns(keys=pl.format("{} keys", "topk"))
        found.append(
            Chart(
                title="Skill on held-out text while the indexer was fitted",
                about="1 is the best choice of as many keys, 0 a random one.",
                kind="line",
                frame=chart_rows(looked, "layer", "keys", "step", "selection_skill"),
                x="step",
                y="selection_skill",
                xlabel="step",
                ylabel="skill",
                series="keys",
            )
        )
    return found


PANEL = Panel(
    analysis="fitting",
    order=90,
    chapter="trust",
    title="How the indexer was fitted",
    about="Learning curves of `indexscope fit`, as they lie beside the indexer that this model is under.",
    words=words,
    draw=draw,
    charts=charts,
    across=across,
)
