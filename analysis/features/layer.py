"""One layer's features over a whole sequence, added up chunk by chunk."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.buckets import BucketSums, bucket_count, bucket_of
from indexscope.analysis.features.columns import COUNTS, OF_QUERIES_IN_EFFECT, PER_HEAD, PER_QUERY
from indexscope.analysis.features.concentration import concentration, sparsity
from indexscope.analysis.features.entropy import entropy
from indexscope.analysis.features.kernels.block import Options
from indexscope.analysis.features.kernels.chunk import Ranges, extract_chunk, ranges_of
from indexscope.analysis.features.kernels.ranges import earlier_copies
from indexscope.analysis.features.locality import induction, locality
from indexscope.analysis.features.positions import RELATIVE_BINS, BinSums, count_positions
from indexscope.analysis.features.recall import attend
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.features.scores import ScoreRows, score_features, sketch_sums
from indexscope.analysis.features.shape import MapShape
from indexscope.analysis.features.sketch import BINS, GROUPS, ScoreSketch
from indexscope.analysis.features.tiles import FIRST_QUERY
from indexscope.analysis.settings import ExtractSettings

# Attention weights that the torch path holds at once: a dozen tensors of this size live side by side.
_WEIGHTS = {"cpu": 1 << 22, "cuda": 1 << 26}


class LayerFeatures:
    """Everything that is kept of one layer: sums by bucket, position counts, map shape and score sketches.

    On the CPU compiled kernels do the work where they apply (`indexscope.analysis.features.kernels.chunk.ranges_of`),
    torch does it everywhere else; both compute the same features.

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
        self.counts = BucketSums(COUNTS, (batch,), buckets)
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
        queries = chunk.query.shape[2]
        weights = chunk.query.shape[0] * chunk.query.shape[1] * chunk.eligible.shape[-1]
        step = max(1, _WEIGHTS.get(chunk.query.device.type, 1 << 24) // weights)
        outputs = []
        for first in range(0, queries, step):
            rows = AttentionRows(chunk, first, min(first + step, queries))
            outputs.append(self._add_rows(rows, input_ids))
        return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]

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
        self.has_scores |= chunk.selected is not None and chunk.scores is not None
        n, in_effect = found.eligible, found.in_effect
        position = np.arange(chunk.start, chunk.start + n.shape[1])
        bucket = np.frexp((position + 1).astype(np.float64))[1].astype(np.int64) - 1
        self.counts.add_array(np.stack([n > 0, n > 1, in_effect]).astype(np.float32), bucket)
        self.per_head.add_array(found.per_head, bucket)
        self.per_query.add_array(found.per_query, bucket)
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

    def _add_rows(self, rows: AttentionRows, input_ids: torch.Tensor) -> torch.Tensor:
        """The same with torch, on any device, for a few queries."""
        outcome = attend(rows)
        bucket = bucket_of(rows.position)
        batch = rows.p.shape[0]
        n = rows.n.expand(batch, -1)
        alive = n > 0
        in_effect = torch.zeros_like(alive)
        if rows.selected is not None:
            in_effect = (rows.selected.sum(-1) < n.unsqueeze(1)).any(1)
        self.counts.add(
            dict(zip(COUNTS, (part.to(n.dtype) for part in (alive, n > 1, in_effect)), strict=True)), bucket
        )
        undefined = torch.full_like(n, torch.nan)
        per_head = {
            **entropy(rows),
            **sparsity(rows, self.settings.sparsity_threshold),
            **concentration(rows, self.top_k),
            **locality(rows, self.settings.local_window, self.settings.sink_keys),
            **induction(rows, input_ids),
        }
        per_head = {name: torch.where(alive.unsqueeze(1), value, torch.nan) for name, value in per_head.items()}
        per_head |= dict.fromkeys(OF_QUERIES_IN_EFFECT, undefined.unsqueeze(1))
        per_head |= {
            name: torch.where(in_effect.unsqueeze(1), value, torch.nan) for name, value in outcome.per_head.items()
        }
        self.per_head.add(per_head, bucket)
        per_query = dict.fromkeys(PER_QUERY, undefined)
        per_query |= {name: torch.where(in_effect, value, torch.nan) for name, value in outcome.per_query.items()}
        scores = ScoreRows.of(rows)
        if scores is not None:
            self.has_scores = True
            found = score_features(rows, scores)
            # With one eligible key there is nothing to diverge from.
            found |= {name: torch.where(n > 1, found[name], torch.nan) for name in ("indexer_kl", "zero_share")}
            per_query |= found
            self._sketch(scores, in_effect)
        self.per_query.add(per_query, bucket)
        self.shape.add(rows)
        if rows.all_tokens:
            counted = in_effect if rows.selected is not None else alive
            for item, queries in enumerate(counted.sum(1).tolist()):
                if queries:
                    self._count(item, queries, count_positions(rows, item, counted[item], self.distance_bins))
        return outcome.output

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
