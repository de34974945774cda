"""The tables of what kinds of tokens are selected: the close-up's and the analysis'."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import interval, of, of_attention, table_of

_KIND = of(pl.String, token_class="Kind of token; docs/metrics.md defines the kinds.")
EXAMPLES = table_of(
    "token shown of a sample, layer, query",
    "sample layer query position",
    of(pl.Int32, position="0-based position of the token."),
    of(pl.String, token="Text of the token, or its id where there is no tokenizer."),
    of(pl.Boolean, selected="Whether the query's selection holds it."),
    of(pl.Float32, "share", attention="Dense attention of the head mean on it."),
    of(pl.Float32, "score", score="Its index score; null where the layer has no indexer of its own."),
    of(pl.Float32, "share", recall="Dense attention on all selected keys of the query."),
    of(pl.Int32, "keys", outside="Selected keys of the query that are not shown."),
    ordered=False,
)
CONTENT = table_of(
    "sample, layer, kind of token",
    "sample layer token_class",
    _KIND,
    of(pl.Int32, "queries", queries="Sampled queries in effect in the layer."),
    of(pl.Float64, "queries", weight="Queries that they stand for."),
    of(
        pl.Float64,
        "keys",
        selections="Selected keys of the kind, over the queries that the sampled ones stand for.",
        expected_selections="The same if keys were selected by chance.",
    ),
    of(
        pl.Float64,
        "share, summed over queries",
        attention_mass="Dense attention of the head mean on the kind.",
        attention_expected="The same if attention were uniform.",
    ),
    ordered=False,
)
LIFT = table_of(
    "layer, kind of token",
    "layer token_class",
    _KIND,
    of(pl.Float64, "ratio", lift="Selections relative to chance."),
    interval("ratio"),
    of_attention(
        of(pl.Float64, "ratio", attention_lift="Dense attention relative to uniform attention."),
        interval("ratio", "attention_ci_low", "attention_ci_high"),
    ),
    of(pl.Float64, "keys", selections="Selected keys of the kind.", expected="The same by chance."),
    of(pl.Int32, "samples", n="Samples in which such keys were eligible."),
    ordered=False,
)
COLLECTED = {"token_content": CONTENT, "examples": EXAMPLES}
RESULTS = {**BOTH, "examples": EXAMPLES, "lift": LIFT}
