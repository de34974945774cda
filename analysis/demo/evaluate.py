"""What a built-in model's card reports, measured on held-out text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

IN_EFFECT = ("selection_recall", "oracle_recall", "random_recall")


@dataclass(frozen=True)
class Evaluation:
    """Held-out quality and recall.

    Attributes:
        samples: Sequences evaluated.
        tokens: Next tokens predicted.
        nll: With the indexer's selection, nats per token.
        dense_nll: The same weights attending to everything, nats per token.
        accuracy: Share of next tokens predicted first.
        recall: A row per layer with selection, oracle and random recall over queries in effect.
    """

    samples: int
    tokens: int
    nll: float
    dense_nll: float
    accuracy: float
    recall: pl.DataFrame

    def mean_recall(self, name: str) -> float:
        """Mean over layers; every layer has the same queries."""
        return float(self.recall[name].mean())  # type: ignore[arg-type]


def evaluate(features: Mapping[str, pl.DataFrame]) -> Evaluation:
    """Sum up feature tables (see indexscope.analysis.features) over all samples."""
    tokens = features["tokens"]

    def per_token(name: str) -> float:
        known = tokens.filter(pl.col(name).is_not_null())
        return float((known[name] * known["tokens"]).sum()) / float(known["tokens"].sum())

    weight = pl.col("queries_in_effect")
    recall = features["indexer"].filter(weight > 0).group_by("layer").agg(
        (pl.col(name) * weight).sum() / weight.sum() for name in IN_EFFECT
    )  # fmt: skip
    return Evaluation(
        samples=len(features["samples"]),
        tokens=int(tokens["tokens"].sum()),
        nll=per_token("nll"),
        dense_nll=per_token("dense_nll"),
        accuracy=per_token("accuracy"),
        recall=recall.sort("layer"),
    )


def answered(answers: pl.DataFrame) -> pl.DataFrame:
    """What share of the answers is exact, by kind of question and length.

    Args:
        answers: The table of answers (see indexscope.analysis.evidence.tables).

    Returns:
        Columns kind, tokens, samples, dense_exact (with every key) and exact (with the selection), sorted.
    """
    exact = [pl.len().alias("samples"), *(pl.col(name).cast(pl.Float64).mean() for name in ("dense_exact", "exact"))]
    return answers.group_by("kind", "tokens").agg(exact).sort("kind", "tokens")
