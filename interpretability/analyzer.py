"""Clusters, types, costs and content of attention maps at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.figures import cluster_map
from indexscope.analysis.clustering.given import cluster_given
from indexscope.analysis.clustering.pattern_types import RULES, type_shares
from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.settings import ExtractSettings
from interpretability.content import ContentAnalysis, analyze
from interpretability.efficiency import EfficiencyMetrics, OptimalPatterns, efficiency, optimal
from interpretability.folder import Folder
from interpretability.house import HouseStyle
from interpretability.inputs import Maps, Selection, Weights, as_maps, as_selection, as_token_ids, token_texts, whole
from interpretability.layers import by_layer, grid
from interpretability.measures import BOOTSTRAP, tables_of
from interpretability.outputs import as_quality
from interpretability.patterns import check_length, counts, feature_names, typed
from interpretability.results import Result

SPECIAL = ("<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "[CLS]", "[SEP]", "[PAD]", "[UNK]")


@dataclass(frozen=True, eq=False, repr=False)
class Clusters(Result):
    """Groups of attention maps that are like each other.

    Attributes:
        n_clusters: How many there are; fewer than asked for where fewer maps differ.
        silhouette: Mean silhouette of the maps; None for one cluster, or one for each map.
        stability: Adjusted Rand index between clusters found in halves of the samples; None for few samples.
        labels: Cluster of each map, [batch, heads] or [layers, batch, heads]; 0 is the largest.
        clusters: cluster, name, size, share with ci_low, ci_high and n (samples), and the mean of its
            features.
        assignments: sample, head, cluster, distance (to the centre), pattern_type, margin.
        choice: k, silhouette with its interval, inertia, share of the largest cluster, stability.
        agreement: cluster, pattern_type, share of the cluster's maps, count.
        features: sample, head and every feature that the maps were clustered by.
        feature_names: Names of these features.
    """

    n_clusters: int
    silhouette: float | None
    stability: float | None
    labels: NDArray[np.int64]
    clusters: pl.DataFrame
    assignments: pl.DataFrame
    choice: pl.DataFrame
    agreement: pl.DataFrame
    features: pl.DataFrame
    feature_names: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class PatternTypes(Result):
    """The kind of each attention map, by rules (docs/metrics.md).

    Attributes:
        dominant: The most frequent type.
        labels: Type of each map, [batch, heads] or [layers, batch, heads].
        shares: pattern_type, share of the maps with ci_low and ci_high, count, n (samples).
        patterns: sample, head, pattern_type, margin (change of one share of the attention that would change the type),
            and the features that the rules read.
        rules: pattern_type, rule: what each type means; the first that holds applies, and none is mixed.
        induction_known: Whether tokens were given; without them no map is found to be of type induction.
    """

    dominant: str
    labels: NDArray[np.str_]
    shares: pl.DataFrame
    patterns: pl.DataFrame
    rules: pl.DataFrame
    induction_known: bool


class PatternAnalyzer(HouseStyle):
    """Groups and names attention maps, and sets what they cost beside what the model predicts.

    Weights as for `AttentionVisualizer`, of at least 17 tokens: earlier queries have so few keys that any pattern looks
    like any other. Of several layers (a list, or [layers, batch, heads, S, S]) tables have a column layer, and labels
    are [layers, batch, heads].

    A subclass that overrides `_extract_single_pattern_features` changes what maps are clustered by.

    Args:
        n_clusters: How many clusters, or "auto": as many as halves of the samples find again.
        settings: Thresholds and windows of the features; by default the pipeline's.
        causal: Whether queries see earlier keys and themselves alone; None finds out from the weights.
        seed: Of k-means and of the bootstrap.
        save_dir: Folder for every figure, as clusters.png, clusters_2.png, ...; it is made. A call's save_path goes
            before it.

    Raises:
        ValueError: n_clusters is no whole number from 1 on, or save_dir cannot be made or written.

    Example:
        >>> previous = np.eye(64, k=-1) + np.eye(64) * (np.arange(64) == 0)
        >>> PatternAnalyzer().classify_pattern_types(previous).dominant
        'previous-token'
    """

    #: Names of the values that a subclass appends to the features, in order.
    extra_feature_names: Sequence[str] = ()

    def __init__(
        self,
        n_clusters: int | Literal["auto"] = 5,
        settings: ExtractSettings | None = None,
        causal: bool | None = None,
        seed: int = 0,
        save_dir: str | Path | None = None,
    ) -> None:
        self.n_clusters = n_clusters if n_clusters == "auto" else whole(n_clusters, "n_clusters", 1, 2**31)
        self.settings = settings or ExtractSettings()
        self.causal = causal
        self.seed = seed
        self._folder = None if save_dir is None else Folder(save_dir)
        self._at_hand: tuple[bool, torch.Tensor | None] | None = None

    def cluster_patterns(self, attention_weights: Weights, tokens: object = None) -> Clusters:
        """Group the maps of all samples and heads by k-means, as the pipeline does.

        Args:
            attention_weights: [heads, S, S] or [batch, heads, S, S], or a list of layers.
            tokens: Ids or texts, [S] or [batch, S], for the attention on copies; without them there is none.

        Raises:
            ValueError: The weights or tokens are not what they must be, or the maps are shorter than 17 tokens.
        """
        maps = self._maps(attention_weights)
        ids = self._token_ids(tokens, maps)
        values, names = self._features(maps, ids)
        rows = pattern_rows(tables_of(maps, self.settings, None, ids))
        types = typed(rows).with_columns(layer=pl.lit(0, dtype=pl.Int16))
        settings = ClusteringSettings(clusters=self.n_clusters, seed=self.seed)
        found = cluster_given(
            types.select("sample", "layer", "head", "pattern_type", "margin"), values, names, settings
        )
        chosen = found["choice"].filter(pl.col("chosen")).row(0, named=True)
        labels = found["assignments"]["cluster"].to_numpy().astype(np.int64)
        features = rows.select("sample", "head").with_columns(
            pl.Series(name, column) for name, column in zip(names, values.T, strict=True)
        )
        clusters = Clusters(
            n_clusters=found["clusters"].height,
            silhouette=chosen["silhouette"],
            stability=chosen["halves_mean"],
            labels=grid(labels, maps),
            clusters=found["clusters"],
            assignments=found["assignments"].select("sample", "head", "cluster", "distance", "pattern_type", "margin"),
            choice=found["choice"],
            agreement=found["agreement"],
            features=features,
            feature_names=names,
        )
        return by_layer(clusters, maps)

    def classify_pattern_types(self, attention_weights: Weights, tokens: object = None) -> PatternTypes:
        """Name each map: uniform, sink, previous-token, self, induction, slash, vertical, block, local, global, mixed.

        Args:
            attention_weights: [heads, S, S] or [batch, heads, S, S], or a list of layers.
            tokens: Ids or texts, [S] or [batch, S]; without them no map is found to be of type induction.

        Raises:
            ValueError: As `cluster_patterns`.
        """
        maps = self._maps(attention_weights)
        ids = self._token_ids(tokens, maps)
        rows = pattern_rows(tables_of(maps, self.settings, None, ids))
        types = typed(rows)
        shares = type_shares([0], counts(types)[:, None], BOOTSTRAP).filter(pl.col("layer").is_null()).drop("layer")
        shares = shares.sort("count", "pattern_type", descending=[True, False])
        labels = types["pattern_type"].cast(pl.String).to_numpy().astype(str)
        kinds = PatternTypes(
            dominant=str(shares["pattern_type"][0]),
            labels=grid(labels, maps),
            shares=shares,
            patterns=types.join(rows.drop("layer"), on=["sample", "head"]).sort("sample", "head"),
            rules=pl.DataFrame({"pattern_type": [r.name for r in RULES], "rule": [r.meaning for r in RULES]}),
            induction_known=ids is not None,
        )
        return by_layer(kinds, maps)

    def analyze_pattern_efficiency(
        self,
        attention_weights: Weights,
        model_outputs: object,
        selected_tokens: Selection | None = None,
        *,
        batch: object = None,
        vocabulary: int | None = None,
    ) -> EfficiencyMetrics:
        """What patterns cost, and what the model that has them makes of it.

        What quality means depends on what is given:

        - logits with labels (or input_ids), in a mapping, an output of transformers, a tuple that begins with them, or
          by themselves: quality is exp(-nll), the geometric mean of the probability of each sample's true next tokens.
          Labels are not shifted; -100 leaves a token out. Where the outputs hold none they are those of batch.
        - a loss, one for all samples or one a sample: the same, taking the loss for the mean cross entropy in nats.
        - with dense_logits or dense_loss beside these, from the dense model on the same tokens: quality_maintenance is
          exp(dense nll - nll), and the score is made of it.
        - hidden states, or logits without labels: not quality. Quality, maintenance and score are None, and
          quality_reason says why.
        - selected_tokens: what the selection keeps of each map (recall), of which the front of patterns is then made,
          since it tells heads apart; the model's predictions do not. The weights must then be the dense ones.

        Args:
            attention_weights: [heads, S, S] or [batch, heads, S, S], or a list of layers.
            model_outputs: See above; None for costs alone.
            selected_tokens: As in `AttentionVisualizer.visualize_sparse_attention`, or None.
            batch: What the model was given: a mapping with labels or input_ids, or the ids.
            vocabulary: Entries of the model's vocabulary; tells logits from hidden states by the last dimension of a
                tensor that comes without a name. Without it that is taken for logits, and a note says so, unless the
                labels go beyond it.

        Raises:
            ValueError: As `cluster_patterns`; outputs that do not fit each other or the batch, or are not finite.
        """
        maps = self._maps(attention_weights)
        mask = None if selected_tokens is None else as_selection(selected_tokens, maps)
        quality = as_quality(model_outputs, maps.batch, batch, vocabulary)
        return by_layer(efficiency(maps, tables_of(maps, self.settings, mask), quality, mask), maps)

    def identify_optimal_patterns(self, efficiency_metrics: EfficiencyMetrics) -> OptimalPatterns:
        """Heads and pattern types that no other beats in cost and in quality at once (the Pareto front).

        Args:
            efficiency_metrics: Of `analyze_pattern_efficiency`. Where quality is not known nothing is on the front, and
                the result's reason says why.

        Raises:
            ValueError: Something else was given.
        """
        if not isinstance(efficiency_metrics, EfficiencyMetrics):
            kind = type(efficiency_metrics).__name__
            raise ValueError(f"efficiency_metrics is {kind}; give what analyze_pattern_efficiency returned")
        return optimal(efficiency_metrics)

    def analyze_content(
        self,
        attention_weights: Weights,
        tokens: object,
        selected_tokens: Selection | None = None,
        special: Collection[str] = SPECIAL,
    ) -> ContentAnalysis:
        """Which kinds of tokens are attended, and selected, more than chance would have it.

        Args:
            attention_weights: [heads, S, S] or [batch, heads, S, S], or a list of layers.
            tokens: Texts of the tokens, with the space that leads them, [S] or [batch, S]
                (tokenizer.convert_ids_to_tokens(ids) will do); or ids, which tell copies but no classes.
            selected_tokens: As in `AttentionVisualizer.visualize_sparse_attention`, or None.
            special: Texts of control tokens.

        Raises:
            ValueError: As `cluster_patterns`; tokens that are not as many as the keys.
        """
        maps = as_maps(attention_weights, self.causal)
        mask = None if selected_tokens is None else as_selection(selected_tokens, maps)
        ids = as_token_ids(tokens, maps.batch, maps.length)
        found = analyze(maps, ids, token_texts(tokens, maps.batch, maps.length), mask, frozenset(special))
        return by_layer(found, maps)

    def visualize_clusters(self, clustering_results: Clusters, save_path: str | Path | None = None) -> Drawing:
        """Shares and centroids of the clusters, as the report draws them."""
        figure = cluster_map(clustering_results.clusters)
        assert isinstance(figure, Drawing)
        return self._finish(figure, save_path)

    def _extract_single_pattern_features(self, pattern: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features that maps are clustered by, of one map; to be extended.

            def _extract_single_pattern_features(self, pattern):
                features = super()._extract_single_pattern_features(pattern)
                return np.append(features, pattern.diagonal(-2).mean())

        Args:
            pattern: Attention p, [S, S], float32, a row a query.

        Returns:
            The pipeline's features of a map (`indexscope.analysis.clustering.rows.FEATURES`; without reach, the last of
            them, for maps that are not causal), 1-D.
        """
        causal, ids = (self.causal, None) if self._at_hand is None else self._at_hand
        maps = as_maps(pattern, causal)
        check_length(maps.length, "pattern")
        rows = pattern_rows(tables_of(maps, self.settings, None, ids))
        return np.array(rows.select(feature_names(maps.causal)).row(0), dtype=np.float64)

    def _features(self, maps: Maps, ids: torch.Tensor | None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Features of every map, [batch x heads, features], and their names."""
        rows = []
        for item in range(maps.batch):
            with self._looking_at(maps.causal, None if ids is None else ids[item : item + 1]):
                for head in range(maps.heads):
                    pattern = maps.weights[item, head].float().cpu().numpy()
                    rows.append(np.asarray(self._extract_single_pattern_features(pattern), dtype=np.float64))
        where = f"{type(self).__name__}._extract_single_pattern_features"
        base = feature_names(maps.causal)
        shapes = {row.shape for row in rows}
        if len(shapes) > 1 or len(rows[0].shape) != 1:
            raise ValueError(f"{where} returned shapes {sorted(shapes)}; return one 1-D array, as long for every map")
        values = np.stack(rows)
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
            raise ValueError(f"{where} returned NaN or infinity as feature {place}; return finite numbers")
        names = [*base, *self.extra_feature_names]
        names += [f"feature_{place}" for place in range(len(names), values.shape[1])]
        return values, tuple(names[: values.shape[1]])

    @contextmanager
    def _looking_at(self, causal: bool, ids: torch.Tensor | None) -> Iterator[None]:
        """What the map at hand alone does not tell: whether its batch is causal, and its tokens."""
        self._at_hand = causal, ids
        try:
            yield
        finally:
            self._at_hand = None

    def _maps(self, attention_weights: Weights) -> Maps:
        maps = as_maps(attention_weights, self.causal)
        check_length(maps.length)
        return maps

    @staticmethod
    def _token_ids(tokens: object, maps: Maps) -> torch.Tensor | None:
        return None if tokens is None else as_token_ids(tokens, maps.batch, maps.length)
