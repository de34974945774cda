from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from tests.analysis import planted
from tests.analysis.conftest import tiny_dsa, tiny_gpt2, tiny_llama
from tests.analysis.features.reference import attention_row, selection_row
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)


def dense_attention(model, ids: list[int], layer: int) -> np.ndarray:
    """Dense p [heads, S, S] of a layer whose predecessors are sparse, from output_attentions in eager."""
    modules = [block.self_attn.indexer for block in model.model.layers] if hasattr(model.config, "index_topk") else []
    try:
        for index, module in enumerate(modules):
            module.index_topk = len(ids) if index == layer else model.config.index_topk
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            return model(torch.tensor([ids]), output_attentions=True).attentions[layer][0].double().numpy()
    finally:
        for module in modules:
            module.index_topk = model.config.index_topk


def selections(model, ids: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Index scores I and selection of every layer of a plain eager forward, I written out in float64:

    I[t, s] = sum over heads j of w[t, j] ReLU(q[t, j] . k[s]), scaled by d^-1/2 and H^-1/2.
    """
    inputs, chosen, handles = [], [], []
    for block in model.model.layers:
        module = block.self_attn.indexer
        handles.append(module.register_forward_pre_hook(lambda _, args: inputs.append(args[:3])))
        handles.append(module.register_forward_hook(lambda _, args, out: chosen.append(out[0].numpy())))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return [
        (index_scores(block.self_attn.indexer, *given), topk)
        for block, given, topk in zip(model.model.layers, inputs, chosen, strict=True)
    ]


def index_scores(module, hidden, q_resid, rotary) -> np.ndarray:
    def weight(linear) -> np.ndarray:
        return linear.weight.detach().double().numpy()

    x, r = hidden[0].double().numpy(), q_resid[0].double().numpy()
    cos, sin = (part[0].double().numpy() for part in rotary)
    half = module.qk_rope_head_dim // 2

    def rotated(v: np.ndarray, t: int) -> np.ndarray:
        a, b = v[:half], v[half : 2 * half]
        turned = [a * cos[t, :half] - b * sin[t, :half], b * cos[t, :half] + a * sin[t, :half]]
        return np.concatenate([*turned, v[2 * half :]])

    raw = x @ weight(module.wk).T
    normed = (raw - raw.mean(1, keepdims=True)) / np.sqrt(raw.var(1, keepdims=True) + 1e-6)
    k = np.stack([rotated(v, t) for t, v in enumerate(normed)])  # a fresh LayerNorm has gain 1 and bias 0
    q = (r @ weight(module.wq_b).T).reshape(len(x), module.n_heads, module.head_dim)
    w = x @ weight(module.weights_proj).T * module.n_heads**-0.5
    scores = np.zeros((len(x), len(x)))
    for t in range(len(x)):
        for j in range(module.n_heads):
            scores[t] += w[t, j] * np.maximum(k @ rotated(q[t, j], t) * module.head_dim**-0.5, 0)
    return scores


@pytest.mark.parametrize("build", [tiny_dsa, tiny_llama, tiny_gpt2])
def test_attention_features_equal_a_slow_float64_reference(build) -> None:
    model, one = build(), samples(45)
    table = extract_samples(model, one, SETTINGS)["attention"]
    ids = list(one[0].input_ids)
    top_k = getattr(model.config, "index_topk", None) or SETTINGS.top_k
    for layer in range(model.config.num_hidden_layers):
        dense = dense_attention(build(), ids, layer)
        for head in range(4):
            rows = [
                {"bucket": (t + 1).bit_length() - 1} | attention_row(dense[head, t, : t + 1], t, 0.02, 5, 3, top_k, ids)
                for t in range(45)
            ]
            expected = pl.DataFrame(rows).fill_nan(None).group_by("bucket").mean().sort("bucket")
            found = table.filter(layer=layer, head=head).sort("bucket")
            for name in expected.columns[1:]:
                np.testing.assert_allclose(
                    found[name].cast(pl.Float64).to_numpy(), expected[name].to_numpy(), rtol=2e-3, atol=2e-4,
                    err_msg=f"{name}, layer {layer}, head {head}",
                )  # fmt: skip


def test_selection_features_equal_a_slow_float64_reference() -> None:
    one = samples(45)
    ids = list(one[0].input_ids)
    tables = extract_samples(tiny_dsa(), one, SETTINGS)
    found = selections(tiny_dsa(), ids)
    for layer in range(3):
        dense = dense_attention(tiny_dsa(), ids, layer)
        scores, topk = found[layer]
        rows = [
            {"bucket": (t + 1).bit_length() - 1}
            | selection_row(dense[:, t, : t + 1].mean(0), scores[t, : t + 1], set(topk[t].tolist()))
            | {"selection_reuse": sum(s < t and s in topk[t - 1] for s in topk[t]) / len(topk[t])}
            for t in range(8, 45)
        ]
        expected = pl.DataFrame(rows).group_by("bucket").mean().sort("bucket")
        table = tables["indexer"].filter((pl.col("layer") == layer) & (pl.col("queries_in_effect") > 0)).sort("bucket")
        in_effect = [
            "selection_recall",
            "oracle_recall",
            "random_recall",
            "oracle_overlap",
            "top_key_kept",
            "selection_reuse",
            "score_margin",
            "score_gap",
            "tie_share",
        ]
        for name in in_effect:
            np.testing.assert_allclose(
                table[name].cast(pl.Float64).to_numpy(), expected[name].to_numpy(), rtol=2e-3, atol=2e-4, err_msg=name
            )
        last = expected.row(-1, named=True)  # the last bucket holds only queries in effect
        assert table["indexer_kl"][-1] == pytest.approx(last["indexer_kl"], rel=2e-3)
        assert table["zero_share"][-1] == pytest.approx(last["zero_share"], abs=1e-6)
        heads = tables["attention"].filter((pl.col("layer") == layer) & (pl.col("bucket") == 5)).sort("head")
        for head in range(4):
            recalls = [dense[head, t, topk[t][topk[t] <= t]].sum() for t in range(31, 45)]
            assert heads["head_recall"][head] == pytest.approx(np.mean(recalls), rel=2e-3)


def test_output_error_is_the_relative_distance_of_the_two_outputs() -> None:
    from indexscope.analysis.capture import CapturedModel, capture_dense, capture_sparse

    one, errors = samples(40), {}
    model = tiny_dsa(layers=1)

    def observe(chunk):
        sparse, dense = capture_sparse(chunk), capture_dense(chunk)
        errors[chunk.layer] = ((sparse - dense).norm(dim=-1) / dense.norm(dim=-1))[0]
        return sparse

    for _ in CapturedModel(model).run(torch.tensor([one[0].input_ids]), observe, 64):
        pass
    table = extract_samples(model, one, SETTINGS)["attention"].filter(pl.col("bucket") == 5)
    np.testing.assert_allclose(table["output_error"].to_numpy(), errors[0][:, 31:40].mean(-1).numpy(), rtol=1e-3)


def test_queries_before_the_selection_takes_effect_do_not_count() -> None:
    table = extract_samples(tiny_dsa(), samples(20), SETTINGS)["indexer"].filter(layer=0).sort("bucket")
    assert table["queries"].to_list() == [1, 2, 4, 8, 5]
    assert table["queries_multi"].to_list() == [0, 2, 4, 8, 5]
    assert table["queries_in_effect"].to_list() == [0, 0, 0, 7, 5]  # n_t = 8 selects everything
    assert table["selection_recall"].is_null().to_list() == [True, True, True, False, False]
    assert table["random_recall"][3] == pytest.approx(np.mean([8 / n for n in range(9, 16)]), rel=1e-6)


@pytest.mark.parametrize("lengths", [(1,), (2,), (5,), (1, 20, 20, 3)])
def test_short_samples_are_extracted_without_invented_numbers(lengths: tuple[int, ...]) -> None:
    tables = extract_samples(tiny_dsa(), samples(*lengths), SETTINGS)
    assert tables["samples"]["tokens"].to_list() == list(lengths)
    first = tables["attention"].filter(pl.col("bucket") == 0)
    assert first["normalized_entropy"].is_null().all()
    assert first["attention_entropy"].to_list() == pytest.approx([0.0] * len(first))
    assert tables["tokens"]["tokens"].sum() == sum(lengths) - len(lengths)


def test_batches_and_shards_change_nothing() -> None:
    many = samples(24, 24, 24, 30)
    together = extract_samples(tiny_dsa(), many, SETTINGS.model_copy(update={"batch": 3}))
    apart = [extract_samples(tiny_dsa(), [one], SETTINGS) for one in many]
    for name, table in together.items():
        alone = pl.concat([tables[name] for tables in apart])
        columns = [column for column in table.columns if column != "sketch"]
        keys = [
            column
            for column in ("sample", "layer", "head", "group", "bucket", "distance", "relative")
            if column in columns
        ]
        assert_frame_equal(
            table.select(columns).sort(keys), alone.select(columns).sort(keys), rel_tol=1e-3, abs_tol=1e-4
        )


def test_positions_count_every_selection_and_expect_as_many() -> None:
    tables = extract_samples(tiny_dsa(), samples(40), SETTINGS)
    sums = tables["positions"].filter(layer=1)
    assert sums["selections"].sum() == 8 * 32
    assert sums["expected_selections"].sum() == pytest.approx(8 * 32)
    assert sums["attention_mass"].sum() == pytest.approx(32, rel=1e-5)
    assert sums["attention_expected"].sum() == pytest.approx(32)
    oldest = sums.filter(relative=0)["expected_selections"].sum()
    assert oldest == pytest.approx(sum(8 / n * -(-n // 10) for n in range(9, 41)))


def test_positions_are_those_that_a_loop_over_the_selections_finds() -> None:
    one = samples(40)
    _, topk = selections(tiny_dsa(), list(one[0].input_ids))[1]
    selected = np.zeros((40, 40), dtype=bool)
    np.put_along_axis(selected, topk, True, axis=1)
    expected = planted.positions(one[0].index, 1, 40, selected & np.tri(40, dtype=bool))
    found = extract_samples(tiny_dsa(), one, SETTINGS)["positions"].filter(layer=1)
    assert_frame_equal(found.drop("attention_mass"), expected.drop("attention_mass"))


def test_score_sketches_hold_the_scores_of_both_groups() -> None:
    import datasketches

    one = samples(40)
    table = extract_samples(tiny_dsa(), one, SETTINGS)["scores"].filter(layer=0)
    scores, topk = selections(tiny_dsa(), list(one[0].input_ids))[0]
    values = {"selected": [], "unselected": []}
    for t in range(8, 40):
        for s in range(t + 1):
            values["selected" if s in topk[t] else "unselected"].append(scores[t, s])
    for row in table.iter_rows(named=True):
        expected = np.asarray(values[row["group"]])
        assert row["count"] == len(expected)
        assert row["mean"] == pytest.approx(expected.mean(), rel=1e-4)
        assert row["m2"] == pytest.approx(expected.var() * len(expected), rel=1e-3)
        assert (row["minimum"], row["maximum"]) == pytest.approx((expected.min(), expected.max()), rel=1e-4)
        median = datasketches.tdigest_float.deserialize(row["sketch"]).get_quantile(0.5)
        low, high = np.quantile(expected, (0.46, 0.54))  # a t-digest of compression 100 is coarsest in the middle
        assert low - 1e-4 <= median <= high + 1e-4


def test_quality_is_the_models_own_likelihood() -> None:
    one = samples(33)
    table = extract_samples(tiny_llama(), one, SETTINGS)["tokens"]
    model, ids = tiny_llama(), torch.tensor([one[0].input_ids])
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss
        right = (model(ids).logits[0, :-1].argmax(-1) == ids[0, 1:]).double().mean()
    assert (table["nll"] * table["tokens"]).sum() / 32 == pytest.approx(float(loss), rel=1e-4)
    assert (table["accuracy"] * table["tokens"]).sum() / 32 == pytest.approx(float(right))
    assert table["dense_nll"].is_null().all(), "a dense model needs no dense reference"


def test_the_dense_reference_is_taken_of_as_many_samples_as_asked_for_and_is_the_same_there() -> None:
    model, some = tiny_dsa(), samples(40, 40, 40, 40, 33)

    def nll(settings: ExtractSettings, **more: object) -> pl.DataFrame:
        tokens = extract_samples(model, some, settings, **more)["tokens"]  # type: ignore[arg-type]
        return tokens.select("sample", "bucket", "nll", "dense_nll")

    def settings(**own: object) -> ExtractSettings:
        return SETTINGS.model_copy(update=own)

    every, batched = nll(settings(dense_reference=True)), settings(batch=4)
    assert not every["dense_nll"].has_nulls()
    cases = [
        ({1, 3}, nll(settings(batch=4, dense_reference=2))),
        ({0, 4}, nll(batched, dense={0, 4})),
        ({0, 1, 2, 3, 4}, nll(batched)),
        (set(), nll(settings(dense_reference=False))),
    ]
    for chosen, found in cases:
        own = pl.col("sample").is_in(list(chosen))
        assert found.filter(~own)["dense_nll"].is_null().all()
        assert_frame_equal(found.filter(own), every.filter(own), rel_tol=1e-5)
        assert_frame_equal(found.drop("dense_nll"), every.drop("dense_nll"), rel_tol=1e-5)


@given(st.integers(0, 3000), st.integers(1, 300))
def test_a_quarter_of_the_samples_has_a_dense_reference_unless_told_otherwise(count: int, wanted: int) -> None:
    found = ExtractSettings().dense_samples(count)
    assert found == min(count, max(32, min(256, count // 4)))
    assert ExtractSettings(dense_reference=wanted).dense_samples(count) == min(wanted, count)
    assert ExtractSettings(dense_reference=True).dense_samples(count) == count
    assert ExtractSettings(dense_reference=False).dense_samples(count) == 0
