"""The tables of analyses, comparisons and reports."""

from __future__ import annotations

from storage.columns import SAMPLES, Column, Table, interval, of, table

_INTERVAL = interval(whose="the")
_METRICS = table(
    "metric, layer",
    "metric layer",
    of("in the column unit", value="The metric's value."),
    of(unit="Unit of the value."),
    _INTERVAL,
    of("samples", n="Samples that the value is of."),
    ordered=False,
)
_PER_SAMPLE = table(
    "metric, layer, sample",
    "metric layer sample",
    of("as the metric", "weight", value="The metric's value in the sample."),
    of(weight="What the value is weighted by when samples are put together."),
    ordered=False,
)


def _compared(key: str, *groups: tuple[Column, ...]) -> Table:
    """Candidates beside the baseline."""
    return table(
        key.replace(" ", ", "),
        key,
        *groups,
        of(unit="Unit of the values."),
        of(
            "in the column unit",
            baseline="The baseline's value.",
            value="The candidate's value.",
            difference="The candidate's value less the baseline's.",
        ),
        _INTERVAL,
        of("samples", n="Samples that were paired."),
        of(
            better="Whether the candidate is better, where the interval leaves out 0 or a count differs; else null.",
            verdict="In a word: equivalent (the interval tost_low to tost_high lies within the margin), else better, "
            "worse or different (the confidence interval leaves out 0), else inconclusive; equal: a count that does "
            "not differ.",
            no_worse="Whether the worse end of tost_low to tost_high lies within the margin; null without a direction.",
        ),
        of("in the column unit", margin="Difference that does not matter, by the settings."),
        of(
            p_adjusted="P-value after Benjamini-Hochberg within its family: the headline metrics, the others, or "
            "the layers or lengths of one metric.",
            corrected="Whether p_adjusted is at most 1 - confidence.",
        ),
        of("in the column unit", standard_error="Standard error of the difference, from the resamples."),
        of(
            "standard deviations",
            effect="Difference over the standard deviation of a sample's share in it (d_z), with Hedges' correction.",
        ),
        of(p="Two-sided p-value of no difference; it is below 1 - confidence where the interval leaves out 0."),
        of(
            "in the column unit",
            mde="Minimum detectable effect: the true difference that would be detected with a probability of 80 %.",
            tost_low="Lower end of the interval with coverage 2 x confidence - 1, which the margin is held against.",
            tost_high="Upper end of that interval.",
        ),
        ordered=False,
    )


_COMPARISONS = _compared("candidate metric layer")
_SCORES: tuple[Column, ...] = of(group="Whose index scores: selected or unselected keys of queries in effect.")


def _lift(prefix: str, what: str) -> tuple[Column, ...]:
    lift = of("ratio", **{f"{prefix}lift": f"{what} relative to chance."})
    return (*lift, *interval("ratio", f"{prefix}ci_low", f"{prefix}ci_high"))


