from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.rows import FEATURES, pattern_rows
from indexscope.analysis.clustering.run import run
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency.patterns import patterns_pareto
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from interpretability import PatternAnalyzer
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.interpretability.planted import KINDS, Array, attention_of, random_maps

ANALYZER = PatternAnalyzer(n_clusters=4)


def planted(copies: int = 3, length: int = 64, noise: float = 0.05) -> Array:
    """Maps of four kinds, a few percent of uniform noise in each, [copies, kinds, S, S]."""
    random = np.random.default_rng(0)
    found = np.empty((copies, len(KINDS), length, length))
    for copy in range(copies):
        for head, kind in enumerate(KINDS.values()):
            mixed = np.tril((1 - noise) * kind(length) + noise * random.random((length, length)) / length)
            found[copy, head] = mixed / mixed.sum(-1, keepdims=True)
    return found


def token_samples(count: int, length: int) -> list[Sample]:
    random = np.random.default_rng(5)
    return [Sample(i, f"d{i}", tuple(random.integers(0, 20, length).tolist())) for i in range(count)]


def test_planted_kinds_are_clustered_and_named_as_what_they_are() -> None:
    maps = planted()
    clusters = ANALYZER.cluster_patterns(maps)
    assert clusters.n_clusters == 4
    assert clusters.silhouette > 0.9
    assert clusters.labels.shape == (3, 4)
    assert (clusters.labels == clusters.labels[0]).all() and len(set(clusters.labels[0])) == 4
    assert clusters.clusters["size"].to_list() == [3, 3, 3, 3]
    assert clusters.clusters["share"].to_list() == [0.25] * 4
    types = ANALYZER.classify_pattern_types(torch.from_numpy(maps))
    assert (types.labels == np.array(list(KINDS))).all()
    assert types.shares["share"].to_list() == [0.25] * 4
    assert types.patterns.filter(pl.col("pattern_type") == "sink")["margin"].min() > 0.35
    assert isinstance(ANALYZER.visualize_clusters(clusters), Figure)


def test_a_margin_is_how_far_the_evidence_is_above_the_rule() -> None:
    length = 64
    mixed = 0.7 * KINDS["sink"](length) + 0.3 * KINDS["previous-token"](length)
    found = ANALYZER.classify_pattern_types(mixed)
    assert found.dominant == "sink"
    # Queries from 15 on have 0.7 on the sink, and sink's rule is chance and half of what chance leaves.
    n = np.arange(15, length) + 1.0
    uniform, sharp = np.mean(4 / n), (found.patterns["max_weight"][0] - np.mean(1 / n)) / len(n)
    chance = uniform + 2 * np.sqrt(uniform * (1 - uniform) * sharp) + 2 / 3 * sharp
    assert found.patterns["margin"][0] == pytest.approx(0.7 - (1 + chance) / 2, abs=1e-5)
    assert found.patterns["previous_mass"][0] == pytest.approx(0.3, abs=1e-5)


def test_induction_is_found_where_tokens_are_given() -> None:
    length = 64
    tokens = np.arange(length) % 32
    weights = np.zeros((length, length))
    for t in range(length):
        weights[t, t - 31 if t >= 32 else 0] = 1
    assert not ANALYZER.classify_pattern_types(weights).induction_known
    found = ANALYZER.classify_pattern_types(weights, tokens)
    # All queries with an earlier copy, 32 to 63, of the 49 from position 15 on.
    assert found.patterns["induction_mass"][0] == pytest.approx(32 / 49, abs=1e-6)
    assert found.dominant == "induction" and found.induction_known
    assert ANALYZER.classify_pattern_types(weights, [f"w{token}" for token in tokens]).dominant == "induction"


