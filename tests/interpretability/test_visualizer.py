from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from polars.testing import assert_frame_equal

from indexscope.analysis.features import extract_samples
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import table_sums
from indexscope.analysis.settings import BootstrapSettings, ExtractSettings
from interpretability import AttentionVisualizer, IndexerInterpreter, PatternAnalyzer
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.samples import samples
from tests.interpretability.planted import attention_of, own, previous, random_maps, sink, uniform

VISUALIZER = AttentionVisualizer()


def topk_mask(weights: torch.Tensor, k: int) -> torch.Tensor:
    """The k keys of each query with most attention of the head mean, [batch, S, S]."""
    mean = weights.mean(1)
    chosen = torch.zeros(mean.shape, dtype=torch.bool).scatter(-1, mean.topk(k, dim=-1).indices, True)
    return chosen & torch.ones(mean.shape[-2:]).tril().bool()


def sparsified(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    kept = weights * mask[:, None]
    return kept / kept.sum(-1, keepdim=True)


def test_uniform_attention_has_the_largest_entropy_there_is() -> None:
    found = VISUALIZER.analyze_attention_entropy(uniform(64))
    assert found.normalized_entropy == pytest.approx(1.0, abs=1e-6)
    assert found.entropy == pytest.approx(np.mean(np.log(np.arange(1, 65))), abs=1e-5)
    assert found.effective_keys == pytest.approx(32.5, abs=1e-3)
    assert found.participation == pytest.approx(32.5, abs=1e-3)
    assert found.max_weight == pytest.approx(np.mean(1 / np.arange(1, 65)), abs=1e-6)
    assert found.sparsity_ratio == 0.0
    # Within 32 keys lie all keys of the first 32 queries, and 32 of n_t of the others.
    local = (32 + sum(32 / n for n in range(33, 65))) / 64
    assert found.local_mass == pytest.approx(local, abs=1e-6)
    assert found.local_global_ratio == pytest.approx(local / (1 - local), abs=1e-4)
    assert found.mean_distance == pytest.approx(np.mean(np.arange(64) / 2), abs=1e-4)
    assert (found.causal, found.samples, found.heads, found.length) == (True, 1, 1, 64)


def test_attention_to_single_keys_has_no_entropy() -> None:
    found = VISUALIZER.analyze_attention_entropy(np.stack([previous(40), sink(40), own(40)]))
    assert (found.entropy, found.normalized_entropy, found.max_weight, found.participation) == (0.0, 0.0, 1.0, 1.0)
    by_head = found.by_head
    assert by_head["previous_mass"].to_list() == pytest.approx([39 / 40, 1 / 40, 0.0])
    assert by_head["sink_mass"].to_list() == pytest.approx([5 / 40, 1.0, 4 / 40])
    assert by_head["self_mass"].to_list() == pytest.approx([1 / 40, 1 / 40, 1.0])
    assert by_head["mean_distance"].to_list() == pytest.approx([39 / 40, 19.5, 0.0])
    # All but one of the keys have nothing: 1 - 1/n_t, over all queries.
    assert found.sparsity_ratio == pytest.approx(np.mean(1 - 1 / np.arange(1, 41)), abs=1e-6)


def test_position_rows_are_powers_of_two_of_the_query() -> None:
    rows = VISUALIZER.analyze_attention_entropy(uniform(20)).by_position
    assert rows.select("first_query", "last_query", "queries").rows() == [
        *((0, 0, 1), (1, 2, 2), (3, 6, 4), (7, 14, 8), (15, 19, 5))
    ]
    assert rows["entropy"][4] == pytest.approx(np.mean(np.log(np.arange(16, 21))), abs=1e-5)
    assert rows["normalized_entropy"][0] is None  # one key: there is nothing to spread over


def test_maps_that_see_both_ways_are_measured_over_all_keys() -> None:
    length = 50
    found = VISUALIZER.analyze_attention_entropy(np.full((length, length), 1 / length))
    assert not found.causal
    assert found.entropy == pytest.approx(math.log(length), abs=1e-5)
    assert found.normalized_entropy == pytest.approx(1.0, abs=1e-6)
    distance = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    assert found.mean_distance == pytest.approx(distance.mean(), abs=1e-3)
    assert found.local_mass == pytest.approx((distance < 32).mean(), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), st.integers(0, 1000), st.floats(0.1, 8))
