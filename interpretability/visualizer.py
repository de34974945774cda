"""Pictures and numbers of attention maps at hand, with or without a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from indexscope.analysis.clustering.evolution_figures import pattern_evolution
from indexscope.analysis.plots.attention_maps import sparse_against_dense
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.entropy import entropy_of_heads
from indexscope.analysis.plots.selected_maps import AT_MOST, MapPanel, selected_maps
from indexscope.analysis.plots.token_selection import token_selection
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.token_content.excerpt import shown_positions
from interpretability.evolution import PatternEvolution, evolve
from interpretability.folder import Folder
from interpretability.house import HouseStyle
from interpretability.inputs import Maps, Selection, Weights, as_maps, as_selection, one_layer, token_texts, whole
from interpretability.layers import by_layer
from interpretability.measures import AttentionMeasures, by_part, measure, tables_of
from interpretability.sparse_dense import SparseDense, as_pair, compare, examples

Lengths = Sequence[int]
ByLength = Mapping[int, Weights] | Sequence[Weights] | Weights


class AttentionVisualizer(HouseStyle):
    """Draws attention maps and says in numbers what they are like.

    Weights are those of one layer after the softmax, torch or numpy, [S, S], [heads, S, S] or [batch, heads, S, S], on
    any device and of any floating-point dtype; where a result is by head also those of several layers, as a list or
    [layers, batch, heads, S, S], whose tables have a column layer. Numbers are the pipeline's own (docs/metrics.md).
    Every figure is returned, shown where a notebook runs, and written where ``save_path`` says (.png, .svg, .pdf).
    Inputs that cannot be meant raise one ValueError that says what is wrong, where, and what to do.

    Args:
        settings: Thresholds and windows of the metrics; by default the pipeline's.
        causal: Whether queries see earlier keys and themselves alone; None finds out from the weights.
        save_dir: Folder for every figure, as sparse_attention.png, sparse_attention_2.png, ...; it is made. A call's
            save_path goes before it.

    Raises:
        ValueError: save_dir cannot be made or written.

    Example:
        >>> import numpy as np
        >>> uniform = np.tri(64) / np.tri(64).sum(1, keepdims=True)
        >>> round(AttentionVisualizer().analyze_attention_entropy(uniform).normalized_entropy, 4)
        1.0
    """

    def __init__(
        self,
        settings: ExtractSettings | None = None,
        causal: bool | None = None,
        save_dir: str | Path | None = None,
    ) -> None:
        self.settings = settings or ExtractSettings()
        self.causal = causal
        self._folder = None if save_dir is None else Folder(save_dir)

    def visualize_sparse_attention(
        self,
        attention_weights: Weights,
        selected_tokens: Selection | None = None,
        title: str = "Sparse Attention Pattern",
        sample: int = 0,
        heads: Sequence[int] | None = None,
        tokens: object = None,
        save_path: str | Path | None = None,
    ) -> Drawing:
        """A map a head: what the selection keeps of the attention, and what it leaves out.

        Args:
            attention_weights: Dense ones show what is left out; of sparse ones all is on selected keys.
            selected_tokens: Bool mask [S, S], [batch, S, S], [heads, S, S] or [batch, heads, S, S], or integers
                [..., S, k] with -1 for none. None draws the weights alone.
            title: Of the figure.
            sample: Which of the batch.
            heads: Which heads; by default all, or 16 spread evenly where there are more. Those of several layers are
                numbered through, the first layer's first.
            tokens: Ids or texts for the axes of a single short map.
            save_path: Where to write the figure.

        Raises:
            ValueError: The weights, the selection or a number are not what they must be.
        """
        maps = as_maps(attention_weights, self.causal)
        mask = None if selected_tokens is None else as_selection(selected_tokens, maps)
        sample = whole(sample, "sample", 0, maps.batch)
        shown = _heads(heads, maps.heads)
        texts = None if tokens is None else token_texts(tokens, maps.batch, maps.length)
        panels = [
            MapPanel(maps.called(head), _map(maps, sample, head), _mask(maps, mask, sample, head)) for head in shown
        ]
        if len(shown) < maps.heads and heads is None:
            title = f"{title} ({len(shown)} of {maps.heads} heads)"
        figure = selected_maps(panels, title, maps.causal, () if texts is None else texts[sample])
        return self._finish(_drawing(figure), save_path)

    def compare_sparse_vs_dense(
        self,
        sparse_weights: Weights,
        dense_weights: Weights,
        selected_tokens: Selection | None = None,
        title: str = "Sparse against dense attention",
        save_path: str | Path | None = None,
    ) -> Drawing:
        """Dense, sparse and their difference, where the selection loses most, least and the median head.

        What is lost is the dense attention outside the selection, 1 - head recall, mean over the queries in effect.

        Args:
            sparse_weights: Attention with the selection.
            dense_weights: Attention of the same queries over all eligible keys.
            selected_tokens: As in `visualize_sparse_attention`; by default where sparse_weights is not 0.
            title: Of the figure.
            save_path: Where to write the figure.

        Raises:
            ValueError: As `visualize_sparse_attention`; the two differ in shape, or the sparse weights are not 0
                outside the selection.
        """
        sparse, dense, mask = as_pair(sparse_weights, dense_weights, selected_tokens, self.causal)
        figure = sparse_against_dense(*examples(sparse, dense, mask, self.settings), title, dense.causal)
        assert figure is not None
        return self._finish(_drawing(figure), save_path)

    def measure_sparse_vs_dense(
        self, sparse_weights: Weights, dense_weights: Weights, selected_tokens: Selection | None = None
    ) -> SparseDense:
        """The numbers behind `compare_sparse_vs_dense`: recall, oracle, overlap, and the measures of both."""
        return compare(*as_pair(sparse_weights, dense_weights, selected_tokens, self.causal), self.settings)

    def analyze_attention_entropy(self, attention_weights: Weights) -> AttentionMeasures:
        """Entropy, sparsity, concentration and locality of a layer, in all, by head and by position."""
        maps = as_maps(attention_weights, self.causal)
        return by_layer(measure(maps, tables_of(maps, self.settings)), maps)

    def visualize_attention_entropy(
        self, attention_weights: Weights, title: str = "Attention entropy", save_path: str | Path | None = None
    ) -> Drawing:
        """Entropy of each head by position of the query, beneath that of uniform attention; normalised by head."""
        maps = as_maps(attention_weights, self.causal)
        tables = tables_of(maps, self.settings)
        attention = tables["attention"].join(_by_bucket(maps), on="bucket")
        weight = pl.col("queries")
        by_position = attention.group_by("head", "bucket").agg(
            queries=weight.sum(),
            last_query=2 ** pl.col("bucket").first().cast(pl.Int64) - 2 + weight.first(),
            entropy=(pl.col("attention_entropy").cast(pl.Float64) * weight).sum() / weight.sum(),
            place=pl.col("place").first(),
            keys=pl.col("keys").first(),
        )
        rows = by_part(tables, "head").filter((pl.col("metric") == "normalized_entropy") & pl.col("head").is_not_null())
        by_head = rows.select("head", "ci_low", "ci_high", "n", normalized_entropy="value").sort("head")
        called = [maps.called(head) for head in range(maps.heads)]
        figure = entropy_of_heads(by_position.sort("head", "last_query"), by_head, title, called)
        return self._finish(_drawing(figure), save_path)

    def visualize_token_selection(
        self,
        attention_weights: Weights,
        selected_tokens: Selection | None,
        tokens: object,
        query: int = -1,
        head: int | None = None,
        sample: int = 0,
        title: str | None = None,
        save_path: str | Path | None = None,
    ) -> Drawing:
        """One query's attention and selection over the text.

        Long texts are shown in part: what precedes the query, and the earlier stretch that it attends to most.

        Args:
            attention_weights: As ever.
            selected_tokens: As in `visualize_sparse_attention`, or None.
            tokens: Texts (or ids) of the tokens, [S] or [batch, S]; tokenizer.convert_ids_to_tokens(ids) will do.
            query: Position of the query; negative counts from the end.
            head: Which head; by default the mean of all, and of a selection by head what any head selects.
            sample: Which of the batch.
            title: Of the figure.
            save_path: Where to write the figure.

        Raises:
            ValueError: As `visualize_sparse_attention`; the tokens are not as many as the keys.
        """
        maps = one_layer(as_maps(attention_weights, self.causal))
        mask = None if selected_tokens is None else as_selection(selected_tokens, maps)
        texts = token_texts(tokens, maps.batch, maps.length)
        sample = whole(sample, "sample", 0, maps.batch)
        query = whole(query, "query", -maps.length, maps.length) % maps.length
        if head is not None:
            whole(head, "head", 0, maps.heads)
        row = maps.weights[sample, :, query] if head is None else maps.weights[sample, head : head + 1, query]
        attention = row.double().mean(0).cpu().numpy()
        chosen = None if mask is None else _chosen(mask, sample, head, query)
        kept = attention if chosen is None else np.where(chosen, attention, 0.0)
        last = query if maps.causal else maps.length - 1
        position = shown_positions(kept, last)
        words = _ids(tokens, maps, sample) if texts is None else texts[sample]
        who = "mean of the heads" if head is None else f"head {head}"
        figure = token_selection(
            [words[place] for place in position],
            position,
            attention[position],
            None if chosen is None else chosen[position],
            query,
            title or f"What token {query} attends to ({who})",
        )
        return self._finish(_drawing(figure), save_path)

    def analyze_pattern_evolution(
        self, attention_weights: ByLength, lengths: Lengths | None = None, by: str = "length"
    ) -> PatternEvolution:
        """Measures and pattern types at several lengths, or training steps.

        Args:
            attention_weights: Weights of each length: a mapping from the length, a list or tuple of weights; or one
                causal layer's, whose first L queries are what a sequence of L tokens gives. By step a mapping from the
                training step to the layer's weights on sequences of one length.
            lengths: Lengths to cut single weights to, at least 2; by default 32, 64, ... and the whole.
            by: "length" or "step".

        Raises:
            ValueError: As `visualize_sparse_attention`; weights of a mapping have another length than their key; single
                weights are not causal; a length is longer than the weights.
        """
        return evolve(attention_weights, lengths, self.settings, self.causal, by)

    def visualize_pattern_evolution(
        self,
        attention_weights: ByLength,
        lengths: Lengths | None = None,
        title: str | None = None,
        save_path: str | Path | None = None,
        by: str = "length",
    ) -> Drawing:
        """Entropy, shares and pattern types by length or step; arguments as in `analyze_pattern_evolution`."""
        found = self.analyze_pattern_evolution(attention_weights, lengths, by)
        numbers = found.by_step if by == "step" else found.by_length
        title = title or f"Attention by {'training step' if by == 'step' else 'sequence length'}"
        return self._finish(_drawing(pattern_evolution(numbers, found.pattern_types, title, by)), save_path)


def _heads(heads: Sequence[int] | None, count: int) -> list[int]:
    if heads is None:
        return sorted({place * count // min(count, AT_MOST) for place in range(min(count, AT_MOST))})
    chosen = [whole(head, "heads", 0, count) for head in heads]
    if not 1 <= len(chosen) <= AT_MOST:
        raise ValueError(f"heads has {len(chosen)} heads; give 1 to {AT_MOST}")
    return chosen


def _map(maps: Maps, sample: int, head: int) -> NDArray[np.float64]:
    return np.asarray(maps.weights[sample, head].double().cpu().numpy())


def _mask(maps: Maps, mask: torch.Tensor | None, sample: int, head: int) -> NDArray[np.bool_] | None:
    return None if mask is None else np.asarray(maps.of_head(mask, head)[sample].cpu().numpy())


def _chosen(mask: torch.Tensor, sample: int, head: int | None, query: int) -> NDArray[np.bool_]:
    own = mask[sample, :, query]
    chosen = own.any(0) if head is None or len(own) == 1 else own[head]
    return np.asarray(chosen.cpu().numpy())


def _ids(tokens: object, maps: Maps, sample: int) -> list[str]:
    ids = tokens.detach().cpu().numpy() if isinstance(tokens, torch.Tensor) else np.asarray(tokens)
    rows = np.broadcast_to(ids.reshape(-1, maps.length), (maps.batch, maps.length))
    return [f" {token}" for token in rows[sample].tolist()]


def _by_bucket(maps: Maps) -> pl.DataFrame:
    """Geometric means of t + 1 and n_t by bucket of the query's position t."""
    n = maps.eligible.sum(-1).cpu().numpy()
    place = np.arange(1, maps.length + 1, dtype=np.float64)
    frame = pl.DataFrame(
        {"bucket": np.frexp(place)[1] - 1, "place": place, "keys": n},
        schema={"bucket": pl.Int8, "place": pl.Float64, "keys": pl.Float64},
    )
    return frame.group_by("bucket").agg(pl.col("place", "keys").log().mean().exp())


def _drawing(figure: Figure) -> Drawing:
    assert isinstance(figure, Drawing)
    return figure
