"""Running edits of a real model: its losses against itself unedited, sample by sample, its costs, and what may vary."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.indexer import index_dim, index_heads, index_topk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.observers import attend
from indexscope.analysis.edits.apply import edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.places import Place, places_of
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.buckets import bucket_count, bucket_of
from indexscope.analysis.features.intake import TokenSequence
from indexscope.analysis.flops import shape
from indexscope.analysis.optimise.cost import Cost, CostLayer
from indexscope.analysis.optimise.evaluations import Loss
from indexscope.analysis.optimise.space import Layer, Space
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.statistics.resampling import Array
from indexscope.errors import IndexscopeError

LossName = Literal["nll", "output_kl", "skill"]
#: Bytes of reference distributions that are kept; others are computed again for every edit.
KEPT = 512 * 2**20
#: Sequences up to this length run at once where the study leaves the chunk open: cutting them costs a quarter more.
AT_ONCE = 512

_NO_EDIT = Edit.model_validate({})


class ModelEvaluator:
    """Runs edits of one model on samples.

    Args:
        source: The model, unedited.
        samples: By index.
        loss: nll: nats of the true next token. output_kl: KL(unedited ‖ edited) of the next-token distributions.
            skill: loss of the selection's skill (docs/metrics.md), averaged over layers.
        settings: How it is run.
        journal: Hears what had to be run in smaller chunks.
    """

    def __init__(
        self,
        source: CapturedModel,
        samples: Mapping[int, TokenSequence],
        loss: LossName,
        settings: ExtractSettings,
        journal: Journal | None = None,
    ) -> None:
        self._model, self._samples, self._loss = source.model, samples, loss
        longest = max(len(sample.input_ids) for sample in samples.values())
        if settings.chunk == "auto" and longest <= AT_ONCE:
            settings = settings.model_copy(update={"chunk": longest})
        self._attempt = Attempt(source, settings, journal or Journal())
        self._references: dict[int, Any] = {}
        self._held = 0

    def evaluate(self, edit: Edit, samples: Sequence[int]) -> Iterator[Loss]:
        """What an edit loses on each sample.

        Raises:
            IndexscopeError: The model cannot be edited so, or what it computes is not finite.
        """
        for sample in samples:
            reference = self._reference(sample)
            with edited(self._model, edit):
                found = self._run(sample, reference)
            if not np.isfinite(found.sums).all():
                raise IndexscopeError(
                    self._samples[sample].name, "the edited model's output is not finite", "use extract.dtype float32"
                )
            yield found

    def _reference(self, sample: int) -> Any:
        """What the unedited model gives on a sample."""
        if sample not in self._references:
            found = self._told(sample)
            size = sum(part.nbytes for part in found) if isinstance(found, list) else found.nbytes
            if self._held + size > KEPT:
                return found
            self._held += size
            self._references[sample] = found
        return self._references[sample]

    def _run(self, sample: int, reference: Any) -> Loss:
        found = self._told(sample, reference)
        count = len(self._samples[sample].input_ids)
        if self._loss == "skill":
            return _less_skill(reference, found, count)
        values = found if self._loss == "output_kl" else found - reference
        bucket = bucket_of(torch.arange(len(values))).numpy()
        size = bucket_count(count)
        sums = np.bincount(bucket, weights=values, minlength=size)
        weights = np.bincount(bucket, minlength=size).astype(float)
        return Loss(tuple(sums.tolist()), tuple(weights.tolist()))

    def _told(self, sample: int, reference: Any = None) -> Any:
        """What the loss is computed from: log-probabilities for KL's reference, else one number a query, or skill."""
        ids = self._samples[sample].input_ids
        return self._attempt.run(
            lambda chunk: self._forward(ids, chunk, reference), 1, len(ids), self._samples[sample].name
        )

    def _forward(self, ids: Sequence[int], chunk: int, reference: Any) -> Any:
        source = CapturedModel(self._model)
        tokens = torch.tensor([list(ids)], dtype=torch.int64, device=source.device)
        if self._loss == "skill":
            skill = _Skill(len(ids))
            for _ in source.run(tokens, skill, chunk):
                pass
            return skill.sums
        parts: list[Any] = []
        for start, logits in source.run(tokens, capture_sparse, chunk):
            rows = logits[0].float().log_softmax(-1)
            if self._loss == "output_kl":
                if reference is None:
                    parts.append(rows.cpu().numpy())
                else:
                    before = torch.from_numpy(reference[len(parts)]).to(rows.device).double()
                    parts.append((before.exp() * (before - rows.double())).sum(-1).cpu().numpy())
                continue
            following = tokens[0, start + 1 : start + 1 + len(rows)]
            parts.append(-rows[: len(following)].gather(-1, following[:, None])[:, 0].double().cpu().numpy())
        if self._loss == "output_kl" and reference is None:
            return parts
        return np.concatenate(parts)


