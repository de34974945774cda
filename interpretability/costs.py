"""What a model costs, beside what its indexer does: parameters, operations by formula, and time if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.facts import model_facts, parameters
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency.run import run as efficiency
from indexscope.analysis.metrics.metric import Computed
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import constants
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE
from indexscope.analysis.settings import ExtractSettings
from interpretability.models import Subject


@dataclass(frozen=True)
class Costs:
    """What is known of a model apart from its samples.

    Attributes:
        metrics: The pipeline's efficiency metrics that are counted or timed, as `METRICS`; none of what is not known.
        name: What the model is called: a class alone would name all models of it alike, so that k and the indexer's
            heads follow where they are known.
    """

    metrics: pl.DataFrame
    name: str


def costs_of(
    subject: Subject,
    samples: pl.DataFrame,
    settings: EfficiencySettings,
    timed: ExtractSettings | None,
    journal: Journal,
) -> Costs:
    """Parameters and FLOPs of a model of transformers, of another torch module its parameters; of the rest nothing.

    Args:
        subject: The model.
        samples: sample, tokens: what FLOPs are an average over.
        settings: Of the pipeline's efficiency analysis.
        timed: Lengths and repeats of the profile; None does not time the model.
        journal: Hears what cannot be known.
    """
    model = getattr(subject.source if subject.shown is None else subject.shown, "model", None)
    if not isinstance(subject.source, CapturedModel):
        counted = {"model_parameters": float(parameters(model))} if isinstance(model, nn.Module) else {}
        if timed is not None:
            journal.note(f"{subject.name}: is no model of transformers, so that its latency is not measured")
        # Of what only shows itself the source knows no k.
        k = subject.source.index_topk if subject.shown is None else None
        return Costs(constants(counted) if counted else METRICS.empty(), _named(subject, model, k, None))
    captured = subject.source.model
    try:
        facts, layers = model_facts(captured), layer_facts(subject.source)
        tables = {"facts": facts, "layers": layers, "samples": samples.select("sample", "tokens")}
        if timed is not None:
            tables["profile"] = profile_model(captured, timed, journal, facts, layers)
    except IndexscopeError as error:
        journal.note(f"{subject.name}: what it costs is not known ({error})")
        return Costs(METRICS.empty(), subject.name)
    row = facts.row(0, named=True)
    name = _named(subject, captured, row["index_topk"], row["indexer_heads"])
    return Costs(counted_or_timed(efficiency(tables, settings)), name)


def _named(subject: Subject, model: object, k: int | None, heads: int | None) -> str:
    """A model's name, and after one that is its class alone what tells it from others."""
    told = ", ".join(f"{word} {count}" for word, count in (("k", k), ("heads", heads)) if count)
    return f"{subject.name} ({told})" if told and subject.name == type(model).__name__ else subject.name


def counted_or_timed(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The metrics of the efficiency analysis that have a value and no pairing by sample, as `METRICS`."""
    rules = {name: metric.rule for name, metric in REGISTRY.items()}
    own = {name for name, rule in rules.items() if isinstance(rule, Computed) and rule.analysis == "efficiency"}
    own -= set(tables.get("per_sample", PER_SAMPLE.empty())["metric"].unique())
    metrics = tables.get("metrics", METRICS.empty())
    return metrics.filter(pl.col("metric").is_in(list(own)) & pl.col("value").is_not_null()).select(*METRICS.schema)
