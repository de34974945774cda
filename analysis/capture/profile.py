"""What indexer, selection and attention cost: measured time and memory, counted and computed operations."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from indexscope.analysis.capture.anatomy import Run, anatomy_of
from indexscope.analysis.capture.executed import executed_flops, token_flops
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.memory import available_bytes, let_go, plain_bytes
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.peak import peak_bytes
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.spans import SELECTION, Parts, spans, synchronise
from indexscope.analysis.capture.tables import PROFILE
from indexscope.analysis.capture.watching.calls import WithinTables
from indexscope.analysis.capture.watching.held import plain_torch
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.conventions import EXPANDED
from indexscope.analysis.flops import flops, shape
from indexscope.analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

#: Raise it when facts, layers or profile of the same model change.
PROFILE_VERSION = 3
#: Repeats of the forwards that time the selection alone, at most: they come on top of the others.
SELECTION_REPEATS = 3
COMPONENTS = ("indexer", SELECTION, "attention", "model")


class _Model(nn.Module):
    """A model's own forward as a module, so that it has hooks."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, ids: torch.Tensor) -> None:
        self.run(ids)


@dataclass(frozen=True)
class _Subject:
    """What is profiled, and what its formulas need.

    Attributes:
        run: Feeds ids.
        source: The model.
        parts: Indexers, attention and the model.
        facts: One row.
        layers: What each is made of.
        projections: FLOPs of a token; None where nothing is known of the code.
        journal: Hears of what cannot be measured.
    """

    run: Callable[[torch.Tensor], None]
    source: Source
    parts: Parts
    facts: dict[str, Any]
    layers: pl.DataFrame
    projections: Mapping[str, float] | None
    journal: Journal


def profile_model(
    model: nn.Module | Traceable | Source,
    settings: ExtractSettings,
    journal: Journal | None = None,
    facts: pl.DataFrame | None = None,
    layers: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Time and count one prefill of the model with its own attention, at several lengths.

    A length that the model's positions do not reach, or that memory does not hold (by estimate, or because it runs
    out), is left out, and the journal says so.

    Args:
        model: Whatever `indexscope.analysis.capture.as_source` takes. Code outside transformers runs its own forward,
            unwatched; its ``trace`` where it has no other.
        settings: Lengths and repeats.
        journal: Hears what is left out, and why.
        facts: As ``model_facts`` gives them, where they are known: code outside transformers runs for them.
        layers: As ``layer_facts`` gives them, where they are known.

    Returns:
        A row for each component and length: indexer (its whole forward, topk included), selection (topk inside the
        indexers, a part of indexer, timed in forwards of its own), attention (without its indexer) and model; of code
        outside transformers no row for what is in no module of its own. Median,
        5th and 95th percentile of the milliseconds over all layers. peak_bytes: the largest memory of one call, see
        `indexscope.analysis.capture.peak`. FLOPs, a multiply-add is 2: flops_formula is what the model needs (eligible
        pairs, of which sparse layers attend the selected), flops_executed what transformers' code does (every pair,
        masked ones included), both null for other code, and flops_counted what torch's counter saw, which agrees with
        flops_executed to 1 %. None of them knows elementwise work, softmax or topk, so that selection has none.
    """
    journal = journal or Journal()
    source = as_source(model)
    widths, found = widths_of(source), anatomy_of(source)
    told = (model_facts(source) if facts is None else facts).row(0, named=True)
    layers = layer_facts(source) if layers is None else layers
    for note in found.notes:
        journal.note(note)
    parts = {"indexer": found.indexers, "attention": found.attentions, "model": [_Model(found.run)]}
    rows: list[dict[str, object]] = []
    with found.own(), torch.inference_mode():
        projections = token_flops(source.model, parts) if isinstance(source, CapturedModel) else None
        subject = _Subject(parts["model"][0], source, parts, told, layers, projections, journal)
        for length in settings.profile_lengths:
            if source.max_length is not None and length > source.max_length:
                journal.note(f"no latency at {length} tokens: the model's positions end at {source.max_length}")
                continue
            needed, available = plain_bytes(widths, length, found.fused), available_bytes(source.device)
            if needed > available:
                journal.note(f"no latency at {length} tokens: it would take {_size(needed)} of {_size(available)}")
                continue
            try:
                rows += _profile(subject, length, settings.profile_repeats)
            except Exception as error:
                if not is_out_of_memory(error) and isinstance(source, CapturedModel):
                    raise
                # Whatever a stranger's forward raises: its positions may end without saying so.
                reason = "out of memory" if is_out_of_memory(error) else f"its forward fails ({error})"
                journal.note(f"no latency at {length} tokens: {reason}")
            let_go(source.device)
    return pl.DataFrame(rows, schema=PROFILE.schema)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _profile(subject: _Subject, length: int, repeats: int) -> list[dict[str, object]]:
    random = torch.Generator().manual_seed(length)
    device = subject.source.device
    ids = torch.randint(getattr(subject.source, "ids", subject.source.vocabulary), (1, length), generator=random)
    ids = ids.to(device)
    counted = _counted_flops(subject, ids)
    times = _times(subject, ids, repeats)
    with plain_torch:
        peaks = peak_bytes(subject.parts, lambda: subject.run(ids), device)
    executed, needed = _formulas(subject, length)
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
                "flops_executed": executed.get(component),
                "flops_counted": counted.get(component),
            }
        )
    return rows


def _formulas(subject: _Subject, length: int) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Executed and needed FLOPs by component; none where nothing is known of the code."""
    if subject.projections is None:
        return {}, {}
    needed = flops_formula(subject.facts, length, subject.layers, subject.projections)
    if subject.facts["entry"] not in (None, "token"):
        return {}, needed
    return executed_flops(subject.projections, subject.parts["indexer"], subject.layers, length), needed


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def flops_formula(
    facts: dict[str, Any], length: int, layers: pl.DataFrame, projections: Mapping[str, float]
) -> dict[str, float]:
    """FLOPs that one prefill needs by formula, all layers together.

    Projections as `token_flops` counts them, pairs as `indexscope.analysis.flops` does (eligible keys, of
    which sparse layers attend the selected) as transformers' code runs, with keys and values of each head's own; NaN
    where it has no formula.
    """
    pairs = flops(shape(pl.DataFrame([facts]), layers=layers), length, EXPANDED)
    indexer = float(pairs.indexer)
    attention = projections["attention"] * length + float(pairs.attention)
    return {"indexer": indexer, "attention": attention, "model": indexer + attention + projections["rest"] * length}