def test_clusters_and_types_are_those_of_the_pipeline_on_the_same_model() -> None:
    model = tiny_llama(layers=1)
    given_samples = token_samples(5, 90)
    tables = extract_samples(model, given_samples, ExtractSettings(batch=5))
    pipeline = run(tables, ClusteringSettings(clusters=3))
    ids = torch.tensor([list(sample.input_ids) for sample in given_samples])
    weights = attention_of(model, ids)[0][0]
    found = PatternAnalyzer(n_clusters=3).cluster_patterns(weights, ids)
    expected = pattern_rows(tables)
    assert found.feature_names == FEATURES
    for name in FEATURES:
        assert found.features[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-3, abs=1e-5), name
    assigned = pipeline["assignments"].sort("sample", "head")
    assert found.labels.ravel().tolist() == assigned["cluster"].to_list()
    assert found.clusters["name"].to_list() == pipeline["clusters"]["name"].to_list()
    assert found.silhouette == pytest.approx(pipeline["choice"]["silhouette"][0], abs=1e-3)
    types = ANALYZER.classify_pattern_types(weights, ids)
    assert types.labels.ravel().tolist() == assigned["pattern_type"].to_list()
    assert types.patterns["margin"].to_numpy() == pytest.approx(assigned["margin"].to_numpy(), abs=1e-4)


class WithColumns(PatternAnalyzer):
    """Adds the parity of the map that was seen, which nothing else tells."""

    extra_feature_names = ("parity",)
    seen = 0

    def _extract_single_pattern_features(self, pattern: Any) -> Any:
        assert pattern.shape == (64, 64) and pattern.dtype == np.float32
        self.seen += 1
        return np.append(super()._extract_single_pattern_features(pattern), float(self.seen % 2))


def test_a_feature_that_a_subclass_appends_changes_the_clusters() -> None:
    same = np.stack([KINDS["uniform"](64)] * 8)
    assert PatternAnalyzer(n_clusters=2).cluster_patterns(same).n_clusters == 1
    found = WithColumns(n_clusters=2).cluster_patterns(same)
    assert found.n_clusters == 2
    assert found.feature_names == (*FEATURES, "parity")
    assert (found.labels[0, ::2] == found.labels[0, 0]).all() and found.labels[0, 0] != found.labels[0, 1]
    assert {"high parity", "low parity"} == set(found.clusters["name"])
    assert found.features["parity"].to_list() == [1.0, 0.0] * 4


def test_features_of_one_map_are_those_of_the_whole() -> None:
    maps = planted(1)
    found = ANALYZER.cluster_patterns(maps)
    alone = ANALYZER._extract_single_pattern_features(maps[0, 2].astype(np.float32))
    assert alone.shape == (len(FEATURES),)
    assert alone == pytest.approx(found.features.select(FEATURES).row(2), abs=1e-6)


class Broken(PatternAnalyzer):
    result: Any = None

    def _extract_single_pattern_features(self, pattern: Any) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.array([1.0, np.nan]), "returned NaN or infinity as feature 1; return finite numbers"),
        (np.ones((2, 2)), r"returned shapes \[\(2, 2\)\]; return one 1-D array"),
    ],
)
def test_features_that_cannot_be_clustered_name_the_method(result: Any, message: str) -> None:
    analyzer = Broken()
    analyzer.result = result
    with pytest.raises(ValueError, match=f"Broken._extract_single_pattern_features {message}"):
        analyzer.cluster_patterns(planted(1))


def test_maps_that_see_both_ways_have_patterns_too() -> None:
    length = 64
    both_ways = np.stack([np.full((length, length), 1 / length), KINDS["sink"](length), np.eye(length)])
    both_ways = 0.9 * both_ways + 0.1 / length
    found = PatternAnalyzer(n_clusters=3).cluster_patterns(both_ways)
    assert found.feature_names == tuple(name for name in FEATURES if name != "reach")
    assert sorted(found.labels[0]) == [0, 1, 2]
    assert ANALYZER.classify_pattern_types(both_ways).labels[0].tolist() == ["uniform", "sink", "self"]
    # Keys after the query follow no earlier copy of it.
    assert found.features["induction_mass"].to_list() == [0.0] * 3


@pytest.mark.parametrize("length", [1, 16])
def test_maps_too_short_for_a_pattern_say_so(length: int) -> None:
    with pytest.raises(ValueError, match=f"attention_weights has {length} tokens; patterns are judged by queries"):
        ANALYZER.cluster_patterns(KINDS["uniform"](length))
    assert ANALYZER.classify_pattern_types(KINDS["uniform"](17)).dominant == "uniform"


