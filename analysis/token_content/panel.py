"""What kinds of tokens the selection holds, with excerpts of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from indexscope.analysis.names import visible
from indexscope.analysis.plots.frames import spread
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, decimals, known, number, percent, span
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, Passage, TextTable, Token
from indexscope.analysis.token_content.figures import content_lift, content_of_models

_PASSAGES = 3

Row = Mapping[str, Any]

TITLE = "Token content"


def words(frames: Frames) -> list[str]:
    """Which kinds are preferred, which avoided, and how the attention compares."""
    lift = frames.get("lift")
    if lift is None:
        return []
    rows = {row["token_class"]: row for row in lift.filter(pl.col("layer").is_null()).iter_rows(named=True)}
    more = [row for row in rows.values() if (known(row["ci_low"]) or 0.0) > 1]
    less = [row for row in rows.values() if known(row["ci_high"]) is not None and row["ci_high"] < 1]
    undecided = [kind for kind, row in rows.items() if row not in more and row not in less]
    found = []
    if more:
        found.append(f"Selected more often than by chance: {_listed(more, descending=True)}.")
    if less:
        found.append(f"Selected less often than by chance: {_listed(less, descending=False)}.")
    if undecided:
        found.append(f"No preference can be told for: {', '.join(undecided)}.")
    for kind, what in (
        ("induction", "keys that follow an earlier copy of the query's token"),
        ("repeated", "earlier copies of the query's token"),
    ):
        if kind in rows:
            found.append(_beside_attention(rows[kind], what) + _strongest(lift, kind))
    return found


def _listed(rows: Sequence[Row], descending: bool) -> str:
    ordered = sorted(rows, key=lambda row: row["lift"], reverse=descending)
    return ", ".join(f"{row['token_class']} {_banded(row, '')}" for row in ordered)


def _banded(row: Row, prefix: str) -> str:
    value, low, high = (row[f"{prefix}{name}"] for name in ("lift", "ci_low", "ci_high"))
    places = decimals((known(low), known(high)), known(value))
    return number(value, places=places) + ("" if known(low) is None else f" ({span(low, high, places=places)})")


def _beside_attention(row: Row, what: str) -> str:
    return (
        f"The selection takes {what} {_banded(row, '')} times as often as chance, the dense attention puts "
        f"{_banded(row, 'attention_')} times as much on them as uniform attention would (n = {row['n']} samples)"
    )


def _strongest(lift: pl.DataFrame, kind: str) -> str:
    rows = lift.filter(pl.col("layer").is_not_null() & (pl.col("token_class") == kind) & pl.col("lift").is_not_null())
    if rows.height < 2:
        return "."
    row = rows.sort("lift", "layer", descending=[True, False]).row(0, named=True)
    return f"; most in layer {row['layer']}, {_banded(row, '')}."


def draw(frames: Frames) -> list[Drawn]:
    """Lift by kind and by layer."""
    caption = (
        "Left: how much more often than by chance keys of each kind are selected, and how much more attention than "
        "uniform they get. Right: the kinds farthest from chance, layer by layer. Kinds lie at different distances "
        "from the query, so a preference for positions shows here too."
    )
    figure = content_lift(frames["lift"]) if "lift" in frames else None
    return [Drawn("content", "Lift by kind of token", caption, figure)]


def across(report: ReportInput) -> list[Drawn]:
    """Lift by kind of all models."""
    figure = content_of_models(report.frames("token_content", "lift"), overlaid(report))
    caption = (
        "How many times as often as a random choice of as many keys each kind of token is selected; 1: no preference. "
        f"Bars are the {report.interval}. Induction keys follow an earlier copy of the query's token. Kinds lie at "
        "different distances from the query, so that a preference for positions shows here too."
    )
    return [Drawn("token-content", "Preferred kinds of tokens", caption, figure)]


def tables(frames: Frames) -> list[TextTable]:
    """Lift of every kind over all layers."""
    lift = frames.get("lift")
    if lift is None:
        return []
    lines = [
        (
            row["token_class"],
            number(row["lift"], places=_places(row, "")),
            span(row["ci_low"], row["ci_high"], places=_places(row, "")),
            number(row["attention_lift"], places=_places(row, "attention_")),
            span(row["attention_ci_low"], row["attention_ci_high"], places=_places(row, "attention_")),
            count(row["selections"]),
            count(row["n"]),
        )
        for row in lift.filter(pl.col("layer").is_null()).iter_rows(named=True)
    ]
    heads = ("kind of token", "lift", "CI", "attention lift", "CI", "selections", "n (samples)")
    caption = "Selections over those expected by chance, over all layers; 1 is no preference"
    return [TextTable(caption, heads, tuple(lines))]


def _places(row: Row, prefix: str) -> int | None:
    return decimals((known(row[f"{prefix}ci_low"]), known(row[f"{prefix}ci_high"])), known(row[f"{prefix}lift"]))


def passages(frames: Frames) -> list[Passage]:
    """At most three excerpts, of layers and samples as far apart as there are."""
    examples = frames.get("examples")
    if examples is None:
        return []
    layers = spread(examples["layer"].unique().to_list(), _PASSAGES)
    found = []
    for place, layer in enumerate(layers):
        own = examples.filter(pl.col("layer") == layer)
        samples = sorted(own["sample"].unique().to_list())
        found.append(_passage(own.filter(pl.col("sample") == samples[place % len(samples)]).sort("position")))
    return found


def _passage(rows: pl.DataFrame) -> Passage:
    first = rows.row(0, named=True)
    shown, outside = int(rows["selected"].sum()), first["outside"]
    caption = (
        f"Layer {first['layer']}, sample {first['sample']}, query at position {first['query']} (outlined): "
        f"{shown} of its {shown + outside} selected keys are in the excerpt (underlined, darker with more attention); "
        f"all of them hold {percent(first['recall']) if known(first['recall']) is not None else DASH} of the attention."
    )
    most = max((row["attention"] for row in rows.filter("selected").iter_rows(named=True)), default=0.0) or 1.0
    tokens, before = [], None
    for row in rows.iter_rows(named=True):
        gap = row["position"] > 0 if before is None else row["position"] > before + 1
        weight = (row["attention"] / most) ** 0.5 if row["selected"] else 0.0
        tokens.append(Token(row["token"], weight, row["selected"], row["position"] == first["query"], gap))
        before = row["position"]
    return Passage(caption, tuple(tokens))


def excerpt(frames: Frames) -> pl.DataFrame | None:
    """One text for each layer, of the same sample where it has one, with the selected tokens."""
    examples = frames.get("examples")
    if examples is None:
        return None
    layers = examples.group_by("sample").agg(pl.col("layer").n_unique())
    sample = layers.sort("layer", "sample", descending=[True, False])["sample"][0]
    most = pl.col("attention").filter("selected").max().over("layer")
    shown = examples.filter(pl.col("sample") == sample).with_columns(
        token=pl.col("token").map_elements(visible, pl.String),
        weight=pl.when("selected").then((pl.col("attention") / most).sqrt()).otherwise(-1.0),
    )
    columns = ("sample", "layer", "query", "position", "token", "weight", "recall")
    return shown.sort("layer", "position").select(columns)


def charts(frames: Frames) -> list[Chart]:
    """Lift by kind of token in every layer."""
    lift = frames.get("lift")
    if lift is None:
        return []
    rows = lift.filter(pl.col("layer").is_not_null() & pl.col("lift").is_finite())
    kinds = list(dict.fromkeys(lift["token_class"]))
    place = pl.col("token_class").replace_strict(
        {kind: place for place, kind in enumerate(kinds)}, return_dtype=pl.Int32
    )
    # Twofold is a strong preference for a kind; beyond eightfold a colour need not tell more.
    shown = rows.select("layer", "token_class", "lift", powers=pl.col("lift").log(2).clip(-3, 3), place=place)
    return [
        Chart(
            "Preferred kinds of tokens by layer",
            "Selections over those of a random choice of as many keys, in powers of two: 0 is as often, 1 twice, −1 "
            "half as often. What lies beyond 3 is coloured as that.",
            "map",
            shown.sort("place", "layer"),
            x="place",
            labels="token_class",
            y="layer",
            ylabel="layer",
            shade="powers",
            middle=0.0,
            digits=3,
        )
    ]


PANEL = Panel(
    analysis="token_content",
    order=30,
    chapter="selects",
    title=TITLE,
    about=(
        "Lift is selections over those of a random selector of the same size, by the text of the key and by its "
        "relation to the query: induction keys follow an earlier copy of the query's token. Sampled queries in effect "
        "only. The excerpts show, in a few layers, the query of median recall of one sample each."
    ),
    words=words,
    draw=draw,
    tables=tables,
    passages=passages,
    excerpt=excerpt,
    charts=charts,
    across=across,
)
