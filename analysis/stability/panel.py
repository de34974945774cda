"""The panel on the stability of the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.plots.frames import largest
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, decimals, known, number, percent, span
from indexscope.analysis.report.overlaid import looks
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.stability.figures import changed_by_layer, changed_by_variant

LABELS: Mapping[str, str] = {
    "ties": "ties the other way",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "fp8": "FP8 (simulated)",
    "int8": "INT8 (simulated)",
    "chunk_half": "half the chunk",
    "chunk_odd": "odd chunk",
}
NOTHING = 1e-5
"""Nats of which nothing depends."""
_RUNS = {"chunk_half": "Fed in chunks of half the size", "fp8": "With FP8 scores in every layer"}
_REASONS = (
    ("ties", "because of ties"),
    ("small margins", "because scores around the k-th lie closer than FP8 can tell apart"),
)


def words(frames: Frames) -> Sequence[str]:
    """What ties and rounding change overall, what that does to predictions, and which layers are fragile."""
    said = []
    variants = _overall(frames.get("variants"))
    if "ties" in variants:
        ties = variants["ties"]
        said.append(
            f"Ties at the k-th score, which occur at {percent(ties['near_tie'])} of the queries in effect, leave "
            f"{_share(ties)} of the selection open: that much may differ between two correct runs of the same scores "
            f"(n = {ties['n']} samples)."
        )
    rounded = [f"{LABELS[name]} {_share(variants[name])}" for name in list(LABELS)[1:5] if name in variants]
    if rounded:
        said.append(f"Less precise scores lose, beyond what ties explain: {'; '.join(rounded)} of the selection.")
    outputs = frames.get("outputs")
    if outputs is not None:
        rows = {str(row["variant"]): row for row in outputs.iter_rows(named=True)}
        said += [f"{what}, {_output(rows[name])}" for name, what in _RUNS.items() if name in rows]
    return (*said, *_fragile(frames.get("fragility")))


def _overall(frame: pl.DataFrame | None) -> dict[str, dict[str, float]]:
    if frame is None:
        return {}
    rows = frame.filter(pl.col("layer").is_null() & pl.col("changed").is_not_null())
    return {row["variant"]: row for row in rows.iter_rows(named=True)}


def _share(row: dict[str, float]) -> str:
    if row["ci_low"] is None:
        return percent(row["changed"])
    return f"{percent(row['changed'])} ({percent(row['ci_low'])} to {percent(row['ci_high'])})"


def _output(row: dict[str, float]) -> str:
    return (
        f"the model's next-token distribution diverges by {_nats(row)}, at most {_least(row['max_kl'])} at "
        "one query; the likeliest token "
        f"stays at {percent(row['top1_equal'])} of the queries."
    )


def _nats(row: Mapping[str, float]) -> str:
    """A divergence with its interval; of what is nothing only that."""
    ends = known(row["ci_low"]), known(row["ci_high"])
    if max(row["kl"], ends[1] or 0.0) < NOTHING:
        return f"less than {NOTHING:.5f} nats"
    places = decimals(ends, row["kl"])
    interval = "" if None in ends else f" ({span(*ends, places=places)})"
    return f"{number(row['kl'], places=places)} nats{interval}"


def _least(value: float | None) -> str:
    amount = known(value)
    return f"< {NOTHING:.5f}" if amount is not None and 0 < amount < NOTHING else number(amount, places=5)


def _fragile(fragility: pl.DataFrame | None) -> Sequence[str]:
    if fragility is None:
        return ()
    said = []
    for reason, text in _REASONS:
        layers = fragility.filter(pl.col("reason") == reason)["layer"].to_list()
        if layers:
            listed = ", ".join(map(str, layers[:12])) + (f" and {len(layers) - 12} more" if len(layers) > 12 else "")
            said.append(f"Fragile {text}: layer{'s' if len(layers) > 1 else ''} {listed}.")
    return said or ("No layer is fragile by the rule below.",)


def draw(frames: Frames) -> list[Drawn]:
    """Changed share of the selection by layer and variant."""
    empty = pl.DataFrame(schema={"layer": pl.Int16, "variant": pl.String, "changed": pl.Float64, "n": pl.Int32})
    figure = changed_by_layer(frames.get("variants", empty), frames.get("rerun", empty), LABELS)
    about = (
        "Left, another selection from the same scores: ties broken to the latest instead of the earliest key, and keys "
        "that rounded scores lose beyond what ties explain. Right, against a reference run, the variant in all layers "
        "(there ties are broken to the latest key): what earlier layers change comes on top. Bands are confidence "
        "intervals."
    )
    return [Drawn("stability", "Changed selection by layer", about, figure)]


def across(report: ReportInput) -> list[Drawn]:
    """What each disturbance changes of the selection of all models."""
    figure = changed_by_variant(
        report.frames("stability", "variants"), report.frames("stability", "rerun"), LABELS, looks(report)
    )
    caption = (
        "Share of the selected keys that another correct computation would not select, over all layers; bars: "
        f"{report.interval}. Same scores: ties broken to the latest key, and keys that rounded scores lose beyond what "
        "ties explain. Run again: the variant in every layer, so that what earlier layers change comes on top."
    )
    return [Drawn("stable", "Stability of the selection", caption, figure)]


def charts(frames: Frames) -> list[Chart]:
    """Changed share of the selection by layer and variant."""
    found = []
    for name, title, about in (
        ("variants", "Changed selection by layer, same scores", "What ties leave open and rounded scores lose."),
        ("rerun", "Changed selection by layer, model run again", "The variant in every layer, earlier ones included."),
    ):
        if name in frames:
            kept = frames[name].filter(pl.col("layer").is_not_null() & pl.col("variant").is_in(list(LABELS)))
            named = kept.with_columns(pl.col("variant").replace(LABELS))
            rows = chart_rows(named.sort("variant", "layer"), "variant", "layer", "changed")
            found.append(
                Chart(
                    title,
                    about,
                    "line",
                    rows,
                    x="layer",
                    y="changed",
                    series="variant",
                    xlabel="layer",
                    ylabel="share of selection",
                )
            )
    return found


def tables(frames: Frames) -> Sequence[TextTable]:
    """What becomes of predictions, and why layers are fragile."""
    made = []
    if "outputs" in frames:
        rows = {row["variant"]: row for row in frames["outputs"].iter_rows(named=True)}
        lines = tuple(_output_line(label, rows[name]) for name, label in LABELS.items() if name in rows)
        caption = f"Next-token distributions against the reference run (n = {largest(frames['outputs'], 'n')} samples)"
        heads = ("variant", "KL (nats)", "interval", "largest", "same likeliest token", "nll change (nats)", "interval")
        made.append(TextTable(caption, heads, lines))
    if "fragility" in frames:
        reasons = tuple(_fragile_line(row) for row in frames["fragility"].iter_rows(named=True))
        caption = (
            "Why layers are fragile: a layer is where ties or FP8 scores change at least the share that "
            "stability.fragile sets (1 % by default), and the larger change names the reason"
        )
        columns = ("layer", "ties", "FP8", "margin (sd)", "reason")
        made.append(TextTable(caption, columns, reasons, open=False))
    return made


def _output_line(label: str, row: dict[str, float]) -> tuple[str, ...]:
    places = decimals((known(row["nll_ci_low"]), known(row["nll_ci_high"])), known(row["nll_change"])) or 5
    return (
        label,
        _least(row["kl"]),
        DASH if row["ci_low"] is None else f"{_least(row['ci_low'])} to {_least(row['ci_high'])}",
        _least(row["max_kl"]),
        percent(row["top1_equal"]),
        number(row["nll_change"], places=places, signed=True),
        span(row["nll_ci_low"], row["nll_ci_high"], places=places, signed=True),
    )


def _fragile_line(row: dict[str, float]) -> tuple[str, ...]:
    shares = (percent(row[name]) if row[name] is not None else DASH for name in ("changed_ties", "changed_fp8"))
    return (str(row["layer"]), *shares, number(row["margin"]), str(row["reason"]))


PANEL = Panel(
    analysis="stability",
    order=10,
    chapter="trust",
    title="Stability of the selection",
    about=(
        "Whether another correct computation of the same model would select the same keys. Equal scores at the k-th "
        "place are broken arbitrarily, so that the selection depends on how queries are tiled; and less precise scores "
        "put other keys in order. Simulated FP8 rounds the scores of single indexer heads after their product, which "
        "disturbs less than rounding q and k before it."
    ),
    words=words,
    draw=draw,
    tables=tables,
    across=across,
    charts=charts,
)
