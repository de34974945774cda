"""What indexer, selection and attention cost: measured time and memory, counted and computed operations."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedModel

from indexscope.analysis.capture.executed import executed_flops, token_flops
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.indexer import indexers
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.memory import available_bytes, let_go, plain_bytes
from indexscope.analysis.capture.model import CapturedModel, own_attention
from indexscope.analysis.capture.peak import peak_bytes
from indexscope.analysis.capture.spans import SELECTION, Parts, spans, synchronise
from indexscope.analysis.capture.tables import PROFILE
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.flops import flops, shape
from indexscope.analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

#: Raise it when facts, layers or profile of the same model change.
PROFILE_VERSION = 1
#: Repeats of the forwards that time the selection alone, at most: they come on top of the others.
SELECTION_REPEATS = 3


@dataclass(frozen=True)
class _Subject:
    """What is profiled, and what its formulas need."""

    model: PreTrainedModel
    source: CapturedModel
    parts: Parts
    facts: dict[str, Any]
    layers: pl.DataFrame
    projections: Mapping[str, float]

    def run(self, ids: torch.Tensor) -> None:
        self.model(input_ids=ids, use_cache=False)


def profile_model(model: PreTrainedModel, settings: ExtractSettings, journal: Journal | None = None) -> pl.DataFrame:
    """Time and count one prefill of the model with its own attention, at several lengths.

    A length that the model's positions do not reach, or that memory does not hold (by estimate, or because it runs
    out), is left out, and the journal says so.

    Returns:
        A row for each component and length: indexer (its whole forward, topk included), selection (topk inside the
        indexers, a part of indexer, timed in forwards of its own), attention (without its indexer) and model. Median,
        5th and 95th percentile of the milliseconds over all layers. peak_bytes: the largest memory of one call, see
        `indexscope.analysis.capture.peak`. FLOPs, a multiply-add is 2: flops_formula is what the model needs (eligible
        pairs, of which sparse layers attend the selected), flops_executed what transformers' code does (every pair,
        masked ones included), and flops_counted what torch's counter saw, which agrees with flops_executed to 1 %. None
        of them knows elementwise work, softmax or topk, so that selection has none.
    """
    journal = journal or Journal()
    source = CapturedModel(model)
    widths, fused = widths_of(source), bool(getattr(model, "_supports_sdpa", False))
    facts = model_facts(model).row(0, named=True)
    parts = {"indexer": indexers(model), "attention": list(set(source.attentions.values())), "model": [model]}
    rows: list[dict[str, object]] = []
    layers = layer_facts(source)
    with own_attention(model), torch.inference_mode():
        subject = _Subject(model, source, parts, facts, layers, token_flops(model, parts))
        for length in settings.profile_lengths:
            if source.max_length is not None and length > source.max_length:
                journal.note(f"no latency at {length} tokens: the model's positions end at {source.max_length}")
                continue
            needed, available = plain_bytes(widths, length, fused), available_bytes(source.device)
            if needed > available:
                journal.note(f"no latency at {length} tokens: it would take {_size(needed)} of {_size(available)}")
                continue
            try:
                rows += _profile(subject, length, settings.profile_repeats)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                journal.note(f"no latency at {length} tokens: out of memory")
            let_go(source.device)
    return pl.DataFrame(rows, schema=PROFILE.schema)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _profile(subject: _Subject, length: int, repeats: int) -> list[dict[str, object]]:
    random = torch.Generator().manual_seed(length)
    device = subject.source.device
    ids = torch.randint(subject.source.vocabulary, (1, length), generator=random).to(device)
    counted = _counted_flops(subject, ids)
    times = _times(subject, ids, repeats)
    peaks = peak_bytes(subject.parts, lambda: subject.run(ids), device)
    by_token = subject.facts["entry"] in (None, "token")
    executed = executed_flops(subject.projections, subject.parts["indexer"], subject.layers, length)
    needed = flops_formula(subject.facts, length, subject.layers, subject.projections)
    rows: list[dict[str, object]] = []
    for component, seconds in times.items():
        low, median, high = np.quantile(seconds, (0.05, 0.5, 0.95)) * 1e3
        rows.append(
            {
                "component": component,
                "length": length,
                "repeats": len(seconds),
                "milliseconds": median,
                "milliseconds_low": low,
                "milliseconds_high": high,
                "peak_bytes": peaks.get(component),
                "flops_formula": _known(needed.get(component)),
                "flops_executed": executed.get(component) if by_token else None,
                "flops_counted": counted.get(component),
            }
        )
    return rows


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def flops_formula(
    facts: dict[str, Any], length: int, layers: pl.DataFrame, projections: Mapping[str, float]
) -> dict[str, float]:
    """FLOPs that one prefill needs by formula, all layers together.

    Projections as `token_flops` counts them, pairs as `indexscope.analysis.flops` does (eligible keys, of
    which sparse layers attend the selected); NaN where it has no formula.
    """
    pairs = flops(shape(pl.DataFrame([facts]), layers=layers), length)
    indexer = float(pairs.indexer)
    attention = projections["attention"] * length + float(pairs.attention)
    return {"indexer": indexer, "attention": attention, "model": indexer + attention + projections["rest"] * length}


def _times(subject: _Subject, ids: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat by component; components that the model lacks have none."""
    subject.run(ids)  # the first call also allocates
    found: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        took = _clocked(subject.parts, lambda: subject.run(ids), ids.device)
        if subject.parts["indexer"]:
            found["indexer"].append(took["indexer"])
        if subject.parts["indexer"] and repeat < SELECTION_REPEATS:
            own = {"indexer": subject.parts["indexer"]}
            inside = _clocked(own, lambda: subject.run(ids), ids.device, selection=True)
            if SELECTION in inside:
                found[SELECTION].append(inside[SELECTION])
        found["attention"].append(took["attention"] - took.get("indexer", 0.0))
        found["model"].append(took["model"])
    return dict(found)


