"""Fitting the indexers of a sweep to a frozen body: dense warm-up together, then sparse training one by one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_dense, capture_sparse
from indexscope.analysis.fitting.fitted import FittedIndexer, prefix, weights_of
from indexscope.analysis.fitting.inlet import Inlet, Inputs, joined
from indexscope.analysis.fitting.loss import divergence, head_mean, rows_of
from indexscope.analysis.fitting.measure import Sums
from indexscope.analysis.fitting.places import places_of, shape_at
from indexscope.analysis.fitting.scorer import LightningScorer
from indexscope.analysis.fitting.selector import attach, lift, replace_indexers
from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings

BETAS = (0.9, 0.99)
#: Norm at which the gradient of one layer is cut off.
LARGEST_GRADIENT = 1.0
#: The part of the learning rate that is left at the end of a stage.
LAST_RATE = 0.05
#: Steps over which the learning rate rises.
RISE = 20
MOMENTS = ("exp_avg", "exp_avg_sq")
#: Learning rate of the sparse stage, as a part of that of the dense one.
SPARSE_RATE = 0.25


@dataclass(frozen=True)
class Step:
    """What is done in one step.

    Attributes:
        number: Counted over all stages, from 0.
        stage: dense or sparse.
        place: Counted within the stage.
        of: Steps of the stage.
        indexer: The one of the sweep that is trained; None where all are.
        topk: Keys of the selection in the sparse stage.
    """

    number: int
    stage: str
    place: int
    of: int
    indexer: int | None = None
    topk: int | None = None


def schedule(settings: TrainingSettings, topk: Sequence[int], indexers: int) -> list[Step]:
    """All steps in their order: the dense stage, then the sparse one of each indexer of the sweep.

    The sparse stage takes one number of keys after the other, step by step, so that one indexer serves all.
    """
    steps = [Step(place, "dense", place, settings.dense) for place in range(settings.dense)]
    for indexer in range(indexers):
        for place in range(settings.sparse):
            k = topk[place % len(topk)]
            steps.append(Step(len(steps), "sparse", place, settings.sparse, indexer, k))
    return steps


class _Trained:
    """One indexer of the sweep while it is trained."""

    def __init__(self, size: IndexerSize, scorers: dict[int, LightningScorer], rate: float) -> None:
        self.size, self.scorers = size, scorers
        self.parameters = [one for scorer in scorers.values() for one in scorer.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=BETAS, weight_decay=0.0)

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        for layer, scorer in self.scorers.items():
            for name, parameter in scorer.named_parameters():
                yield prefix(layer) + name, parameter

    def update(self, rate: float) -> None:
        for scorer in self.scorers.values():
            nn.utils.clip_grad_norm_(scorer.parameters(), LARGEST_GRADIENT)  # layers learn apart
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Fitting:
    """Trains lightning indexers for a model whose body is frozen.

    The body runs in chunks. In each layer and chunk the loss of that layer's indexers is computed at once, on some of
    the chunk's queries, and its gradient added up, so that nothing grows with layers x queries x keys; what is kept of
    earlier chunks is what reaches each attention, as a key cache would. One step is one batch.

    Dense steps: the body attends to everything, and all indexers of the sweep share its forward; the loss is
    KL(head-mean attention || softmax I) over E_t. Sparse steps: the body attends to what the indexer selects, and the
    loss is the same over S_t.

    Every step depends on the settings, its number and the weights alone, so that a run that goes on from ``state`` ends
    with the same bytes.

    Args:
        model: In eval mode. Its own indexers are taken out; those that are fitted lie over it in the end.
        sizes: The sweep.
        topk: Numbers of keys that the sparse stage selects, and that are measured.
        settings: Steps, rates, seed.

    Raises:
        IndexscopeError: No indexer of such a size can be fitted to the model.
    """

    def __init__(
        self, model: PreTrainedModel, sizes: Sequence[IndexerSize], topk: Sequence[int], settings: TrainingSettings
    ) -> None:
        model.requires_grad_(False)
        self.model, self.topk, self.settings = model, tuple(topk), settings
        self.places = places_of(model)
        shapes = [
            {layer: shape_at(self.places.widths[layer], size.heads, size.dim) for layer in self.places.first}
            for size in sizes
        ]
        replace_indexers(model, self.places)
        self.captured = CapturedModel(model)
        self.inlets = {layer: Inlet(self.places.modules[layer]) for layer in self.places.first}
        self.trained: list[_Trained] = []
        with torch.random.fork_rng(devices=[]):
            for size, own in zip(sizes, shapes, strict=True):
                torch.manual_seed(settings.seed)
                scorers = {layer: LightningScorer(shape).to(self.captured.device) for layer, shape in own.items()}
                self.trained.append(_Trained(size, scorers, settings.learning_rate))
        self.steps = schedule(settings, self.topk, len(sizes))

    def step(self, step: Step, sequences: torch.Tensor) -> list[dict[str, Any]]:
        """Make one step.

        Args:
            step: Of ``steps``.
            sequences: All training tokens, [sequences, length], int64.

        Returns:
            A row for each indexer that was trained and each layer: step, stage, indexer, topk, layer, kl (nats).
        """
        settings = self.settings
        batch = sequences[self._drawn(step, len(sequences))].to(self.captured.device)
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step.number)
        trained = self.trained if step.indexer is None else [self.trained[step.indexer]]
        found: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        length = batch.shape[1]
        past: dict[int, list[Inputs]] = defaultdict(list)

        def observe(chunk: AttentionChunk) -> torch.Tensor:
            layer, queries = self.places.of[chunk.layer], chunk.query.shape[2]
            count = max(1, min(queries, round(settings.queries * queries / length)))
            rows = torch.randperm(queries, generator=random)[:count].sort().values.to(batch.device)
            part = rows_of(chunk, rows)
            within = part.eligible[:, 0]
            if step.stage == "sparse" and part.selected is not None:
                within = part.selected[:, 0]
            mean = head_mean(part)
            with torch.inference_mode(False), torch.enable_grad():
                asking, known = self._told(layer, chunk, rows, past)
                target, within = mean.clone(), within.clone()
                for place, one in enumerate(trained):
                    scorer = one.scorers[layer]
                    scores = scorer(asking, _last(scorer.keys(known), chunk.key.shape[2]))
                    kl = divergence(target, scores, within)
                    (kl.mean() * (queries / length)).backward()  # type: ignore[no-untyped-call]
                    sums = found[place, layer]
                    sums[0] += float(kl.detach().sum())
                    sums[1] += kl.numel()
            return capture_dense(chunk) if step.stage == "dense" else capture_sparse(chunk)

        if step.stage == "sparse":
            attach(self.model, self.places, trained[0].scorers, step.topk or self.topk[0])
        try:
            with _headless(self.model):
                for _ in self.captured.run(batch, observe, settings.chunk, select=step.stage == "sparse"):
                    pass
        finally:
            if step.stage == "sparse":
                lift(self.model)
        for one in trained:
            one.update(self._rate(step))
        return [
            {
                "step": step.number, "stage": step.stage, "indexer": trained[place].size.name, "topk": step.topk,
                "layer": layer, "kl": total / count,
            }
            for (place, layer), (total, count) in sorted(found.items())
        ]  # fmt: skip

    def measure(self, sequences: Sequence[torch.Tensor], queries: int) -> list[list[Sums]]:
        """Recall and divergence of all indexers on held-out sequences, the body dense.

        Args:
            sequences: Tokens, [length] each.
            queries: Queries of a sequence that are looked at, evenly spaced.

        Returns:
            For each indexer of the sweep one for each sequence.
        """
        found = [[Sums() for _ in sequences] for _ in self.trained]
        for number, tokens in enumerate(sequences):
            length, past = len(tokens), defaultdict[int, list[Inputs]](list)
            every = max(1, length // queries)

            def observe(
                chunk: AttentionChunk, number: int = number, every: int = every, past: Any = past
            ) -> torch.Tensor:
                layer, count = self.places.of[chunk.layer], chunk.query.shape[2]
                rows = torch.arange((every - 1 - chunk.start) % every, count, every, device=chunk.query.device)
                asking, known = self._told(layer, chunk, rows, past)
                if len(rows):
                    part = rows_of(chunk, rows)
                    mean, eligible = head_mean(part), part.eligible[:, 0]
                    for one, sums in zip(self.trained, found, strict=True):
                        scorer = one.scorers[layer]
                        scores = scorer(asking, _last(scorer.keys(known), chunk.key.shape[2]))
                        sums[number].add(layer, mean, scores.masked_fill(~eligible, -torch.inf), eligible, self.topk)
                return capture_dense(chunk)

            with _headless(self.model):
                ids = tokens[None].to(self.captured.device)
                for _ in self.captured.run(ids, observe, self.settings.chunk, select=False):
                    pass
        return found

    def fitted(self, place: int) -> FittedIndexer:
        """One indexer of the sweep as it is now."""
        one = self.trained[place]
        shapes = {layer: scorer.shape for layer, scorer in one.scorers.items()}
        return FittedIndexer(one.size.heads, one.size.dim, self.topk, shapes, weights_of(one.scorers))

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, by name."""
        found: dict[str, torch.Tensor] = {}
        for one in self.trained:
            for name, parameter in one.named():
                found[f"{one.size.name}/weight/{name}"] = parameter.detach().cpu().clone()
                for moment, value in one.optimizer.state.get(parameter, {}).items():
                    found[f"{one.size.name}/{moment}/{name}"] = value.detach().cpu().clone()
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what ``state`` gave.

        Raises:
            KeyError: It is of another sweep.
        """
        for one in self.trained:
            for name, parameter in one.named():
                with torch.no_grad():
                    parameter.copy_(state[f"{one.size.name}/weight/{name}"])
                if f"{one.size.name}/step/{name}" in state:
                    moments = {m: state[f"{one.size.name}/{m}/{name}"].to(parameter.device).clone() for m in MOMENTS}
                    one.optimizer.state[parameter] = {"step": state[f"{one.size.name}/step/{name}"].clone(), **moments}

    def close(self) -> None:
        """Take everything off the model."""
        lift(self.model)
        for inlet in self.inlets.values():
            inlet.close()

    def _drawn(self, step: Step, count: int) -> torch.Tensor:
        """Indices of the sequences of a step: every epoch shows each once, in an order of its own."""
        first = step.number * self.settings.batch
        places = range(first, first + self.settings.batch)
        orders = {
            epoch: torch.randperm(count, generator=torch.Generator().manual_seed(self.settings.seed + epoch))
            for epoch in {place // count for place in places}
        }
        return torch.stack([orders[place // count][place % count] for place in places])

    def _rate(self, step: Step) -> float:
        """The learning rate: it rises over a few steps of a stage, and falls as a cosine to a twentieth."""
        rise = min(1.0, (step.place + 1) / min(RISE, step.of))
        fall = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step.place / step.of))
        scale = SPARSE_RATE if step.stage == "sparse" and self.settings.dense else 1.0
        return self.settings.learning_rate * scale * rise * fall

    def _told(
        self, layer: int, chunk: AttentionChunk, rows: torch.Tensor, past: dict[int, list[Inputs]]
    ) -> tuple[Inputs, Inputs]:
        """What reached the attention with some queries of a chunk, and with all tokens up to its end."""
        given = self.inlets[layer].take().own()
        if given.hidden.shape[1] != chunk.query.shape[2]:  # the whole sequence runs at once
            end = chunk.start + chunk.query.shape[2]
            return given.at(rows + chunk.start), given.at(torch.arange(end, device=rows.device))
        if not chunk.start:
            past[chunk.layer].clear()
        past[chunk.layer].append(given)
        return given.at(rows), joined(past[chunk.layer])


def _last(keys: torch.Tensor, count: int) -> torch.Tensor:
    """The last keys: a cache with a window has let earlier ones go."""
    return keys[:, keys.shape[1] - count :]


class _One(nn.Module):
    """Stands where the output embedding was."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """A number a token, which nobody reads."""
        return hidden[..., :1]


@contextmanager
def _headless(model: PreTrainedModel) -> Iterator[None]:
    """Run a model without its output embedding, a fifth of a small model's work."""
    head = None
    with suppress(NotImplementedError, AttributeError):
        head = model.get_output_embeddings()
    if head is None:
        yield
        return
    model.set_output_embeddings(_One())
    try:
        yield
    finally:
        model.set_output_embeddings(head)