def _times(subject: _Subject, ids: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat by component; components that the model lacks have none."""
    subject.run(ids)  # the first call also allocates
    found: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        took = _clocked(subject.parts, lambda: subject.run(ids), ids.device)
        if "indexer" in took and repeat < SELECTION_REPEATS:
            own = {"indexer": subject.parts["indexer"]}
            inside = _clocked(own, lambda: subject.run(ids), ids.device, selection=True)
            took |= {name: seconds for name, seconds in inside.items() if name == SELECTION}
        for name, seconds in took.items():
            found[name].append(seconds)
    for name in ("indexer", "attention"):
        if subject.parts[name] and name not in found:
            told = f"its {name} runs without a call of its module, so that its time, memory and operations are null"
            subject.journal.note(f"{subject.source.family}: {told}")
    return {name: found[name] for name in COMPONENTS if name in found}


def _clocked(
    parts: Parts, forward: Callable[[], None], device: torch.device, selection: bool = False
) -> dict[str, float]:
    """The seconds that the parts' calls take, see `_metered`."""

    def now() -> float:
        synchronise(device)
        return time.perf_counter()

    return _metered(parts, forward, now, selection)


def _metered(
    parts: Parts, forward: Callable[[], None], now: Callable[[], float], selection: bool = False
) -> dict[str, float]:
    """What the parts' calls add to a meter, by name; what an indexer adds inside an attention is no attention's."""
    total: dict[str, float] = defaultdict(float)
    started: list[tuple[str, float]] = []

    def start(name: str) -> None:
        started.append((name, now()))

    def stop(name: str) -> None:
        spent = now() - started.pop()[1]
        total[name] += spent
        if name == "indexer" and any(around == "attention" for around, _ in started):
            total["attention"] -= spent

    with spans(parts, start, stop, selection):
        forward()
    return dict(total)


def _counted_flops(subject: _Subject, ids: torch.Tensor) -> dict[str, float]:
    """FLOPs of each part, as torch counts them of the code as it was written."""
    counter = flop_counter()
    # The first forward at a length: ids beyond a table of positions are found out before a GPU reads them.
    guard = nullcontext() if isinstance(subject.source, CapturedModel) else WithinTables()
    with plain_torch, guard, counter:
        return _metered(subject.parts, lambda: subject.run(ids), lambda: float(counter.get_total_flops()))


def flop_counter() -> FlopCounterMode:
    """A counter that also knows the CPU's fused attention and the grouped products of experts.

    torch counts operators that it does not know as nothing: without this, a dense model's attention on the CPU and
    all routed experts would cost nothing. Softmax, topk, norms and all else that is no matrix product stay uncounted.
    """
    return FlopCounterMode(display=False, custom_mapping=_rules())


def _rules() -> dict[Any, Callable[..., int]]:
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