@pytest.mark.parametrize("n_clusters", [0, -1, 2.5, True, "many"])
def test_a_number_of_clusters_that_cannot_be_meant_is_refused(n_clusters: Any) -> None:
    with pytest.raises(ValueError, match=f"n_clusters is {n_clusters}; give a whole number from 1"):
        PatternAnalyzer(n_clusters=n_clusters)
    assert PatternAnalyzer(n_clusters="auto").cluster_patterns(planted()).n_clusters == 4


def logits_of(probability: float, labels: torch.Tensor, vocabulary: int = 5) -> torch.Tensor:
    """Logits that give the true next token this probability and share the rest, [batch, S, vocabulary]."""
    rest = math.log((1 - probability) / (vocabulary - 1))
    logits = torch.full((*labels.shape, vocabulary), rest)
    following = labels.roll(-1, 1)[..., None]
    return logits.scatter(-1, following, math.log(probability))


LABELS = torch.randint(0, 5, (3, 64), generator=torch.Generator().manual_seed(0))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_quality_is_the_probability_of_the_true_token(sparse: float, dense: float) -> None:
    outputs = {
        "logits": logits_of(sparse, LABELS),
        "labels": LABELS,
        "dense_logits": logits_of(dense, LABELS),
    }
    found = ANALYZER.analyze_pattern_efficiency(PLANTED, outputs)
    assert found.quality == pytest.approx(sparse, rel=1e-4)
    assert found.nll == pytest.approx(-math.log(sparse), rel=1e-4, abs=1e-6)
    assert found.quality_maintenance == pytest.approx(sparse / dense, rel=1e-4)
    assert found.efficiency_score == pytest.approx(sparse / dense / found.computational_cost, rel=1e-4)
    assert found.quality_reason is None and found.score_basis == "quality kept, exp(dense nll - nll)"
    assert found.accuracy == (1.0 if sparse > 0.21 else 0.0 if sparse < 0.19 else found.accuracy)


PLANTED = planted()


def test_costs_are_those_of_the_definition() -> None:
    maps = np.stack([KINDS[name](64) for name in KINDS])
    found = ANALYZER.analyze_pattern_efficiency(maps, 2.0)
    n = np.arange(1, 65)
    single = np.mean(1 / n)
    assert found.patterns["pattern_type"].to_list() == list(KINDS)
    # float32 sums of equal weights may fall a hair short of 95 %, which takes one key more.
    assert found.patterns["computational_cost"][0] == pytest.approx(np.mean(np.ceil(0.95 * n) / n), abs=2e-3)
    assert found.patterns["computational_cost"].to_list()[1:] == pytest.approx([single] * 3, abs=1e-6)
    assert found.patterns["attended_share"].to_list() == pytest.approx([1.0, *[64 / (64 * 65 / 2)] * 3])
    assert found.quality == pytest.approx(math.exp(-2))
    assert found.perplexity == pytest.approx(math.exp(2))
    assert found.quality_maintenance is None and "add dense_logits or dense_loss" in found.quality_reason
    assert found.efficiency_score == pytest.approx(math.exp(-2) / found.computational_cost)


def test_all_forms_of_predictions_are_the_same_quality() -> None:
    logits = logits_of(0.4, LABELS)
    loss = torch.tensor(-math.log(0.4))
    forms: list[Any] = [
        {"logits": logits, "labels": LABELS},
        {"logits": logits.numpy(), "input_ids": LABELS.numpy()},
        SimpleNamespace(logits=logits, labels=LABELS, loss=None),
        (logits, LABELS),
        {"loss": loss},
        SimpleNamespace(loss=loss, logits=logits),
        loss,
        float(loss),
        loss.expand(3),
        {"logits": logits.double(), "labels": torch.where(torch.arange(64) % 3 == 0, -100, LABELS)},
    ]
    for form in forms:
        assert ANALYZER.analyze_pattern_efficiency(PLANTED, form).quality == pytest.approx(0.4, rel=1e-5)


