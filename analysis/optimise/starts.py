"""Edits to begin with: what the results of a finished study recommend, put into edits."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.space import Choice, Point, Space
from indexscope.analysis.recommendations.change import Frames, rows_of

#: Tables that are read, where a study has them.
READ = ("indexer_heads.pruning", "layer_sharing.schedules", "key_budget.budgets")
#: Losses of recall up to which changes are put together, the mildest last: which of them costs too much is for the
#: search to find.
LIMITS = (0.03, 0.01, 0.003)


def starts(space: Space, frames: Frames) -> list[Edit]:
    """For each limit the heads, the sharing and the k that lose no more recall each on their own: all three, and each.

    Args:
        space: What may vary.
        frames: Results by "analysis.table"; any may be absent.

    Returns:
        Edits of the space, each once.
    """
    found: dict[Edit, None] = {}
    for limit in LIMITS:
        heads, kept, part = _heads(frames, limit), _kept(frames, limit), _part(frames, limit)
        for parts in ((heads, kept, part), (None, kept, None), (heads, None, None), (None, None, part)):
            edit = space.edit(_point(space, *parts))
            if not edit.changes_nothing:
                found[edit] = None
    return list(found)


def _point(space: Space, gone: Mapping[int, set[int]] | None, kept: set[int] | None, part: float | None) -> Point:
    choices: list[Choice | None] = []
    for place, layer in enumerate(space.layers):
        if place and kept is not None and layer.layer not in kept:
            choices.append(None)
            continue
        lost = (gone or {}).get(layer.layer, set[int]())
        heads = tuple(head for head in range(layer.heads) if head not in lost) or (0,)
        k = layer.topk if part is None else min(layer.budgets, key=lambda k: abs(k - part * layer.topk))
        choices.append(Choice(heads, k))
    return Point(tuple(choices))


def _heads(frames: Frames, limit: float) -> dict[int, set[int]] | None:
    """Heads that may go, by layer."""
    table = rows_of(frames, "indexer_heads.pruning", "layer", "removed", "indexer_head", "recall_loss")
    if table is None:
        return None
    rows = table.filter(pl.col("layer").is_not_null() & (pl.col("removed") > 0)).sort("layer", "removed")
    found: dict[int, set[int]] = {}
    for (layer,), own in rows.group_by("layer", maintain_order=True):
        within = own.filter(pl.col("recall_loss") <= limit)["removed"].max()
        if isinstance(within, int):
            found[int(str(layer))] = set(own.filter(pl.col("removed") <= within)["indexer_head"].drop_nulls().to_list())
    return found


def _kept(frames: Frames, limit: float) -> set[int] | None:
    """Layers that go on selecting: of the exact schedules within the limit, the one with the fewest."""
    table = rows_of(frames, "layer_sharing.schedules", "indexers", "method", "layers", "loss")
    if table is None:
        return None
    rows = table.filter((pl.col("method") == "exact") & (pl.col("loss") <= limit)).sort("indexers")
    return {int(layer) for layer in str(rows["layers"][0]).split(",")} if rows.height else None


def _part(frames: Frames, limit: float) -> float | None:
    """The part of k that is left everywhere: of the fixed budgets within the limit, the smallest."""
    table = rows_of(frames, "key_budget.budgets", "layer", "method", "k", "recall")
    if table is None:
        return None
    rows = table.filter(pl.col("layer").is_null() & pl.col("recall").is_not_null() & pl.col("k").is_not_null())
    model = rows.filter(pl.col("method") == "model")
    if model.is_empty():
        return None
    now, held = float(model["k"][0]), float(model["recall"][0])
    fixed = rows.filter((pl.col("method") == "fixed") & (pl.col("recall") >= held - limit) & (pl.col("k") < now))
    return float(fixed["k"].min()) / now if fixed.height else None  # type: ignore[arg-type]
