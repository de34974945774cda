"""A block of queries of one sequence: logits, softmax, output and all features, while they fit the cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.block_sums import BlockSums
from indexscope.analysis.features.columns import PER_HEAD
from indexscope.analysis.features.kernels.index_scores import score_rows
from indexscope.analysis.features.kernels.ordered import oracle_rows, ordered_rows
from indexscope.analysis.features.kernels.places import place_rows
from indexscope.analysis.features.kernels.selection import attend_selected, list_selected
from indexscope.analysis.features.kernels.softmax import softmax_rows
from indexscope.analysis.features.kernels.tiles import tile_rows
from indexscope.analysis.features.tiles import PHASES

_OUTPUT_ERROR = PER_HEAD.index("output_error")
_LARGEST = float(np.finfo(np.float32).max)
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Options:
    """What the features of a layer depend on.

    Attributes:
        threshold: Attention below it is sparse.
        window: Keys, the own one included, that are local.
        sink_keys: First positions that are sinks.
        top_k: Budget of top_k_mass.
        distance_bins: Bins of the distance axis.
        relative_bins: Bins of the relative axis.
        first_of_map: Position from which queries count in the map's shape.
    """

    threshold: float
    window: int
    sink_keys: int
    top_k: int
    distance_bins: int
    relative_bins: int
    first_of_map: int


@dataclass(frozen=True)
class Item:
    """One sequence of a chunk, as arrays: what its blocks read and where they write.

    Attributes:
        query: [heads, queries, width], float32.
        key: [key heads, keys, width], float32.
        value: [key heads, keys, value width], float32, contiguous.
        scaling: Factor on query x key.
        softcap: Soft cap on the logits.
        bias: [heads or 1, queries, keys] added to the logits.
        sinks: Learned sink logits [heads]; -1e30 where there are none.
        low: First eligible key of each query, [queries].
        high: One past the last one.
        copies: Latest earlier copy of each token of the sequence, [sequence].
        position: Position of the first query.
        first_key: Position of the first key.
        selected: S_t, [queries, keys], 0 or 1; None without a selection.
        scores: Index scores, [queries, keys]; None without.
        centre: Some index score, about which squares are summed.
        stats: Per-head features to fill, [names, heads, queries].
        of_query: Per-query features to fill, [names, queries].
        in_effect: To fill, [queries].
        output: Attention output to fill, [heads, queries, value width].
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    softcap: float | None
    bias: torch.Tensor | None
    sinks: Floats
    low: Integers
    high: Integers
    copies: Integers
    position: int
    first_key: int
    selected: NDArray[np.uint8] | None
    scores: Floats | None
    centre: float
    stats: Floats
    of_query: Floats
    in_effect: NDArray[np.bool_]
    output: torch.Tensor


class _Workspace:
    """Memory that one block uses after the other, so that they do not fault the same pages in again and again."""

    x: Floats = np.empty(0, dtype=np.float32)
    keys: NDArray[np.int32] = np.empty(0, dtype=np.int32)
    picked: Floats = np.empty(0, dtype=np.float32)
    ramp: Floats = np.empty(0, dtype=np.float32)

    def grow(self, values: int, listed: int, keys: int) -> None:
        if len(self.x) < values:
            self.x = np.empty(values, dtype=np.float32)
        if len(self.keys) < listed:
            self.keys, self.picked = np.empty(listed, dtype=np.int32), np.empty(listed, dtype=np.float32)
        if len(self.ramp) < keys:
            self.ramp = np.arange(keys, dtype=np.float32)


# Those that no block is using; shared by all threads.
_spare: list[_Workspace] = []


def _workspace() -> _Workspace:
    try:
        return _spare.pop()
    except IndexError:
        return _Workspace()


