"""What is told of an indexer: one class a question, with the pipeline's tables and the numbers over all layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import polars as pl

from indexscope.analysis.indexer_heads.tables import RESULTS as HEADS
from indexscope.analysis.key_budget.tables import RESULTS as BUDGETS
from indexscope.analysis.leaks import marked
from indexscope.analysis.metrics.metric import Computed
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE
from indexscope.analysis.positional_bias.tables import LIFT as PLACES
from indexscope.analysis.report.numbers import number, span
from indexscope.analysis.token_content.tables import LIFT as KINDS
from indexscope.columns import Table, Tables
from interpretability.results import Result

Frames = Mapping[str, pl.DataFrame]
SAMPLES = {"sample": pl.Int32, "tokens": pl.Int32, "digest": pl.String}
A = TypeVar("A", bound="IndexerAnalysis")
_OVERALL = {"value": pl.Float64, "unit": pl.String, "ci_low": pl.Float64, "ci_high": pl.Float64, "n": pl.Int32}


@dataclass(frozen=True, eq=False, repr=False)
class IndexerAnalysis(Result):
    """What all analyses of an indexer have.

    Attributes:
        model: What the model is called.
        samples: The samples: sample, tokens, and a digest by which two analyses are known to have seen the same.
        metrics: metric, layer (null for all), value, unit, ci_low, ci_high, n, as in the pipeline's results.
        per_sample: metric, layer, sample, value, weight: what two analyses are paired by.
        costs: Parameters and FLOPs per token of the model, and its latency where that was asked for, as metrics.
        notes: What is null or was left out, and why.
        leaks: Whether later tokens reach earlier predictions, so that no number here can be used; None where that could
            not be audited.
    """

    model: str
    samples: pl.DataFrame
    metrics: pl.DataFrame
    per_sample: pl.DataFrame
    notes: tuple[str, ...]
    costs: pl.DataFrame = field(default_factory=METRICS.empty, kw_only=True)
    leaks: bool | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "indexer analysis"
    #: Fields of one number each, over all layers; docs/metrics.md says what they are.
    numbers: ClassVar[tuple[str, ...]] = ()
    #: Analyses of the pipeline all of whose metrics the class has.
    whole: ClassVar[tuple[str, ...]] = ()
    #: Those of its tables that the pipeline declares too.
    declared: ClassVar[Tables] = {}

    def __init_subclass__(cls) -> None:
        """Take the numbers from the fields, unless the class names those of its parts."""
        if "numbers" not in cls.__dict__:
            cls.numbers = tuple(name for name, kind in cls.__annotations__.items() if kind == "float | None")

    def __repr__(self) -> str:
        """The numbers with intervals, then what tables there are."""
        count = self.samples.height
        lines = [f"{type(self).__name__} of {self.called}, n = {count} sample{'s' if count != 1 else ''}"]
        width = max(map(len, self.numbers), default=0)
        for row in self.to_frame().iter_rows(named=True):
            told = "null" if row["value"] is None else f"{number(row['value'], places=4)} {row['unit']}"
            bounds = f"  ({span(row['ci_low'], row['ci_high'], places=4)})" if row["ci_low"] is not None else ""
            lines.append(f"  {row['name']:<{width}}  {told}{bounds}")
        tables = {name: self[name] for name in self if isinstance(self[name], pl.DataFrame)}
        lines.append("  tables: " + ", ".join(f"{name} ({frame.height} rows)" for name, frame in tables.items()))
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    @property
    def called(self) -> str:
        """The model's name, with the word "leaks" where it does."""
        return marked(self.model, bool(self.leaks))

    def to_frame(self) -> pl.DataFrame:
        """The numbers over all layers as rows: name, value, unit, ci_low, ci_high, n, leaks; null where undefined."""
        names = pl.DataFrame({"name": self.numbers}, schema={"name": pl.String})
        overall = self.metrics.filter(pl.col("layer").is_null()).select(pl.col("metric").alias("name"), *_OVERALL)
        units = {name: metric.unit for name, metric in REGISTRY.items()}
        joined = names.join(overall, on="name", how="left", maintain_order="left")
        told = pl.col("name").replace_strict(units, default=None, return_dtype=pl.String)
        return joined.with_columns(unit=pl.coalesce("unit", told), leaks=pl.lit(self.leaks, dtype=pl.Boolean))

    @classmethod
    def of(
        cls: type[A],
        model: str,
        samples: pl.DataFrame,
        tables: Frames,
        notes: tuple[str, ...] = (),
        dense: bool = True,
        costs: pl.DataFrame | None = None,
        leaks: bool | None = None,
    ) -> A:
        """From the result tables of the analyses that the class draws on.

        Args:
            model: What the model is called.
            samples: Columns `SAMPLES`.
            tables: metrics and per_sample, which may hold more metrics than the class has, and its own tables; those
                that are absent become empty.
            notes: What was left out.
            dense: Whether dense attention was seen; without, what rests on it is taken out.
            costs: What the model costs; None where nothing is known of it.
            leaks: Whether the model leaks; None where that is not known.
        """
        metrics = tables.get("metrics", METRICS.empty())
        per_sample = tables.get("per_sample", PER_SAMPLE.empty())
        own = [name for name in metrics["metric"].unique() if _is_of(cls, name)]
        kept = pl.col("metric").is_in([name for name in own if dense or not _of_attention(name)])
        metrics, per_sample = metrics.filter(kept), per_sample.filter(kept)
        overall = metrics.filter(pl.col("layer").is_null())
        values: dict[str, Any] = dict(overall.select("metric", "value").iter_rows())
        given: dict[str, Any] = {name: values.get(name) for name in cls.numbers}
        missing = ", ".join(name for name in cls.numbers if given[name] is None)
        if missing:
            notes = (*notes, f"null: {missing}; docs/metrics.md and docs/families.md say when that is so")
        for name in _tables_of(cls):
            frame = tables.get(name, pl.DataFrame())
            given[name] = frame if dense else without_attention(frame, cls.declared.get(name))
        given |= {"costs": METRICS.empty() if costs is None else costs, "leaks": leaks}
        return cls(model=model, samples=samples, metrics=metrics, per_sample=per_sample, notes=notes, **given)


