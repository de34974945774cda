"""Does a model see the future? Change the tokens after t and watch the logits up to t; look at what is attended to."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import polars as pl
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.dispatched import home, shared_by_copies
from indexscope.analysis.capture.future import future_keys
from indexscope.analysis.capture.held_layers import holding
from indexscope.analysis.capture.model import CapturedModel, most_selected, own_attention
from indexscope.analysis.capture.observers import Resumable, capture_sparse
from indexscope.analysis.capture.protocol import Traceable, TracedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.streaming.commits import mark_of, once
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.capture.tables import AUDIT
from indexscope.analysis.capture.trace import LayerTrace, eligible_keys, selection_mask

#: Raise it when the same model and samples would give another row.
AUDIT_VERSION = 3
SAMPLES = 3
#: Tokens that show what is wrong whatever the length, and, if twice k are more, what is wrong at queries with n_t < k.
BRIEF = 64
#: Tokens of the one sequence that shows what long ones alone do, such as code that takes another path; beyond it, S^2
#: costs memory.
LONGEST = 1024
# Of the largest logit; equal shapes run the same kernels, so a causal model moves by nothing or by rounding.
RELATIVE_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def audit_causality(model: nn.Module | Traceable | Source, sequences: Sequence[Sequence[int]]) -> pl.DataFrame:
    """Perturb the tokens after several positions and require the logits up to each not to move.

    A top-k mask used as the only attention mask lets queries with n_t < k see the future, which the beginning of a
    sequence shows: the first max(64, 2k) tokens are changed after five positions, t = 0 and t = k / 2 among them. Where
    the first sequence is longer, it runs on to max(1024, 2k) tokens, which are changed after the middle and before the
    last, for what only long ones do wrong, and one beginning is enough beside it. Sequences run one by one: equal
    shapes run the same kernels, so that a causal model's logits stay to the bit. A model of transformers runs with its
    own attention, not with the capture's, in a twin that shares its weights: captures that run meanwhile do not notice.
    Where its logits move by more than rounding, which experts that get other tokens do to them too, every layer is
    audited by itself (`indexscope.analysis.capture.held_layers`). What each layer attends to is also looked at
    directly.

    Args:
        model: A causal language model in eval mode: of transformers, of docs/protocol.md, or any module to watch.
        sequences: Token ids; the first three of at least 2 tokens are used, of long ones the first two.

    Returns:
        One row: passed; the largest change of a logit; the tolerance it was held to; the largest change of what a
        layer by itself gives, of that row's norm, null where logits stayed within the tolerance and for code outside
        transformers; positions checked; and future_selected, the (layer, query, key) triples with a key after its
        query that the model attends to, null where the capture cannot see it. ``passed`` needs both an unmoved prefix,
        of the model or of every layer by itself, and no such triple; it is null when there was nothing to check.

    Raises:
        IndexscopeError: The logits are not finite, or a trace is not what the protocol says.
    """
    subject = _subject(model)
    random = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        checks = list(_checks([each for each in sequences if len(each) > 1][:SAMPLES], subject.k))
        asked = [torch.tensor([tokens], device=subject.device) for tokens, _ in checks]
        others = [
            [_with_other_future(ids, t, subject.vocabulary, random) for t in positions]
            for ids, (_, positions) in zip(asked, checks, strict=True)
        ]
        several = [[ids, *changed] for ids, changed in zip(asked, others, strict=True)]
        of_all = [positions for _, positions in checks]
        if isinstance(subject, _Captured) and subject.streamed is not None:
            marks = ["moved", *(mark_of(ids) for each in several for ids in each)]
            seen = once(marks, lambda: _moved(subject, several, of_all))
        else:
            seen = _moved(subject, several, of_all)
        change, scale, checked = seen["change"], seen["scale"], sum(map(len, of_all))
        relative = RELATIVE_TOLERANCE.get(subject.dtype, 1e-5)
        unmoved, of_a_layer = change <= relative * scale, None
        if not unmoved and isinstance(subject, _Captured):
            until = [t for positions in of_all for t in (None, *positions)]
            of_a_layer = subject.by_layer([ids for each in several for ids in each], until)
            unmoved = of_a_layer <= relative
    row = {
        "passed": unmoved and not seen["future"] if checked else None,
        "max_logit_change": change if checked else None,
        "tolerance": relative * scale if checked else None,
        "layer_change": of_a_layer,
        "positions_checked": checked,
        "future_selected": seen["future"] if checked and seen["known"] else None,
    }
    return pl.DataFrame([row], schema=AUDIT.schema)


def _moved(
    subject: _Captured | _Traced, several: Sequence[Sequence[torch.Tensor]], positions: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """How far later tokens move logits, and what is attended to after its query.

    Args:
        subject: The model.
        several: Each sequence, and what was made of it by changing tokens.
        positions: After which they were changed.

    Returns:
        change: of a logit, the largest; scale: the largest logit; future: triples (layer, query, key after it); known:
        whether all of them could be seen.
    """
    change, scale, future = 0.0, 0.0, _Count()
    with closing(subject.logits(several, future)) as found:
        for after in positions:
            logits = _finite(next(found))
            scale = max(scale, float(logits.abs().max()))
            for t in after:
                moved = _finite(next(found))
                change = max(change, float((moved[:, : t + 1] - logits[:, : t + 1]).abs().max()))
    return {"change": change, "scale": scale, "future": future.pairs, "known": future.seen}


def _checks(sequences: Sequence[Sequence[int]], k: int) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens to run, and the positions after which they are changed."""
    brief, longest = max(BRIEF, 2 * k), max(LONGEST, 2 * k)
    if sequences and min(len(sequences[0]), longest) > brief:
        whole = list(sequences[0][:longest])
        yield whole, [len(whole) // 2, len(whole) - 2]
        sequences = sequences[1:2] or sequences  # one more for what the beginning shows
    for tokens in (list(sequence[:brief]) for sequence in sequences):
        end = len(tokens) - 2
        yield tokens, sorted({t for t in (0, k // 2, len(tokens) // 4, len(tokens) // 2, end) if t <= end})


class _Count:
    """Triples (layer, query, key after it) that are attended to, as far as they could be seen."""

    pairs = 0
    seen = True

    def state(self) -> tuple[int, bool]:
        """What was counted."""
        return self.pairs, self.seen

    def restore(self, state: tuple[int, bool]) -> None:
        """Go on from there."""
        self.pairs, self.seen = state

    def join(self, others: Sequence[_Count]) -> None:
        """Add what others counted."""
        self.pairs += sum(other.pairs for other in others)
        self.seen &= all(other.seen for other in others)

    def add(self, attended: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> None:
        """Attended [batch or 1, groups, queries, keys], positions of queries [queries] and keys [batch or 1, keys]."""
        after = key[:, None, :] > query[None, :, None]
        self.pairs += int((attended.any(1) & after).sum())


class _Captured:
    """A model of transformers under audit."""

    def __init__(self, model: PreTrainedModel, streamed: StreamedModel | None = None) -> None:
        self.streamed, self.model, device = streamed, model, home(model)
        if streamed is not None:
            device = streamed.device  # its layers are where its weights are read to: there is no other
        else:
            # Tensors are shared, modules and configuration are not.
            shared: dict[int, object] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
            self.model = copy.deepcopy(model, shared | shared_by_copies(model))
        self.k = most_selected(model) or BRIEF // 2
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self.device, self.dtype = device, model.dtype

    def logits(self, sequences: Sequence[Sequence[torch.Tensor]], count: _Count) -> Generator[torch.Tensor, None, None]:
        """The logits of all, by the model's own attention; what the layers attend to is counted in the first of each.

        A model that is read layer by layer is read once, however many there are.
        """

        def missed(_: IndexscopeError) -> None:
            count.seen = False  # extraction tells why it cannot be captured

        each = [ids for several in sequences for ids in several]
        if self.streamed is not None:
            counts = [_Count() for _ in sequences]
            looks = [(ids, _watching(one)) for (ids, *_), one in zip(sequences, counts, strict=True)]
            with closing(self.streamed.plain(each, looks, missed)) as found:
                for number, logits in enumerate(found):
                    if not number:  # all of them are through
                        count.join(counts)
                    yield logits
            return
        try:
            source = CapturedModel(self.model)
            for ids, *_ in sequences:
                for _ in source.run(ids, _watching(count), ids.shape[1]):
                    pass
        except IndexscopeError as error:
            missed(error)
        with own_attention(self.model):
            for ids in each:
                yield self.model(input_ids=ids, use_cache=False).logits

    def by_layer(self, each: Sequence[torch.Tensor], until: Sequence[int | None]) -> float:
        """The largest change of what a layer by itself, or the head, gives, relative to the norm of that row.

        Args:
            each: Sequences, one forward each.
            until: As of `holding`.
        """
        lengths = [ids.shape[1] for ids in each]
        with holding(self.model, until, lengths) as held:
            if self.streamed is not None:
                with closing(self.streamed.plain(each, also=[held])) as found:
                    for number, logits in enumerate(found):
                        held.hold(None, number, logits)
                return held.largest
            with own_attention(self.model):
                for number, ids in enumerate(each):
                    held.hold(None, number, self.model(input_ids=ids, use_cache=False).logits)
        return held.largest


class _Traced:
    """A model of the protocol under audit."""

    def __init__(self, model: TracedModel) -> None:
        self.model = model
        self.k = model.index_topk or BRIEF // 2
        self.vocabulary = model.vocabulary
        self.device = model.device
        parameters = model.model.parameters() if isinstance(model.model, nn.Module) else iter(())
        self.dtype = next((parameter.dtype for parameter in parameters), torch.float32)

    def logits(self, sequences: Sequence[Sequence[torch.Tensor]], count: _Count) -> Generator[torch.Tensor, None, None]:
        """The logits of all; what the layers attend to is counted in the first of each."""
        for several in sequences:
            for place, ids in enumerate(several):
                trace = self.model.trace(ids, refuse_leaks=False)
                for layer in trace.layers if not place else ():
                    _count_trace(layer, ids.shape[1], count)
                yield trace.logits


def _subject(model: nn.Module | Traceable | Source) -> _Captured | _Traced:
    if isinstance(model, CapturedModel):
        return _Captured(model.model, model if isinstance(model, StreamedModel) else None)
    if isinstance(model, TracedModel):
        return _Traced(model)
    if isinstance(model, PreTrainedModel) and not isinstance(model, Traceable):
        return _Captured(model)
    return _Traced(TracedModel(model))  # type: ignore[arg-type]  # which refuses what it cannot take


def _watching(count: _Count) -> Resumable:
    """Counts in a capture, whose attention is not the model's own."""

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        _count_chunk(chunk, count)
        return capture_sparse(chunk)

    return Resumable(observe, count.state, count.restore)


def _count_chunk(chunk: AttentionChunk, count: _Count) -> None:
    future, known = future_keys(chunk)
    count.pairs += int(future.sum())
    count.seen &= known


def _count_trace(layer: LayerTrace, length: int, count: _Count) -> None:
    """A mask says what is attended to; indices only what was picked, and a causal mask may follow."""
    if layer.selected is not None and layer.selected.dtype == torch.bool:
        attended = selection_mask(layer.selected, length)
    elif layer.selected is None and layer.probabilities is not None:
        attended = layer.probabilities > 0
    else:
        device = (layer.probabilities if layer.query is None else layer.query).device  # type: ignore[union-attr]
        attended = eligible_keys(layer, length, device)
        if layer.selected is not None:
            picked = selection_mask(layer.selected, length)
            if bool((picked & ~attended).any()):
                count.seen = False
            attended = picked & attended
    position = torch.arange(length, device=attended.device)
    count.add(attended, position, position.unsqueeze(0))


def _with_other_future(ids: torch.Tensor, t: int, vocabulary: int, random: torch.Generator) -> torch.Tensor:
    """The same tokens up to t and different ones after it."""
    other = ids.clone()
    fresh = torch.randint(1, vocabulary, (1, ids.shape[1] - t - 1), generator=random).to(ids.device)
    # Adding 1 .. vocabulary - 1 always gives a different token.
    other[:, t + 1 :] = (ids[:, t + 1 :] + fresh) % vocabulary
    return other


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if not bool(logits.isfinite().all()):
        raise IndexscopeError("model", "its logits are not finite", "check its weights, or use dtype float32")
    return logits.float()