def test_measures_are_those_of_the_definition(length: int, heads: int, seed: int, sharpness: float) -> None:
    random = np.random.default_rng(seed)
    weights = np.tril(np.exp(sharpness * random.normal(size=(heads, length, length))))
    weights /= weights.sum(-1, keepdims=True)
    found = VISUALIZER.analyze_attention_entropy(weights)
    n = np.arange(1, length + 1)
    entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1)), -1)
    assert found.entropy == pytest.approx(entropy.mean(), abs=1e-4)
    assert found.normalized_entropy == pytest.approx((entropy[:, 1:] / np.log(n[1:])).mean(), abs=1e-4)
    assert found.participation == pytest.approx((1 / (weights**2).sum(-1)).mean(), rel=1e-4)
    assert found.max_weight == pytest.approx(weights.max(-1).mean(), abs=1e-5)
    assert found.top_5_mass == pytest.approx(np.sort(weights, -1)[..., -5:].sum(-1).mean(), abs=1e-5)
    assert found.sparsity_ratio == pytest.approx((1 - (weights >= 0.01).sum(-1) / n).mean(), abs=0.02)
    assert 0 <= found.normalized_entropy <= 1 + 1e-6
    assert found.participation <= found.effective_keys + 1e-3


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_numbers_are_those_that_the_pipeline_extracts_from_the_same_model(kind: str) -> None:
    model = tiny_llama() if kind == "dense" else tiny_dsa()
    sample = samples(100)[0]
    tables = extract_samples(model, [sample], ExtractSettings(dense_reference=False))
    maps = attention_of(model, torch.tensor([list(sample.input_ids)]))
    pipeline = summarise(table_sums(tables, "attention"), BootstrapSettings())
    recalls = summarise(table_sums(tables, "indexer"), BootstrapSettings()) if kind == "sparse" else None
    for layer, (weights, selected) in maps.items():
        expected = dict(pipeline.filter(pl.col("layer") == layer).select("metric", "value").iter_rows())
        found = VISUALIZER.analyze_attention_entropy(weights)
        assert found.entropy == pytest.approx(expected.pop("attention_entropy"), rel=1e-4)
        for name in found.keys() & expected.keys():
            assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
        assert len(found.keys() & expected.keys()) == 16
        if recalls is not None and selected is not None:
            sparse = VISUALIZER.measure_sparse_vs_dense(sparsified(weights, selected[:, 0]), weights, selected)
            own_rows = recalls.filter(pl.col("layer") == layer)
            for name, value in own_rows.select("metric", "value").iter_rows():
                if name in sparse:
                    assert sparse[name] == pytest.approx(value, rel=1e-3), name
            assert sparse.selection_recall < sparse.oracle_recall < 1


def test_recall_is_the_dense_attention_inside_the_selection() -> None:
    weights = torch.from_numpy(np.stack([uniform(32), uniform(32)])).float()
    mask = torch.eye(32).bool()
    mask[:, 0] = True
    found = VISUALIZER.measure_sparse_vs_dense(sparsified(weights[None], mask[None]), weights[None], mask)
    # Two keys of n_t, where there are more: queries 2 to 31.
    expected = np.mean([2 / n for n in range(3, 33)])
    assert found.selection_recall == pytest.approx(expected, abs=1e-6)
    assert found.random_recall == pytest.approx(expected, abs=1e-6)
    assert found.oracle_recall == pytest.approx(expected, abs=1e-6)
    assert found.in_effect == pytest.approx(30 / 32)
    assert found.selected_share == pytest.approx(63 / (32 * 33 / 2))
    assert found.sparse.entropy == pytest.approx(math.log(2) * 31 / 32, abs=1e-6)
    assert found.by_head["head_recall"].to_list() == pytest.approx([expected] * 2, abs=1e-6)
    # The recall of the head mean is no head's own.
    assert found.metrics.filter(pl.col("metric") == "selection_recall")["head"].to_list() == [None]


