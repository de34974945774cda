"""How long the runs of a study's models will take, told before the first: from what this machine does in a moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from indexscope.storage.inputs.samples import Sample, spread

if TYPE_CHECKING:
    from indexscope.flows.engine.graph import Graph
    from indexscope.flows.study.inputs import Inputs, ModelPlan

#: Query, key and head triples from which on it is worth a moment to know: what takes a minute or so.
LEAST = 5e9
#: Forwards of a sample that runs again: the reference and its variants (`indexscope.analysis.stability.rerun`).
RERUNS = 8
#: What a forward takes of one that is measured: between a half and all of it on the models of benchmarks/README.md.
UNMEASURED = 0.75


def pairs(lengths: Iterable[int]) -> float:
    """Query and key pairs of causal sequences.

    >>> pairs([3, 1])
    7.0
    """
    return sum(length * (length + 1) / 2 for length in lengths)


def work(plan: Inputs, graph: Graph, model: ModelPlan) -> float:
    """Triples of query, key and head that runs of a model are still to go through; 0 where its heads are not known.

    Runs that only look at some queries or tokens (audit, profile) are left out.
    """
    info, given = model.info, plan.given
    if info.layers is None or info.attention_heads is None:
        return 0.0
    wanted, samples = 0.0, plan.samples
    extract, reruns = graph.of("extract", model.name), graph.of("reruns", model.name)
    if extract is not None:
        lacking = plan.store.lacking(extract.key, extract.units)
        left = [sample for name, part in plan.shards if name in lacking for sample in part]
        wanted += _extraction(plan, model, left)
    if reruns is not None and info.index_topk and plan.store.lacking(reruns.key, reruns.units):
        chosen = spread(samples, given.closeup.samples)
        again = given.closeup.rerun_of(len(chosen))
        wanted += RERUNS * UNMEASURED * again * pairs(_tokens(chosen)) / max(1, len(chosen))
    return wanted * info.layers * _heads(model)


def _heads(model: ModelPlan) -> int:
    """Attention heads and heads of the indexer, which go through the same pairs."""
    return (model.info.attention_heads or 0) + (model.info.indexer_heads or 0)


def time_note(plan: Inputs, graph: Graph, streams: Collection[str]) -> tuple[str, ...]:
    """What is said of the time, if it is more than a moment.

    Args:
        plan: What the study works on.
        graph: Its results.
        streams: Models that are read layer by layer, of which more is known and told.
    """
    models = [model for model in plan.models if model.name not in streams]
    one = pairs(_tokens(plan.samples)) * sum((model.info.layers or 0) * _heads(model) for model in models)
    if one * (2 + RERUNS) < LEAST:  # the store is not asked for what is left
        return ()
    found = {model.name: work(plan, graph, model) for model in models}
    if sum(found.values()) < LEAST or plan.study.runner.kind == "ray":
        return ()
    from torch import device

    from indexscope.analysis.features.speed import seconds_per_pair
    from indexscope.storage.inputs.checkpoints import resolve_device
    from indexscope.tasks.common.placing import product_rate

    settings = plan.given.extract
    target, rate = device(resolve_device(settings.device)), product_rate(settings)
    tokens = sum(_tokens(plan.samples))
    seconds = 0.0
    for model in models:
        width = max(8, (model.info.hidden_size or 0) // (model.info.attention_heads or 1))
        seconds += found[model.name] * seconds_per_pair(width, target, settings)
        seconds += 2.0 * model.info.parameters * tokens / rate
    longest = max(_tokens(plan.samples))
    return (
        f"time: about {_told(seconds)} for the runs of the models, by what this machine does now with a piece of "
        f"planted attention, in one process; it goes by the square of the {longest:,} tokens, and may be half or twice",
    )


def _extraction(plan: Inputs, model: ModelPlan, left: Sequence[Sample]) -> float:
    from indexscope.flows.study.lengths import alone

    given, tokens = plan.given, _tokens(left)
    found = pairs(tokens)
    if model.info.index_topk and len(plan.samples):
        found += UNMEASURED * found * given.extract.dense_samples(len(plan.samples)) / len(plan.samples)
    if given.lengths:
        shorter, _ = alone(model.info, given.lengths[:-1], given.lengths[-1], given.extract.query_every)
        found += pairs(length for length in shorter for own in tokens if own >= length)
    return found


def _tokens(samples: Sequence[Sample]) -> list[int]:
    return [len(sample.input_ids) for sample in samples]


def _told(seconds: float) -> str:
    """Minutes or hours.

    >>> _told(100), _told(30), _told(9000)
    ('2 min', '1 min', '2.5 hours')
    """
    minutes = seconds / 60
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, round(minutes))} min"
