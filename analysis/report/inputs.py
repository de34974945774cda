"""What a report is made of: the pages of the models, and the tables over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, Literal, TypeVar

import polars as pl

from indexscope.analysis.comparison.gates import GATES
from indexscope.analysis.comparison.tables import COMPARISONS, LENGTH_COMPARISONS
from indexscope.analysis.leaks import leaking, marked, without_verdicts
from indexscope.analysis.metrics.tables import METRICS
from indexscope.analysis.report.numbers import percent
from indexscope.columns import of, table_of

T = TypeVar("T")
Level = Literal["better", "worse", "mixed", "equivalent", "unchanged", "none"]

METRICS_SCHEMA: Mapping[str, Any] = {"model": pl.String, **METRICS.schema}
COMPARISONS_SCHEMA: Mapping[str, Any] = COMPARISONS.schema
GATES_SCHEMA: Mapping[str, Any] = GATES.schema
LENGTHS_SCHEMA: Mapping[str, Any] = LENGTH_COMPARISONS.schema
CAUSALITY = table_of(
    "model",
    "model",
    of(pl.String, model="Name of the model."),
    of(pl.Boolean, passed="Whether no later token moved an earlier prediction; null where nothing could be checked."),
    of(pl.Float64, "logit", max_logit_change="Largest change of an earlier logit that was seen."),
    of(pl.Float64, "share", layer_change="Largest change of a layer by itself; null where logits did not move."),
    ordered=False,
)
CAUSALITY_SCHEMA: Mapping[str, Any] = CAUSALITY.schema


@dataclass(frozen=True)
class ModelPage:
    """One model of the study.

    Attributes:
        name: Its name in the study; the key of all tables.
        role: Baseline or candidate.
        fingerprint: Fingerprint of the checkpoint.
        facts: The one row of its ``facts`` table: family, parameters, indexer_heads, …
        analyses: Analysis name ("distribution", "clustering", "positional_bias", "efficiency") to its result frames.
        dump: What it was dumped by, where it is selections from elsewhere and no model that was run; else "".
    """

    name: str
    role: Literal["baseline", "candidate"]
    fingerprint: str
    facts: Mapping[str, Any]
    analyses: Mapping[str, Mapping[str, pl.DataFrame]]
    dump: str = ""

    def frame(self, analysis: str, table: str) -> pl.DataFrame | None:
        """A result frame, or None where the analysis did not run or found nothing."""
        frame = self.analyses.get(analysis, {}).get(table)
        return None if frame is None or frame.is_empty() else frame

    @property
    def has_indexer(self) -> bool:
        """Whether the model has an indexer at all; a dense model has none."""
        return self.facts.get("index_topk") is not None or self.facts.get("indexer_heads") is not None


def once(make: Callable[[ReportInput], T]) -> Callable[[ReportInput], T]:
    """Decorate what is made of a report alone, and asked for by many: a report does not change."""
    place = f"{make.__module__}.{make.__qualname__}"

    @wraps(make)
    def kept(report: ReportInput) -> T:
        made: dict[str, T] = vars(report)
        if place not in made:
            made[place] = make(report)
        return made[place]

    return kept


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows. Frames that are empty or have no columns stand for "nothing of this kind".

    Attributes:
        study: Name of the study.
        models: The models that were run and the dumps of selections, baseline first.
        metrics: Metrics of all models: column ``model`` and the columns of an analysis' ``metrics`` frame.
        comparisons: Result of the comparison (one row per candidate, metric and layer).
        gates: name, rule, candidate, value, passed, layer, reason.
        causality: model, passed, max_logit_change, layer_change.
        provenance: Fingerprints, versions, seeds, settings and timings, as JSON values.
        confidence: Coverage of the intervals in ``metrics`` and ``comparisons``.
        lengths: Headline metrics of the comparison by context length (see ``compare_lengths``).
        missing: Candidates of the study that have no result, and why, in one line each.
    """

    study: str
    models: Sequence[ModelPage]
    metrics: pl.DataFrame
    comparisons: pl.DataFrame
    gates: pl.DataFrame
    causality: pl.DataFrame
    provenance: Mapping[str, Any]
    confidence: float = 0.95
    lengths: pl.DataFrame = field(default_factory=pl.DataFrame)
    missing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Give frames the columns that they lack, with nulls; take verdicts on what leaks away."""
        for name, schema in (
            ("metrics", METRICS_SCHEMA),
            ("comparisons", COMPARISONS_SCHEMA),
            ("gates", GATES_SCHEMA),
            ("causality", CAUSALITY_SCHEMA),
            ("lengths", LENGTHS_SCHEMA),
        ):
            frame = getattr(self, name)
            lacking = [pl.lit(None, dtype=kind).alias(column) for column, kind in schema.items() if column not in frame]
            if frame.width == 0:
                object.__setattr__(self, name, pl.DataFrame(schema=schema))
            elif lacking:
                object.__setattr__(self, name, frame.with_columns(lacking))
        for name in ("comparisons", "lengths") if self.leaking else ():
            baseline = self.baseline.name if self.baseline else None
            object.__setattr__(self, name, without_verdicts(getattr(self, name), baseline, self.leaking))

    @cached_property
    def leaking(self) -> frozenset[str]:
        """Names of the models that leak."""
        return leaking(self.causality)

    def sides(self, candidate: str) -> tuple[str, str]:
        """What the columns of a comparison are called: baseline and candidate, marked where they leak."""
        base = self.baseline is not None and self.baseline.name in self.leaking
        return marked("baseline", base), marked("candidate", candidate in self.leaking)

    @once
    def for_readers(self) -> ReportInput:
        """The same report with the word "leaks" in the names of models that leak, so wherever their numbers stand."""
        names = {name: marked(name, leaks=True) for name in self.leaking}
        if not names:
            return self

        def renamed(frame: pl.DataFrame, column: str) -> pl.DataFrame:
            return frame.with_columns(pl.col(column).replace(names))

        return replace(
            self,
            models=[replace(page, name=names.get(page.name, page.name)) for page in self.models],
            metrics=renamed(self.metrics, "model"),
            comparisons=renamed(self.comparisons, "candidate"),
            gates=renamed(self.gates, "candidate"),
            causality=renamed(self.causality, "model"),
            lengths=renamed(self.lengths, "candidate"),
        )

    @property
    def baseline(self) -> ModelPage | None:
        """The baseline, if the study has one."""
        return next((page for page in self.models if page.role == "baseline"), None)

    @property
    def candidates(self) -> list[ModelPage]:
        """The candidates that were run, in report order."""
        return [page for page in self.measured if page.role == "candidate"]

    @property
    def measured(self) -> list[ModelPage]:
        """The models that were run."""
        return [page for page in self.models if not page.dump]

    @property
    def dumps(self) -> list[ModelPage]:
        """The candidates that are selections from elsewhere, of which nothing else is known."""
        return [page for page in self.models if page.dump and page.role == "candidate"]

    @property
    def names(self) -> list[str]:
        """Names of the models in report order."""
        return [page.name for page in self.models]

    @property
    def interval(self) -> str:
        """What a caption calls the intervals."""
        return f"{percent(self.confidence)} CI (bootstrap over samples)"

    def frames(self, analysis: str, table: str) -> dict[str, pl.DataFrame]:
        """A result frame of every model that has it with rows, by model."""
        found = {page.name: page.frame(analysis, table) for page in self.models}
        return {name: frame for name, frame in found.items() if frame is not None}

    @property
    def samples(self) -> int:
        """The largest number of samples behind any number (the n of a timing counts its repeats)."""
        counts = self.metrics.filter(pl.col("unit").ne_missing("ms"))["n"].drop_nulls()
        return int(counts.max()) if counts.len() else 0  # type: ignore[arg-type]

    def own_metrics(self, model: str) -> pl.DataFrame:
        """The metrics of one model."""
        return self.metrics.filter(pl.col("model") == model)

    def own_comparisons(self, candidate: str) -> pl.DataFrame:
        """The comparison rows of one candidate."""
        return self.comparisons.filter(pl.col("candidate") == candidate)
