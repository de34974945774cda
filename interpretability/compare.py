"""Two analyses of an indexer side by side: every metric's paired difference, its interval and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from indexscope.analysis.comparison.compare import combine, compare
from indexscope.analysis.leaks import marked
from indexscope.analysis.report.numbers import number, span
from indexscope.analysis.settings import ComparisonSettings
from interpretability.analyses import IndexerAnalysis
from interpretability.results import Result

_CANDIDATE = "candidate"


@dataclass(frozen=True, eq=False, repr=False)
class IndexerComparison(Result):
    """How an optimised indexer differs from a baseline on the same samples.

    Attributes:
        kind: Of which analysis: "indexer heads", "token selection", ...
        baseline: What the baseline is called.
        candidate: What the optimised model is called; two models of one name are numbered.
        n: Samples that were paired.
        metrics: metric, layer (null for all), unit, baseline, value, difference (value - baseline), ci_low, ci_high,
            n, better, verdict, and what else the pipeline's comparison tells (docs/comparisons.md). p_adjusted corrects
            for the metrics of these two analyses, in a study for all of it.
        notes: What is null in either analysis, and why.
        leaks: Which of the two leak, "baseline" and "candidate"; if any does, the verdict on every metric is "leaks".
    """

    kind: str
    baseline: str
    candidate: str
    n: int
    metrics: pl.DataFrame
    notes: tuple[str, ...]
    leaks: tuple[str, ...] = ()

    @property
    def called(self) -> tuple[str, str]:
        """What the baseline and the candidate are called, with the word "leaks" where one does."""
        return marked(self.baseline, "baseline" in self.leaks), marked(self.candidate, _CANDIDATE in self.leaks)

    @property
    def overall(self) -> pl.DataFrame:
        """The rows over all layers."""
        return self.metrics.filter(pl.col("layer").is_null())

    def to_frame(self) -> pl.DataFrame:
        """The metrics."""
        return self.metrics

    def __repr__(self) -> str:
        """One line a metric over all layers: baseline, value, difference, interval, verdict."""
        baseline, candidate = self.called
        lines = [f"{self.kind}: {candidate} against {baseline}, n = {self.n} paired samples"]
        rows = list(self.overall.iter_rows(named=True))
        cells = [
            (
                row["metric"],
                number(row["baseline"], places=4),
                number(row["value"], places=4),
                number(row["difference"], places=4, signed=True),
                f"({span(row['ci_low'], row['ci_high'], places=4, signed=True)})" if row["ci_low"] is not None else "",
                f"{row['unit']}",
                row["verdict"] or "not judged",
            )
            for row in rows
        ]
        table = [("metric", "baseline", "value", "difference", "interval", "unit", "verdict"), *cells]
        widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
        lines += [
            "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def compare_indexer_analyses(
    baseline_analysis: IndexerAnalysis,
    optimized_analysis: IndexerAnalysis,
    *,
    settings: ComparisonSettings | None = None,
) -> IndexerComparison:
    """Compare two analyses of the same kind on the same samples, paired by sample.

    Args:
        baseline_analysis: Of the baseline.
        optimized_analysis: Of the optimised model.
        settings: The bootstrap and the margins; by default a study's.

    Returns:
        Every metric that either has, with the interval and the verdict of a study's comparison; and what the two models
        cost: parameters and FLOPs per token, which differ or do not, and latency, which is not judged. Where one
        of them leaks, nothing is judged.

    Raises:
        TypeError: One of them is no analysis of an indexer.
        ValueError: They are of different kinds, or of different samples.
    """
    for which, analysis in (("baseline_analysis", baseline_analysis), ("optimized_analysis", optimized_analysis)):
        if not isinstance(analysis, IndexerAnalysis):
            reason = f"{which} is {type(analysis).__name__}, not an analysis of an indexer"
            raise TypeError(f"{reason}; give what a method of IndexerInterpreter or load(...) returned")
    _check(baseline_analysis, optimized_analysis)
    first, second = baseline_analysis, optimized_analysis
    baseline, candidate = _names(first, second)
    both = {"baseline": first, _CANDIDATE: second}
    models = {name: combine({"": own, "costs": {"metrics": own.costs}}) for name, own in both.items()}
    leaking = tuple(name for name, own in both.items() if own.leaks)
    rows = compare(models, "baseline", settings or ComparisonSettings(), leaking)
    return IndexerComparison(
        kind=first.kind,
        baseline=baseline,
        candidate=candidate,
        n=first.samples.height,
        metrics=rows.with_columns(candidate=pl.lit(candidate)),
        notes=tuple(dict.fromkeys([*first.notes, *second.notes])),
        leaks=leaking,
    )


def _names(first: IndexerAnalysis, second: IndexerAnalysis) -> tuple[str, str]:
    """What the two are called: numbered where their names do not tell them apart."""
    if first.model != second.model:
        return first.model, second.model
    return f"{first.model} 1", f"{second.model} 2"


def _check(first: IndexerAnalysis, second: IndexerAnalysis) -> None:
    if type(first) is not type(second):
        raise ValueError(
            f"baseline_analysis is of {first.kind} and optimized_analysis of {second.kind}; "
            "compare two analyses that the same method made"
        )
    digests = [analysis.samples["digest"].to_list() for analysis in (first, second)]
    if digests[0] == digests[1]:
        return
    if len({_is_stored(listed) for listed in digests}) == 2:
        raise ValueError(
            "of the analyses one is of a stored study, whose tokens are not kept, so that nobody can tell whether they "
            "are of the same samples; take both from studies, or analyse both models here"
        )
    unlike = sum(one != other for one, other in zip(*digests, strict=False)) + abs(len(digests[0]) - len(digests[1]))
    raise ValueError(
        f"the analyses are of different samples ({len(digests[0])} and {len(digests[1])}; {unlike} differ); "
        "analyse both models on the same batches in the same order"
    )


def _is_stored(digests: list[str]) -> bool:
    return any(":" in digest for digest in digests)
