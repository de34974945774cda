"""What recall the selection loses as indexer heads go, layer by layer and in all layers together."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.heads.spread import Spread
from indexscope.analysis.heads.tables import PRUNED
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import BootstrapSettings


def pruning(table: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Loss of recall against the selection by all heads, paired within samples.

    Args:
        table: The table ``indexer_pruning``.
        settings: The bootstrap.

    Returns:
        layer (null: that many heads removed from every layer, as long as each has one left), removed, indexer_head (the
        one that goes at this step; null at first and over all layers), recall, recall_loss (> 0 is a loss) with ci_low
        and ci_high, overlap with S_t, flops_share (what remains of the FLOPs of the indexers' query-key products) and n
        (samples).
    """
    if table.is_empty():
        return PRUNED.empty()
    heads = table.group_by("layer").agg(heads=pl.col("removed").max() + 1).sort("layer")
    whole = table.filter(pl.col("removed") == 0).select("sample", "layer", all_heads="recall")
    paired = table.join(whole, on=["sample", "layer"]).with_columns(recall_loss=pl.col("all_heads") - pl.col("recall"))
    together = paired.filter(pl.col("removed") < heads["heads"].min())
    left = heads.select(pl.col("heads").cast(pl.Float64).sum(), layers=pl.len()).row(0)
    rows = _estimates(together, ("removed",), settings).with_columns(
        layer=pl.lit(None, pl.Int16),
        indexer_head=pl.lit(None, pl.Int16),
        flops_share=(left[0] - left[1] * pl.col("removed")) / left[0],
    )
    gone = table.select("layer", "removed", "indexer_head").unique()
    each = (
        _estimates(paired, ("layer", "removed"), settings)
        .join(gone, on=["layer", "removed"], how="left", maintain_order="left")
        .join(heads, on="layer", how="left", maintain_order="left")
        .with_columns(flops_share=(pl.col("heads") - pl.col("removed")) / pl.col("heads"))
    )
    return pl.concat([PRUNED.shaped(part) for part in (rows, each)])


def _estimates(frame: pl.DataFrame, keys: tuple[str, ...], settings: BootstrapSettings) -> pl.DataFrame:
    spread = Spread(frame, keys)
    loss = spread.estimate("recall_loss", "weight", settings)
    columns = {
        "recall": spread.estimate("recall", "weight", settings).value,
        "recall_loss": loss.value,
        "ci_low": loss.low,
        "ci_high": loss.high,
        "overlap": spread.estimate("overlap", "weight", settings).value,
        "n": loss.n,
    }
    frame = spread.cells.hstack(pl.DataFrame(columns))
    return frame.with_columns(finite_or_null("recall", "recall_loss", "ci_low", "ci_high", "overlap"))