def test_logits_in_every_form_take_their_labels_from_the_batch() -> None:
    logits = logits_of(0.4, LABELS)
    loss = torch.tensor(9.0)
    cache = SimpleNamespace(keys=[])
    batch = {"input_ids": LABELS, "attention_mask": torch.ones_like(LABELS)}
    forms: list[Any] = [logits, (logits, None), (logits,), [logits, cache], (loss, logits), {"logits": logits}]
    for form in forms:
        for given_batch in (batch, {"input_ids": LABELS * 0, "labels": LABELS}, LABELS, (LABELS, None)):
            found = ANALYZER.analyze_pattern_efficiency(PLANTED, form, batch=given_batch)
            assert found.quality == pytest.approx(0.4, rel=1e-5)
    padded = {"input_ids": LABELS.clone(), "attention_mask": torch.ones_like(LABELS)}
    padded["input_ids"][:, 50:], padded["attention_mask"][:, 50:] = 0, 0
    assert ANALYZER.analyze_pattern_efficiency(PLANTED, logits, batch=padded).quality == pytest.approx(0.4, rel=1e-5)
    own = {"logits": logits, "labels": LABELS}
    assert ANALYZER.analyze_pattern_efficiency(PLANTED, own, batch=LABELS * 0).quality == pytest.approx(0.4, rel=1e-5)


def test_a_tensor_without_a_name_is_logits_unless_its_last_dimension_is_too_short() -> None:
    def found(outputs: Any, **options: Any) -> Any:
        return ANALYZER.analyze_pattern_efficiency(PLANTED, outputs, **options)

    logits, hidden = logits_of(0.4, LABELS), torch.zeros(3, 64, 4)
    ambiguous = found(logits, batch=LABELS)
    assert ambiguous.nll and "no name and is taken for logits of 5 tokens" in ambiguous.notes[0]
    assert found(logits, batch=LABELS, vocabulary=5).notes == ()
    assert found({"logits": logits}, batch=LABELS).notes == ()
    for known in ({"batch": LABELS}, {"vocabulary": 5}, {"batch": LABELS, "vocabulary": 5}):
        short = found(hidden, **known)
        assert short.nll is None and short.quality_reason.startswith("hidden states say nothing")
    with pytest.raises(ValueError, match=r"batch holds \['x'\]; give a mapping with labels or input_ids, or the ids"):
        found(logits, batch={"x": 1})
    with pytest.raises(ValueError, match="vocabulary is 0"):
        found(logits, vocabulary=0)


def test_layers_have_the_numbers_that_each_has_alone_and_are_named() -> None:
    layers = [random_maps(3, 40, seed, batch=2) for seed in range(2)]
    masks = [layer.mean(1).topk(6).indices for layer in layers]
    texts = [f" {place % 7}" for place in range(40)]
    types = ANALYZER.classify_pattern_types(layers)
    found = ANALYZER.analyze_pattern_efficiency(torch.stack(layers), None, torch.stack(masks))
    content = ANALYZER.analyze_content(layers, texts, masks)
    clusters = ANALYZER.cluster_patterns(layers)
    assert types.labels.shape == clusters.labels.shape == (2, 2, 3)
    assert clusters.features.select("layer", "head").n_unique() == 6
    for layer, (weights, mask) in enumerate(zip(layers, masks, strict=True)):
        own = pl.col("layer") == layer
        alone = ANALYZER.analyze_pattern_efficiency(weights, None, mask)
        assert (types.labels[layer] == ANALYZER.classify_pattern_types(weights).labels).all()
        assert_frame_equal(found.patterns.filter(own).drop("layer"), alone.patterns)
        expected = ANALYZER.analyze_content(weights, texts, mask).lift.filter(pl.col("head").is_not_null())
        assert_frame_equal(content.lift.filter(own).drop("layer"), expected)
    heads = ANALYZER.identify_optimal_patterns(found).heads
    front = found.pareto.filter(pl.col("on_front") & (pl.col("level") == "head")).sort("cost")
    assert list(heads) == front.select("layer", "head").rows() and front.height


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_clustered_named_and_costed_as_its_numbers(dtype: torch.dtype) -> None:
    exact = random_maps(6, 96, seed=5, batch=2)
    half = exact.to(dtype)
    clusters = PatternAnalyzer(n_clusters=2).cluster_patterns(half)
    widened = PatternAnalyzer(n_clusters=2).cluster_patterns(half.float())
    assert clusters.features.equals(widened.features) and (clusters.labels == widened.labels).all()
    expected = PatternAnalyzer(n_clusters=2).cluster_patterns(exact).features
    assert np.allclose(clusters.features.to_numpy(), expected.to_numpy(), atol=2e-2)
    assert (ANALYZER.classify_pattern_types(half).labels == ANALYZER.classify_pattern_types(exact).labels).all()
    cost, own = (ANALYZER.analyze_pattern_efficiency(each, 1.0).computational_cost for each in (half, exact))
    assert cost == pytest.approx(own, rel=2e-2)