def _clocked(
    parts: Parts, forward: Callable[[], None], device: torch.device, selection: bool = False
) -> dict[str, float]:
    """The seconds that the parts' calls take, added up."""
    total: dict[str, float] = defaultdict(float)
    started: list[float] = []

    def now() -> float:
        synchronise(device)
        return time.perf_counter()

    def start(_: str) -> None:
        started.append(now())

    def stop(name: str) -> None:
        total[name] += now() - started.pop()

    with spans(parts, start, stop, selection):
        forward()
    return dict(total)


def _counted_flops(subject: _Subject, ids: torch.Tensor) -> dict[str, float]:
    counter = flop_counter()
    with counter:
        subject.run(ids)
    by_module = {name: float(sum(counts.values())) for name, counts in counter.get_flop_counts().items()}
    names = {module: name for name, module in subject.model.named_modules()}
    root = type(subject.model).__name__

    def total(part: str) -> float:
        return sum(by_module.get(f"{root}.{names[module]}", 0.0) for module in subject.parts[part])

    indexer = total("indexer")
    return {"indexer": indexer, "attention": total("attention") - indexer, "model": by_module["Global"]}


def flop_counter() -> FlopCounterMode:
    """A counter that also knows the CPU's fused attention and the grouped products of experts.

    torch counts operators that it does not know as nothing: without this, a dense model's attention on the CPU and
    all routed experts would cost nothing. Softmax, topk, norms and all else that is no matrix product stay uncounted.
    """
    return FlopCounterMode(display=False, custom_mapping=_formulas())


def _formulas() -> dict[Any, Callable[..., int]]:
    rules: tuple[tuple[Any, str, Callable[..., int]], ...] = (
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", _attention),
        (torch.ops.aten, "_grouped_mm", _grouped),
        (torch.ops.transformers, "grouped_mm_fallback", _grouped),
    )
    return {getattr(space, name): rule for space, name, rule in rules if hasattr(space, name)}


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _grouped(rows: Any, weights: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """[tokens, inputs] x [experts, inputs, outputs], each token by one expert."""
    return int(2 * rows[0] * rows[1] * weights[-1])
