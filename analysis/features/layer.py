"""One layer's features over a whole sequence, added up chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Set
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.buckets import BucketSums, bucket_count, bucket_of
from indexscope.analysis.features.columns import COUNTS, PER_HEAD, PER_QUERY, WEIGHTS, WITHOUT_KERNEL
from indexscope.analysis.features.kernels.block import Options
from indexscope.analysis.features.kernels.chunk import ChunkFeatures, Ranges, extract_chunk, ranges_of
from indexscope.analysis.features.kernels.ranges import earlier_copies
from indexscope.analysis.features.metrics import FAMILIES
from indexscope.analysis.features.metrics.recall import attend
from indexscope.analysis.features.positions import RELATIVE_BINS, BinSums, count_positions
from indexscope.analysis.features.recalls import Recalls
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.features.score_rows import ScoreRows, sketch_sums
from indexscope.analysis.features.seen import Seen
from indexscope.analysis.features.shape import MapShape
from indexscope.analysis.features.sketch import BINS, GROUPS, ScoreSketch
from indexscope.analysis.features.tiles import FIRST_QUERY
from indexscope.analysis.features.uniform import UNIFORM, Copies, uniform, uniform_of_ranges
from indexscope.analysis.settings import ExtractSettings

# Attention weights that the torch path holds at once: a dozen tensors of this size live side by side.
_WEIGHTS = {"cpu": 1 << 22, "cuda": 1 << 26}
_RECALL = PER_QUERY.index("selection_recall")


def measured(seen: Seen, wanted: Set[str] = WEIGHTS.keys()) -> dict[str, torch.Tensor]:
    """Features by name, [batch, heads, queries] or [batch, queries]; NaN where a query does not count in one.

    Args:
        seen: The queries.
        wanted: Features to compute; families without one of them do not run.
    """
    found = {}
    for family in FAMILIES:
        if family.measure is None or wanted.isdisjoint(feature.name for feature in family.features):
            continue
        for name, value in family.measure(seen).items():
            counted = seen.counted[WEIGHTS[name]]
            counted = counted.unsqueeze(1) if value.dim() == 3 else counted
            found[name] = value if family.masked else torch.where(counted, value, torch.nan)
    return {name: value for name, value in found.items() if name in wanted}


class LayerFeatures:
    """Everything that is kept of one layer: sums by bucket, position counts, map shape and score sketches.

    On the CPU compiled kernels do the work where they apply (`indexscope.analysis.features.kernels.chunk.ranges_of`),
    torch does it everywhere else; both compute the same features. A feature without a kernel is torch's on the CPU too.

    Args:
        settings: Thresholds and windows.
        batch: Sequences of the batch.
        heads: Attention heads of the layer.
        length: Tokens of the sequences.
        top_k: Budget of ``top_k_mass``: the indexer's k, or the setting for models without one.
        device: Where the attention is computed.
        compiled: False leaves everything to torch.
    """

    def __init__(
        self,
        settings: ExtractSettings,
        batch: int,
        heads: int,
        length: int,
        top_k: int,
        device: torch.device,
        compiled: bool = True,
    ) -> None:
        self.settings = settings
        self.top_k = top_k
        self.compiled = compiled
        buckets = bucket_count(length)
        self.distance_bins = int(length - 1).bit_length() + 1
        self.per_head = BucketSums(PER_HEAD, (batch, heads), buckets)
        self.per_query = BucketSums(PER_QUERY, (batch,), buckets)
        self.recalls = Recalls()
        self.counts = BucketSums(COUNTS, (batch,), buckets)
        self.uniform = BucketSums(UNIFORM, (batch,), buckets)
        self.shape = MapShape(batch, heads, length, device)
        self.positions: list[BinSums | None] = [None] * batch
        self.position_queries = [0] * batch
        self.histogram = np.zeros((batch, len(GROUPS), BINS), dtype=np.int64)
        self.sketches = [
            {group: ScoreSketch(histogram=self.histogram[item, place]) for place, group in enumerate(GROUPS)}
            for item in range(batch)
        ]
        self.has_selection = False
        self.has_scores = False
        self._copies: NDArray[np.int64] | None = None
        self._all_copies: Copies | None = None

    def add(self, chunk: AttentionChunk, input_ids: torch.Tensor) -> torch.Tensor:
        """Take one chunk's features and return the attention output that the model goes on with.

        Args:
            chunk: Chunks come in order, from the start of the sequence.
            input_ids: The whole sequences, [batch, sequence]; the same for every chunk.
        """
        self.has_selection |= chunk.selected is not None
        ranges = ranges_of(chunk) if self.compiled else None
        if ranges is not None:
            return self._add_compiled(chunk, ranges, input_ids)
        outputs = [self._add_rows(seen) for seen in self._seen(chunk, input_ids)]
        return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]

    def up_to(self, length: int) -> LayerFeatures:
        """The same for tables of the first so many tokens, once their queries were added and before others are."""
        found = copy(self)
        found.shape = self.shape.up_to(length)
        found.sketches = [{group: replace(sketch) for group, sketch in own.items()} for own in self.sketches]
        return found

    def settle(self) -> None:
        """Take less memory, once the sequences' last chunk was added: nothing else is."""
        for sketches in self.sketches:
            for sketch in sketches.values():
                sketch.pack()
        self.histogram = np.empty((0, len(GROUPS), 0), dtype=np.int64)
        self.shape.settle(self.settings.sink_keys)
        self._copies = self._all_copies = None

    def _seen(self, chunk: AttentionChunk, input_ids: torch.Tensor) -> Iterator[Seen]:
        """The chunk, a few queries at a time."""
        queries = chunk.query.shape[2]
        weights = chunk.query.shape[0] * chunk.query.shape[1] * chunk.eligible.shape[-1]
        step = max(1, _WEIGHTS.get(chunk.query.device.type, 1 << 24) // weights)
        for first in range(0, queries, step):
            rows = AttentionRows(chunk, first, min(first + step, queries))
            yield Seen(rows, self.settings, self.top_k, input_ids)

    def _add_compiled(self, chunk: AttentionChunk, ranges: Ranges, input_ids: torch.Tensor) -> torch.Tensor:
        if self._copies is None:
            tokens = input_ids.numpy()
            self._copies = np.empty(tokens.shape, dtype=np.int64)
            for item, sequence in enumerate(tokens):
                earlier_copies(sequence, int(sequence.max()) + 1, self._copies[item])
        options = Options(
            threshold=self.settings.sparsity_threshold,
            window=self.settings.local_window,
            sink_keys=self.settings.sink_keys,
            top_k=self.top_k,
            distance_bins=self.distance_bins,
            relative_bins=RELATIVE_BINS,
            first_of_map=FIRST_QUERY,
        )
        found = extract_chunk(chunk, ranges, self._copies, options, self.histogram)
        if WITHOUT_KERNEL:
            self._complete(found, chunk, input_ids)
        self.has_scores |= chunk.selected is not None and chunk.scores is not None
        n, in_effect = found.eligible, found.in_effect
        position = np.arange(chunk.start, chunk.start + n.shape[1])
        bucket = np.frexp((position + 1).astype(np.float64))[1].astype(np.int64) - 1
        self.counts.add_array(np.stack([n > 0, n > 1, in_effect]).astype(np.float32), bucket)
        self.uniform.add_array(self._uniform(chunk, ranges, position, input_ids), bucket)
        self.per_head.add_array(found.per_head, bucket)
        self.per_query.add_array(found.per_query, bucket)
        self.recalls.add(found.per_query[_RECALL], position, bucket)
        self.shape.count(n, chunk.start)
        for item, blocks in enumerate(found.blocks):
            for block in blocks:
                self.shape.add_block(item, block)
                for group, moments in zip(GROUPS, block.moments, strict=True):
                    self.sketches[item][group].add(moments, found.centre)
            counted = int((in_effect[item] if chunk.selected is not None else n[item] > 0).sum())
            if counted:
                places = torch.from_numpy(np.sum([block.places for block in blocks], axis=0))
                self._count(item, counted, BinSums(*places))
        return found.output

    def _uniform(
        self, chunk: AttentionChunk, ranges: Ranges, position: NDArray[np.int64], input_ids: torch.Tensor
    ) -> NDArray[np.float32]:
        if self._all_copies is None:
            self._all_copies = Copies(input_ids.numpy())
        first = int(position[-1]) + 1 - chunk.key.shape[2]
        window, sinks = self.settings.local_window, self.settings.sink_keys
        return uniform_of_ranges(position, ranges.low + first, ranges.high + first, self._all_copies, window, sinks)

    def _complete(self, found: ChunkFeatures, chunk: AttentionChunk, input_ids: torch.Tensor) -> None:
        """Fill in what the kernels leave to torch."""
        for seen in self._seen(chunk, input_ids):
            queries = slice(seen.rows.first, seen.rows.last)
            for name, value in measured(seen, WITHOUT_KERNEL).items():
                names, into = (PER_HEAD, found.per_head) if value.dim() == 3 else (PER_QUERY, found.per_query)
                into[names.index(name), ..., queries] = value.numpy()

    def _add_rows(self, seen: Seen) -> torch.Tensor:
        """The same with torch, on any device, for a few queries."""
        rows, counted = seen.rows, seen.counted
        output = seen.once(attend).output
        bucket = bucket_of(rows.position)
        self.counts.add(dict(zip(COUNTS, (part.to(rows.n.dtype) for part in counted.values()), strict=True)), bucket)
        undefined = torch.full_like(counted["queries"], torch.nan, dtype=rows.n.dtype)
        features = dict.fromkeys(PER_HEAD, undefined.unsqueeze(1)) | dict.fromkeys(PER_QUERY, undefined)
        features |= measured(seen)
        self.uniform.add(uniform(seen), bucket)
        self.per_head.add(features, bucket)
        self.per_query.add(features, bucket)
        recall = features["selection_recall"].float().expand(undefined.shape)
        self.recalls.add(recall.cpu().numpy(), rows.position.cpu().numpy(), bucket.cpu().numpy())
        in_effect = counted["queries_in_effect"]
        scores = seen.once(ScoreRows.of)
        if scores is not None:
            self.has_scores = True
            self._sketch(scores, in_effect)
        self.shape.add(rows)
        if rows.all_tokens:
            placed = in_effect if rows.selected is not None else counted["queries"]
            for item, queries in enumerate(placed.sum(1).tolist()):
                if queries:
                    self._count(item, queries, count_positions(rows, item, placed[item], self.distance_bins))
        return output

    def _sketch(self, scores: ScoreRows, in_effect: torch.Tensor) -> None:
        moments, histograms = sketch_sums(scores, in_effect, 0.0)
        self.histogram += histograms.cpu().numpy()
        for sketches, of_item in zip(self.sketches, moments.cpu().numpy(), strict=True):
            for group, of_group in zip(GROUPS, of_item, strict=True):
                sketches[group].add(of_group, 0.0)

    def _count(self, item: int, queries: int, sums: BinSums) -> None:
        self.position_queries[item] += queries
        before = self.positions[item]
        if before is not None:
            sums = BinSums(*(a + b for a, b in zip(before, sums, strict=True)))
        self.positions[item] = sums
