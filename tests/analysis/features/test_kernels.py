"""The compiled kernels against torch, against float64 written out, and against themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.features import layer
from indexscope.analysis.features.columns import PER_HEAD, PER_QUERY
from indexscope.analysis.features.kernels.block import Options
from indexscope.analysis.features.kernels.chunk import ChunkFeatures, extract_chunk, ranges_of
from indexscope.analysis.features.kernels.compiled import kernel
from indexscope.analysis.features.kernels.maths import exp32, log32
from indexscope.analysis.features.kernels.ranges import earlier_copies
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.metrics import FAMILIES
from indexscope.analysis.features.sketch import BINS
from tests.analysis.features.drawn import features_of, whole
from tests.analysis.features.reference import attention_row, selection_row

# A weight at a threshold, or two weights that rounding swaps, move these by one key.
COUNTED = ("sparsity_ratio", "keys_for_95", "oracle_overlap")


def assert_same(found: LayerFeatures, expected: LayerFeatures, rtol: float = 2e-4, atol: float = 2e-5) -> None:
    np.testing.assert_array_equal(found.counts.sums, expected.counts.sums)
    for mine, other in ((found.per_head, expected.per_head), (found.per_query, expected.per_query)):
        for place, name in enumerate(mine.names):
            np.testing.assert_array_equal(mine.counts[place], other.counts[place], err_msg=name)
            loose = 2e-2 if name in COUNTED else 0.0
            means, others = (sums.means()[name] for sums in (mine, other))
            np.testing.assert_allclose(means, others, rtol=max(rtol, loose), atol=max(atol, loose), err_msg=name)
    assert found.position_queries == expected.position_queries
    for mine, other in zip(found.positions, expected.positions, strict=True):
        assert (mine is None) == (other is None)
        for name, a, b in zip(mine._fields, mine, other, strict=True) if mine is not None else ():
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(found.shape.queries, expected.shape.queries)
    torch.testing.assert_close(found.shape.by_key, expected.shape.by_key, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.shape.by_distance, expected.shape.by_distance, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.shape.contrast, expected.shape.contrast, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.shape.tiled, expected.shape.tiled)
    np.testing.assert_array_equal(found.histogram, expected.histogram)
    for mine, other in zip(found.sketches, expected.sketches, strict=True):
        for group, sketch in mine.items():
            assert (sketch.count, sketch.zeros) == (other[group].count, other[group].zeros)
            if sketch.count:
                assert (sketch.minimum, sketch.maximum) == (other[group].minimum, other[group].maximum)
                assert sketch.mean == pytest.approx(other[group].mean, rel=1e-9, abs=1e-9)
                assert sketch.m2 == pytest.approx(other[group].m2, rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 3), st.sampled_from([None, 1, 6, 40]), st.sampled_from([None, 1, 9]),
    st.integers(0, 5), st.sampled_from([0, 2]), st.integers(1, 70), st.integers(0, 10**6),
)  # fmt: skip
def test_kernels_equal_torch_on_any_shape(n, batch, k, window, left, levels, step, seed) -> None:
    chunk = whole(n, seed, batch=batch, k=k, window=window, left=min(left, n - 1), levels=levels)
    compiled, output = features_of(chunk, True, step)
    plain, expected = features_of(chunk, False, step)
    assert_same(compiled, plain)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    "more",
    [
        {"softcap": 2.0},
        {"sinks": torch.tensor([0.5, -2.0, 3.0, -50.0])},
        {"bias": torch.randn(1, 4, 40, 40, generator=torch.Generator().manual_seed(1))},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float16},
    ],
)
def test_kernels_equal_torch_whatever_the_model_adds(more, groups) -> None:
    chunk = whole(40, batch=2, groups=groups, left=3, **more)
    compiled, output = features_of(chunk, True, 16)
    plain, expected = features_of(chunk, False, 16)
    assert ranges_of(chunk) is not None
    assert_same(compiled, plain)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_long_rows_cross_every_block() -> None:
    chunk = whole(700, batch=1, heads=2, groups=1, k=64)
    assert_same(features_of(chunk, True, 256)[0], features_of(chunk, False, 700)[0])


def per_query_features(chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, _, n, _ = chunk.query.shape
    ids = torch.randint(7, (batch, n), generator=torch.Generator().manual_seed(5)).numpy()
    copies = np.empty_like(ids)
    for item in range(batch):
        earlier_copies(ids[item], 7, copies[item])
    options = Options(0.02, 5, 3, 6, int(n - 1).bit_length() + 1, 10, 16)
    found = extract_chunk(chunk, ranges_of(chunk), copies, options, np.zeros((batch, 2, BINS), dtype=np.int64))
    return found.per_head, found.per_query, ids


@pytest.mark.parametrize(("n", "scale", "levels"), [(1, 1, 0), (4, 1, 0), (60, 1, 0), (60, 6, 1), (300, 2, 0)])
def test_kernels_equal_float64_written_out(n, scale, levels) -> None:
    chunk = whole(n, 3, heads=2, groups=1, scale=scale, levels=levels)
    per_head, per_query, ids = per_query_features(chunk)
    logits = chunk.query[0].double().numpy() * 0.5 @ chunk.key[0].double().numpy().transpose(0, 2, 1)
    for t in range(n):
        rows = np.exp(logits[:, t, : t + 1] - logits[:, t, : t + 1].max(-1, keepdims=True))
        rows /= rows.sum(-1, keepdims=True)
        for head in range(2):
            expected = attention_row(rows[head], t, 0.02, 5, 3, 6, ids[0].tolist())
            for name, value in expected.items():
                found = per_head[PER_HEAD.index(name), 0, head, t]
                np.testing.assert_allclose(found, value, rtol=2e-5, atol=5e-6, err_msg=f"{name} {t}")
        if t >= 6:
            selected = set(chunk.selected[0, 0, t].nonzero()[:, 0].tolist())
            expected = selection_row(rows.mean(0), chunk.scores[0, t, : t + 1].double().numpy(), selected)
            for name, value in expected.items():
                found = per_query[PER_QUERY.index(name), 0, t]
                np.testing.assert_allclose(found, value, rtol=5e-5, atol=5e-6, err_msg=f"{name} {t}")


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e8])
def test_constant_and_extreme_logits_stay_finite(scale) -> None:
    chunk = whole(50, heads=2, scale=scale, levels=1)
    assert ranges_of(chunk) is not None
    compiled, output = features_of(chunk, True)
    plain, expected = features_of(chunk, False)
    assert output.isfinite().all()
    assert_same(compiled, plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)
    if scale == 0.0:
        entropy = compiled.per_head.means()["normalized_entropy"][..., 1:]
        np.testing.assert_allclose(entropy, 1.0, rtol=1e-6)


def test_equal_scores_have_no_margin_and_a_constant_row_no_spread() -> None:
    chunk = whole(30, levels=1)
    chunk.scores[torch.isfinite(chunk.scores)] = 0.3
    layer, _ = features_of(chunk, True)
    assert np.nanmax(np.abs(layer.per_query.means()["score_margin"])) == 0
    assert np.nanmax(np.abs(layer.per_query.means()["score_gap"])) == 0
    assert np.nanmin(layer.per_query.means()["tie_share"]) == 1
    assert layer.sketches[0]["unselected"].m2 == 0


def as_bytes(layer: LayerFeatures) -> bytes:
    arrays = [layer.per_head.sums, layer.per_query.sums]
    arrays += [part.numpy() for part in (layer.shape.by_key, layer.shape.by_distance, layer.shape.contrast)]
    arrays += [part.numpy() for sums in layer.positions if sums is not None for part in sums]
    moments = [repr(sketch) for item in layer.sketches for sketch in item.values()]
    return b"".join(array.tobytes() for array in arrays) + repr(moments).encode()


def test_the_number_of_threads_changes_no_byte() -> None:
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(as_bytes(features_of(whole(400, heads=6, groups=6, k=32), True, 200)[0]))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_a_failure_in_a_block_reaches_the_caller() -> None:
    from indexscope.analysis.features.kernels.pool import run_all

    def fail() -> int:
        raise MemoryError("block")

    with pytest.raises(MemoryError, match="block"):
        run_all([lambda: 1, fail, lambda: 2])


@pytest.mark.parametrize("step", [1, 7, 64])
def test_chunks_change_nothing(step) -> None:
    chunk = whole(90, batch=2, left=4)
    assert_same(features_of(chunk, True, step)[0], features_of(chunk, True)[0])


def test_an_item_of_a_batch_has_the_features_it_has_alone() -> None:
    chunk = whole(50, batch=3)
    together = features_of(chunk, True, ids=torch.arange(150).view(3, 50) % 7)[0]
    names = ("query", "key", "value", "eligible", "selected", "scores")
    alone = type(chunk)(**{**chunk.__dict__, **{name: getattr(chunk, name)[1:2] for name in names}})
    single = features_of(alone, True, ids=(torch.arange(150).view(3, 50) % 7)[1:2])[0]
    np.testing.assert_allclose(together.per_head.sums[:, 1:2], single.per_head.sums, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(together.per_query.sums[:, 1:2], single.per_query.sums, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together.histogram[1:2], single.histogram)


def test_what_is_not_one_range_or_not_finite_goes_to_torch() -> None:
    chunk = whole(20)
    changed = {
        "eligible": chunk.eligible & ~torch.eye(20, dtype=torch.bool).roll(-2, 1),
        "query": torch.where(torch.eye(20, 16, dtype=torch.bool), torch.nan, chunk.query),
        "scores": torch.where(torch.eye(20, dtype=torch.bool), -torch.inf, chunk.scores),
        "positions": torch.arange(20),
        "selected": chunk.selected.expand(-1, 2, -1, -1),
    }
    assert ranges_of(chunk) is not None
    for name, value in changed.items():
        assert ranges_of(type(chunk)(**{**chunk.__dict__, name: value})) is None, name


def test_weights_that_are_not_finite_show() -> None:
    chunk = whole(20)
    chunk.query[0, 0, 5, 0] = torch.nan
    layer, output = features_of(chunk, True)
    assert output.isnan().any()
    assert np.isnan(layer.shape.by_key.numpy()).any() or layer.per_head.counts.min() == 0


@kernel
def _apply(x, exps, logs):
    for j in range(len(x)):
        exps[j] = exp32(-x[j])
        logs[j] = log32(x[j])


def test_exp_and_ln_are_exact_to_single_precision_over_their_range() -> None:
    bits = np.arange(0x00800000, 0x7F7FFFFF, 997, dtype=np.int32)
    x = bits.view(np.float32)
    exps, logs = np.empty_like(x), np.empty_like(x)
    _apply(x, exps, logs)
    exact = x.astype(np.float64)
    small = exact < 87
    np.testing.assert_allclose(exps[small], np.exp(-exact[small]), rtol=2e-7)
    assert exps[~small].max() < 2e-38
    # Within two units in the last place of float32, also next to ln 1 = 0.
    np.testing.assert_allclose(logs, np.log(exact), rtol=2.4e-7)
    near = np.linspace(0.5, 1.5, 200_001).astype(np.float32)
    exps, logs = np.empty_like(near), np.empty_like(near)
    _apply(near, exps, logs)
    np.testing.assert_allclose(logs, np.log(near.astype(np.float64)), rtol=2.4e-7)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_feature_without_a_kernel_is_computed_by_torch_beside_the_kernels(monkeypatch, batch) -> None:
    """As if the kernels did not know these: what they leave undefined, torch fills in."""
    lacking = {"top_5_mass", "output_error", "normalized_entropy", "oracle_overlap", "zero_share"}

    def without(*args: object) -> ChunkFeatures:
        found = extract_chunk(*args)
        for names, values in ((PER_HEAD, found.per_head), (PER_QUERY, found.per_query)):
            values[[place for place, name in enumerate(names) if name in lacking]] = np.nan
        return found

    monkeypatch.setattr(layer, "extract_chunk", without)
    chunk = whole(60, 4, batch=batch)
    compiled, _ = features_of(chunk, True, 16)
    assert np.isnan(compiled.per_head.means()["top_5_mass"]).all()
    monkeypatch.setattr(layer, "WITHOUT_KERNEL", frozenset(lacking))
    assert_same(features_of(chunk, True, 16)[0], features_of(chunk, False, 16)[0])


def test_every_kernel_has_a_place_of_its_own() -> None:
    """Places are compiled into cached kernels: they are without gaps, and features without a kernel come after them."""
    for table in ("attention", "indexer"):
        features = [feature for family in FAMILIES for feature in family.features if feature.table == table]
        places = sorted(feature.kernel for feature in features if feature.kernel is not None)
        assert places == list(range(len(places)))