@dataclass(frozen=True, eq=False, repr=False)
class RelevanceDistribution(IndexerAnalysis):
    """How the index scores I are distributed, of selected and of unselected keys, and how far from the attention.

    Attributes:
        indexer_kl: KL(attention || softmax I), nats.
        score_margin: The k-th score over the next, in standard deviations of the row.
        score_gap: Mean score of selected keys over that of the others, in standard deviations of the row.
        tie_share: Share of the selection that topk chose between equals.
        zero_share: Share of eligible keys with a score of exactly zero.
        quantiles: layer, group (selected or unselected), quantile, value, count.
        histogram: layer, group, left, right, density, count.
        moments: layer, group, count, mean, sd and the extremes.
        by_bucket: metric, layer, bucket (position, powers of two), value, n.
    """

    indexer_kl: float | None
    score_margin: float | None
    score_gap: float | None
    tie_share: float | None
    zero_share: float | None
    quantiles: pl.DataFrame
    histogram: pl.DataFrame
    moments: pl.DataFrame
    by_bucket: pl.DataFrame

    kind: ClassVar[str] = "relevance distribution"


@dataclass(frozen=True, eq=False, repr=False)
class PositionalBias(IndexerAnalysis):
    """Which places the selection prefers, beyond what exposure alone gives.

    Attributes:
        positional_bias: Mean |log2 lift| by distance and age, bits.
        positional_bias_floor: What a random selector with these counts would show, bits.
        recency_bias: Its part within the 32 nearest keys, bits.
        oldest_bias: Its part in the oldest tenth, bits.
        other_bias: The rest, bits.
        excess_bias: How far the lift is from that of the attention, bits.
        recency_lift: Selections of the 32 nearest keys over those by chance.
        oldest_lift: The same of the oldest tenth.
        attention_positional_bias: The attention's own bias, bits.
        lift: layer (null for all), axis (distance or relative), bin, label, lift, ci_low, ci_high, the same of the
            attention, selections, expected, n.
    """

    positional_bias: float | None
    positional_bias_floor: float | None
    recency_bias: float | None
    oldest_bias: float | None
    other_bias: float | None
    excess_bias: float | None
    recency_lift: float | None
    oldest_lift: float | None
    attention_positional_bias: float | None
    lift: pl.DataFrame

    kind: ClassVar[str] = "positional bias"
    whole: ClassVar[tuple[str, ...]] = ("positional_bias",)
    declared: ClassVar[Tables] = {"lift": PLACES}


