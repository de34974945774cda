"""docs/metrics.md, from the registry: ``python -m indexscope.analysis.metrics.document > docs/metrics.md``."""

from __future__ import annotations

from collections.abc import Iterable

from indexscope.analysis.metrics.metric import Computed, Derived, Family, Metric, Paired
from indexscope.analysis.metrics.registry import FAMILIES

INTRODUCTION = """\
# Metrics

<!-- Made by `python -m indexscope.analysis.metrics.document` from analysis/*/metrics. -->

Every number that Indexscope reports has one definition, and this is the list of them. The names are those of
`report.json`, of the Parquet tables and of the gates of a study file.

## Words

Query t, key s. E_t: the keys that t may attend (causal, not padding); n_t = |E_t|. p[h,t,s]: *dense* attention of
head h, the softmax over E_t of the attention logits. I[t,s]: index score. S_t: the keys that the indexer selects
for t; k_t = |S_t|. H attention heads of width d_qk (queries, keys) and d_v (values); H_I indexer heads of width
d_I. A query is *in effect* if n_t > k_t: before that everything is selected. Attention metrics describe the dense
attention, which is the softmax over E_t even in layers that attend a selection only. A *sample* is one token
sequence.

## How a number comes about

- **Aggregation.** Feature tables hold means over the queries of one (sample, layer, head, bucket) and the number of
  queries they are over. A metric is sum(value x weight) / sum(weight) over the rows, a ratio of two sums, so that
  it is the same in whatever shards and order it was extracted. Every query weighs the same, and so a long sample
  weighs more than a short one. A layer's value runs over the rows of that layer, the overall value over all rows.
- **Position.** Entropy, sparsity and recall depend on n_t. `by_bucket` has every metric by power-of-two bucket of
  the query's position, floor(log2(t + 1)). Compare models on the same samples only.
- **Range** says which values are possible; a bound with n_t is that of a single query, and holds for the mean over
  queries with the largest n_t. What can make a metric mislead stands beside its formula.
- **Unknown is null.** A metric without a single query to measure is null, with n = 0; it is never 0.
- **n** is the number of samples with weight. For timings it is the number of timed repeats; counts and FLOPs have
  none.
- **Intervals** are by bootstrap over samples: tokens of one document depend on each other, documents do not.
  Numerator and denominator of a resample are drawn together. From 8 samples on, the bounds are expanded percentiles
  (Hesterberg 2015, *What Teachers Should Know About the Bootstrap*): quantiles at Φ(∓t·√(n/(n-1))), t from
  Student's distribution on n - 1 degrees of freedom. Below 8 samples no resampling reaches the tails, and the
  interval is t·√(n/(n-1))·(standard deviation of the resamples) around the estimate, on a scale on which its range
  has no ends: log(v - a) where it is at least a, logit where it has both ends (delta method). So no interval
  leaves the declared range, and a divergence of two samples may be many times what was seen. A metric without a
  range, and every difference of two models, has estimate ∓ t standard errors. With one sample there is none. The
  interval speaks about other samples of the same dataset, not about other datasets or another training run.
- **Comparison.** Both models share the resampled samples, so what is hard about a sample cancels. `difference` is
  candidate less baseline; `better` is set only where the interval leaves out 0 and the metric has a direction.
  Features are kept in single precision: a difference of a millionth of the value is rounding, and equal. Timings
  are not paired: their interval runs between the extremes of the two models' repeats, a machine that was busier
  during one of them shows in it, and so `better` is left null. A larger k raises recall by itself: where
  k differs it is not judged, and `selection_skill` compares. At 95 % about one in twenty differences between
  equal models leaves out 0, and a study has many layers and metrics: do not pick one row out of a hundred.
- **What compares by itself.** A few metrics (`output_kl`, `selection_kept`, ...) are of a candidate and the baseline
  together. They are listed among the candidate's metrics; a gate names their value, as in `output_kl <= 0.01 on upper`.
"""


def document() -> str:
    """The whole of docs/metrics.md."""
    return "\n".join([INTRODUCTION, *(part for family in FAMILIES for part in _family(family))])


def _family(family: Family) -> Iterable[str]:
    yield f"## {family.title}\n"
    yield f"{family.about}\n"
    yield "| metric | unit | range | better | meaning |"
    yield "|---|---|---|---|---|"
    for metric in family.metrics:
        cells = (f"`{metric.name}`", metric.unit, _cell(metric.range), metric.better, _cell(metric.meaning))
        yield f"| {' | '.join(cells)} |"
    yield ""
    for metric in family.metrics:
        source = f" Source: {metric.source}." if metric.source else ""
        misleads = f" *Can mislead:* {metric.misleads}" if metric.misleads else ""
        yield f"- **`{metric.name}`** = `{metric.formula}`. {_computed(metric)}{source}{misleads}"
    yield ""


def _computed(metric: Metric) -> str:
    rule = metric.rule
    layers = "overall and by layer" if metric.per_layer else "overall"
    if isinstance(rule, Derived):
        return f"Derived from {' and '.join(f'`{base}`' for base in rule.bases)}, {layers}."
    if isinstance(rule, Computed):
        return f"Computed by the {rule.analysis} analysis from `{rule.table}`, {layers}."
    if isinstance(rule, Paired) and rule.of_dump:
        return f"Computed from `{rule.table}` of selections from elsewhere held against the baseline, {layers}."
    if isinstance(rule, Paired):
        return f"Computed by the comparison from `{rule.table}` of both models, for candidates, {layers}."
    value = f"`{rule.value}`" + (f" less `{rule.minus}`" if rule.minus else "")
    over = f" over `{rule.over}`" if rule.over else ""
    weight = f" weighted by `{rule.weight}`" if rule.weight else ""
    return f"Column {value}{over} of `{rule.table}`{weight}, {layers}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(document(), end="")
