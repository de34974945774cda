"""The tables of the analysis by context length."""

from __future__ import annotations

from storage.columns import Table, interval, of, table
from storage.result_tables import RESULTS

LENGTHS: dict[tuple[str, str], Table] = {
    ("analyses/length", "metrics"): RESULTS["analyses/distribution", "metrics"],
    ("analyses/length", "per_sample"): RESULTS["analyses/distribution", "per_sample"],
    ("analyses/length", "lengths"): table(
        "metric, layer, kind, length",
        "metric layer kind length",
        of("tokens", length="Context length: 2^m - 1, or the longest sample's where that is shorter."),
        of(kind='Which queries: "up to" the length, or "at" it, those of the last power of two alone.'),
        of("as the metric", value="The metric's value."),
        interval("as the metric", whose="the"),
        of("samples", n="Samples with such queries."),
        ordered=False,
    ),
    ("analyses/length", "by_sample"): table(
        "metric, bucket, sample",
        "metric bucket sample",
        of("tokens", length="Context length that ends with the bucket."),
        of("as the metric", "weight", value="The metric's value over the sample's queries in the bucket, all layers."),
        of(weight="What the value is weighted by when samples or buckets are put together."),
        ordered=False,
    ),
    ("analyses/length", "onset"): table(
        "metric, layer",
        "metric layer",
        of(
            "tokens",
            first_length="End of the first position bucket in which the indexer leaves something out.",
            longest="End of the last position bucket.",
            length="End of the bucket from which on the metric is detectably worse than in the first; null: in none.",
        ),
        of(
            "as the metric",
            loss="How much worse the last bucket is than the first, paired by sample; below 0 it is better.",
        ),
        interval("as the metric", whose="the loss's"),
        of("samples", n="Samples that reach the last bucket."),
        ordered=False,
    ),
}
