"""Fewer indexer heads, in one layer or in all."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.advice.change import Change, Frames, best, counted, listed, rows_of
from indexscope.analysis.advice.costs import Costs
from indexscope.analysis.settings import AdviceSettings

CAVEAT = (
    "Losses were measured layer by layer without retraining; of the heads' own projections nothing is counted as saved."
)


def fewer_heads(
    frames: Frames, study: Costs | None, long: Costs | None, layers: int, settings: AdviceSettings
) -> list[Change]:
    """Of every layer, and of all together, the heads that can go within the tolerance and within the limit."""
    table = rows_of(frames, "heads.pruning", "layer", "removed", "recall_loss", "ci_low", "ci_high", "flops_share")
    if table is None:
        return []
    found: list[Change] = []
    for (layer,), rows in table.sort("layer", "removed").group_by("layer", maintain_order=True):
        changes = [
            _change(None if layer is None else int(str(layer)), row, rows, (study, long), layers)
            for row in rows.filter((pl.col("removed") > 0) & pl.col("recall_loss").is_not_null()).iter_rows(named=True)
        ]
        found += best(changes, settings.max_recall_loss, settings.tolerance)
    return found


def _change(
    layer: int | None,
    row: dict[str, float | int | None],
    rows: pl.DataFrame,
    costs: tuple[Costs | None, Costs | None],
    layers: int,
) -> Change:
    removed, left = int(row["removed"] or 0), float(row["flops_share"] or 0.0)
    heads = round(removed / (1 - left)) if left < 1 else removed
    where = "every layer" if layer is None else f"layer {layer}"
    gone = ""
    if layer is not None and "indexer_head" in rows.columns:
        order = rows.filter((pl.col("removed") > 0) & (pl.col("removed") <= removed)).sort("removed")["indexer_head"]
        known = order.drop_nulls().to_list()
        gone = f" ({'head' if len(known) == 1 else 'heads'} {listed(known)})" if known else ""
    reach = 1.0 if layer is None else 1.0 / layers
    study, long = (None if cost is None else cost.share(cost.indexer_pairs * (1 - left) * reach) for cost in costs)
    return Change(
        kind="indexer heads",
        change=f"drop {removed} of {heads} indexer heads in {where}{gone}",
        loss=float(row["recall_loss"] or 0.0),
        low=row["ci_low"],
        high=row["ci_high"],
        reach=reach,
        saving=study,
        saving_at_64k=long,
        basis=counted("heads.pruning", row.get("n")),
        caveat=CAVEAT,
    )