class _Skill:
    """Observer that adds up recall, that of the best choice and that of chance, of queries in effect by bucket."""

    def __init__(self, length: int) -> None:
        self._size = bucket_count(length)
        self._sums: dict[int, Array] = {}

    def __call__(self, chunk: AttentionChunk) -> torch.Tensor:
        if chunk.selected is None:
            return capture_sparse(chunk)
        own = self._sums.setdefault(chunk.layer, np.zeros((3, self._size)))
        dense = chunk.logits().masked_fill_(~chunk.eligible, -torch.inf).softmax(-1)[0].double()
        groups = chunk.selected.shape[1]
        mean = dense.view(groups, -1, *dense.shape[-2:]).mean(1)
        selected = chunk.selected[0].expand(mean.shape)
        count, eligible = selected.sum(-1), chunk.eligible[0, 0].sum(-1).expand(groups, -1)
        ranked = mean.sort(-1, descending=True).values.cumsum(-1)
        best = ranked.gather(-1, (count - 1).clamp(min=0)[..., None])[..., 0]
        told = torch.stack([(mean * selected).sum(-1), best, count / eligible.clamp(min=1)])
        in_effect = (eligible > count)[None]
        bucket = bucket_of(torch.arange(chunk.start, chunk.start + mean.shape[-2]))
        each = torch.where(in_effect, told, 0.0).mean(1).cpu().numpy()
        for row in range(3):
            own[row] += np.bincount(bucket.numpy(), weights=each[row], minlength=self._size)
        return attend(chunk, chunk.selected)

    @property
    def sums(self) -> Array:
        """[layers, 3, buckets]."""
        return np.stack([self._sums[layer] for layer in sorted(self._sums)])


def _less_skill(before: Array, after: Array, length: int) -> Loss:
    """Skill lost by bucket, averaged over the layers in which both have queries in effect, weighed by queries."""
    first, second = (_skill(one) for one in (before, after))
    lost = first - second
    known = ~np.isnan(lost)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, lost, 0.0).sum(axis=0) / known.sum(axis=0)
    queries = np.bincount(bucket_of(torch.arange(length)).numpy(), minlength=before.shape[-1]).astype(float)
    weights = np.where(known.any(axis=0), queries, 0.0)
    return Loss(tuple(np.where(weights > 0, mean * weights, 0.0).tolist()), tuple(weights.tolist()))


def _skill(sums: Array) -> Array:
    recall, best, chance = sums[:, 0], sums[:, 1], sums[:, 2]
    room = best - chance
    return np.asarray(np.divide(recall - chance, room, out=np.full(room.shape, np.nan), where=room > 1e-9))


def space_of(source: CapturedModel) -> Space:
    """What may vary of a model; which precisions are cheaper its `Cost` tells.

    Raises:
        IndexscopeError: It has no indexer, or one whose entries are no single tokens.
    """
    places = places_of(source.model)
    own = [place for place in places.values() if place.indexer is not None]
    if not own:
        raise IndexscopeError(source.family, "has no indexer that could be edited", "give a baseline with one")
    layers = []
    for place in own:
        assert place.indexer is not None
        layers.append(Layer(place.layer, index_heads(place.indexer) or 1, _topk(place) or 1))
    depth = int(source.model.config.get_text_config(decoder=True).num_hidden_layers)
    sharing = tuple(place.layer for place in places.values() if place.indexer is None)
    return Space(depth, tuple(layers), sharing=sharing)