_DIMENSIONS = of(dimensions="Whose dimensions: those of this checkpoint, or of DeepSeek-V3.2.")
RESULTS: dict[tuple[str, str], Table] = {
    ("analyses/clustering", "metrics"): _METRICS,
    ("analyses/clustering", "assignments"): table(
        "sample, layer, head",
        "sample layer head",
        of(cluster="The cluster that the map belongs to.", pattern_type="The map's pattern type by rules."),
        of("whitened distance", distance="Distance of the map from the centre of its cluster."),
        of("share", margin="The smallest change of an evidence that would change the type."),
    ),
    ("analyses/clustering", "choice"): table(
        "number of clusters",
        "k",
        of("clusters", k="Number of clusters that was tried."),
        of("score", silhouette="How well the clusters are separated, from -1 to 1."),
        interval("score", "silhouette_low", "silhouette_high"),
        of("samples", n="Samples of the rows that silhouette and agreement were judged on."),
        of("squared distance", inertia="Sum of squared distances from the centres."),
        of(chosen="Whether it was chosen."),
        of(
            "adjusted Rand index",
            seeds_mean="Agreement of fits with other seeds, mean over pairs.",
            seeds_min="The least agreement of fits with other seeds.",
            halves_mean="Agreement of fits on two halves of the samples, mean over splits.",
            halves_min="The least agreement of fits on two halves of the samples.",
        ),
    ),
    ("analyses/clustering", "directions"): table(
        "direction",
        "direction",
        of(direction="Direction of the correlation matrix of the fitted rows, 0 the one of most variance."),
        of("variances of a feature", variance="Variance along the direction."),
        of(kept="Whether distances take it in: its variance is 0.05 or more."),
        of(
            "loading",
            normalized_entropy="Weight of the normalised entropy.",
            max_weight="Weight of the largest attention weight.",
            local_mass="Weight of the attention on the nearest keys.",
            sink_mass="Weight of the attention on the first keys.",
            self_mass="Weight of the attention on the query's own token.",
            previous_mass="Weight of the attention on the previous token.",
            induction_mass="Weight of the attention on induction keys.",
            vertical_mass="Weight of the attention in columns.",
            slash_mass="Weight of the attention at one distance.",
            block_mass="Weight of the attention on whole aligned blocks.",
            reach="Weight of the reach.",
        ),
    ),
    ("analyses/clustering", "agreement"): table(
        "cluster, pattern type",
        "cluster pattern_type",
        of(pattern_type="The pattern type by rules."),
        of("share", share="Share of the cluster's maps."),
        interval("share"),
        of("maps", count="Maps of the cluster that have the type."),
        of("samples", n="Samples that have maps in the cluster."),
    ),
    ("analyses/clustering", "clusters"): table(
        "cluster",
        "cluster",
        of(name="The pattern that it is named for."),
        of("maps", size="Maps in the cluster."),
        of("share", share="Share of all maps."),
        interval("share"),
        SAMPLES,
        of(
            "share",
            normalized_entropy="The centre's normalised entropy.",
            max_weight="The centre's largest attention weight.",
            local_mass="The centre's attention on the nearest keys.",
            sink_mass="The centre's attention on the first keys.",
            self_mass="The centre's attention on the query's own token.",
            previous_mass="The centre's attention on the token before.",
            induction_mass="The centre's attention on tokens that followed an earlier copy.",
            vertical_mass="The centre's attention on columns.",
            slash_mass="The centre's attention on diagonals.",
            block_mass="The centre's attention on whole aligned blocks.",
            reach="The centre's reach of attention, relative to the eligible keys.",
        ),
    ),
    ("analyses/clustering", "pattern_types"): table(
        "layer, pattern type",
        "layer pattern_type",
        of(pattern_type="The pattern."),
        of("share", share="Share of the layer's maps."),
        interval("share"),
        of("maps", count="Maps of that pattern."),
        of("samples", n="Samples that have maps in the layer."),
        ordered=False,
    ),
    ("analyses/distribution", "metrics"): _METRICS,
    ("analyses/distribution", "per_sample"): _PER_SAMPLE,
    ("analyses/distribution", "by_bucket"): table(
        "metric, layer, bucket",
        "metric layer bucket",
        of("as the metric", value="The metric's value."),
        of("samples", n="Samples that the value is of."),
        ordered=False,
    ),
    ("analyses/distribution", "by_head"): table(
        "metric, layer, head",
        "metric layer head",
        of("as the metric", value="The metric's value."),
        ordered=False,
    ),
    ("analyses/distribution", "score_histogram"): table(
        "layer, group, bin",
        "layer group left",
        _SCORES,
        of("score", left="Lower edge of the bin.", right="Upper edge of the bin."),
        of("1/score", density="Share of the scores in the bin by its width."),
        of("keys", count="Scores in the bin."),
        ordered=False,
    ),
    ("analyses/distribution", "score_moments"): table(
        "layer, group",
        "layer group",
        _SCORES,
        of("keys", count="Scores."),
        of(
            "score",
            mean="Mean score.",
            sd="Standard deviation of the scores.",
            minimum="Smallest score.",
            maximum="Largest score.",
        ),
        of("share", zero_share="Scores that are exactly zero."),
        ordered=False,
    ),
    ("analyses/distribution", "score_quantiles"): table(
        "layer, group, quantile",
        "layer group quantile",
        _SCORES,
        of("share", quantile="Share of the scores at or below the value."),
        of("score", value="The quantile."),
        of("keys", count="Scores."),
        ordered=False,
    ),
    ("analyses/efficiency", "metrics"): _METRICS,
    ("analyses/efficiency", "per_sample"): _PER_SAMPLE,
    ("analyses/efficiency", "latency"): table(
        "component, length",
        "component length",
        of("tokens", length="Length of the sequence."),
        of("ms", ms="Median time.", low="5th percentile of the times.", high="95th percentile of the times."),
        of("share", time_share="Share of the whole model's median time; selection is part of indexer."),
        of("bytes", peak_bytes="Largest memory of one call above what was alive before it."),
        ordered=False,
    ),
    ("analyses/efficiency", "projection"): table(
        "dimensions, length, component",
        "dimensions length component",
        _DIMENSIONS,
        of("tokens", length="Length of the context."),
        of("FLOPs", flops="Operations of one prefill of that length by formula, all layers together."),
        ordered=False,
    ),
    ("analyses/efficiency", "break_even"): table(
        "dimensions",
        "dimensions",
        _DIMENSIONS,
        of("tokens", length="Shortest prefill at which indexer and sparse attention need less than dense attention."),
        ordered=False,
    ),
    ("analyses/efficiency", "patterns_pareto"): table(
        "level, layer, head, pattern type",
        "level layer head pattern_type",
        of(
            level="What the row is of: layer, head or pattern type.",
            pattern_type="The pattern type; null at the other levels.",
        ),
        of("share", cost="Share of the eligible keys that hold 95 % of the attention."),
        interval("share", "cost_low", "cost_high"),
        of("share", quality="Dense attention that falls on selected keys."),
        interval("share", "quality_low", "quality_high"),
        of("ratio", output_error="Relative change of the output by the selection."),
        interval("ratio", "output_error_low", "output_error_high"),
        of(on_front="Whether no other row of the level costs at most as much and keeps at least as much."),
        SAMPLES,
        ordered=False,
    ),
    ("analyses/advice", "advice"): table(
        "recommendation",
        "rank",
        of(
            rank="Place in the list, from 1.",
            kind="What is changed: indexer heads, sharing, budget or allocation.",
            change="The change in words.",
        ),
        of(
            "share",
            expected_loss="Recall lost in the layers that change; below 0 a gain.",
        ),
        interval("share", whose="the loss'"),
        of(
            "share",
            mean_loss="Recall lost on the mean over all layers.",
            saving="Operations of indexer and attention saved at the study's lengths.",
            saving_at_64k="The same for a prefill of 65,536 tokens.",
        ),
        of(basis="Table that says so, and its number of samples.", caveat="What could mislead."),
    ),
    ("analyses/positional", "metrics"): _METRICS,
    ("analyses/positional", "per_sample"): _PER_SAMPLE,
    ("analyses/positional", "lift"): table(
        "layer, axis, bin",
        "layer axis bin",
        of(label="The bin in words."),
        _lift("", "Selections"),
        _lift("attention_", "Dense attention"),
        of("keys", selections="Selected keys in the bin.", expected="The same by chance."),
        SAMPLES,
        ordered=False,
    ),
    ("comparisons", "comparisons"): _COMPARISONS,
    ("comparisons", "by_length"): _compared(
        "candidate metric length kind",
        of("tokens", length="Context length: 2^m - 1, or the longest sample's where that is shorter."),
        of(kind='Which queries: "up to" the length, or "at" it, those of the last power of two alone.'),
    ),
    ("comparisons", "transitions"): table(
        "candidate, layer, cluster or type, before, after",
        "candidate layer of before after",
        of(
            of="What is followed: cluster, or type for the pattern types by rules.",
            before="The cluster or type of the maps in the baseline.",
            after="Their cluster or type in the candidate.",
        ),
        of("share", share="Share of the layer's maps with that before."),
        interval("share"),
        of("maps", count="Maps that went this way."),
        of("samples", n="Samples that have maps in the layer with that before."),
        ordered=False,
    ),
    ("comparisons", "moved"): table(
        "candidate, layer, cluster or type",
        "candidate layer of",
        of(of="What is followed: cluster, or type for the pattern types by rules."),
        of("share", moved="Share of maps that are in another cluster or of another type than in the baseline."),
        _INTERVAL,
        of("samples", n="Samples that both models have."),
        ordered=False,
    ),
    ("reports", "summary"): _COMPARISONS,
    ("reports", "files"): table("file", "name", of(name="Name of the file.", content="Its text."), ordered=False),
    ("reports", "gates"): table(
        "gate, candidate",
        "name candidate",
        of(name="Name of the gate.", rule="Its rule."),
        of("as the metric", value="What the rule was applied to: of a rule per layer, the worst layer's."),
        of(passed="Whether it holds."),
        of(layer="Layer that the value is of; null over all layers."),
        of(reason="Value, bound and failing layers in a sentence."),
        ordered=False,
    ),
}
