"""Claims about a study's own features: built-in ones that are declared again must come out the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import DeepseekV32ForCausalLM, LlamaForCausalLM

from indexscope import IndexscopeError
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.kernels import chunk as kernels
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.plugins.extract import extract_plugin_features
from indexscope.analysis.settings import ExtractSettings
from indexscope.plugins import Plugin
from tests.analysis.samples import samples

KEYS = ["sample", "layer", "head", "bucket"]
SETTINGS = ExtractSettings(chunk=16, batch=2, dense_reference=False)


def declared(function: Callable[[AttentionRows], object], **more: Any) -> Plugin:
    return Plugin(function.__name__, "share", "A test.", "neither", function, file="own.py", **more)


def own_self(rows: AttentionRows) -> torch.Tensor:
    return rows.mass(rows.distance == 0)


def own_recall(rows: AttentionRows) -> torch.Tensor:
    return torch.zeros_like(rows.log_z) if rows.selected is None else (rows.p * rows.selected).sum(-1)


def own_selection(rows: AttentionRows) -> torch.Tensor:
    assert rows.selected is not None
    return (rows.mean * rows.selected[:, 0]).sum(-1)


def test_features_declared_again_equal_the_compiled_ones(
    dsa: DeepseekV32ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(
        "indexscope.analysis.features.layer.extract_chunk",
        lambda *given: compiled.append(1) or kernels.extract_chunk(*given),
    )
    data = samples(50, 50, 37)
    built_in = extract_samples(dsa, data, SETTINGS)
    assert compiled, "the kernels did the built-in features"
    made = extract_plugin_features(
        dsa,
        data,
        SETTINGS,
        [
            declared(own_self),
            declared(own_recall, queries="in_effect"),
            declared(own_selection, per="query", queries="in_effect"),
        ],
    )
    heads = built_in["attention"].join(made["plugin_attention"], on=KEYS, how="full", coalesce=True)
    assert heads.height == built_in["attention"].height == made["plugin_attention"].height
    assert_close(heads, "own_self", "self_mass", "queries")
    assert_close(heads, "own_recall", "head_recall", "queries_in_effect")
    keys = [key for key in KEYS if key != "head"]
    layers = (
        built_in["indexer"].filter(pl.col("queries_in_effect") > 0).join(made["plugin_indexer"], on=keys, how="full")
    )
    assert layers.height == made["plugin_indexer"].height
    assert_close(layers, "own_selection", "selection_recall", "queries_in_effect")


def assert_close(frame: pl.DataFrame, own: str, built_in: str, weight: str) -> None:
    """Values to 1e-6, unknown where the other is unknown, and over as many queries."""
    values = [frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (own, built_in)]
    assert np.isfinite(values[1]).any()
    np.testing.assert_allclose(*values, atol=1e-6, rtol=0)
    known = frame.filter(pl.col(built_in).is_not_null())
    assert known[f"{own}_queries"].to_list() == known[weight].to_list()


@pytest.mark.parametrize("settings", [{"chunk": 7}, {"chunk": 64, "batch": 1}])
def test_chunks_and_batches_change_nothing(dsa: DeepseekV32ForCausalLM, settings: dict[str, int]) -> None:
    one, data = [declared(own_self)], samples(50, 50, 37)
    first = extract_plugin_features(dsa, data, SETTINGS, one)["plugin_attention"]
    other = extract_plugin_features(dsa, data, SETTINGS.model_copy(update=settings), one)["plugin_attention"]
    assert first.drop("own_self").equals(other.drop("own_self"))
    np.testing.assert_allclose(first["own_self"], other["own_self"], atol=2e-6)


def test_only_measured_blocks_of_queries_count(dsa: DeepseekV32ForCausalLM) -> None:
    settings = SETTINGS.model_copy(update={"query_every": 2})
    built_in = extract_samples(dsa, samples(64), settings)["attention"]
    own = extract_plugin_features(dsa, samples(64), settings, [declared(own_self)])["plugin_attention"]
    assert own["own_self_queries"].sum() == built_in["queries"].sum() == 3 * 4 * 32
    assert_close(built_in.join(own, on=KEYS), "own_self", "self_mass", "queries")


def test_a_feature_of_selections_has_no_table_in_a_dense_model(llama: LlamaForCausalLM) -> None:
    assert extract_plugin_features(llama, samples(20), SETTINGS, [declared(own_recall, queries="in_effect")]) == {}


def test_a_query_that_is_not_defined_counts_in_neither_sum(llama: LlamaForCausalLM) -> None:
    def late(rows: AttentionRows) -> torch.Tensor:
        value = torch.where(rows.position >= 4, rows.position.double(), torch.nan)
        return value.expand(1, len(rows.position))

    table = extract_plugin_features(llama, samples(8), SETTINGS, [declared(late, per="query")])["plugin_indexer"]
    assert table.select("layer", "bucket", "late", "late_queries").rows() == [
        (0, 2, 5.0, 3), (0, 3, 7.0, 1), (1, 2, 5.0, 3), (1, 3, 7.0, 1),
    ]  # fmt: skip


def raised(rows: AttentionRows) -> object:
    return rows.p[:, 99]


def left(rows: AttentionRows) -> object:
    raise SystemExit(0)


#: What a function returns, and what the line must say.
WRONG: dict[str, tuple[Callable[[AttentionRows], object], str]] = {
    "raises": (raised, "raised IndexError in line"),
    "exits": (left, "raised SystemExit in line"),
    "number": (lambda rows: 3, "returned int"),
    "array": (lambda rows: rows.n.numpy(), "returned ndarray"),
    "shape": (lambda rows: rows.p, "returned shape [2, 4, 16, 16]"),
    "transposed": (lambda rows: own_self(rows).transpose(1, 2), "returned shape [2, 16, 4]"),
    "complex": (lambda rows: own_self(rows).to(torch.complex64), "returned complex numbers"),
    "infinite": (lambda rows: own_self(rows) / 0, "returned an infinite value"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_gets_wrong_is_one_line_with_its_name(dsa: DeepseekV32ForCausalLM, case: str) -> None:
    function, words = WRONG[case]
    function.__name__ = function.__name__.replace("<lambda>", "mine")
    with pytest.raises(IndexscopeError) as caught:
        extract_plugin_features(dsa, samples(20, 20), SETTINGS, [declared(function)])
    assert caught.value.where == f"own.py: {function.__name__}" and words in caught.value.reason
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_memory_that_runs_out_halves_the_chunk(dsa: DeepseekV32ForCausalLM) -> None:
    def large(rows: AttentionRows) -> torch.Tensor:
        if len(rows.position) > 16:
            raise MemoryError
        return own_self(rows)

    found = extract_plugin_features(dsa, samples(40), SETTINGS.model_copy(update={"chunk": 64}), [declared(large)])[
        "plugin_attention"
    ]
    assert found["large_queries"].sum() == 3 * 4 * 40
