"""What indexer and attention cost: measured time, counted and computed floating-point operations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from analysis.capture.facts import model_facts
from analysis.capture.indexer import indexers
from analysis.capture.journal import Journal
from analysis.capture.memory import available_bytes, let_go, plain_bytes
from analysis.capture.model import CapturedModel, own_attention
from analysis.capture.widths import widths_of
from analysis.efficiency.flops import flops, shape
from analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

PROFILE = {
    "component": pl.String,
    "length": pl.Int32,
    "repeats": pl.Int32,
    "milliseconds": pl.Float64,
    "milliseconds_low": pl.Float64,
    "milliseconds_high": pl.Float64,
    "flops_formula": pl.Float64,
    "flops_counted": pl.Float64,
}
Parts = dict[str, list[nn.Module]]


def profile_model(model: PreTrainedModel, settings: ExtractSettings, journal: Journal | None = None) -> pl.DataFrame:
    """Time and count one prefill of the model with its own attention, at several lengths.

    A length that the model's positions do not reach, or that memory does not hold (by estimate, or because it runs
    out), is left out, and the journal says so.

    Returns:
        A row for each component (indexer, attention without indexer, model) and length: median, 5th and 95th
        percentile of the milliseconds over all layers; FLOPs by formula (eligible pairs only; a multiply-add is 2) and
        as counted by torch, which counts executed pairs, masked ones included, and sees no elementwise work. The two
        are kept apart for that reason.
    """
    journal = journal or Journal()
    source = CapturedModel(model)
    widths, fused = widths_of(source), bool(getattr(model, "_supports_sdpa", False))
    facts = model_facts(model).row(0, named=True)
    parts = {"indexer": indexers(model), "attention": list(set(source.attentions.values())), "model": [model]}
    rows: list[dict[str, object]] = []
    with own_attention(model), torch.inference_mode():
        for length in settings.profile_lengths:
            if source.max_length is not None and length > source.max_length:
                journal.note(f"no latency at {length} tokens: the model's positions end at {source.max_length}")
                continue
            needed, available = plain_bytes(widths, length, fused), available_bytes(source.device)
            if needed > available:
                journal.note(f"no latency at {length} tokens: it would take {_size(needed)} of {_size(available)}")
                continue
            try:
                rows += _profile(parts, facts, source, length, settings.profile_repeats)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                journal.note(f"no latency at {length} tokens: out of memory")
            let_go(source.device)
    return pl.DataFrame(rows, schema=PROFILE)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _profile(
    parts: Parts, facts: dict[str, Any], source: CapturedModel, length: int, repeats: int
) -> list[dict[str, object]]:
    random = torch.Generator().manual_seed(length)
    ids = torch.randint(source.vocabulary, (1, length), generator=random).to(source.device)
    counted = _counted_flops(parts, ids)
    times = _times(parts, ids, repeats)
    rows: list[dict[str, object]] = []
    for component, formula in flops_formula(facts, length).items():
        if component == "indexer" and not facts["indexer_layers"]:
            continue
        low, median, high = np.quantile(times[component], (0.05, 0.5, 0.95)) * 1e3
        rows.append(
            {
                "component": component,
                "length": length,
                "repeats": repeats,
                "milliseconds": median,
                "milliseconds_low": low,
                "milliseconds_high": high,
                "flops_formula": None if math.isnan(formula) else formula,
                "flops_counted": counted[component],
            }
        )
    return rows


def flops_formula(facts: dict[str, Any], length: int) -> dict[str, float]:
    """FLOPs of one prefill by formula, all layers together.

    Projections cost 2 per parameter and token, pairs what `analysis.efficiency.flops` says; NaN where it has
    no formula.
    """
    pairs = flops(shape(pl.DataFrame([facts]), None), length)
    indexer = float(pairs.indexer)
    attention = 2 * facts["attention_parameters"] * length + float(pairs.attention)
    rest = facts["parameters"] - facts["indexer_parameters"] - facts["attention_parameters"]
    return {"indexer": indexer, "attention": attention, "model": indexer + attention + 2 * rest * length}


def _times(parts: Parts, ids: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"indexer": [], "attention": [], "model": []}
    (model,) = parts["model"]
    model(input_ids=ids, use_cache=False)  # the first call also allocates
    for _ in range(repeats):
        with (
            _clock(parts["indexer"], ids.device) as indexer,
            _clock(parts["attention"], ids.device) as attention,
            _clock(parts["model"], ids.device) as whole,
        ):
            model(input_ids=ids, use_cache=False)
        times["indexer"].append(indexer[0])
        times["attention"].append(attention[0] - indexer[0])
        times["model"].append(whole[0])
    return times


@contextmanager
def _clock(modules: list[nn.Module], device: torch.device) -> Iterator[list[float]]:
    """Add up the seconds that the modules' calls take."""
    total = [0.0]
    started: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def start(*_: object) -> None:
        started.append(now())

    def stop(*_: object) -> None:
        total[0] += now() - started.pop()

    handles = [module.register_forward_pre_hook(start) for module in modules]
    handles += [module.register_forward_hook(stop) for module in modules]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()


def _counted_flops(parts: Parts, ids: torch.Tensor) -> dict[str, float]:
    (model,) = parts["model"]
    counter = FlopCounterMode(display=False)
    with counter:
        model(input_ids=ids, use_cache=False)
    by_module = {name: float(sum(counts.values())) for name, counts in counter.get_flop_counts().items()}
    names = {module: name for name, module in model.named_modules()}
    root = type(model).__name__

    def total(modules: list[nn.Module]) -> float:
        return sum(by_module.get(f"{root}.{names[module]}", 0.0) for module in modules)

    indexer = total(parts["indexer"])
    return {"indexer": indexer, "attention": total(parts["attention"]) - indexer, "model": by_module["Global"]}