def _topk(place: Place) -> int | None:
    """Keys that a layer's own indexer selects, or one that is laid over it."""
    if place.fitted is not None:
        return place.fitted.topk
    return None if place.indexer is None else index_topk(place.indexer)


def cost_of(source: CapturedModel, lengths: Sequence[int], whole: bool) -> Cost:
    """What edits of a model cost by formula, as served; projections of dropped heads are saved.

    Args:
        source: The model.
        lengths: Tokens of the samples.
        whole: Whether attention counts; else the indexers alone.

    Raises:
        IndexscopeError: No formula is known of its attention.
    """
    facts, layers = model_facts(source), layer_facts(source)
    shaped = shape(facts, layers)
    if not shaped.has_formula:
        raise IndexscopeError(source.family, "has attention of which no formula is known", "use --cost latency")
    places, found = places_of(source.model), dict[int, CostLayer]()
    for row, attention in zip(layers["layer"].to_list(), shaped.attention, strict=True):
        place = places.get(row)
        indexer = None if place is None else place.indexer
        if place is None or indexer is None:
            found[row] = CostLayer(attention, topk=shaped.top_k if attention.sparse else None)
            continue
        heads = index_heads(indexer) or 1
        whole_size = sum(parameter.numel() for parameter in indexer.parameters())
        each = 0
        if heads > 1:
            fewer = Edit.model_validate({"indexer_heads": {row: list(range(1, heads))}})
            with edited(source.model, fewer):
                each = whole_size - sum(parameter.numel() for parameter in indexer.parameters())
        shared = 2.0 * (whole_size - heads * each)
        found[row] = CostLayer(attention, heads, index_dim(indexer) or 0, _topk(place), shared, 2.0 * each)
    # Layers without an attention map cost what they cost, whatever is edited.
    depth = max(found) + 1
    empty = CostLayer(replace(shaped.attention[0], pair=0.0, latent=None, sparse=False, window=1))
    listed = tuple(found.get(layer, empty) for layer in range(depth))
    return Cost(listed, tuple(lengths), shaped.indexer_time, whole)


class Latency:
    """Time of a forward of an edit relative to one of the model as it is, measured in turns.

    Args:
        source: The model.
        ids: The sequence that is timed.
        chunk: Queries a chunk.
        repeats: Pairs of forwards; the median ratio counts.
        known: Measured before.
    """

    def __init__(
        self,
        source: CapturedModel,
        ids: Sequence[int],
        chunk: int,
        repeats: int = 5,
        known: Mapping[Edit, float] | None = None,
    ) -> None:
        self._model, self._chunk, self._repeats = source.model, chunk, repeats
        self._ids = torch.tensor([list(ids)], dtype=torch.int64, device=source.device)
        self.known: dict[Edit, float] = dict(known or {})

    def __call__(self, edit: Edit) -> float:
        """The median of the ratios of neighbouring forwards, so that a machine that slows down slows both."""
        if edit not in self.known:
            self._time(edit)
            ratios = [self._time(edit) / self._time(_NO_EDIT) for _ in range(self._repeats)]
            self.known[edit] = median(ratios)
        return self.known[edit]

    def _time(self, edit: Edit) -> float:
        with edited(self._model, edit):
            source = CapturedModel(self._model)
            _wait(source)
            start = time.perf_counter()
            for _ in source.run(self._ids, capture_sparse, self._chunk):
                pass
            _wait(source)
            return time.perf_counter() - start


def _wait(source: CapturedModel) -> None:
    if source.device.type == "cuda":
        torch.cuda.synchronize(source.device)
