"""Claims about models that run again with other chunks, tie-breaks and precisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.rows import closeup_queries
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.stability.rerun import CHUNKS, RERUNS, output_change, rerun_stability
from indexscope.analysis.stability.reselect import Run, run
from indexscope.analysis.stability.rounding import ROUNDINGS
from tests.analysis.capture.tiny_families import deepseek_v4, glm_moe_dsa, tokens
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples

LENGTH = 70


def rerun(model, *lengths: int, chunk: int = 32, queries: int = 12) -> dict[str, pl.DataFrame]:
    source = CapturedModel(model)
    attempt = Attempt(source, ExtractSettings(chunk=chunk), Journal())
    return rerun_stability(source, samples(*lengths), queries, attempt)


@pytest.fixture(scope="module")
def steady(dsa) -> dict[str, pl.DataFrame]:
    return rerun(dsa, LENGTH, 50)


@pytest.fixture(scope="module")
def tied() -> dict[str, pl.DataFrame]:
    return rerun(tiny_dsa(index_heads=2), 90)


def test_another_chunk_changes_nothing_beyond_ties(steady) -> None:
    chunks = pl.col("variant").is_in(CHUNKS)
    assert steady["selection_rerun"].filter(chunks)["changed"].max() == 0.0
    outputs = steady["output_stability"].filter(chunks)
    assert outputs["max_kl"].max() < 1e-9 and outputs["top1_equal"].min() == 1.0  # type: ignore[operator]
    assert outputs["nll_change"].abs().max() < 1e-4  # type: ignore[operator]


def test_predictions_stay_exactly_where_no_selection_changes(steady) -> None:
    """The tiny model has no ties in effect, so breaking them otherwise gives the very same run."""
    assert steady["selection_rerun"].filter(pl.col("variant") == "ties")["changed"].max() == 0.0
    ties = steady["output_stability"].filter(pl.col("variant") == "ties")
    assert (
        (ties["kl"] == 0.0).all() and (ties["top1_equal"] == 1.0).all() and (ties["nll_change"].drop_nulls() == 0).all()
    )


@pytest.mark.parametrize("variant", ["ties", *ROUNDINGS])
@pytest.mark.parametrize("heads", [2, 4])
def test_blocks_of_queries_change_no_selection(variant: str, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source, ids = CapturedModel(tiny_dsa(index_heads=heads)), tokens(90, batch=1)
    places = torch.arange(90)
    whole = run(source, ids, places, 32, variant)
    monkeypatch.setattr("indexscope.analysis.stability.reselect._NUMBERS", 90 * heads * 5)
    blocks = run(source, ids, places, 32, variant)
    assert whole.replaced and blocks.replaced
    for layer, one in whole.layers.items():
        assert torch.equal(one.selected, blocks.layers[layer].selected)
    assert torch.equal(whole.logits, blocks.logits)


def test_ties_alone_change_the_predictions_of_a_model_that_has_them(tied) -> None:
    first = tied["selection_rerun"].filter(pl.col("layer") == 0)
    changed = dict(first.select("variant", "changed").iter_rows())
    assert tied["selection_rerun"].filter(pl.col("variant") == "ties")["changed"].max() > 0.1  # type: ignore[operator]
    # The same scores, so whatever another chunk chose in the first layer is a tie.
    assert changed["chunk_half"] == changed["chunk_odd"] == 0.0
    outputs = tied["output_stability"].filter(pl.col("variant") == "ties")
    assert outputs["kl"].max() > 1e-3  # type: ignore[operator]


def test_all_queries_and_tokens_are_accounted_for(steady) -> None:
    outputs = steady["output_stability"]
    for sample, length in ((0, LENGTH), (1, 50)):
        for variant in RERUNS:
            own = outputs.filter((pl.col("sample") == sample) & (pl.col("variant") == variant))
            places, weights = closeup_queries(length, 12, sample)
            assert (own["weight"].sum(), own["tokens"].sum()) == (length, len(places))
            # The last token has none after it.
            assert own["nll_weight"].sum() == weights[places < length - 1].sum()
            assert own["bucket"].is_sorted()
    assert set(outputs["variant"]) == set(RERUNS)
    assert steady["selection_rerun"].select("sample", "layer", "variant").is_unique().all()


def test_a_variant_is_the_run_of_a_model_whose_selection_is_replaced_by_hand(dsa) -> None:
    """int8 again, written key by key in float64, one query at a time; then KL from its definition."""
    ids = torch.tensor([samples(LENGTH)[0].input_ids])
    source, (places, _) = CapturedModel(dsa), closeup_queries(LENGTH, LENGTH, 0)

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        assert chunk.scores is not None and chunk.selected is not None
        mask = torch.zeros_like(chunk.selected)
        for row in range(chunk.query.shape[2]):
            t = chunk.start + row
            scores = chunk.scores[0, row, : t + 1].double().numpy()
            step = abs(scores).max() / 127 or 1.0
            order = np.lexsort((np.arange(t + 1), -np.round(scores / step)))
            mask[0, 0, row, order[: int(chunk.selected[0, 0, row].sum())].tolist()] = True
        return capture_sparse(replace(chunk, selected=mask))

    logits = torch.cat([part for _, part in source.run(ids, observe, 16)], 1)[0]
    variant = run(source, ids, places, 32, "int8")
    torch.testing.assert_close(variant.logits, logits[places], atol=1e-3, rtol=1e-3)
    reference = run(source, ids, places, 32)
    found = output_change(reference, variant, ids[0], places)
    p, q = (part.logits.double().softmax(-1) for part in (reference, variant))
    for place, t in enumerate(places.tolist()):
        expected = sum(
            float(a) * (np.log(float(a)) - np.log(float(b))) for a, b in zip(p[place], q[place], strict=True)
        )
        assert float(found["kl"][place]) == pytest.approx(expected, abs=1e-9)
        if t + 1 < LENGTH:
            true = int(ids[0, t + 1])
            change = -np.log(float(q[place, true])) + np.log(float(p[place, true]))
            assert float(found["nll_change"][place]) == pytest.approx(change, abs=1e-9)
    assert torch.isnan(found["nll_change"][-1])


def test_equal_logits_diverge_by_zero() -> None:
    logits = torch.randn(3, 11)
    same = Run(logits, {}, False)
    found = output_change(same, same, torch.arange(9), torch.tensor([0, 4, 8]))
    assert (found["kl"] == 0).all() and found["top1_equal"].all()
    assert found["nll_change"].tolist()[:2] == [0.0, 0.0]


def test_layers_that_share_a_selection_share_the_replaced_one() -> None:
    """Odd layers of this model have no indexer; what replaces the selection of the layer before must reach them."""
    ids = tokens(60, 1)
    source, (places, _) = CapturedModel(glm_moe_dsa()), closeup_queries(60, 12, 0)
    found = run(source, ids, places, 20, "int8")
    plain = run(source, ids, places, 20)
    for layer in (0, 2):
        assert torch.equal(found.layers[layer].selected, found.layers[layer + 1].selected)
        assert plain.layers[layer + 1].exact is not None
    assert not torch.equal(plain.layers[2].selected, found.layers[2].selected)


def test_a_model_whose_entries_are_no_keys_is_only_fed_otherwise() -> None:
    outputs = rerun(deepseek_v4(), 40)["output_stability"]
    assert set(outputs["variant"]) == set(CHUNKS)


def test_a_dense_model_has_nothing_to_run_again(llama) -> None:
    found = rerun(llama, 20)
    assert all(table.is_empty() for table in found.values())
    assert set(found) == {"output_stability", "selection_rerun"} and len(ROUNDINGS) == 4