@dataclass(frozen=True, eq=False, repr=False)
class TokenSelection(IndexerAnalysis):
    """What the selection holds of the dense attention, and which kinds of tokens it takes.

    Attributes:
        in_effect: Share of queries that leave keys out; the others say nothing of a selection.
        selection_recall: Dense attention on selected keys.
        oracle_recall: The same of the best selection of the same size.
        random_recall: The same of a random one.
        recall_of_oracle: Recall over oracle recall.
        oracle_overlap: Share of the best keys that are selected.
        top_key_kept: Share of queries whose most attended key is selected.
        lift: layer (null for all), token_class, lift, ci_low, ci_high, the same of the attention, selections, expected,
            n. Without a tokenizer only induction, repeated and first occurrence, which need the ids alone.
        curve: Recall by k in the indexer's and in the best order.
        budgets: Keys that hold a target share, one k for all or one a layer.
        by_bucket: metric, layer, bucket (position, powers of two), value, n.
    """

    in_effect: float | None
    selection_recall: float | None
    oracle_recall: float | None
    random_recall: float | None
    recall_of_oracle: float | None
    oracle_overlap: float | None
    top_key_kept: float | None
    lift: pl.DataFrame
    curve: pl.DataFrame
    budgets: pl.DataFrame
    by_bucket: pl.DataFrame

    kind: ClassVar[str] = "token selection"
    whole: ClassVar[tuple[str, ...]] = ("token_content", "key_budget")
    declared: ClassVar[Tables] = {**BUDGETS, "lift": KINDS}


@dataclass(frozen=True, eq=False, repr=False)
class IndexerHeads(IndexerAnalysis):
    """What single indexer heads do: how they specialise, which are alike, and what is lost without them.

    Attributes:
        head_agreement: Share of the selection that a head would make by itself.
        head_effective: Effective number of heads.
        head_redundancy: Mean cosine of the scores of two heads.
        head_correlation: Mean correlation of the scores of two heads.
        leave_one_out_loss: Recall lost when one head is left out.
        negative_head_weights: Share of the heads' weights that are below zero.
        focus: A row a head: layer, indexer_head, words (what it focuses on), its shares by place, recall_loss, n.
        pairs: layer, head_a, head_b, cosine, correlation, overlap, n.
        pruning: Recall lost without the lowest ranked heads, on other samples than those they were ranked on.
        lift: Lift of each head's own selection by distance and relative position.
        score_quantiles: Quantiles of each head's scores.
        score_moments: Moments of each head's scores.
    """

    head_agreement: float | None
    head_effective: float | None
    head_redundancy: float | None
    head_correlation: float | None
    leave_one_out_loss: float | None
    negative_head_weights: float | None
    focus: pl.DataFrame
    pairs: pl.DataFrame
    pruning: pl.DataFrame
    lift: pl.DataFrame
    score_quantiles: pl.DataFrame
    score_moments: pl.DataFrame

    kind: ClassVar[str] = "indexer heads"
    declared: ClassVar[Tables] = HEADS

    def __repr__(self) -> str:
        """The numbers, then what each head focuses on."""
        said = [super().__repr__()]
        if "words" in self.focus.columns:
            told = self.focus.group_by("layer", maintain_order=True).agg("words")
            said += [f"  layer {layer}: {'; '.join(words)}" for layer, words in told.iter_rows()]
        return "\n".join(said)


def without_attention(frame: pl.DataFrame, table: Table | None) -> pl.DataFrame:
    """A table with null, or without rows, where its numbers rest on dense attention; None for one of metrics."""
    if table is not None and table.of_attention:
        return frame.clear()
    if "metric" in frame.columns:
        named = [name for name in frame["metric"].unique() if _of_attention(name)]
        return frame.filter(~pl.col("metric").is_in(named))
    resting = [] if table is None else [one for one in table.columns if one.of_attention and one.name in frame.columns]
    return frame.with_columns(pl.lit(None, dtype=frame.schema[one.name]).alias(one.name) for one in resting)


def _of_attention(metric: str) -> bool:
    return metric in REGISTRY and REGISTRY[metric].of_attention


def _tables_of(cls: type[IndexerAnalysis]) -> list[str]:
    """The tables that a class has beyond those of all."""
    common = {each.name for each in fields(IndexerAnalysis)}
    return [each.name for each in fields(cls) if each.name not in {*common, *cls.numbers}]


def _is_of(cls: type[IndexerAnalysis], metric: str) -> bool:
    """Whether a metric is one of a class's numbers, or comes from an analysis that is wholly the class's own."""
    rule = REGISTRY[metric].rule if metric in REGISTRY else None
    return metric in cls.numbers or (isinstance(rule, Computed) and rule.analysis in cls.whole)
