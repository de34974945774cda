"""The tables of answers and their evidence: what a run of the model leaves, and the analysis'."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import SAMPLES, interval, of, of_attention, places, table_of

_KIND = of(pl.String, kind='Kind of question, in the data\'s words; "" where they have none.')
_GROUP = (
    *of(pl.String, kind="Kind of question; null for all."),
    *of(pl.Int32, "tokens", length="Length of the samples (docs/evidence.md); null for all."),
    *of(
        pl.Float64,
        "share",
        depth="Where the part of the context begins that the evidence begins in; null for all.",
    ),
)
ANSWERS = table_of(
    "sample with an answer",
    "sample",
    _KIND,
    of(
        pl.Int32,
        "tokens",
        tokens="Tokens of the sample.",
        answer_start="0-based position of the answer's first token.",
        answer_tokens="Tokens of the answer.",
        evidence_tokens="Tokens of the evidence.",
        evidence_start="0-based position of the evidence's first token; null without evidence.",
    ),
    of(pl.Float64, "nats", nll="Mean negative log-likelihood of the answer's tokens, given all tokens before each."),
    of(pl.Float64, "share", right="Answer tokens that are the likeliest at their place."),
    of(pl.Boolean, exact="Whether all of them are."),
    of(pl.Float64, "nats", dense_nll="The same of nll with every key selected; null without a dense reference."),
    of(pl.Float64, "share", dense_right="The same of right."),
    of(pl.Boolean, dense_exact="The same of exact."),
)
_LAYER = (
    *of(pl.Int32, "queries", queries="Queries that predict the answer's tokens."),
    *of(pl.Float64, "share", "queries", in_effect="Those at which something is left out; null where all are dense."),
    *of(
        pl.Float64,
        "share",
        "queries",
        selected="Evidence tokens in S_t; null where the layer does not select.",
        chance="What of any tokens a random choice of as many keys holds, k_t / n_t; null as above, and where entries "
        "are keys themselves.",
    ),
    *of(pl.Boolean, kept_all="Whether S_t holds all evidence at every one of the queries; null as above."),
    *of_attention(
        of(
            pl.Float64,
            "share",
            "queries",
            attention="Dense attention of the head mean on the evidence; null where entries are keys themselves.",
            attention_kept="What of it is on evidence in S_t; null also where the layer does not select.",
        )
    ),
    *of(
        pl.Float64,
        "keys",
        "queries",
        best_rank="Rank of the best evidence token by index score: keys with a score at least as high; null where the "
        "layer has no scores of single tokens.",
        worst_rank="The same of the worst evidence token.",
    ),
    *of(pl.Float64, "keys", needed="Fewest keys k that would have kept all evidence at every query: the largest of the "
        "worst ranks; null as above."),
)  # fmt: skip
EVIDENCE = table_of("sample with evidence, layer", "sample layer", _LAYER)
TEXT = table_of(
    "token shown of a sample with an answer",
    "sample position",
    of(pl.Int32, position="0-based position of the token."),
    of(pl.String, token="Its text, or its id where there is no tokenizer.", role="Evidence, answer or text."),
    of(pl.Float64, "share", kept="Of evidence: layers and queries whose S_t holds it; null where none selects."),
    of(
        pl.Boolean,
        right="Of the answer: whether it is the likeliest at its place.",
        dense_right="The same with every key selected; null without a dense reference.",
    ),
)
COLLECTED = {"answers": ANSWERS, "evidence": EVIDENCE, "answer_text": TEXT}

CELLS = table_of(
    "metric, kind of question, length, depth",
    "metric kind length depth",
    places("metric"),
    _GROUP,
    of(pl.Float64, "as the metric", value="The metric's value, over all layers."),
    interval("as the metric", whose="the"),
    SAMPLES,
    ordered=False,
)
BY_SAMPLE = table_of(
    "metric, sample",
    "metric sample",
    places("metric"),
    places("sample"),
    _GROUP,
    of(pl.Float64, "as the metric", "weight", value="The metric's value in the sample, over all layers."),
    of(pl.Float64, weight="What the value is weighted by when samples are put together."),
    ordered=False,
)
NEEDED = table_of(
    "length, share",
    "length share",
    of(pl.Int32, "tokens", length="Length of the samples; null for all."),
    of(pl.Float64, "share", share="Share of samples and layers."),
    of(pl.Float64, "keys", keys="Keys k that would have kept all evidence in that share of them."),
    interval("keys", whose="the"),
    SAMPLES,
    ordered=False,
)
OUTCOMES = table_of(
    "outcome",
    "outcome",
    of(
        pl.String,
        outcome="Both right, lost (dense attention answers exactly, the selection does not), gained or both wrong.",
    ),
    of(pl.Float64, "share", share="Answers of that outcome, of those with a dense reference."),
    interval("share", "share_ci_low", "share_ci_high", "the"),
    of(pl.Float64, "share", selected="Evidence in S_t there, over layers and samples."),
    interval("share", "selected_ci_low", "selected_ci_high", "the"),
    of(pl.Float64, "share", missing="Answers there whose evidence was missing (analyses.evidence.missing)."),
    interval("share", "missing_ci_low", "missing_ci_high", "the"),
    of_attention(
        of(pl.Float64, "share", attention_kept="Of the dense attention on evidence there, what is on evidence in S_t."),
        interval("share", "attention_kept_ci_low", "attention_kept_ci_high", "the"),
    ),
    SAMPLES,
    ordered=False,
)
SHOWN = table_of(
    "token shown of a lost answer",
    "sample position",
    _KIND,
    of(pl.Int32, "tokens", length="Tokens of the sample."),
    of(pl.Float64, "share", depth="Where its evidence begins, of what precedes the answer."),
    of(pl.Float64, "share", selected="Its evidence in S_t, over layers."),
    of_attention(of(pl.Float64, "share", attention_kept="Of the dense attention on it, what is on tokens in S_t.")),
    of(pl.Boolean, lost="Whether dense attention answers exactly; null without a dense reference."),
    TEXT.columns[1:],
    ordered=False,
)
RESULTS = {
    **BOTH,
    "evidence_cells": CELLS,
    "by_sample": BY_SAMPLE,
    "evidence_keys": NEEDED,
    "answer_outcomes": OUTCOMES,
    "lost_answers": SHOWN,
}
