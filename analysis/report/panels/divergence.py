"""What the indexer does to the predictions: candidates against the baseline, every model against dense attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.plots.output import output_by_group
from indexscope.analysis.report.numbers import DASH, count, decimals, known, number, percent, span
from indexscope.analysis.report.panels.panel import Frames, Panel, TextTable

Row = Mapping[str, Any]
NAMES: Mapping[str, str] = {
    "perplexity_ratio": "perplexity ratio",
    "log_perplexity_correlation": "correlation of log-perplexities",
    "output_kl": "KL divergence: mean",
    "output_kl_p1": "KL divergence: 1\u202f%",
    "output_kl_p10": "KL divergence: 10\u202f%",
    "output_kl_median": "KL divergence: median",
    "output_kl_p90": "KL divergence: 90\u202f%",
    "output_kl_p95": "KL divergence: 95\u202f%",
    "output_kl_p99": "KL divergence: 99\u202f%",
    "output_kl_max": "KL divergence: largest",
    "output_merged": "probability not told apart",
    "probability_change": "Δp of the true token: mean",
    "probability_change_rms": "Δp of the true token: RMS",
    "probability_change_p1": "Δp of the true token: 1\u202f%",
    "probability_change_p10": "Δp of the true token: 10\u202f%",
    "probability_change_p25": "Δp of the true token: 25\u202f%",
    "probability_change_median": "Δp of the true token: median",
    "probability_change_p75": "Δp of the true token: 75\u202f%",
    "probability_change_p90": "Δp of the true token: 90\u202f%",
    "probability_change_p99": "Δp of the true token: 99\u202f%",
    "same_top_token": "same top token",
}
_GROUPED = (
    "output_kl",
    "output_kl_median",
    "output_kl_p99",
    "probability_change_rms",
    "same_top_token",
    "perplexity_ratio",
)
_AGAINST = {"baseline": "against the baseline", "dense": "against the model's own dense attention"}


def words(frames: Frames) -> list[str]:
    """What changed, in the order in which a reader asks."""
    found = []
    rows = _overall(frames, "baseline")
    if "output_kl" in rows and known(rows["output_kl"]["value"]) is not None:
        found += [_divergence(rows), _decisions(rows)]
        merged = known(rows["output_merged"]["value"])
        if merged:
            found.append(
                f"On average {percent(merged)} of the baseline's probability lies on tokens outside the likeliest of "
                "both models, which count as one: the divergence is a lower bound."
            )
    elif note := next((row["note"] for row in rows.values() if row["note"]), None):
        found.append(f"There is no divergence: {note}.")
    if "perplexity_ratio" in rows:
        found.append(f"Its perplexity is {_times(rows['perplexity_ratio'])} that of the baseline{_spread(rows)}.")
    dense = _overall(frames, "dense")
    if "perplexity_ratio" in dense:
        found.append(f"Its perplexity is {_times(dense['perplexity_ratio'])} that with all keys attended to.")
    return found


def _overall(frames: Frames, against: str) -> dict[str, Row]:
    frame = frames.get("divergence")
    if frame is None:
        return {}
    return {row["statistic"]: row for row in frame.filter(pl.col("against") == against).iter_rows(named=True)}


def _divergence(rows: Mapping[str, Row]) -> str:
    largest, high = (number(rows[name]["value"]) for name in ("output_kl_max", "output_kl_p99"))
    return (
        f"The next-token distribution diverges from the baseline's by {_banded(rows['output_kl'])} nats on average, "
        f"{_banded(rows['output_kl_median'])} in the median; after 99\u202f% of the queries it is at most {high}; "
        f"the largest seen is {largest} (n = {rows['output_kl']['n']} samples)."
    )


def _decisions(rows: Mapping[str, Row]) -> str:
    same, change = rows["same_top_token"], rows["probability_change_rms"]
    low, high = known(same["ci_low"]), known(same["ci_high"])
    interval = "" if low is None or high is None else f" (CI {percent(low)} to {percent(high)})"
    return (
        f"The likeliest token stays the same after {percent(same['value'])} of the queries{interval}; the true token's "
        f"probability changes by {number(100 * change['value'], places=2)} percentage points (root mean square)."
    )


def _spread(rows: Mapping[str, Row]) -> str:
    row = rows.get("log_perplexity_correlation")
    value = None if row is None else known(row["value"])
    return (
        ""
        if value is None
        else f"; over tokens, the log-perplexities correlate at {number(100 * value, places=2)}\u202f%"
    )


def _places(row: Row) -> int | None:
    return decimals((known(row["ci_low"]), known(row["ci_high"])), known(row["value"]))


def _banded(row: Row) -> str:
    interval = span(row["ci_low"], row["ci_high"], places=_places(row))
    return number(row["value"], places=_places(row)) + ("" if interval == DASH else f" (CI {interval})")


def _times(row: Row) -> str:
    interval = span(row["ci_low"], row["ci_high"], places=_places(row))
    value = number(row["value"], places=_places(row))
    return f"{value} times" if interval == DASH else f"{value} times (CI {interval}, n = {row['n']} samples)"


def draw(frames: Frames) -> list[tuple[Figure, str, str]]:
    """Divergence and perplexity by position and by class of the next token."""
    figure = None if "divergence_by" not in frames else output_by_group(frames["divergence_by"])
    if figure is None:
        return []
    caption = (
        "Bands and bars: CI. A ratio of 1 is no change. While no query has more keys than the indexer selects, sparse "
        "and dense attention are the same."
    )
    return [(figure, "Predictions by position and by class of the next token", caption)]


def tables(frames: Frames) -> list[TextTable]:
    """All statistics, and the main ones by position and by class."""
    found = []
    rows = [(against, row) for against in _AGAINST for row in _overall(frames, against).values()]
    if rows:
        lines = tuple(
            (
                NAMES[row["statistic"]],
                _AGAINST[against],
                number(row["value"], places=_places(row)),
                row["unit"],
                span(row["ci_low"], row["ci_high"], places=_places(row)),
                count(row["n"]),
            )
            for against, row in rows
        )
        heads = ("statistic", "against", "value", "unit", "CI", "n (samples)")
        caption = "Next-token predictions; percentiles are over queries, weighted by the queries that each stands for"
        found.append(TextTable(caption, heads, lines, open=False))
    if (by := frames.get("divergence_by")) is not None:
        found += [table for axis in ("position", "token class") if (table := _by(by, axis)) is not None]
    return found


def _by(by: pl.DataFrame, axis: str) -> TextTable | None:
    rows = by.filter((pl.col("axis") == axis) & (pl.col("against") == "baseline"))
    if rows.is_empty():
        return None
    lines = []
    for (_, label), own in rows.group_by("bin", "label", maintain_order=True):
        cells = {row["statistic"]: row for row in own.iter_rows(named=True)}
        texts = (
            number(cells[name]["value"], places=_places(cells[name])) if name in cells else DASH for name in _GROUPED
        )
        mean = cells.get("output_kl")
        interval = DASH if mean is None else span(mean["ci_low"], mean["ci_high"], places=_places(mean))
        first, *rest = texts
        lines.append((str(label), first, interval, *rest, count(max(row["n"] for row in cells.values()))))
    heads = (
        "next token" if axis == "token class" else "query",
        *("KL (nats)", "CI", "median", "99\u202f%", "RMS Δp", "same top token", "perplexity ratio", "n (samples)"),
    )
    return TextTable(f"Against the baseline, by {axis}", heads, tuple(lines), open=False)


def candidate_rows(divergence: pl.DataFrame) -> Sequence[tuple[str, ...]]:
    """Statistics of one candidate against the baseline as text: name, unit, value, interval, n."""
    frames = {"divergence": divergence}
    return [
        (
            NAMES[name],
            row["unit"],
            number(row["value"], places=_places(row)),
            span(row["ci_low"], row["ci_high"], places=_places(row)),
            count(row["n"]),
        )
        for name, row in _overall(frames, "baseline").items()
        if known(row["value"]) is not None
    ]


PANEL = Panel(
    analysis="divergence",
    order=5,
    title="What it does to the predictions",
    about=(
        "Next-token distributions after the same tokens, in the terms of llama.cpp's KL-divergence report: KL is the "
        "divergence of this model's distribution from the baseline's, Δp the change of the true token's probability. "
        "The probed queries count, each weighted by the queries that it stands for; perplexity ratios are over all "
        "tokens, but by class of the next token over the probed queries too. Intervals resample samples."
    ),
    words=words,
    draw=draw,
    tables=tables,
)
