"""The tables of what kinds of tokens are selected: the probe's and the analysis'."""

from __future__ import annotations

from storage.columns import Column, Table, interval, of, table
from storage.result_tables import RESULTS

_KIND: tuple[Column, ...] = of(token_class="Kind of token; docs/metrics.md defines the kinds.")
_EXAMPLES = table(
    "token shown of a sample, layer, query",
    "sample layer query position",
    of(
        position="0-based position of the token.",
        token="Text of the token, or its id where there is no tokenizer.",
        selected="Whether the query's selection holds it.",
    ),
    of("share", attention="Dense attention of the head mean on it."),
    of("score", score="Its index score; null where the layer has no indexer of its own."),
    of("share", recall="Dense attention on all selected keys of the query."),
    of("keys", outside="Selected keys of the query that are not shown."),
    ordered=False,
)

CONTENT: dict[tuple[str, str], Table] = {
    ("probes", "content"): table(
        "sample, layer, kind of token",
        "sample layer token_class",
        _KIND,
        of("queries", queries="Sampled queries in effect in the layer.", weight="Queries that they stand for."),
        of(
            "keys",
            selections="Selected keys of the kind, over the queries that the sampled ones stand for.",
            expected_selections="The same if keys were selected by chance.",
        ),
        of(
            "share, summed over queries",
            attention_mass="Dense attention of the head mean on the kind.",
            attention_expected="The same if attention were uniform.",
        ),
        ordered=False,
    ),
    ("probes", "examples"): _EXAMPLES,
    ("analyses/content", "metrics"): RESULTS["analyses/positional", "metrics"],
    ("analyses/content", "per_sample"): RESULTS["analyses/positional", "per_sample"],
    ("analyses/content", "examples"): _EXAMPLES,
    ("analyses/content", "lift"): table(
        "layer, kind of token",
        "layer token_class",
        _KIND,
        of("ratio", lift="Selections relative to chance."),
        interval("ratio"),
        of("ratio", attention_lift="Dense attention relative to uniform attention."),
        interval("ratio", "attention_ci_low", "attention_ci_high"),
        of("keys", selections="Selected keys of the kind.", expected="The same by chance."),
        of("samples", n="Samples in which such keys were eligible."),
        ordered=False,
    ),
}