def test_outputs_of_transformers_are_the_quality_of_the_pipeline() -> None:
    model = tiny_llama(layers=1)
    sample = token_samples(1, 40)[0]
    tokens = extract_samples(model, [sample], ExtractSettings())["tokens"]
    expected = float((tokens["nll"] * tokens["tokens"]).sum()) / int(tokens["tokens"].sum())
    ids = torch.tensor([list(sample.input_ids)])
    with torch.no_grad():
        outputs = tiny_llama(layers=1)(ids, labels=ids)
    weights = attention_of(model, ids)[0][0]
    assert ANALYZER.analyze_pattern_efficiency(weights, outputs).nll == pytest.approx(expected, rel=1e-4)
    found = ANALYZER.analyze_pattern_efficiency(weights, {"logits": outputs.logits, "labels": ids})
    assert found.nll == pytest.approx(expected, rel=1e-4)
    assert found.accuracy == pytest.approx(
        float((tokens["accuracy"] * tokens["tokens"]).sum()) / int(tokens["tokens"].sum())
    )


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (torch.zeros(3, 64, 16), "logits without labels do not tell what was right; give batch="),
        ((torch.zeros(3, 64, 16), None), "logits without labels"),
        ({"hidden_states": torch.zeros(3, 64, 16)}, "hidden states say nothing of how well a model predicts"),
        ({"last_hidden_state": torch.zeros(3, 64, 16)}, "hidden states say nothing"),
        ({"logits": torch.zeros(3, 64, 16)}, "logits without labels do not tell what was right"),
        (None, "no model outputs were given"),
    ],
)
def test_what_is_no_quality_is_not_called_so(outputs: Any, reason: str) -> None:
    found = ANALYZER.analyze_pattern_efficiency(PLANTED, outputs)
    assert (found.quality, found.quality_maintenance, found.efficiency_score, found.nll) == (None,) * 4
    assert found.quality_reason.startswith(reason)
    assert found.patterns["quality"].null_count() == found.patterns.height
    assert 0 < found.computational_cost < 1
    optimal = ANALYZER.identify_optimal_patterns(found)
    assert optimal.heads == () and optimal.pattern_types == () and optimal.optimal.is_empty()
    assert optimal.reason.startswith(reason)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            {"logits": torch.zeros(2, 64, 5), "labels": LABELS},
            r"logits has shape \[2, 64, 5\]; give \[3, S, vocabulary",
        ),
        ({"logits": torch.zeros(3, 64, 5), "labels": LABELS[:, :9]}, r"labels has shape \[3, 9\] and type torch.int64"),
        ({"logits": torch.zeros(3, 64, 4), "labels": LABELS}, "labels hold ids outside 0 to 3"),
        ({"logits": torch.full((3, 64, 5), torch.nan), "labels": LABELS}, "logits hold NaN or infinity"),
        ({"logits": torch.zeros(3, 64, 5), "labels": torch.full((3, 64), -100)}, "labels leave nothing to predict"),
        ({"loss": -1.0}, "loss is negative or not finite; give the mean cross entropy in nats"),
        ({"loss": torch.ones(2)}, r"loss has shape \[2\]; give one mean loss, or one a sample, \[3\]"),
        ({"perplexity": 3.0}, r"model_outputs is \['perplexity'\]; give a mapping with some of logits, labels"),
        ("loss", "model_outputs is str; give a mapping"),
    ],
)
def test_outputs_that_cannot_be_meant_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANALYZER.analyze_pattern_efficiency(PLANTED, outputs)


