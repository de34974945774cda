"""What an indexer does to the next-token distribution, candidate against baseline."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Better, Family, Metric, Paired

_LLAMA = "terms of llama.cpp's llama-perplexity --kl-divergence (tools/perplexity)"


def _output(
    name: str,
    label: str,
    unit: str,
    better: Better,
    meaning: str,
    formula: str,
    range: str,
    misleads: str,
    table: str = "logits",
) -> Metric:
    rule = Paired("output_divergence", table)
    told = (name, unit, better, meaning, formula, rule)
    return Metric(*told, per_layer=False, source=_LLAMA, range=range, misleads=misleads, label=label)


FAMILY = Family(
    order=15,
    title="Output divergence",
    about=(
        "How far the candidate's next-token distributions lie from the baseline's after the same tokens, each model "
        "with its own selection. p is the baseline's distribution, q the candidate's. Sampled queries count, each "
        "weighted by the queries that it stands for; the perplexity ratio is over all tokens. The comparison's table "
        "`output_divergence` has more percentiles, `output_divergence_by` values by position and by class of the next "
        "token."
    ),
    metrics=(
        _output(
            "perplexity_ratio",
            "perplexity ratio",
            "ratio",
            "lower",
            "The candidate's perplexity relative to the baseline's.",
            "exp(mean over tokens of (nll_candidate - nll_baseline))",
            "> 0",
            "A mean: tokens that got easier hide tokens that got harder, so that it may be 1 while output_kl is large.",
            "tokens",
        ),
        _output(
            "log_perplexity_correlation",
            "correlation of log-perplexities",
            "correlation",
            "higher",
            "Correlation of the two models' log-perplexities over tokens: whether they find the same tokens hard.",
            "Pearson correlation over sampled queries of nll_baseline and nll_candidate",
            "-1 to 1",
            "Blind to a shift that is equal everywhere, and near 1 for any two good models, since hard tokens are hard "
            "for both: read its distance from 1.",
        ),
        _output(
            "output_kl",
            "KL divergence: mean",
            "nats",
            "lower",
            "Mean divergence of the candidate's next-token distribution from the baseline's.",
            "mean over sampled queries of KL(p || q) = sum over tokens of p ln(p / q)",
            "≥ 0",
            "Over more tokens than closeup.top_logits it is a lower bound: all tokens outside both models' likeliest "
            "are one outcome (output_merged in output_divergence says how much of p that is). Probabilities are stored "
            "in 16 bits: below 1e-6 nats it is rounding. It is never below 0, so that only equals have 0 in the "
            "interval.",
        ),
        _output(
            "output_kl_median",
            "KL divergence: median",
            "nats",
            "lower",
            "Median divergence of the next-token distribution from the baseline's.",
            "smallest KL(p || q) that half of the weight of the sampled queries does not exceed",
            "≥ 0",
            "Says nothing of the rare queries that need a far key, which an indexer loses first: see output_kl_p99.",
        ),
        _output(
            "output_kl_p99",
            "KL divergence: 99\u202f%",
            "nats",
            "lower",
            "Divergence that 99 % of the queries do not exceed.",
            "smallest KL(p || q) that 99 % of the weight of the sampled queries does not exceed",
            "≥ 0",
            "From few queries it is near the largest one seen, and its interval cannot reach beyond that; 64 samples "
            "of 32 queries leave about 20 above it.",
        ),
        _output(
            "probability_change_rms",
            "Δp of the true token: RMS",
            "share",
            "lower",
            "Root mean square change of the true next token's probability.",
            "sqrt(mean over sampled queries of (q(x[t+1]) - p(x[t+1]))^2)",
            "0 to 1",
            "Sees the true token alone, and hardly those that both models find unlikely, however wrong they became.",
        ),
        _output(
            "same_top_token",
            "same top token",
            "share",
            "higher",
            "Share of queries after which both models find the same token most likely.",
            "mean over sampled queries of [argmax p = argmax q]",
            "0 to 1",
            "Two nearly equal tokens swap places at the slightest change, and a confident wrong token may stay on top "
            "while its probability moves: it counts decisions of greedy decoding, not what was lost.",
        ),
    ),
)