def test_without_a_selection_it_is_where_the_sparse_weights_are() -> None:
    weights = random_maps(3, 40)
    mask = topk_mask(weights, 6)
    sparse = sparsified(weights, mask)
    told = VISUALIZER.measure_sparse_vs_dense(sparse, weights, mask)
    inferred = VISUALIZER.measure_sparse_vs_dense(sparse, weights)
    # Told one mask for all heads, inferred one a head: the head mean is then of each.
    assert inferred.head_recall == pytest.approx(told.head_recall, abs=1e-6)
    assert told.recall_of_oracle == pytest.approx(1.0, abs=1e-5)


def test_a_selection_that_did_not_make_the_sparse_weights_is_refused() -> None:
    weights = random_maps(2, 20)
    with pytest.raises(ValueError, match="of the attention outside selected_tokens, first in sample 0 head 0 query 1"):
        VISUALIZER.compare_sparse_vs_dense(weights, weights, torch.eye(20).bool())
    with pytest.raises(ValueError, match=r"sparse_weights has shape \[2, 20, 20\] and dense_weights \[2, 21, 21\]"):
        VISUALIZER.compare_sparse_vs_dense(weights[0], random_maps(2, 21)[0])


def test_the_calls_of_the_guide_return_figures(tmp_path: Path) -> None:
    weights = random_maps(3, 33, batch=2)
    mask = topk_mask(weights, 5)
    shown = VISUALIZER.visualize_sparse_attention(weights, mask, title="Sparse Attention Pattern")
    assert isinstance(shown, Figure)
    assert shown.get_suptitle() == "Sparse Attention Pattern"
    assert [axes.get_title(loc="left") for axes in shown.axes[:3]] == ["head 0", "head 1", "head 2"]
    assert isinstance(VISUALIZER.compare_sparse_vs_dense(sparsified(weights, mask), weights, mask), Figure)
    assert isinstance(VISUALIZER.compare_sparse_vs_dense(sparsified(weights, mask), weights), Figure)
    assert isinstance(VISUALIZER.visualize_attention_entropy(weights), Figure)
    assert not plt.get_fignums()  # nothing is left open, or shown


def test_a_figure_knows_how_much_of_what_it_draws_is_selected() -> None:
    weights = random_maps(2, 24)
    mask = topk_mask(weights, 4)
    rows = VISUALIZER.visualize_sparse_attention(weights, mask).data
    first = rows.filter(pl.col("panel") == "head 0")
    kept = (weights[0, 0] * mask[0]).sum().item()
    assert first["selected_attention"].sum() == pytest.approx(kept, rel=2e-2)
    assert first["attention"].sum() == pytest.approx(24, rel=2e-2)


def test_more_than_sixteen_heads_are_drawn_in_part_and_said_so() -> None:
    figure = VISUALIZER.visualize_sparse_attention(random_maps(40, 8))
    assert figure.get_suptitle() == "Sparse Attention Pattern (16 of 40 heads)"
    chosen = VISUALIZER.visualize_sparse_attention(random_maps(40, 8), heads=[39, 2])
    assert [axes.get_title(loc="left") for axes in chosen.axes[:2]] == ["head 39", "head 2"]
    with pytest.raises(ValueError, match="heads is 40; give a whole number from 0 to 39"):
        VISUALIZER.visualize_sparse_attention(random_maps(40, 8), heads=[40])
    with pytest.raises(ValueError, match="sample is 1; give a whole number from 0 to 0"):
        VISUALIZER.visualize_sparse_attention(random_maps(2, 8), sample=1)


