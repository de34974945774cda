"""The tables of what models predict: next-token distributions as stored, and how far two models' lie apart."""

from __future__ import annotations

from storage.columns import Column, Table, of, table

_AGAINST: tuple[Column, ...] = of(
    model="The model's name in the study.",
    against="What it is held against: baseline, or dense for its own dense attention.",
)
_VALUES: tuple[Column, ...] = (
    *of(statistic="Name of the statistic: a metric of docs/metrics.md, or as in docs/questions.md."),
    *of("in the column unit", value="Its value."),
    *of(unit="Unit of the value."),
    *of(
        "as the value",
        ci_low="Lower end of the confidence interval; null for the largest value seen.",
        ci_high="Upper end of the confidence interval; null for the largest value seen.",
    ),
    *of("samples", n="Samples that were paired."),
)

OUTPUTS: dict[tuple[str, str], Table] = {
    ("probes", "logits"): table(
        "sample, query",
        "sample query",
        of(bucket="Position bucket: b holds the queries at 0-based positions t with floor(log2(t + 1)) = b."),
        of("queries", weight="Queries that the probed one stands for."),
        of(
            next_token="Id of the true next token; null after a sample's last token.",
            token_class="Kind of the true next token; null also where there is no tokenizer.",
        ),
        of("nats", nll="Negative log-likelihood of the true next token, of the whole distribution in float64."),
        of(top_token="Id of the likeliest next token; the lowest of equals."),
        of("tokens", vocabulary="Size of the vocabulary.", kept="Likeliest tokens that are stored."),
        of("share", rest="Probability of all tokens that are not stored, exactly 0 where all are."),
        of(
            tokens="Ids of the stored tokens, ascending, as gaps in LEB128 like the keys of selections.",
            log_probs="Their natural log-probabilities in that order, little-endian float16.",
        ),
    ),
    ("comparisons", "divergence"): table(
        "model, against, statistic",
        "model against statistic",
        _AGAINST,
        _VALUES,
        of(note="Why there is no value; null where there is one."),
        ordered=False,
    ),
    ("comparisons", "divergence_by"): table(
        "model, against, axis, bin, statistic",
        "model against axis bin statistic",
        _AGAINST,
        of(
            axis="What the rows are divided by: position of the query, or token class of the true next token.",
            bin="Position bucket, or place of the class in docs/metrics.md.",
            label="The bin in words.",
        ),
        _VALUES,
        ordered=False,
    ),
}
