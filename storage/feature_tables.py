"""The tables of features, and what is measured once of a model. Metrics are defined in docs/metrics.md."""

from __future__ import annotations

from storage.columns import Table, of, table

_COUNTS = of(
    "queries",
    queries="Queries of the row.",
    queries_multi="Queries with more than one eligible key.",
    queries_in_effect="Queries with more eligible keys than are selected.",
)

FEATURES: dict[str, Table] = {
    "samples": table(
        "sample", "sample", of(name="Document and offset of the sample."), of("tokens", tokens="Length of the sample.")
    ),
    "tokens": table(
        "sample, bucket",
        "sample bucket",
        of("tokens", tokens="Predicted tokens of the row."),
        of(
            "nats",
            "tokens",
            nll="Negative log-likelihood of the next token.",
            dense_nll="The same when every eligible key is selected; null unless it was asked for.",
        ),
        of("share", "tokens", accuracy="Tokens whose most likely prediction is the true next token."),
    ),
    "attention": table(
        "sample, layer, head, bucket",
        "sample layer head bucket",
        _COUNTS,
        of("nats", "queries", attention_entropy="Entropy of the dense attention."),
        of(
            "keys",
            "queries",
            effective_keys="Number of keys that uniform attention of the same entropy would have.",
            participation="Effective number of keys by the second moment.",
        ),
        of("share", "queries_multi", normalized_entropy="Entropy as a share of its largest possible value."),
        of(
            "share",
            "queries",
            sparsity_ratio="Share of eligible keys with a negligible attention weight.",
            max_weight="Largest attention weight of a query.",
            top_5_mass="Attention on the 5 most attended keys.",
            top_10_mass="Attention on the 10 most attended keys.",
            top_20_mass="Attention on the 20 most attended keys.",
            top_64_mass="Attention on the 64 most attended keys.",
            top_k_mass="Attention on as many most attended keys as the indexer may select.",
            keys_for_95="Share of the eligible keys that it takes to hold 95 % of the attention.",
            local_mass="Attention on the nearest keys, the query's own included.",
            sink_mass="Attention on the first keys of the sequence.",
            self_mass="Attention on the query's own token.",
            previous_mass="Attention on the token just before the query.",
            induction_mass="Attention on tokens that followed an earlier copy of the query's token.",
        ),
        of("tokens", "queries", mean_distance="How far back the attention reaches on average."),
        of("share", "queries_in_effect", head_recall="Dense attention of the head that falls on selected keys."),
        of("ratio", "queries_in_effect", output_error="Relative change of the head's output by the selection."),
    ),
    "heads": table(
        "sample, layer, head",
        "sample layer head",
        of("queries", queries="Queries at positions from 16 on."),
        of(
            "share",
            "queries",
            vertical_mass="Attention on the most attended columns of the map, sinks aside.",
            slash_mass="Attention on the most attended diagonals of the map.",
            block_mass="Attention on whole aligned blocks of keys; null in samples too short to tell.",
        ),
        of("tokens", "queries", slash_distance="Distance of the most attended diagonal."),
        of("keys", block_size="Size of those blocks: the one of 16, 32, 64, 128, 256 and 512 that shows most."),
    ),
    "indexer": table(
        "sample, layer, bucket",
        "sample layer bucket",
        _COUNTS,
        of(
            "share",
            "queries_in_effect",
            selection_recall="Dense attention of the head mean that falls on selected keys.",
            oracle_recall="What the best possible selection of the same size would hold.",
            random_recall="What a random selection of the same size would hold on average.",
            oracle_overlap="Share of the oracle's keys that the indexer also selects.",
            tie_share="Share of the selection that topk chose arbitrarily between equal scores.",
        ),
        of("sd", "queries_in_effect", score_margin="How far the last selected score lies above the first unselected."),
        of("nats", "queries_multi", indexer_kl="Divergence of the index scores from the attention."),
        of("share", "queries_multi", zero_share="Share of eligible keys with an index score of exactly zero."),
    ),
    "positions": table(
        "sample, layer, distance, relative",
        "sample layer distance relative",
        of(
            distance="Distance bin: 0 holds the query itself, b the keys 2^(b-1) to 2^b - 1 before it.",
            relative="Relative bin: r holds the keys in tenth r of the eligible ones, 0 the oldest.",
        ),
        of("queries", queries="Queries that were counted in the sample."),
        of(
            "keys",
            selections="Selected keys in both bins, over all queries; null for dense models.",
            expected_selections="The same if keys were selected by chance; null for dense models.",
        ),
        of(
            "share, summed over queries",
            attention_mass="Dense attention on the keys in both bins.",
            attention_expected="The same if attention were uniform.",
        ),
    ),
    "scores": table(
        "sample, layer, group",
        "sample layer group",
        of(group="Whose index scores: selected or unselected keys of queries in effect."),
        of("keys", count="Scores of the row.", zeros="Scores that are exactly zero."),
        of("score", "count", mean="Mean score."),
        of("score", minimum="Smallest score.", maximum="Largest score."),
        of("score^2", m2="Sum of squared deviations from the mean."),
        of(sketch="Serialised datasketches.tdigest_float of the scores."),
    ),
    "selections": table(
        "sample, layer, group, query",
        "sample layer group query",
        of(
            group="0, or the group of attention heads where each group selects for itself.",
            unit="What a key is: a token, or an entry (a compressed block).",
        ),
        of("keys", eligible="Keys that the query may select from.", selected="Keys that were selected."),
        of(keys="The selected keys, ascending, as differences in LEB128."),
    ),
}

