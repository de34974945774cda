"""Fewer indexers: layers that reuse the selection of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.advice.change import Change, Frames, best, counted, listed, rows_of
from indexscope.analysis.advice.costs import Costs
from indexscope.analysis.settings import AdviceSettings


def fewer_indexers(
    frames: Frames, study: Costs | None, long: Costs | None, layers: Sequence[int], settings: AdviceSettings
) -> list[Change]:
    """The exact schedules with the fewest indexers within the tolerance and within the limit.

    The loss is the one on held-out samples where it is known: the other is of the samples that chose the schedule.
    """
    table = rows_of(frames, "sharing.schedules", "indexers", "method", "layers", "loss", "indexer_share")
    if table is None:
        return []
    rows = table.filter((pl.col("method") == "exact") & (pl.col("indexer_share") < 1) & pl.col("loss").is_not_null())
    changes = [
        _change(row, study, long, layers) for row in rows.sort("indexers", descending=True).iter_rows(named=True)
    ]
    return best(changes, settings.max_recall_loss, settings.tolerance)


def _change(
    row: dict[str, float | int | str | None], study: Costs | None, long: Costs | None, layers: Sequence[int]
) -> Change:
    kept = [int(layer) for layer in str(row["layers"]).split(",")]
    held = row.get("loss_held_out")
    prefix = "" if held is None else "held_out_"
    freed = 1.0 - _number(row["indexer_share"])
    bounds = [row.get(f"{prefix}{name}") for name in ("ci_low", "ci_high")]
    if held is not None and bounds == [None, None]:
        bounds = [row.get("ci_low"), row.get("ci_high")]
    caveat = "Measured one layer at a time on the model's own hidden states, without propagation or retraining"
    if row.get("worst_layer") is not None:
        caveat += f"; layer {row['worst_layer']} loses most, {_number(row.get('worst_loss')):.4f}"
    if held is None:
        caveat += "; the loss is of the samples that chose the schedule, so it is optimistic"
    return Change(
        kind="sharing",
        change=reuse_words(kept, layers),
        loss=_number(row["loss"] if held is None else held),
        low=_known(bounds[0]),
        high=_known(bounds[1]),
        reach=1.0,
        saving=None if study is None else study.share(study.indexer * freed),
        saving_at_64k=None if long is None else long.share(long.indexer * freed),
        basis=counted("sharing.schedules, exact", row.get("n")),
        caveat=f"{caveat}.",
    )


def reuse_words(kept: Sequence[int], layers: Sequence[int]) -> str:
    """Who reuses whose selection, in words.

    >>> reuse_words([0, 1, 4], [0, 1, 2, 3, 4, 5])
    'let layers 2 and 3 reuse the selection of layer 1, and layer 5 that of layer 4'
    """
    users: dict[int, list[int]] = {}
    for layer in layers:
        source = max((one for one in kept if one <= layer), default=None)
        if source is not None and layer not in kept:
            users.setdefault(source, []).append(layer)
    parts: list[str] = []
    for source, own in users.items():
        who = f"{'layer' if len(own) == 1 else 'layers'} {listed(own)}"
        parts.append(f"{who} that of layer {source}" if parts else f"let {who} reuse the selection of layer {source}")
    return ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _known(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
