"""Claims about the kinds of selected tokens, as the close-up counts them, and about what becomes of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.classes import CLASSES, RELATIONS
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows, closeup_queries
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.extract import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.analysis.token_content.collect import content_collector
from indexscope.analysis.token_content.tables import CONTENT
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.closeup.rows_of import planted_rows
from tests.analysis.samples import samples

CODES = np.array([0, 1, 2, 3, 4, 5, 4, 5], dtype=np.int8)
COUNTS = ("selections", "expected_selections", "attention_mass", "attention_expected")


def collected(
    ids: list[int], *chunks: list[CloseupRows], codes: np.ndarray | None = CODES, index: int = 0
) -> pl.DataFrame:
    collector = content_collector(codes)(CloseupSample(index, "planted", torch.tensor(ids)))
    for chunk in chunks:
        collector.add(chunk)
    return collector.tables()["token_content"]


def counts(frame: pl.DataFrame, kind: str) -> list[float]:
    return list(frame.filter(token_class=kind).select(COUNTS).row(0))


def test_planted_keys_are_counted_by_class_and_relation() -> None:
    ids = [4, 5, 1, 4, 5, 2, 4]  # the last token, 4, was at 0 and 3; 1 and 4 follow it
    selected = np.array([[False, True, False, True, True, False, False]])
    p = np.array([[0.1, 0.2, 0.0, 0.3, 0.2, 0.1, 0.1]])
    found = collected(ids, [planted_rows(0, [6], selected, p, [2.0])])
    assert found["weight"].unique().to_list() == [2.0] and found["queries"].unique().to_list() == [1]
    share = 3 / 7
    assert counts(found, "continuation") == pytest.approx([4, 2 * 2 * share, 0.8, 2 * 2 / 7])
    assert counts(found, "word start") == pytest.approx([2, 2 * 3 * share, 1.0, 2 * 3 / 7])
    assert counts(found, "special") == [0, 0, 0, 0]
    assert counts(found, "induction") == pytest.approx([4, 2 * 2 * share, 0.8, 2 * 2 / 7])
    assert counts(found, "repeated") == pytest.approx([2, 2 * 2 * share, 0.8, 2 * 2 / 7])
    assert counts(found, "first occurrence") == pytest.approx([2, 2 * 4 * share, 2 * 0.4, 2 * 4 / 7])


def test_ids_beyond_the_vocabulary_are_special_and_without_classes_only_relations_are_counted() -> None:
    selected = np.array([[True, False, False]])
    chunk = [planted_rows(0, [2], selected, np.full((1, 3), 1 / 3))]
    assert counts(collected([99, 4, 4], chunk), "special")[0] == 1
    assert collected([99, 4, 4], chunk, codes=None)["token_class"].to_list() == list(RELATIONS)


def test_queries_that_select_everything_and_dense_layers_do_not_count() -> None:
    chunk = [
        planted_rows(0, [2], np.ones((1, 3), dtype=bool), np.ones((1, 3))),
        planted_rows(1, [2], None, np.ones((1, 3))),
    ]
    found = collected([4, 4, 4], chunk)
    assert found["layer"].unique().to_list() == [0] and found["weight"].sum() == 0
    assert found.select(COUNTS).sum().row(0) == (0, 0, 0, 0)
    empty = collected([4, 4, 4], [chunk[1]])
    assert empty.is_empty() and dict(empty.schema) == CONTENT.schema
    assert all(
        frame.is_empty() for frame in token_content.run({"token_content": found}, TokenContentSettings()).values()
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_any_rows_agree_with_a_slow_reference_in_any_chunks(seed: int) -> None:
    random = np.random.default_rng(seed)
    length, query, weight = 15, [4, 9, 14], [5.0, 5.0, 2.0]
    ids = random.integers(0, 8, length).tolist()
    p, selected = random.random((3, length)), random.random((3, length)) < 0.4
    whole = collected(ids, [planted_rows(1, query, selected, p, weight)])
    parts = collected(
        ids,
        [planted_rows(1, query[:2], selected[:2, :10], p[:2, :10], weight[:2])],
        [planted_rows(1, query[2:], selected[2:], p[2:], weight[2:])],
    )
    for kind in (*CLASSES, *RELATIONS):
        expected = reference(ids, query, weight, selected, p, kind)
        assert counts(whole, kind) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert counts(parts, kind) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    classes = whole.filter(pl.col("token_class").is_in(CLASSES))
    chosen = sum(
        weight[place] * selected[place, : t + 1].sum()
        for place, t in enumerate(query)
        if not selected[place, : t + 1].all()
    )
    assert classes["selections"].sum() == pytest.approx(chosen)
    assert classes["expected_selections"].sum() == pytest.approx(chosen)


def reference(
    ids: list[int], query: list[int], weight: list[float], selected: np.ndarray, p: np.ndarray, kind: str
) -> list[float]:
    """Key by key from the definition."""
    total = np.zeros(4)
    for place, t in enumerate(query):
        n = t + 1
        k = int(selected[place, :n].sum())
        if k == n:
            continue
        for s in range(n):
            member = {
                "induction": s > 0 and ids[s - 1] == ids[t],
                "repeated": s < t and ids[s] == ids[t],
                "first occurrence": ids[s] not in ids[:s],
            }.get(kind, CLASSES[CODES[ids[s]]] == kind)
            if member:
                total += weight[place] * np.array([selected[place, s], k / n, p[place, s], 1 / n])
    return total.tolist()


def planted_study(choose: str, count: int = 12, length: int = 120, k: int = 10) -> dict[str, pl.DataFrame]:
    """Content tables of samples whose queries select at random, or induction keys first."""
    random = np.random.default_rng(5)
    frames = []
    for sample in range(count):
        ids = random.integers(0, 8, length)
        places, weights = (part.tolist() for part in closeup_queries(length, 12, sample))
        selected = np.zeros((len(places), length), dtype=bool)
        for row, t in enumerate(places):
            rank = random.random(t + 1)
            if choose == "induction":
                rank += 2.0 * (np.r_[-1, ids[:t]] == ids[t])
            selected[row, np.argsort(-rank)[:k]] = True
        rows = [planted_rows(layer, places, selected, np.full(selected.shape, 1 / length), weights) for layer in (0, 1)]
        frames.append(collected(ids.tolist(), rows, index=sample))
    return {"token_content": pl.concat(frames)}


def test_a_random_selector_prefers_no_kind_of_token() -> None:
    found = token_content.run(planted_study("random"), TokenContentSettings(resamples=300))
    lift = found["lift"].filter(pl.col("layer").is_null())
    assert lift["token_class"].to_list() == [*CLASSES, *RELATIONS]
    # Nine kinds: 99.5 % intervals by twice the half-width of the 95 % ones leave little room for chance.
    for kind, value, low, high in lift.select("token_class", "lift", "ci_low", "ci_high").iter_rows():
        assert value - 2 * (value - low) <= 1 <= value + 2 * (high - value), kind
        assert 0.7 < value < 1.4
    assert found["lift"].filter(layer=0).drop("layer").equals(found["lift"].filter(layer=1).drop("layer"))


def test_a_selector_of_induction_keys_is_recovered() -> None:
    found = token_content.run(planted_study("induction"), TokenContentSettings(resamples=100))
    metrics = {(row["metric"], row["layer"]): row for row in found["metrics"].iter_rows(named=True)}
    induction = metrics["induction_lift", None]
    # Of 8 equally likely tokens an eighth of the keys follow a copy; up to k of them are taken of 10/n by chance.
    assert induction["value"] > 3 and induction["ci_low"] > 2.5 and induction["n"] == 12
    assert metrics["word_start_lift", 1]["value"] == pytest.approx(1, abs=0.25)
    assert found["per_sample"].filter(metric="induction_lift", layer=0).height == 12


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa"])
def test_all_queries_of_real_families_give_the_features_induction_mass(family: str) -> None:
    model = FAMILIES[family](index_topk=7).eval()  # so that buckets 3 and up are those in effect
    source = as_source(model)
    own, extract = samples(40, 33), ExtractSettings(chunk=16, device="cpu", dense_reference=False)
    attempt = Attempt(source, extract, Journal())
    classes = (np.arange(97) % 6).astype(np.int8)
    frame = collect_samples(source, own, [content_collector(classes)], 4000, attempt)["token_content"]
    assert frame["layer"].n_unique() == model.config.num_hidden_layers
    layers = frame.filter(pl.col("token_class").is_in(CLASSES)).group_by("sample", "layer").agg(
        pl.col("attention_mass", "attention_expected").sum(), pl.col("weight", "queries").first(),
        pl.col("selections").sum(),
    )  # fmt: skip
    assert layers["attention_mass"].to_numpy() == pytest.approx(layers["weight"].to_numpy(), rel=1e-5)
    assert layers["attention_expected"].to_numpy() == pytest.approx(layers["weight"].to_numpy())
    assert layers["selections"].to_numpy() == pytest.approx(7 * layers["weight"].to_numpy())
    attention = extract_samples(model, own, extract)["attention"].filter(pl.col("bucket") >= 3)
    by_bucket = attention.group_by("sample", "layer", "bucket").agg(
        pl.col("induction_mass").mean(), pl.col("queries").first()
    )
    mass = by_bucket.group_by("sample", "layer").agg((pl.col("induction_mass") * pl.col("queries")).sum().alias("mass"))
    rows = frame.filter(token_class="induction").join(mass, on=["sample", "layer"])
    assert rows.height == 2 * model.config.num_hidden_layers
    assert rows["attention_mass"].to_numpy() == pytest.approx(rows["mass"].to_numpy(), rel=1e-4)


@pytest.mark.parametrize("choose", ["random", "induction"])
def test_lifts_of_two_samples_have_no_interval_below_zero(choose: str) -> None:
    found = token_content.run(planted_study(choose, count=2), TokenContentSettings(resamples=100))
    for frame, value in ((found["lift"], "lift"), (found["metrics"], "value")):
        known = frame.drop_nulls("ci_low")
        assert known.height
        assert (known["ci_low"].is_between(0, known[value]) & (known["ci_high"] >= known[value])).all()
