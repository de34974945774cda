"""What a report says of single indexer heads."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.indexer_heads.figures import head_similarity, pruning_curves
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.numbers import count, decimals, known, number, percent, span
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

ACCEPTED = 0.01
"""Loss of recall up to which heads are said to be dispensable; the interval's upper end must stay below it."""
_MOST_ROWS = 64
_MOST_CELLS = 8192
"""Of the maps of all layers together."""


def _words(frames: Frames) -> Sequence[str]:
    return [*_agreement(frames), *_roles(frames), *_dispensable(frames), *_alike(frames)]


def _agreement(frames: Frames) -> list[str]:
    found = {name: _overall(frames, name) for name in ("head_effective", "head_agreement", "leave_one_out_loss")}
    said = []
    effective, agreement, loss = found["head_effective"], found["head_agreement"], found["leave_one_out_loss"]
    focus = frames.get("focus")
    if effective is not None and focus is not None:
        heads = focus.group_by("layer").len()["len"].mean()
        said.append(
            f"A layer has {number(heads)} indexer heads, and their score on the selected keys is spread as over "
            f"{_with_interval(effective)} equal ones."
        )
    if agreement is not None and focus is not None:
        said.append(
            f"By itself a head would select {_with_interval(agreement)} of the keys that all select together; a random "
            f"selector would hit {number(focus['random_overlap'].mean(), places=2)}."
        )
    if loss is not None:
        said.append(f"Leaving out one head costs {_with_interval(loss)} of the attention mass on average.")
    return said


def _roles(frames: Frames) -> list[str]:
    focus = frames.get("focus")
    if focus is None:
        return []
    counts = focus.group_by("words").len().sort("len", "words", descending=[True, False])
    listed = ", ".join(f"{words} ({heads})" for words, heads in counts.iter_rows())
    against = focus.filter(pl.col("against_share") > pl.col("adds_share")).height
    votes = f" {against} of {focus.height} heads mostly have a negative weight and vote keys down." if against else ""
    return [f"What the heads of all layers focus on: {listed}.{votes}"]


def _dispensable(frames: Frames) -> list[str]:
    pruning = frames.get("pruning")
    if pruning is None:
        return []
    said = []
    together = pruning.filter(pl.col("layer").is_null() & (pl.col("removed") > 0))
    within = together.filter((pl.col("ci_high") <= ACCEPTED) & (pl.col("recall_loss") <= ACCEPTED)).sort("removed")
    if within.height:
        row = within.row(-1, named=True)
        said.append(
            f"Without {row['removed']} heads in every layer the indexers' query-key products cost "
            f"{percent(row['flops_share'])} and recall falls by {_loss(row)}, n = {row['n']} samples that had no part "
            "in choosing the heads."
        )
    elif together.height and together["ci_high"].count():
        row = together.sort("removed").row(0, named=True)
        said.append(
            f"No head can go from every layer at a loss of recall of {percent(ACCEPTED)} or less: without one, recall "
            f"falls by {_loss(row)}, n = {row['n']} samples."
        )
    each = pruning.filter(pl.col("layer").is_not_null())
    fine = each.filter((pl.col("removed") > 0) & (pl.col("ci_high") <= ACCEPTED) & (pl.col("recall_loss") <= ACCEPTED))
    if fine.height:
        most = fine.group_by("layer").agg(pl.col("removed").max()).sort("layer")
        listed = ", ".join(f"{removed} in layer {layer}" for layer, removed in most.head(12).iter_rows())
        more = f" and others in {most.height - 12} further layers" if most.height > 12 else ""
        said.append(
            f"Layer by layer, heads that can go at a loss of recall of at most {percent(ACCEPTED)} (upper end of the "
            f"interval): {listed}{more}."
        )
    return said


def _alike(frames: Frames) -> list[str]:
    pairs = frames.get("pairs")
    known_pairs = None if pairs is None else pairs.filter(pl.col("correlation").is_not_null())
    if known_pairs is None or known_pairs.is_empty():
        return []
    row = known_pairs.sort("correlation", "layer", descending=[True, False]).row(0, named=True)
    mean = _overall(frames, "head_correlation")
    usual = "" if mean is None else f"; pairs of one layer have {_with_interval(mean)} on average"
    return [
        f"Most alike are heads {row['head_a']} and {row['head_b']} of layer {row['layer']}, whose scores correlate by "
        f"{number(row['correlation'], places=2)}{usual}."
    ]


def _overall(frames: Frames, metric: str) -> dict[str, object] | None:
    metrics = frames.get("metrics")
    if metrics is None:
        return None
    rows = metrics.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_not_null())
    return rows.row(0, named=True) if rows.height else None


def _with_interval(row: dict[str, object]) -> str:
    low, high = known(row["ci_low"]), known(row["ci_high"])
    places = decimals((low, high), known(row["value"]))
    interval = "" if low is None else f" ({span(low, high, places=places)})"
    return f"{number(row['value'], places=places)}{interval}"