def test_a_query_is_shown_over_the_text_that_it_reads() -> None:
    weights = random_maps(2, 30)
    mask = topk_mask(weights, 4)
    tokens = [f" w{place}" for place in range(30)]
    rows = VISUALIZER.visualize_token_selection(weights, mask, tokens, query=20).data
    assert rows["token"].to_list() == tokens[:21]
    assert rows["attention"].to_numpy() == pytest.approx(weights[0, :, 20, :21].mean(0).numpy(), abs=1e-6)
    assert rows.filter("selected")["position"].to_list() == mask[0, 20].nonzero().flatten().tolist()
    one = VISUALIZER.visualize_token_selection(weights, mask, torch.arange(30), head=1).data
    assert one["token"].to_list() == [f" {place}" for place in range(30)]
    assert one["attention"].to_numpy() == pytest.approx(weights[0, 1, 29].numpy(), abs=1e-6)
    long = VISUALIZER.visualize_token_selection(random_maps(1, 300), None, ["x\n$y$"] * 300).data
    assert long.height == 160 and "selected" not in long.columns
    with pytest.raises(ValueError, match="query is 30; give a whole number from -30 to 29"):
        VISUALIZER.visualize_token_selection(weights, mask, tokens, query=30)


def test_prefixes_of_a_causal_map_are_shorter_sequences() -> None:
    found = VISUALIZER.analyze_pattern_evolution(uniform(100))
    assert found.lengths == (32, 64, 100) and found.prefixes
    for row in found.by_length.to_dicts():
        keys = np.arange(1, row["length"] + 1)
        assert row["entropy"] == pytest.approx(np.log(keys).mean(), abs=1e-5)
        assert row["entropy"] == pytest.approx(row["uniform"], abs=1e-5)
        assert row["max_weight"] == pytest.approx((1 / keys).mean(), abs=1e-6)
    assert found.pattern_types.select("length", "pattern_type", "share").rows() == [
        (length, "uniform", 1.0) for length in (32, 64, 100)
    ]
    given_apart = VISUALIZER.analyze_pattern_evolution({32: uniform(32), 64: uniform(64), 100: uniform(100)})
    assert given_apart.by_length.equals(found.by_length)
    assert VISUALIZER.analyze_pattern_evolution([sink(40), sink(20)]).lengths == (20, 40)
    assert isinstance(VISUALIZER.visualize_pattern_evolution(uniform(40), lengths=[8, 40]), Figure)


