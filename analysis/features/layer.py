"""One layer's features over a whole sequence, added up chunk by chunk."""

from __future__ import annotations

import torch

from analysis.capture import AttentionChunk
from analysis.features.buckets import BucketSums, bucket_count, bucket_of
from analysis.features.concentration import concentration, sparsity
from analysis.features.entropy import entropy
from analysis.features.locality import induction, locality
from analysis.features.positions import AXES, RELATIVE_BINS, BinSums, count_positions
from analysis.features.recall import attend
from analysis.features.rows import AttentionRows
from analysis.features.scores import GROUPS, ScoreSketch, score_features
from analysis.features.shape import MapShape
from analysis.settings import ExtractSettings

OF_ALL_QUERIES = (
    *("attention_entropy", "effective_keys", "participation", "normalized_entropy", "sparsity_ratio", "max_weight"),
    *("top_5_mass", "top_10_mass", "top_20_mass", "top_64_mass", "top_k_mass", "keys_for_95"),
    *("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance", "induction_mass"),
)
OF_QUERIES_IN_EFFECT = ("head_recall", "output_error")
OF_SELECTION = ("selection_recall", "oracle_recall", "random_recall", "oracle_overlap")
OF_SCORES = ("tie_share", "score_margin", "indexer_kl", "zero_share")


class LayerFeatures:
    """Everything that is kept of one layer: sums by bucket, position counts, map shape and score sketches.

    Args:
        settings: Thresholds and windows.
        batch: Sequences of the batch.
        heads: Attention heads of the layer.
        length: Tokens of the sequences.
        top_k: Budget of ``top_k_mass``: the indexer's k, or the setting for models without one.
        device: Where the attention is computed.
    """

    def __init__(
        self, settings: ExtractSettings, batch: int, heads: int, length: int, top_k: int, device: torch.device
    ) -> None:
        self.settings = settings
        self.top_k = top_k
        buckets = bucket_count(length)
        self.distance_bins = int(length - 1).bit_length() + 1
        self.per_head = BucketSums((*OF_ALL_QUERIES, *OF_QUERIES_IN_EFFECT), (batch, heads), buckets)
        self.per_query = BucketSums((*OF_SELECTION, *OF_SCORES), (batch,), buckets)
        self.counts = BucketSums(("queries", "queries_multi", "queries_in_effect"), (batch,), buckets)
        self.shape = MapShape(batch, heads, length, device)
        self.positions: list[dict[str, BinSums]] = [{} for _ in range(batch)]
        self.position_queries = [0] * batch
        self.sketches = [{group: ScoreSketch() for group in GROUPS} for _ in range(batch)]
        self.has_selection = False
        self.has_scores = False

    def add(self, chunk: AttentionChunk, input_ids: torch.Tensor) -> torch.Tensor:
        """Take one chunk's features and return the attention output that the model goes on with."""
        rows = AttentionRows(chunk)
        outcome = attend(rows)
        bucket = bucket_of(rows.position)
        n = rows.n.expand(chunk.query.shape[0], -1)
        in_effect = torch.zeros_like(n, dtype=torch.bool)
        if chunk.selected is not None:
            self.has_selection = True
            in_effect = chunk.selected[:, 0].sum(-1) < n
        self.counts.add(_counts(n, in_effect), bucket)
        undefined = torch.full_like(n, torch.nan)
        per_head = {
            **entropy(rows),
            **sparsity(rows, self.settings.sparsity_threshold),
            **concentration(rows, self.top_k),
            **locality(rows, self.settings.local_window, self.settings.sink_keys),
            **induction(rows, input_ids),
            **{name: torch.where(in_effect.unsqueeze(1), value, torch.nan) for name, value in outcome.per_head.items()},
        }
        for name in OF_QUERIES_IN_EFFECT:
            per_head.setdefault(name, undefined.unsqueeze(1))
        self.per_head.add(per_head, bucket)
        per_query = dict.fromkeys((*OF_SELECTION, *OF_SCORES), undefined)
        per_query |= {name: torch.where(in_effect, value, torch.nan) for name, value in outcome.per_query.items()}
        if chunk.selected is not None and chunk.scores is not None:
            self.has_scores = True
            scores = score_features(rows, chunk.scores, chunk.selected[:, 0])
            # With one eligible key there is nothing to diverge from.
            scores |= {name: torch.where(n > 1, scores[name], torch.nan) for name in ("indexer_kl", "zero_share")}
            per_query |= scores
            self._sketch(rows, chunk.scores, chunk.selected[:, 0], in_effect)
        self.per_query.add(per_query, bucket)
        self.shape.add(rows)
        self._count_positions(rows, in_effect if chunk.selected is not None else torch.ones_like(in_effect))
        return outcome.output

    def _sketch(
        self, rows: AttentionRows, scores: torch.Tensor, selected: torch.Tensor, in_effect: torch.Tensor
    ) -> None:
        counted = rows.eligible & in_effect.unsqueeze(-1)
        for item, sketches in enumerate(self.sketches):
            for group, mask in (("selected", selected[item]), ("unselected", ~selected[item])):
                sketches[group].update(scores[item][counted[item] & mask].cpu().numpy())

    def _count_positions(self, rows: AttentionRows, counted: torch.Tensor) -> None:
        for item, kept in enumerate(self.positions):
            if not bool(counted[item].any()):
                continue
            self.position_queries[item] += int(counted[item].sum())
            sums = count_positions(rows, item, counted[item], self.distance_bins)
            for axis in AXES:
                before = kept.get(axis)
                if before is None:
                    kept[axis] = sums[axis]
                else:
                    kept[axis] = BinSums(*(a + b for a, b in zip(before, sums[axis], strict=True)))

    def bins(self, axis: str) -> int:
        """Number of bins of an axis."""
        return RELATIVE_BINS if axis == "relative" else self.distance_bins


def _counts(n: torch.Tensor, in_effect: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "queries": torch.ones_like(n),
        "queries_multi": (n > 1).to(n.dtype),
        "queries_in_effect": in_effect.to(n.dtype),
    }
