"""How well a few sampled queries of a sample stand for all of them.

    python benchmarks/query_sampling.py [--model FOLDER] [--samples 48] [--length 512] [--queries 32]

Every query of every sample is looked at, so that the mean over all queries is known; then ways to choose a few of them
are held against it. Without --model the models are the built-in pair. A model of one's own (SmolLM2-135M of
`real_model.py`) is compared with itself with the weights of its linear layers in 4 bits; where it selects nothing,
*recall* is the attention on the first 4 and the last 60 keys. All but output_kl is of the first model, layers averaged.

*Bias* is that of the whole estimate, for random ways over 200 choices. *Error* is what sampling adds to the standard
error of the whole: the standard deviation of a sample's estimate less that sample's own mean, over the root of the
number of samples. Both are in % of the exact mean. *Query* is the largest part of the whole estimate that a single
query supplies, and *place* the largest part that the i-th queries of all samples supply together, both in %; *weight*
is the largest weight of a query over the mean weight.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# The package of the same name as a file here must come before it.
sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.order import held
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.queries import sampled_queries
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import load_tokenizer, resolve
from indexscope.storage.inputs.dataset_settings import DatasetSettings
from indexscope.storage.inputs.datasets import load_samples
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.inputs.samples import Sample

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Way = Callable[[int, int, int], tuple[Integers, Array]]
"""From length, number of queries and a seed to positions and weights."""
DRAWS = 200


class Seen:
    """What every query of one sample shows; the mean over layers, and the logits."""

    def __init__(self, sample: CloseupSample) -> None:
        self.length = len(sample.input_ids)
        self.sums: dict[str, Array] = {}
        self.layers = 0
        self.logits: list[torch.Tensor] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Take one chunk."""
        for rows in layers:
            chosen = rows.selected
            if chosen is None:
                key, t = torch.arange(rows.p.shape[1]), rows.query[:, None]
                chosen = ((key < 4) | (key > t - 60)) & rows.eligible
            p = rows.p.double()
            values = {
                "context": rows.n.double(),
                "keys for 95 %": (held(rows.p, rows.eligible) < 0.95).sum(-1) + 1.0,
                "entropy": -torch.special.xlogy(rows.head_p.double(), rows.head_p.double()).sum(-1).mean(0),
                "recall": torch.where(rows.n > chosen.sum(-1), (p * chosen).sum(-1), torch.nan),
            }
            for name, value in values.items():
                self.sums.setdefault(name, np.zeros(self.length))[rows.query.numpy()] += value.numpy()
        self.layers = len(layers)

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Keep the logits of one chunk."""
        self.logits.append(logits[0].clone())

    def tables(self) -> dict[str, object]:
        """Nothing is stored."""
        return {}

    def values(self) -> dict[str, Array]:
        """[length] each."""
        return {name: values / self.layers for name, values in self.sums.items()}


def look(model: nn.Module, sample: Sample) -> Seen:
    """Look at every query of a sample."""
    made: list[Seen] = []

    def make(looked_at: CloseupSample) -> Seen:
        made.append(Seen(looked_at))
        return made[-1]

    attempt = Attempt(as_source(model), ExtractSettings(chunk=128, device="cpu"), Journal())
    collect_samples(as_source(model), [sample], [make], len(sample.input_ids), attempt)  # type: ignore[list-item]
    return made[-1]


def rounded(model: nn.Module) -> nn.Module:
    """The model with every matrix of a linear layer but the head in 4 bits a row."""
    other = copy.deepcopy(model)
    for name, module in other.named_modules():
        if isinstance(module, nn.Linear) and "head" not in name:
            step = module.weight.data.abs().amax(1, keepdim=True) / 7
            module.weight.data = (module.weight.data / step).round() * step
    return other


def exact(models: Sequence[nn.Module], samples: Sequence[Sample]) -> dict[str, Array]:
    """Every quantity at every query, [samples, length]."""
    found: dict[str, list[Array]] = {}
    for sample in samples:
        base, other = (look(model, sample) for model in models)
        one, two = (torch.cat(seen.logits).double().log_softmax(-1) for seen in (base, other))
        values = base.values() | {"output_kl": (one.exp() * (one - two)).sum(-1).clamp(min=0).numpy()}
        for name, value in values.items():
            found.setdefault(name, []).append(value)
        print(f"sample {sample.index}", file=sys.stderr, flush=True)
    return {name: np.stack(rows) for name, rows in found.items()}


def ends(length: int, count: int, _: int) -> tuple[Integers, Array]:
    """Quadratic stretches, each seen at its last position: what Indexscope did."""
    index = np.arange(1, count + 1, dtype=np.int64)
    queries = np.unique(-(-index * index * length // (count * count)) - 1)
    return queries, np.diff(queries, prepend=-1).astype(np.float64)


def trapezoid(length: int, count: int, _: int) -> tuple[Integers, Array]:
    """The same positions, each standing for what is nearer to it than to its neighbours."""
    queries, _weights = ends(length, count, 0)
    between = (queries[1:] + queries[:-1]) / 2
    return queries, np.diff(between, prepend=-0.5, append=length - 0.5)


def powers(power: float) -> Way:
    """Stretches that end at length (i / count)^power, in each a random position."""

    def way(length: int, count: int, seed: int) -> tuple[Integers, Array]:
        index = np.arange(count + 1)
        edges = np.maximum(index, np.floor(length * (index / count) ** power + 1e-9).astype(np.int64))
        return np.random.default_rng(seed).integers(edges[:-1], edges[1:]), np.diff(edges).astype(np.float64)

    return way


def middles(length: int, count: int, _: int) -> tuple[Integers, Array]:
    """Equal stretches, each seen at its middle."""
    edges = np.arange(count + 1, dtype=np.int64) * length // count
    return (edges[:-1] + edges[1:] - 1) // 2, np.diff(edges).astype(np.float64)


def drawn(length: int, count: int, seed: int) -> tuple[Integers, Array]:
    """Equal stretches, in each a random position: what Indexscope does."""
    queries, weights = sampled_queries(length, count, seed)
    return queries, weights.astype(np.float64)


WAYS: dict[str, tuple[Way, int]] = {
    "quadratic, last (before)": (ends, 1),
    "quadratic, trapezoid": (trapezoid, 1),
    "quadratic, drawn": (powers(2.0), DRAWS),
    "power 1.5, drawn": (powers(1.5), DRAWS),
    "equal, middle": (middles, 1),
    "equal, drawn (now)": (drawn, DRAWS),
}


def judged(values: Array, way: Way, draws: int, count: int) -> tuple[float, float, float, float, float]:
    """Bias and error in % of the mean over all queries, largest shares of a query and a place in %, largest weight.

    Args:
        values: A quantity at every query, [samples, length]; NaN where it is not defined.
        way: Chooses queries.
        draws: How often it is tried.
        count: Queries to choose of each sample.
    """
    samples, length = values.shape
    exact, own = np.nanmean(values), np.nanmean(values, axis=1)
    known, filled = ~np.isnan(values), np.nan_to_num(values)
    top, bottom, largest, heaviest = np.zeros((draws, samples)), np.zeros((draws, samples)), np.zeros((draws, 2)), 0.0
    for draw in range(draws):
        places = np.zeros(count)
        for sample in range(samples):
            queries, weights = way(length, count, draw * samples + sample)
            parts = filled[sample, queries] * weights
            top[draw, sample], bottom[draw, sample] = parts.sum(), (weights * known[sample, queries]).sum()
            places[: len(parts)] += parts
            largest[draw, 0] = max(largest[draw, 0], parts.max())
            heaviest = max(heaviest, float(weights.max() / weights.mean()))
        largest[draw, 1] = places.max()
    whole = top.sum(axis=1)
    bias = (whole / bottom.sum(axis=1)).mean() / exact - 1
    error = (top / bottom - own).std() / np.sqrt(samples) / exact
    query, place = (largest / whole[:, None]).mean(axis=0)
    return 100 * float(bias), 100 * float(error), 100 * float(query), 100 * float(place), heaviest


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    for name, default in (("samples", 48), ("length", 512), ("queries", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    paths = [options.model] if options.model else [resolve("builtin:baseline"), resolve("builtin:light")]
    models: list[nn.Module] = [load_model(path, device="cpu") for path in paths]
    vocabulary = models[0].config.vocab_size
    models += [rounded(models[0])] if options.model else []
    settings = DatasetSettings(max_length=options.length, samples=options.samples)
    samples = load_samples(settings, load_tokenizer(paths[0]), vocabulary)
    with torch.inference_mode():
        found = exact(models, [sample for sample in samples if len(sample.input_ids) == options.length])
    print("| of all queries | way | bias % | error % | query % | place % | weight |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name, values in found.items():
        for way, (choose, draws) in WAYS.items():
            bias, error, query, place, weight = judged(values, choose, draws, options.queries)
            cells = f"{bias:+.2f} | {error:.2f} | {query:.1f} | {place:.1f} | {weight:.2f}"
            print(f"| {name} {np.nanmean(values):.5g} | {way} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
