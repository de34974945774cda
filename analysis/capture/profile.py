"""What indexer, selection and attention cost: measured time and memory, counted and computed operations."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from torch import nn

from indexscope.analysis.capture.anatomy import Anatomy, Run, anatomy_of
from indexscope.analysis.capture.counted import Counted, counted
from indexscope.analysis.capture.dispatched import devices_of
from indexscope.analysis.capture.executed import executed_flops, token_flops
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.memory import let_go, plain_bytes
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.repeats import ENOUGH, LONGEST, SHARE, Repeats, own_lengths
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.spans import SELECTION, Parts, Totals, spans, synchronise
from indexscope.analysis.capture.streaming.in_step import Forward
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.capture.tables import PROFILE
from indexscope.analysis.capture.watching.calls import WithinTables
from indexscope.analysis.capture.watching.held import plain_torch
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.conventions import EXPANDED
from indexscope.analysis.flops import flops, shape
from indexscope.analysis.free_memory import available_bytes, size_of
from indexscope.analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

T = TypeVar("T")
#: Raise it when facts, layers or profile of the same model change.
PROFILE_VERSION = 6
#: Repeats of topk, at most: each is made in its place in the one forward that counts.
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
    found: Anatomy | None = None,
    tokens: Sequence[int] | None = None,
) -> pl.DataFrame:
    """Time and count one prefill of the model with its own attention, at several lengths.

    A length is timed until the times of the model differ by less than 5 % of their median, at least three times and
    ``profile_repeats`` times at most; fewer where all lengths would come to more than a tenth of the study's tokens,
    and the journal says so. A length that the model's positions do not reach, or that memory does not hold (by
    estimate, or because it runs out), is left out, and the journal says so.

    Args:
        model: Whatever `indexscope.analysis.capture.as_source` takes. Code outside transformers runs its own forward,
            unwatched; its ``trace`` where it has no other.
        settings: Lengths and repeats.
        journal: Hears what is left out, and why.
        facts: As ``model_facts`` gives them, where they are known: code outside transformers runs for them.
        layers: As ``layer_facts`` gives them, where they are known.
        found: As ``anatomy_of`` gives it, where it is known.
        tokens: Lengths of the study's samples; None bounds nothing.

    Returns:
        A row for each component and length: indexer (its whole forward, topk included), selection (topk inside the
        indexers, a part of indexer, each call repeated in its place in a forward of its own), attention (without its
        indexer) and model; of code outside transformers no row for what is in no module of its own. Median,
        5th and 95th percentile of the milliseconds over all layers. cut: whether the study's tokens allowed no more
        repeats. peak_bytes: the largest memory of one call, see `indexscope.analysis.capture.counted`. FLOPs, a
        multiply-add is 2: flops_formula is what the model needs (eligible pairs, of which sparse layers attend the
        selected), flops_executed what transformers' code does (every pair, masked ones included), both null for other
        code, and flops_counted what torch's counter saw, which agrees with flops_executed to 1 %. None of them knows
        elementwise work, softmax or topk, so that selection has none.
    """
    journal = journal or Journal()
    source = as_source(model)
    widths, found = widths_of(source), anatomy_of(source) if found is None else found
    told = (model_facts(source, found) if facts is None else facts).row(0, named=True)
    layers = layer_facts(source) if layers is None else layers
    for note in found.notes:
        journal.note(note)
    parts = {"indexer": found.indexers, "attention": found.attentions, "model": [_Model(found.run)]}
    rows: list[dict[str, object]] = []
    with found.own(), torch.inference_mode():
        with source.unread() if isinstance(source, StreamedModel) else nullcontext():
            projections = token_flops(source.model, parts) if isinstance(source, CapturedModel) else None
        subject = _Subject(parts["model"][0], source, parts, told, layers, projections, journal)
        lengths = settings.profile_lengths or own_lengths(tokens or (LONGEST,))
        wanted, devices = settings.profile_repeats, devices_of(source)
        if isinstance(source, StreamedModel):
            wanted = 1
            journal.note("its weights are read layer by layer, so that each length is timed once, without the reading")
        repeats = Repeats.within(wanted, lengths, tokens)
        fitting: dict[int, int] = {}
        for length in lengths:
            if source.max_length is not None and length > source.max_length:
                journal.note(f"no latency at {length} tokens: the model's positions end at {source.max_length}")
                continue
            needed, available = plain_bytes(widths, length, found.fused), min(map(available_bytes, devices))
            if needed > available:
                journal.note(f"no latency at {length} tokens: it would take {size_of(needed)} of {size_of(available)}")
                continue
            fitting[length] = needed
        for together in _passes(fitting, min(map(available_bytes, devices))) if fitting else ():
            rows += _of_lengths(subject, together, repeats)
    # With fewer than ENOUGH there is no telling how far a median is off.
    if repeats.most < min(ENOUGH, repeats.wanted) and any(row["cut"] for row in rows):
        journal.note(
            f"forwards timed at each length: {repeats.most}, not {repeats.wanted}, which would run more than "
            f"{SHARE:.0%} of the study's {sum(tokens or ())} tokens (dataset.samples; extract.profile_lengths)"
        )
    return pl.DataFrame(rows, schema=PROFILE.schema)


def _passes(lengths: Mapping[int, int], available: int) -> list[list[int]]:
    """Lengths that go through a model together, where it is read layer by layer: as many as memory holds at once.

    >>> _passes({128: 2, 256: 4, 512: 8}, 8), _passes({128: 2, 256: 4, 512: 8}, 100)
    ([[128, 256], [512]], [[128, 256, 512]])
    """
    found: list[list[int]] = [[]]
    for length, needed in lengths.items():
        if found[-1] and sum(lengths[one] for one in found[-1]) + needed > available:
            found.append([])
        found[-1].append(length)
    return found


def _of_lengths(subject: _Subject, lengths: Sequence[int], repeats: Repeats) -> list[dict[str, object]]:
    """The rows of lengths; the journal hears of those that cannot run."""
    source, rows = subject.source, list[dict[str, object]]()
    if isinstance(source, StreamedModel):
        measured = _in_one_pass(source, subject, lengths, repeats)
    else:
        measured = ((length, _tried(partial(_one_by_one, subject, length, repeats))) for length in lengths)
    alone = []
    for length, found in measured:
        if not isinstance(found, Exception):
            rows += _rows(subject, length, repeats, *found)
            continue
        if not is_out_of_memory(found) and isinstance(source, CapturedModel):
            raise found
        if len(lengths) > 1 and isinstance(source, StreamedModel):
            alone.append(length)  # others took memory beside it
            continue
        # Whatever a stranger's forward raises: its positions may end without saying so.
        reason = "out of memory" if is_out_of_memory(found) else f"its forward fails ({found})"
        subject.journal.note(f"no latency at {length} tokens: {reason}")
        let_go(source.device)
    for length in alone:
        let_go(source.device)
        rows += _of_lengths(subject, [length], repeats)
    return rows


def _tried(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:
        return error.with_traceback(None) if is_out_of_memory(error) else error  # which keeps tensors alive


def _one_by_one(subject: _Subject, length: int, repeats: Repeats) -> tuple[Counted, dict[str, Sequence[float]]]:
    """Count a forward and time others, one after the other."""
    ids = _ids(subject, length)
    told = _counted(subject, ids, min(repeats.wanted, SELECTION_REPEATS))
    return told, _times(subject, ids, repeats)


def _in_one_pass(
    source: StreamedModel, subject: _Subject, lengths: Sequence[int], repeats: Repeats
) -> Iterator[tuple[int, tuple[Counted, dict[str, Sequence[float]]] | Exception]]:
    """Take a counted and a timed forward of each length through the model, each layer being read once for all of them.

    Through a layer, too, the counted one goes first.
    """

    def count(ids: torch.Tensor, forward: Forward) -> Counted | Exception:
        wanted = min(repeats.wanted, SELECTION_REPEATS)
        return _tried(lambda: _counted(subject, ids, wanted, forward.around_waiting))

    def clock(ids: torch.Tensor, forward: Forward) -> dict[str, float] | Exception:
        devices = devices_of(source)
        return _tried(lambda: clocked(subject.parts, lambda: subject.run(ids), devices, forward.away))

    given = [_ids(subject, length) for length in lengths]
    works: list[Callable[[Forward], Any]] = [partial(work, ids) for ids in given for work in (count, clock)]
    found = source.in_step(works, sum(lengths))
    for length, told, times in zip(lengths, found[::2], found[1::2], strict=True):
        failed = next((one for one in (told, times) if isinstance(one, Exception)), None)
        if failed is None:
            _tell_unseen(subject, times)
        yield length, (told, {name: [seconds] for name, seconds in times.items()}) if failed is None else failed


def _ids(subject: _Subject, length: int) -> torch.Tensor:
    """Tokens to run, [1, length]."""
    random = torch.Generator().manual_seed(length)
    ids = torch.randint(getattr(subject.source, "ids", subject.source.vocabulary), (1, length), generator=random)
    return ids.to(subject.source.device)


def _rows(
    subject: _Subject, length: int, repeats: Repeats, told: Counted, times: dict[str, Sequence[float]]
) -> list[dict[str, object]]:
    cut = repeats.cut(times["model"])
    times = {**times, **({SELECTION: told.selection} if told.selection else {})}
    executed, needed = _formulas(subject, length)
    rows: list[dict[str, object]] = []
    for component in (component for component in COMPONENTS if component in times):
        seconds = times[component]
        low, median, high = np.quantile(seconds, (0.05, 0.5, 0.95)) * 1e3
        rows.append(
            {
                "component": component,
                "length": length,
                "repeats": len(seconds),
                "cut": cut and component != SELECTION,
                "milliseconds": median,
                "milliseconds_low": low,
                "milliseconds_high": high,
                "peak_bytes": told.peak_bytes.get(component),
                "flops_formula": _known(needed.get(component)),
                "flops_executed": executed.get(component),
                "flops_counted": told.flops.get(component),
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
    return executed_flops(subject.projections, subject.layers, length), needed


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


def _counted(
    subject: _Subject,
    ids: torch.Tensor,
    repeats: int,
    around_waiting: Callable[[Callable[[], None], Callable[[], None]], None] = lambda pause, resume: None,
) -> Counted:
    """The first forward at a length, which also allocates."""
    # Ids beyond a table of positions are found out before a GPU reads them.
    guard = nullcontext() if isinstance(subject.source, CapturedModel) else WithinTables()
    with plain_torch, guard:
        devices = devices_of(subject.source)
        return counted(subject.parts, lambda: subject.run(ids), devices, repeats, around_waiting)


def _times(subject: _Subject, ids: torch.Tensor, repeats: Repeats) -> dict[str, Sequence[float]]:
    """Seconds of each repeat by component; components that the model lacks have none."""
    found: dict[str, list[float]] = defaultdict(list)
    devices = devices_of(subject.source)
    while not repeats.enough(found["model"]):
        for name, seconds in clocked(subject.parts, lambda: subject.run(ids), devices).items():
            found[name].append(seconds)
    _tell_unseen(subject, found)
    return dict(found)


def _tell_unseen(subject: _Subject, found: Mapping[str, object]) -> None:
    for name in ("indexer", "attention"):
        if subject.parts[name] and name not in found:
            told = f"its {name} runs without a call of its module, so that its time, memory and operations are null"
            subject.journal.note(f"{subject.source.family}: {told}")


def clocked(
    parts: Parts, forward: Callable[[], None], devices: Sequence[torch.device], away: Callable[[], float] = lambda: 0.0
) -> dict[str, float]:
    """The seconds that the parts' calls take, but for those that ``away`` counts."""

    def now() -> float:
        synchronise(devices)
        return time.perf_counter() - away()

    totals = Totals(now)
    with spans(parts, totals.start, totals.stop):
        forward()
    return dict(totals.found)
