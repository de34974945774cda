"""How the tables of a fit are declared: its learning curves, and what its indexers select on held-out text."""

from __future__ import annotations

import polars as pl

from indexscope.columns import of, table_of

_INDEXER = of(pl.String, indexer="Indexer of the sweep, h<heads>-d<dim>.")
_STEP = of(pl.Int32, step="Steps made, over all stages.")

#: Of every step.
CURVES = table_of(
    "step, indexer, layer",
    "step indexer layer",
    _STEP,
    of(pl.String, stage="Stage of the step: dense or sparse."),
    _INDEXER,
    of(pl.Int32, "keys", topk="Keys that the body attended to; null in the dense stage."),
    of(pl.Float64, "nats", kl="KL(head-mean attention || softmax I) over E_t, in the sparse stage over S_t."),
)
#: Of every evaluation on held-out sequences.
HELD_OUT = table_of(
    "step, attention, indexer, topk, layer, sample",
    "step attention indexer topk layer sample",
    _STEP,
    of(pl.String, attention="What the body attends to: dense while it trains, sparse (the selection) in the end."),
    _INDEXER,
    of(pl.Int32, "keys", topk="Keys of the selection."),
    of(pl.Int32, "queries", queries_in_effect="Queries looked at that have more than topk keys."),
    of(
        pl.Float64, "share", "queries_in_effect",
        selection_recall="Dense attention of the head mean on the selected keys.",
        oracle_recall="The same of the best choice of as many keys.",
        random_recall="The same of a random choice, on average.",
    ),
    of(pl.Int32, "queries", queries="Queries looked at."),
    of(pl.Float64, "nats", "queries", kl="KL(head-mean attention || softmax I) over E_t."),
)  # fmt: skip
#: What a model under a fitted indexer brings along of its fit; no other model has these tables.
LEARNED = {"fit_curves": CURVES, "fit_held_out": HELD_OUT}
