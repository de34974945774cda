"""Where the attention and the indexers of a model are, and how it runs while nobody looks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from indexscope.analysis.capture.chunk import EntryKind
from indexscope.analysis.capture.indexer import PRECISION, index_dim, index_heads, indexers
from indexscope.analysis.capture.look import look_ids
from indexscope.analysis.capture.model import CapturedModel, own_attention
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import TracedModel
from indexscope.analysis.capture.selecting import selectors
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.trace import causal_mask
from indexscope.analysis.capture.watching.calls import SDPA, WatchCalls, WithinTables
from indexscope.analysis.capture.watching.held import evaluated, plain_torch
from indexscope.analysis.capture.watching.module import WatchedModule, attentions_of, call, logits_of
from indexscope.analysis.capture.watching.picks import Pick, heads_and_weights
from indexscope.analysis.capture.watching.places import attentions_in, indexers_in
from indexscope.analysis.capture.watching.stack import Stack

Run = Callable[[torch.Tensor], object]


@dataclass(frozen=True)
class Anatomy:
    """What is known of a model's parts.

    Attributes:
        run: Its own forward over ids [1, S], called within ``own()``.
        own: Has it to itself, as it is when it is used.
        whole: The module that holds all parameters; None where there is none.
        indexers: Modules, once each; empty where there are none or they are not known.
        attentions: The same.
        index_heads: Heads of an indexer; None where they are not known, as is ``index_dim``, the width of one.
        entry: What an indexer scores; None where it is not known, so that no formula of its cost holds.
        precision: What its indexers score in when served; None where nothing is published.
        fused: Whether its attention never holds the heads' maps.
        notes: What is not known, and why.
    """

    run: Run
    own: Callable[[], AbstractContextManager[object]]
    whole: nn.Module | None = None
    indexers: Sequence[nn.Module] = ()
    attentions: Sequence[nn.Module] = ()
    index_heads: int | None = None
    index_dim: int | None = None
    entry: EntryKind | None = None
    precision: str | None = None
    fused: bool = False
    notes: tuple[str, ...] = ()

    @property
    def indexer_parameters(self) -> int:
        """Parameters of all indexers; shared ones count once."""
        return _count(self.indexers)

    @property
    def attention_parameters(self) -> int:
        """Parameters of all attention modules that are not an indexer's."""
        return _count([*self.attentions, *self.indexers]) - self.indexer_parameters


def anatomy_of(source: Source) -> Anatomy:
    """Look for the parts of a model: of transformers by what its families are called, of other code by running it."""
    if isinstance(source, CapturedModel):
        return _captured(source)
    if isinstance(source, TracedModel):
        return _traced(source)

    def run(ids: torch.Tensor) -> None:
        for _ in source.run(ids, capture_sparse, ids.shape[1]):
            pass

    note = f"{source.family}: only what it shows is known, so that its parts have no parameters, times and operations"
    return Anatomy(run, nullcontext, notes=(note,))


def _captured(source: CapturedModel) -> Anatomy:
    model, fitted, laid = source.model, indexers(source.model), selectors(source.model)
    heads = [*map(index_heads, fitted), *(selector.heads for selector in laid)]
    widths = [*map(index_dim, fitted), *(selector.dim for selector in laid)]
    scorers = [selector.scorer for selector in laid if selector.scorer is not None]
    rounded = next((getattr(one, PRECISION) for one in (*fitted, *scorers) if hasattr(one, PRECISION)), None)
    return Anatomy(
        run=lambda ids: model(input_ids=ids, use_cache=False),
        own=lambda: own_attention(model),
        whole=model,
        indexers=[*fitted, *scorers],
        attentions=list(dict.fromkeys(source.attentions.values())),
        index_heads=max(filter(None, heads), default=None),
        index_dim=next(filter(None, widths), None),
        entry=source.captured.kind if fitted else "token" if laid else None,
        precision=rounded or (source.captured.precision if fitted else None),
        fused=bool(getattr(model, "_supports_sdpa", False)),
    )


def _traced(source: TracedModel) -> Anatomy:
    handed = source.model.module if isinstance(source.model, WatchedModule) else source.model
    whole, ids = handed if isinstance(handed, nn.Module) else None, look_ids(source)

    @contextmanager
    def own() -> Iterator[None]:
        with source.alone, nullcontext() if whole is None else evaluated(whole):
            yield

    with own(), torch.inference_mode():
        plain = whole is not None and _takes_ids(whole, ids)
        run: Run = source.trace
        if whole is not None and plain:
            run = _forward(whole)
        notes = [] if plain else ["has no forward over ids that returns logits: its trace is timed and counted instead"]
        if whole is None:
            note = "is no torch module, so that neither its parameters nor its parts are known"
            return Anatomy(run, own, notes=_named(source, [*notes, note]))
        with Stack(whole) as stack, plain_torch:
            watch = WatchCalls(1, ids.shape[1], heads=True, stack=stack.calls)
            with watch:
                run(ids)
    attentions, beyond = attentions_in(whole, watch)
    fitted, inside = indexers_in(whole, watch)
    seen = attentions_of(watch)
    notes += [beyond] if beyond else []
    notes += [inside] if inside and source.has_indexer else []
    heads, dim = _heads([each.pick for each in seen if each.pick is not None])
    first = fitted[0] if fitted else None
    return Anatomy(
        run=run,
        own=own,
        whole=whole,
        indexers=fitted,
        attentions=attentions,
        index_heads=heads if heads or first is None else index_heads(first),
        index_dim=dim if dim or first is None else index_dim(first),
        fused=bool(seen) and all(each.call == SDPA for each in seen),
        notes=_named(source, notes),
    )


def _named(source: Source, notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{source.family}: {note}" for note in notes)


def _forward(module: nn.Module) -> Run:
    return lambda ids: call(module, ids)


def _takes_ids(module: nn.Module, ids: torch.Tensor) -> bool:
    """Whether a module has a forward over ids that returns logits."""
    try:
        with WithinTables():
            logits = logits_of(call(module, ids))
    except Exception:  # whatever a stranger's forward raises
        return False
    return logits is not None and logits.shape[:-1] == ids.shape


def _heads(picks: Sequence[Pick]) -> tuple[int | None, int | None]:
    """How many heads add up to the scores of the first pick that shows it, and how wide they are."""
    for pick in picks:
        causal = causal_mask(pick.scores.shape[-1], pick.scores.device)[None, None]
        found = heads_and_weights(pick, causal) if pick.scores.shape[1] == 1 else None
        if found is not None:
            return found[0].shape[2], pick.width
    return None, None


def _count(modules: Sequence[nn.Module]) -> int:
    return sum({id(one): one.numel() for module in modules for one in module.parameters()}.values())