@pytest.mark.parametrize(
    ("weights", "lengths", "message"),
    [
        ({30: uniform(31)}, None, r"attention_weights\[30\] has 31 tokens; key the weights by their length"),
        ([uniform(8), sink(8)], None, "has length 8 twice; stack sequences of equal length as one batch"),
        ([], None, "attention_weights is empty"),
        ([uniform(8)], [4], "lengths is only for single weights"),
        (np.full((8, 8), 1 / 8), None, "let queries see what follows them"),
        (uniform(8), [9], "lengths is 9; give a whole number from 2 to 8"),
    ],
)
def test_lengths_that_cannot_be_meant_are_refused(weights: Any, lengths: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VISUALIZER.analyze_pattern_evolution(weights, lengths)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_figures_are_written_as_the_path_says_and_always_the_same(tmp_path: Path, suffix: str, start: bytes) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        VISUALIZER.visualize_sparse_attention(uniform(12), np.eye(12, dtype=bool), save_path=path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(start)
    assert first == second


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in .\.jpg.; give \.png, \.svg or \.pdf"):
        VISUALIZER.visualize_attention_entropy(uniform(12), save_path=tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


class Mine(AttentionVisualizer):
    def visualize_diagonal(self, weights: Any, save_path: Path | None = None) -> Figure:
        figure = self.figure(height=2, width=3)
        figure.subplots().plot(np.diagonal(weights))
        return self._finish(figure, save_path)


def test_every_picture_goes_to_the_objects_folder_under_a_name_of_its_own(tmp_path: Path) -> None:
    class Mine(AttentionVisualizer):
        def visualize_mine(self, weights: Any) -> Figure:
            self.analyze_attention_entropy(weights)
            return self._finish(self.figure(height=2))

    folder = tmp_path / "made" / "here"
    weights = random_maps(2, 40)
    mine = Mine(save_dir=folder)
    assert list(folder.iterdir()) == []
    mine.visualize_sparse_attention(weights)
    first = (folder / "sparse_attention.png").read_bytes()
    mine.visualize_sparse_attention(weights, title="Another")
    mine.visualize_pattern_evolution(weights)
    mine.visualize_mine(weights)
    mine.compare_sparse_vs_dense(weights, weights)
    mine.visualize_attention_entropy(weights, save_path=tmp_path / "own.svg")
    PatternAnalyzer(n_clusters=2, save_dir=str(folder)).visualize_clusters(
        PatternAnalyzer(n_clusters=2).cluster_patterns(weights)
    )
    names = ["clusters", "compare_sparse_vs_dense", "mine", "pattern_evolution", "sparse_attention"]
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in [*names, "sparse_attention_2"]]
    assert (folder / "sparse_attention.png").read_bytes() == first
    assert first != (folder / "sparse_attention_2.png").read_bytes() and (tmp_path / "own.svg").exists()
    again = Mine(save_dir=folder)
    again.visualize_sparse_attention(weights, title="Own", save_path=folder / "sparse_attention.png")
    kept = (folder / "sparse_attention.png").read_bytes()
    again.visualize_sparse_attention(weights)
    assert (folder / "sparse_attention.png").read_bytes() == kept
    assert len(list(folder.iterdir())) == 6  # a notebook that runs again replaces its pictures


@pytest.mark.parametrize("kind", [AttentionVisualizer, PatternAnalyzer, IndexerInterpreter])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, kind: type) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        with pytest.raises(ValueError, match=r"save_dir '.*' cannot be written .*; give a folder") as found:
            kind(save_dir=wrong)
        assert "\n" not in str(found.value)


def test_a_subclass_draws_in_the_house_style(tmp_path: Path) -> None:
    with plt.rc_context({"axes.grid": False, "axes.spines.top": True, "font.family": ["serif"]}):
        figure = Mine().visualize_diagonal(uniform(9), tmp_path / "own.svg")
        assert plt.rcParams["axes.spines.top"]
    axes = figure.axes[0]
    assert not axes.spines["top"].get_visible()
    assert axes.xaxis.get_gridlines()[0].get_visible()
    assert figure.get_size_inches().tolist() == [3, 2]
    assert "DejaVu Sans" in (tmp_path / "own.svg").read_text()


def test_a_notebook_shows_a_figure_once_in_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    shell = SimpleNamespace(kernel=object(), execution_count=4)
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(publish_display_data=shown.append))
    figure = VISUALIZER.visualize_attention_entropy(uniform(9))
    assert [part["image/png"][:4] for part in shown] == [b"\x89PNG"]
    figure._ipython_display_()  # as the value of the same cell
    assert len(shown) == 1
    shell.execution_count = 5
    figure._ipython_display_()
    assert len(shown) == 2