def _loss(row: dict[str, object]) -> str:
    return _with_interval({"value": row["recall_loss"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]})


def _draw(frames: Frames) -> list[Drawn]:
    pairs, pruning = frames.get("pairs"), frames.get("pruning")
    return [
        Drawn(
            "indexer-heads",
            "Similarity of indexer heads",
            "Correlation of the scores of every two indexer heads of a layer over the eligible keys: near 1 one of "
            "them could stand for both. Grey: a head with itself, or one that scores nothing.",
            None if pairs is None else head_similarity(pairs),
        ),
        Drawn(
            "pruning",
            "Recall lost without some indexer heads",
            "Those heads go first without which recall lost least on pilot samples; the loss is that on other "
            "samples. Of two heads that duplicate each other both look superfluous: a better order may exist.",
            None if pruning is None else pruning_curves(pruning),
        ),
    ]


def _charts(frames: Frames) -> list[Chart]:
    focus, pruning, pairs = (frames.get(name) for name in ("focus", "pruning", "pairs"))
    found = []
    if focus is not None:
        rows = focus.filter(pl.col("layer").is_not_null()).sort("layer", "indexer_head")
        found.append(
            Chart(
                "Indexer heads of the layer",
                "Share of the selected keys' score that each indexer head gives, with what it focuses on.",
                "bars",
                rows.select("layer", "indexer_head", "contribution", "words", "n"),
                x="indexer_head",
                xlabel="indexer head",
                y="contribution",
                ylabel="share of score",
            )
        )
    if pruning is not None:
        rows = pruning.filter(pl.col("layer").is_not_null()).sort("layer", "removed")
        found.append(
            Chart(
                "Recall lost without heads of the layer",
                "Those heads go first without which recall lost least on pilot samples; the loss is that on others.",
                "line",
                chart_rows(rows, "layer", "removed", "recall_loss"),
                x="removed",
                xlabel="indexer heads removed",
                y="recall_loss",
                ylabel="recall lost",
            )
        )
    return found if pairs is None else [*found, *_likeness(pairs)]


def _likeness(pairs: pl.DataFrame) -> list[Chart]:
    """The pairs of every layer, or only each head's nearest where that would be too many."""
    known = pairs.filter(pl.col("correlation").is_finite()).select("layer", "head_a", "head_b", "correlation")
    both = pl.concat([known, known.rename({"head_a": "head_b", "head_b": "head_a"}).select(known.columns)])
    about = "Correlation of the scores of two indexer heads over the eligible keys; near 1 one could stand for both."
    if both.height <= _MOST_CELLS:
        cells = both.sort("layer", "head_a", "head_b")
        map_ = Chart(
            "Similarity of indexer heads",
            about,
            "map",
            cells,
            x="head_a",
            y="head_b",
            shade="correlation",
            middle=0.0,
            xlabel="indexer head",
            ylabel="indexer head",
        )
        return [map_]
    nearest = both.sort("layer", "head_a", "correlation", descending=[False, False, True]).unique(
        ["layer", "head_a"], keep="first", maintain_order=True
    )
    return [
        Chart(
            "Nearest other head",
            f"{about} Of each head the one that is most alike.",
            "bars",
            nearest.select("layer", "head_a", "correlation", nearest="head_b"),
            x="head_a",
            xlabel="indexer head",
            y="correlation",
            ylabel="correlation",
            digits=3,
        )
    ]


def _tables(frames: Frames) -> Sequence[TextTable]:
    focus = frames.get("focus")
    if focus is None:
        return []
    rows = [
        (
            f"{row['layer']}.{row['indexer_head']}",
            str(row["words"]),
            number(row["contribution"], places=3),
            number(row["active_share"], places=3),
            number(row["own_overlap"], places=3),
            number(row["recall_loss"], places=4),
            span(row["recall_loss_ci_low"], row["recall_loss_ci_high"], places=4),
        )
        for row in focus.head(_MOST_ROWS).iter_rows(named=True)
    ]
    of = f"the first {_MOST_ROWS} of {focus.height}" if focus.height > _MOST_ROWS else "all"
    samples = count(focus["n"].max())
    table = TextTable(
        f"Indexer heads, {of}, n = {samples} samples. Share of score: of the selected keys' score; active: keys with a "
        "score above zero; own: selected keys that the head would select by itself; loss: recall lost without it.",
        ("layer.head", "focus", "share of score", "active", "own", "loss", "interval of the loss"),
        tuple(rows),
        open=focus.height <= 24,
    )
    return [table]


PANEL = Panel(
    analysis="indexer_heads",
    order=20,
    chapter="change",
    title="Indexer heads",
    about=(
        "The index score is a weighted sum over indexer heads. What each of them looks at, which score alike, and what "
        "the selection loses when some of them go, at sampled queries that leave keys out."
    ),
    words=_words,
    draw=_draw,
    tables=_tables,
    charts=_charts,
)