def test_with_a_selection_the_front_is_that_of_the_pipeline() -> None:
    model = tiny_dsa(layers=1)
    given_samples = token_samples(4, 60)
    tables = extract_samples(model, given_samples, ExtractSettings(batch=4, dense_reference=False))
    expected = patterns_pareto(tables, EfficiencySettings()).filter(pl.col("level") != "layer")
    ids = torch.tensor([list(sample.input_ids) for sample in given_samples])
    weights, selected = attention_of(model, ids)[0]
    metrics = ANALYZER.analyze_pattern_efficiency(weights, None, selected)
    heads = metrics.pareto.filter(pl.col("level") == "head")
    own = expected.filter(pl.col("level") == "head")
    assert heads["head"].to_list() == own["head"].to_list()
    for name in ("cost", "quality"):
        assert heads[name].to_numpy() == pytest.approx(own[name].to_numpy(), rel=1e-3)
    assert heads["on_front"].to_list() == own["on_front"].to_list()
    found = ANALYZER.identify_optimal_patterns(metrics)
    assert set(found.heads) == set(own.filter("on_front")["head"])
    assert found.quality_kind == "recall, the dense attention inside the selection"
    assert metrics.efficiency_score is None and metrics.recall == pytest.approx(
        float(heads["quality"].mean()), rel=1e-3
    )


def test_the_cheapest_of_equal_quality_is_optimal() -> None:
    metrics = ANALYZER.analyze_pattern_efficiency(PLANTED, {"loss": 1.0, "dense_loss": 1.0})
    found = ANALYZER.identify_optimal_patterns(metrics)
    # Sink, previous token and self put all on one key; uniform attention needs nearly all.
    assert set(found.heads) <= {1, 2, 3} and found.pattern_types[0] in ("previous-token", "sink", "self")
    least = metrics.pareto.filter(pl.col("level") == "head")["cost"].min()
    assert found.optimal.filter(pl.col("level") == "head")["cost"].to_list() == [least] * len(found.heads)
    assert metrics.quality_maintenance == pytest.approx(1.0)
    assert found.quality_kind == "quality kept, exp(dense nll - nll)"
    with pytest.raises(ValueError, match="efficiency_metrics is dict; give what analyze_pattern_efficiency returned"):
        ANALYZER.identify_optimal_patterns({})  # type: ignore[arg-type]


def test_content_of_uniform_attention_is_as_by_chance() -> None:
    tokens = [" the", "cat", ".", "\n", "42", "<s>"] * 6
    found = ANALYZER.analyze_content(np.stack([KINDS["uniform"](36)] * 2), tokens)
    assert found.lift["attention_lift"].to_numpy() == pytest.approx(np.ones(found.lift.height), abs=1e-5)
    assert found.lift["lift"].null_count() == found.lift.height and found.most_selected is None
    kinds = ["special", "whitespace", "punctuation", "digit", "word start", "continuation"]
    assert found.tokens.rows() == [(kind, 6) for kind in kinds]
    assert set(found.lift["head"]) == {None, 0, 1}


def test_content_tells_what_attention_and_selection_prefer() -> None:
    length = 40
    tokens = ["." if place % 4 == 0 else f" w{place}" for place in range(length)]
    stops = np.tril(np.tile(np.arange(length) % 4 == 0, (length, 1)))
    weights = stops / stops.sum(-1, keepdims=True)
    found = ANALYZER.analyze_content(weights, tokens)
    assert found.most_attended == "punctuation"
    # All of it on the stops, which are ceil(n/4) of n keys; queries with one key do not count.
    chance = sum(math.ceil(n / 4) / n for n in range(2, length + 1))
    lift = dict(found.lift.filter(pl.col("head").is_null()).select("token_class", "attention_lift").iter_rows())
    assert lift["punctuation"] == pytest.approx((length - 1) / chance, rel=1e-5)
    assert lift["word start"] == pytest.approx(0.0, abs=1e-9)
    words = np.tril(np.tile(np.arange(length) % 4 == 1, (length, 1)))
    chosen = ANALYZER.analyze_content(weights, tokens, words)
    by_class = {row["token_class"]: row for row in chosen.lift.filter(pl.col("head").is_null()).to_dicts()}
    assert by_class["word start"]["lift"] > 1.2 and by_class["punctuation"]["lift"] == 0.0
    assert by_class["word start"]["attention_lift"] == 0.0 and by_class["punctuation"]["attention_lift"] > 3
    # Every selected key follows a full stop, and every fourth query is one.
    assert chosen.most_selected == "induction"


def test_ids_alone_tell_copies_but_no_classes() -> None:
    found = ANALYZER.analyze_content(random_maps(2, 30), torch.arange(30) % 6)
    assert set(found.lift["token_class"]) == {"induction", "repeated", "first occurrence"}
    assert found.tokens.is_empty()