def test_training_steps_are_measured_as_each_alone_and_drawn_on_their_own_axis() -> None:
    maps = {1000: random_maps(2, 40, 1), 0: random_maps(2, 40, 0) * 0 + torch.tensor(uniform(40)).float()}
    found = VISUALIZER.analyze_pattern_evolution(maps, by="step")
    assert (found.by, found.steps, found.lengths, found.prefixes) == ("step", (0, 1000), (40,), False)
    assert found.by_length.is_empty() and found.by_step["step"].to_list() == [0, 1000]
    alone = [VISUALIZER.analyze_attention_entropy(maps[step]).entropy for step in (0, 1000)]
    assert found.by_step["entropy"].to_list() == pytest.approx(alone)
    assert found.pattern_types.filter(pl.col("step") == 0)["pattern_type"].to_list()[0] == "uniform"
    for steps in (maps, {**maps, 143_000: maps[1000]}, {0: maps[0]}):
        figure = VISUALIZER.visualize_pattern_evolution(steps, by="step")
        assert {axes.get_xlabel() for axes in figure.axes} == {"training step"}
        assert {"Attention by training step", "0"} <= texts_of(figure)
    by_length = VISUALIZER.visualize_pattern_evolution(maps[1000])
    assert {axes.get_xlabel() for axes in by_length.axes} == {"length (tokens)"}
    assert "Attention by sequence length" in texts_of(by_length)


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([random_maps(1, 20)], {"by": "step"}, "is list; by step give a mapping from the training step"),
        ({}, {"by": "step"}, "is empty; by step give a mapping"),
        ({-1: random_maps(1, 20)}, {"by": "step"}, "step -1 is -1; give a whole number"),
        ({"a": random_maps(1, 20)}, {"by": "step"}, "step 'a' is a; give a whole number"),
        ({1: random_maps(1, 20), 2: random_maps(1, 24)}, {"by": "step"}, "unlike maps at steps 1 and 2, .*; give the"),
        ({1: random_maps(1, 20)}, {"by": "step", "lengths": [8]}, "lengths is only for evolution by length"),
        (random_maps(1, 20), {"by": "epoch"}, "by is 'epoch'; give one of length, step"),
    ],
)
def test_steps_that_cannot_be_meant_are_one_line(weights: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VISUALIZER.visualize_pattern_evolution(weights, **options)


def test_heads_of_layers_are_measured_as_alone_and_drawn_under_their_layers_name() -> None:
    layers = [random_maps(2, 24, seed, batch=2) for seed in range(3)]
    masks = [topk_mask(layer, 5) for layer in layers]
    sparse = [sparsified(*each) for each in zip(layers, masks, strict=True)]
    found = VISUALIZER.analyze_attention_entropy(torch.stack(layers))
    assert (found.layers, found.heads, found.samples) == (3, 2, 2)
    alone = [VISUALIZER.analyze_attention_entropy(weights) for weights in layers]
    assert found.entropy == pytest.approx(np.mean([each.entropy for each in alone]))
    for layer, each in enumerate(alone):
        assert_frame_equal(found.by_head.filter(pl.col("layer") == layer).drop("layer"), each.by_head)
    both = VISUALIZER.measure_sparse_vs_dense(sparse, layers, masks)
    singles = [VISUALIZER.measure_sparse_vs_dense(*each) for each in zip(sparse, layers, masks, strict=True)]
    assert both.selection_recall == pytest.approx(np.mean([each.selection_recall for each in singles]), rel=1e-5)
    assert both.dense.by_head["layer"].to_list() == [0, 0, 1, 1, 2, 2]
    named = VISUALIZER.visualize_sparse_attention(layers, masks, heads=[0, 5])
    assert "layer 2 head 1" in texts_of(named)
    assert "layer 1 head 0" in texts_of(VISUALIZER.visualize_attention_entropy(layers))
    lost = VISUALIZER.compare_sparse_vs_dense(sparse, layers, masks)
    assert any("layer " in text for text in texts_of(lost))


def test_what_shows_one_layer_says_how_to_pick_it() -> None:
    layers = [random_maps(2, 24, seed) for seed in range(3)]
    calls: list[Any] = [
        lambda: VISUALIZER.visualize_token_selection(layers, None, ["a"] * 24),
        lambda: VISUALIZER.analyze_pattern_evolution(torch.stack(layers)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"holds 3 layers, of which this shows one; give it, e.g. .*\[0\]$"):
            call()
    with pytest.raises(ValueError, match="of several layers give one"):
        VISUALIZER.analyze_pattern_evolution(layers)


def texts_of(figure: Figure) -> set[str]:
    return {text for found in figure.findobj(Text) for text in found.get_text().splitlines()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_as_the_numbers_that_it_holds(dtype: torch.dtype) -> None:
    half = random_maps(2, 40).to(dtype)
    exact = half.double() / half.double().sum(-1, keepdim=True)
    found, expected = (VISUALIZER.analyze_attention_entropy(weights) for weights in (half, exact))
    assert found.entropy == pytest.approx(expected.entropy, rel=1e-4)
    assert found.local_mass == pytest.approx(expected.local_mass, rel=1e-4)
    assert isinstance(VISUALIZER.visualize_sparse_attention(half, half > 0.1), Figure)


def test_a_result_is_a_mapping_that_prints_and_has_frames() -> None:
    found = VISUALIZER.analyze_attention_entropy(random_maps(2, 20))
    assert found["entropy"] == found.entropy == dict(found)["entropy"]
    assert "normalized_entropy" in repr(found)
    frame = found.to_frame()
    assert frame.filter(pl.col("name") == "entropy")["value"].to_list() == [found.entropy]
    assert set(found.frames()) == {"values", "by_head", "by_position", "metrics"}