def extract_block(item: Item, first: int, last: int, options: Options) -> BlockSums:
    """Fill in the features and the output of queries first .. last - 1, and return what they add up to."""
    low, high = item.low[first:last], item.high[first:last]
    start = int(np.where(high > low, low, item.high.max(initial=0)).min())
    stop = max(int(high.max()), start + 1)
    low, high = np.maximum(low - start, 0), np.maximum(high - start, 0)
    heads, queries, keys = item.query.shape[0], last - first, stop - start
    work = _workspace()
    work.grow((heads + 1) * queries * keys, queries * keys, keys)
    x = work.x[: (heads + 1) * queries * keys].reshape(heads + 1, queries, keys)
    listed = work.keys[: queries * keys].reshape(queries, keys)
    picked = work.picked[: queries * keys].reshape(queries, keys)
    weights = torch.from_numpy(x[:heads])
    _logits(item, first, last, start, stop, weights)

    first_key, position = item.first_key + start, item.position + first
    own = np.arange(position - first_key, position - first_key + queries)
    stats, of_query = item.stats[:, :, first:last], item.of_query[:, first:last]
    beyond = np.empty((heads, queries), dtype=np.float32)
    sums = BlockSums(
        first_key,
        position + queries - 1,
        np.zeros((heads, keys), dtype=np.float32),
        np.zeros((heads, keys), dtype=np.float32),
        np.zeros((heads, PHASES)),
        np.zeros((4, options.distance_bins, options.relative_bins)),
        np.zeros((2, 6)),
    )
    sums.moments[:, 3], sums.moments[:, 4] = _LARGEST, -_LARGEST
    softmax_rows(
        *(x, low, high, own, first_key, item.copies, work.ramp, np.float32(options.threshold)),
        *(options.window, options.sink_keys, options.first_of_map - position, item.sinks),
        *(stats, beyond, sums.by_key, sums.by_slope),
    )
    tile_rows(x, low, high, position, first_key, sums.contrast)
    output = _weigh(item, start, stop, weights)
    if bool((item.sinks > -1e30).any()):
        output /= 1 + torch.from_numpy(beyond).unsqueeze(-1)

    eligible = high - low
    counts = np.zeros(queries, dtype=np.int64)
    counted = eligible > 0
    if item.selected is not None:
        list_selected(item.selected[first:last], low, high, start, listed, counts)
        counted = counts < eligible
        item.in_effect[first:last] = counted
        lost = np.zeros((heads, queries), dtype=np.bool_)
        attend_selected(
            *(x, item.value.numpy(), start, counted, listed, counts, eligible, beyond, output.numpy()),
            *(picked, stats, of_query, lost),
        )
        if lost.any():
            _attend_afresh(item, first, last, start, stop, lost, output, stats)
    item.output[:, first:last] = output
    place_rows(x[heads], low, high, own, counted, listed, counts, sums.places)
    if item.scores is not None:
        score_rows(
            *(item.scores[first:last], x[heads], low, high, start, listed, counts, item.centre),
            *(of_query, sums.moments),
        )
    # In place: p is not needed any more.
    x[: heads + (item.selected is not None)].sort(axis=-1)
    ordered_rows(x, eligible, options.top_k, stats)
    if item.selected is not None:
        oracle_rows(x[heads], counted, picked, counts, of_query)
    _spare.append(work)
    return sums


def _logits(item: Item, first: int, last: int, start: int, stop: int, out: torch.Tensor) -> None:
    heads, queries, keys = out.shape
    groups, width = item.key.shape[0], item.key.shape[2]
    query = (item.query[:, first:last] * item.scaling).reshape(groups, heads // groups * queries, width)
    torch.matmul(query, item.key[:, start:stop].transpose(1, 2), out=out.view(groups, -1, keys))
    if item.softcap is not None:
        out.div_(item.softcap).tanh_().mul_(item.softcap)
    if item.bias is not None:
        out += item.bias[:, first:last, start:stop]


def _weigh(item: Item, start: int, stop: int, weights: torch.Tensor) -> torch.Tensor:
    heads, queries, keys = weights.shape
    groups = item.value.shape[0]
    grouped = weights.view(groups, heads // groups * queries, keys)
    return torch.matmul(grouped, item.value[:, start:stop]).view(heads, queries, -1)


def _attend_afresh(
    item: Item,
    first: int,
    last: int,
    start: int,
    stop: int,
    lost: NDArray[np.bool_],
    output: torch.Tensor,
    stats: Floats,
) -> None:
    """Sparse output of rows whose selection holds next to nothing: a softmax over S_t of its own."""
    assert item.selected is not None
    again = torch.empty((output.shape[0], last - first, stop - start))
    _logits(item, first, last, start, stop, again)
    selected = torch.from_numpy(item.selected[first:last, start:stop]).bool()
    again.masked_fill_(~selected, -torch.inf)
    highest = again.amax(-1, keepdim=True).clamp_(min=-1e30)
    weights = torch.exp(again - highest)
    total = weights.sum(-1, keepdim=True) + torch.exp(torch.from_numpy(item.sinks).view(-1, 1, 1) - highest)
    # A query that selects nothing gets nothing.
    sparse = _weigh(item, start, stop, weights) / torch.where(total > 0, total, 1.0)
    gap = torch.linalg.vector_norm(sparse - output, dim=-1) / torch.linalg.vector_norm(output, dim=-1)
    error = stats[_OUTPUT_ERROR]
    error[lost] = gap.numpy()[lost]
    where = torch.from_numpy(lost)
    output[where] = sparse[where]