MODELS: dict[str, Table] = {
    "facts": table(
        "model",
        "",
        of(
            family="Name of the architecture.",
            layers="Layers of the model.",
            attention_heads="Attention heads of a layer.",
            indexer_layers="Layers with an indexer of their own.",
            indexer_heads="Heads of an indexer.",
            entry="What an indexer scores: a token, or a pooled block of tokens.",
            dtype="Type of the weights as run.",
            device="Where the model ran.",
        ),
        of(
            "parameters",
            parameters="Parameters of the whole model.",
            indexer_parameters="Parameters of all indexers.",
            attention_parameters="Parameters of all attention modules without their indexers.",
        ),
        of(
            "channels",
            key_width="Width of a key of a head.",
            value_width="Width of a value of a head.",
            indexer_dim="Width of a key of the indexer.",
        ),
        of("keys", index_topk="Entries that the indexer may select for a query."),
        of("queries", chunk="Queries that are captured at a time."),
    ),
    "layers": table(
        "layer",
        "layer",
        of(attention_heads="Attention heads of the layer."),
        of("channels", key_width="Width of a key of a head.", value_width="Width of a value of a head."),
        of(
            "keys",
            window="Last keys that are eligible; null where all up to the query are.",
            attention_chunk="Keys of a chunk, of which a query sees its own up to itself; null without chunks.",
        ),
        of(selects="Whether the layer attends to the selection of an indexer, its own or a shared one."),
    ),
    "profile": table(
        "component, length",
        "component length",
        of("tokens", length="Length of the sequence."),
        of(repeats="How often it was timed."),
        of(
            "ms",
            milliseconds="Median time.",
            milliseconds_low="5th percentile of the times.",
            milliseconds_high="95th percentile of the times.",
        ),
        of("bytes", peak_bytes="Largest memory of one call above what was alive before it; weights are not in it."),
        of(
            "FLOPs",
            flops_formula="Operations that are needed, by formula: eligible pairs, selected ones in sparse layers.",
            flops_executed="Operations that the code executes, by formula: every pair, masked ones included.",
            flops_counted="Operations as torch counts them: matrix products; no softmax, topk or elementwise work.",
        ),
        ordered=False,
    ),
    "audit": table(
        "model",
        "",
        of(passed="Whether no later token moved an earlier prediction."),
        of("logit", max_logit_change="Largest change that was seen.", tolerance="Largest change that is rounding."),
        of("tokens", positions_checked="Positions that were compared."),
        of("triples", future_selected="Layer, query and later key that is attended; null where it cannot be seen."),
    ),
}
