"""The tables of what is measured once of a model."""

from __future__ import annotations

import polars as pl

from indexscope.columns import of, table_of

_WIDTHS = of(
    pl.Int32,
    "channels",
    key_width="Width of a key of a head.",
    value_width="Width of a value of a head.",
    latent_key_width="Width of the key that all heads share in latent MQA mode, kv_lora_rank + qk_rope_head_dim; null "
    "where no latents are known.",
    latent_value_width="Width of the value that all heads share in latent MQA mode, kv_lora_rank; null as for the key.",
)
FACTS = table_of(
    "model",
    "",
    of(pl.String, family="Name of the architecture."),
    of(
        pl.Int64,
        "parameters",
        parameters="Parameters of the whole model.",
        indexer_parameters="Parameters of all indexers; null where one is in no module of its own.",
        attention_parameters="Parameters of all attention modules without their indexers; null as for an indexer.",
    ),
    of(pl.Int32, layers="Layers of the model.", attention_heads="Attention heads of a layer."),
    _WIDTHS,
    of(pl.Int32, indexer_layers="Layers with an indexer of their own.", indexer_heads="Heads of an indexer."),
    of(pl.Int32, "channels", indexer_dim="Width of a key of the indexer."),
    of(pl.Int32, "keys", index_topk="Entries that the indexer may select for a query."),
    of(
        pl.String,
        entry="What an indexer scores: a token, or a pooled block of tokens; null for code outside transformers.",
        indexer_precision="Precision that the family's indexers score in when served; null where none is published.",
        dtype="Type of the weights as run.",
        device="Where the model ran.",
    ),
    of(pl.Int32, "queries", chunk="Queries that are captured at a time."),
)
LAYERS = table_of(
    "layer",
    "layer",
    of(pl.Int32, attention_heads="Attention heads of the layer."),
    _WIDTHS,
    of(
        pl.Int32,
        "keys",
        window="Last keys that are eligible; null where all up to the query are.",
        attention_chunk="Keys of a chunk, of which a query sees its own up to itself; null without chunks.",
    ),
    of(pl.Boolean, selects="Whether the layer attends to the selection of an indexer, its own or a shared one."),
    of(pl.Int32, "heads", indexer_heads="Heads of the layer's own indexer; null where it has none."),
    of(pl.Int32, "channels", indexer_dim="Width of a head of the layer's own indexer; null where it has none."),
    of(
        pl.Int32,
        "keys",
        index_topk="Entries that the layer's selection may hold for a query, a shared one included; null where the "
        "layer does not select, and where it is not known.",
    ),
    of(
        pl.Int32,
        "keys",
        scored_block="Keys of the blocks of which whole ones are scored first; null where every key is scored.",
        scored_keys="Keys in the blocks that are kept, which are scored then; null as for the block.",
    ),
)
PROFILE = table_of(
    "component, length",
    "component length",
    of(pl.Int32, "tokens", length="Length of the sequence."),
    of(pl.Int32, repeats="How often it was timed."),
    of(pl.Boolean, cut="Whether the study's tokens allowed no more repeats."),
    of(
        pl.Float64,
        "ms",
        milliseconds="Median time.",
        milliseconds_low="5th percentile of the times.",
        milliseconds_high="95th percentile of the times.",
    ),
    of(
        pl.Int64,
        "bytes",
        peak_bytes="Largest memory of one call above what was alive before it; weights are not in it.",
    ),
    of(
        pl.Float64,
        "FLOPs",
        flops_formula="Operations that are needed, by formula: eligible pairs, selected ones in sparse layers; null "
        "for code outside transformers.",
        flops_executed="Operations that the code executes, by formula: every pair, masked ones included; null for "
        "code outside transformers.",
        flops_counted="Operations as torch counts them: matrix products; no softmax, topk or elementwise work.",
    ),
    ordered=False,
)
AUDIT = table_of(
    "model",
    "",
    of(pl.Boolean, passed="Whether no later token moved an earlier prediction."),
    of(
        pl.Float64,
        "logit",
        max_logit_change="Largest change that was seen.",
        tolerance="Largest change that is rounding.",
    ),
    of(
        pl.Float64,
        "share",
        layer_change="Largest change of a row of what a layer by itself gives, its inputs held, of the row's norm; "
        "null where no logit moved by more than the tolerance, and outside transformers.",
    ),
    of(pl.Int32, "tokens", positions_checked="Positions that were compared."),
    of(
        pl.Int64,
        "triples",
        future_selected="Layer, query and later key that is attended; null where it cannot be seen.",
    ),
)
AUDITED = {"audit": AUDIT}
PROFILED = {"facts": FACTS, "layers": LAYERS, "profile": PROFILE}
