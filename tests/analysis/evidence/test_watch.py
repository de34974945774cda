"""What is seen at an answer's queries, beside selections that provably keep or drop the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.edits.apply import edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.evidence.tables import COLLECTED
from indexscope.analysis.evidence.watch import AnswerWatch, kept_tokens, ranks
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.evidence import Evidence
from indexscope.storage.inputs.samples import Sample
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, record, tokens
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.declared import check

SPANS, ANSWER = ((3, 6), (10, 11)), (30, 34)
TOKENS = [3, 4, 5, 10]
QUERIES = [29, 30, 31, 32]
Tables = dict[str, pl.DataFrame]


def marked(ids: Sequence[int], index: int = 0, spans: Any = SPANS, answer: Any = ANSWER) -> Sample:
    return Sample(index, f"d{index}", tuple(ids), Evidence(spans, answer, "single"))


def drawn(count: int = 2, **marks: Any) -> list[Sample]:
    return [marked(row, number, **marks) for number, row in enumerate(tokens(batch=count).tolist())]


def extracted(model: Any, samples: Sequence[Sample], chunk: int = 16, **settings: Any) -> Tables:
    how = ExtractSettings(chunk=chunk, **{"dense_reference": True, **settings})
    found = extract_samples(model, samples, how, watching=AnswerWatch)
    for name, table in COLLECTED.items():
        check(found[name], table)
    return found


@pytest.mark.parametrize("chunk", [7, 16, LENGTH])
def test_a_window_drops_exactly_the_evidence_beyond_it(chunk: int) -> None:
    """Query t of window w selects keys above t - w; the queries are 29 to 32, the evidence tokens 3, 4, 5 and 10."""
    kept = {window: np.mean([[s > t - window for s in TOKENS] for t in QUERIES]) for window in (10, 22, 27, 30)}
    assert kept == {10: 0.0, 22: 3 / 16, 27: 10 / 16, 30: 1.0}
    for window, share in kept.items():
        with edited(tiny_dsa(), Edit(selector={"recent": {"window": window, "sink": 0}})) as model:
            layers = extracted(model, drawn(), chunk)["evidence"]
        assert layers["selected"].to_list() == [share] * 6
        assert layers["kept_all"].to_list() == [share == 1.0] * 6
        assert layers["chance"].to_list() == pytest.approx([np.mean([window / (t + 1) for t in QUERIES])] * 6)
        assert layers["in_effect"].to_list() == [1.0 if window < 30 else 0.75] * 6
        assert layers["best_rank"].null_count() == layers["needed"].null_count() == 6, "no index scores select"


def test_the_oracle_keeps_what_is_attended_to_most_and_drops_what_is_least() -> None:
    with edited(tiny_dsa(), Edit(selector="oracle", topk=6)) as model:
        _, seen = record(model, tokens(batch=1), LENGTH)
        p = AttentionRows(seen[0][0]).mean[0, 32]
        best, worst = (sorted(p[:33].sort(descending=up).indices[:3].tolist()) for up in (True, False))
        for places, share in ((best, 1.0), (worst, 0.0)):
            spans = tuple((place, place + 1) for place in places if place < 33)
            found = extracted(model, drawn(1, spans=spans, answer=(33, 34)))["evidence"]
            assert found["selected"][0] == share and found["attention"][0] == pytest.approx(float(p[places].sum()))
            assert found["attention_kept"][0] == pytest.approx(share * float(p[places].sum()))


def reference(chunk: AttentionChunk, item: int) -> dict[str, float]:
    """A layer's numbers from one chunk of the whole sequence, query by query and key by key."""
    p = AttentionRows(chunk).mean.double().numpy()[item]
    found: dict[str, list[float]] = {name: [] for name in ("selected", "attention", "best_rank", "worst_rank")}
    scores = None if chunk.scores is None else chunk.scores[item].double().numpy()
    for t in QUERIES:
        found["attention"].append(sum(p[t, s] for s in TOKENS))
        if chunk.selected is not None:
            mask = chunk.selected[min(item, len(chunk.selected) - 1)].numpy()
            found["selected"].append(float(np.mean([[group[t, s] for s in TOKENS] for group in mask])))
        if scores is not None and scores.ndim == 2:
            own = [sum(1 for other in range(t + 1) if scores[t, other] >= scores[t, s]) for s in TOKENS]
            found["best_rank"].append(min(own))
            found["worst_rank"].append(max(own))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("chunk", [7, LENGTH])
def test_layers_are_measured_as_defined_whatever_chunk_and_batch(chunk: int, batch: int) -> None:
    model, ids = tiny_dsa(), tokens()
    found = extracted(model, drawn(), chunk, batch=batch)["evidence"]
    _, seen = record(model, ids, chunk)
    whole = record(model, ids, LENGTH)[1]
    assert set(seen) == set(whole)
    for row in found.iter_rows(named=True):
        wanted = reference(whole[row["layer"]][0], row["sample"])
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
        assert row["needed"] >= row["worst_rank"] >= row["best_rank"] and row["queries"] == 4


def test_the_keys_needed_are_the_k_that_keeps_all_and_one_less_does_not() -> None:
    """One layer, so that another k changes nothing else."""
    needed = extracted(tiny_dsa(layers=1), drawn())["evidence"]["needed"].to_list()
    for sample, k in zip(drawn(), needed, strict=True):
        kept = [
            extracted(tiny_dsa(layers=1, topk=one), [sample])["evidence"]["kept_all"][0] for one in (int(k), int(k) - 1)
        ]
        assert kept == [True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_which_tokens_its_selection_holds(family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    found = extracted(model, drawn(), LENGTH)["evidence"]
    _, seen = record(model, ids, LENGTH)
    assert found.height, "some layer has attention"
    for row in found.iter_rows(named=True):
        (chunk,) = seen[row["layer"]]
        if chunk.selected is None:
            assert row["selected"] is None and row["kept_all"] is None
            continue
        compressed = chunk.entries is not None and chunk.entries.kind == "compressed"
        assert row["selected"] == pytest.approx(
            np.mean([[_holds(chunk, row["sample"], t, s) for s in TOKENS] for t in QUERIES])
        )
        assert (row["attention"] is None) == compressed
        ranked = chunk.scores is not None and chunk.scores.dim() == 3 and chunk.entries is None
        assert (row["worst_rank"] is not None) == ranked


def _holds(chunk: AttentionChunk, item: int, t: int, token: int) -> float:
    """The share of groups whose selection at t holds a token, by its key or by an entry that it went into."""
    assert chunk.selected is not None
    mask = chunk.selected[min(item, len(chunk.selected) - 1)]
    keys = mask.shape[-1]
    names = range(LENGTH - keys, LENGTH) if chunk.positions is None else chunk.positions.tolist()
    held = []
    for group in mask:
        found = any(bool(group[t, key]) for key, name in enumerate(names) if name == token)
        if chunk.entries is not None and chunk.entries.kind == "compressed" and chunk.chosen is not None:
            first, last = (
                part[min(item, len(part) - 1)].tolist() for part in (chunk.entries.first, chunk.entries.last)
            )
            chosen = chunk.chosen[item, t].tolist()
            found |= any(one and a <= token <= b for one, a, b in zip(chosen, first, last, strict=True))
        held.append(found)
    return float(np.mean(held))


def test_a_dense_model_has_attention_and_answers_and_nothing_selected() -> None:
    found = extracted(tiny_llama(), drawn())
    layers, answers = found["evidence"], found["answers"]
    assert layers["selected"].null_count() == layers["attention_kept"].null_count() == layers.height == 4
    assert layers["attention"].null_count() == 0
    assert answers["nll"].null_count() == 0 and answers["dense_nll"].null_count() == answers.height


@pytest.mark.parametrize("chunk", [7, LENGTH])
def test_answers_are_scored_given_the_true_tokens_before_each(chunk: int) -> None:
    model, ids = tiny_dsa(), tokens(batch=1)
    logits = {select: record(model, ids, LENGTH, select=select)[0][0].double() for select in (True, False)}
    (row,) = extracted(model, drawn(1), chunk)["answers"].iter_rows(named=True)
    first, last = ANSWER
    for select, prefix in ((True, ""), (False, "dense_")):
        nll = [-float(logits[select][t].log_softmax(-1)[ids[0, t + 1]]) for t in range(first - 1, last - 1)]
        right = [int(logits[select][t].argmax()) == int(ids[0, t + 1]) for t in range(first - 1, last - 1)]
        assert row[f"{prefix}nll"] == pytest.approx(np.mean(nll), rel=1e-4)
        assert (row[f"{prefix}right"], row[f"{prefix}exact"]) == (np.mean(right), all(right))
    told = ("tokens", "answer_start", "answer_tokens", "evidence_tokens", "evidence_start", "kind")
    assert [row[name] for name in told] == [LENGTH, 30, 4, 4, 3, "single"]


def test_an_answer_of_the_likeliest_tokens_is_exact_and_one_wrong_token_ends_that() -> None:
    model, ids = tiny_dsa(), tokens(batch=1)[0].tolist()
    for place in range(*ANSWER):
        logits, _ = record(model, torch.tensor([ids]), LENGTH)
        ids[place] = int(logits[0, place - 1].argmax())
    other = [*ids]
    other[ANSWER[1] - 1] = (other[ANSWER[1] - 1] + 1) % 97
    answers = extracted(model, [marked(ids), marked(other, 1)])["answers"]
    assert answers["exact"].to_list() == [True, False] and answers["right"].to_list() == [1.0, 0.75]


def test_samples_without_a_dense_reference_have_none() -> None:
    found = extract_samples(tiny_dsa(), drawn(), ExtractSettings(chunk=16), dense={1}, watching=AnswerWatch)
    assert found["answers"]["dense_nll"].is_null().to_list() == [True, False]


def test_neither_features_nor_samples_without_an_answer_are_touched() -> None:
    plain = [Sample(one.index, one.name, one.input_ids) for one in drawn()]
    settings = ExtractSettings(chunk=16)
    before = extract_samples(tiny_dsa(), plain, settings)
    after = extract_samples(tiny_dsa(), [drawn()[0], plain[1]], settings, watching=AnswerWatch)
    assert set(after) - set(before) == set(COLLECTED)
    assert all(before[name].equals(after[name]) for name in before)
    assert after["answers"]["sample"].to_list() == [0] and set(after["evidence"]["sample"]) == {0}


def test_an_answer_without_evidence_has_no_rows_of_layers() -> None:
    found = extracted(tiny_dsa(), drawn(1, spans=()))
    assert found["evidence"].is_empty() and found["answers"]["evidence_start"].to_list() == [None]


def test_the_text_shows_evidence_question_and_answer_with_what_held_and_what_was_right() -> None:
    pieces = [f" t{token}" for token in range(97)]
    with edited(tiny_dsa(), Edit(selector={"recent": {"window": 22, "sink": 0}})) as model:
        found = extract_samples(
            model, drawn(1), ExtractSettings(chunk=16), watching=lambda batch: AnswerWatch(batch, pieces)
        )["answer_text"]
    ids = drawn(1)[0].input_ids
    assert found["token"].to_list() == [f" t{ids[position]}" for position in found["position"]]
    roles = dict(zip(found["position"], found["role"], strict=True))
    assert [place for place, role in roles.items() if role == "evidence"] == TOKENS
    assert [place for place, role in roles.items() if role == "answer"] == list(range(*ANSWER))
    kept = found.filter(pl.col("role") == "evidence")["kept"].to_list()
    assert kept == [0.0, 0.0, 0.0, 0.75], "key 10 is above t - 22 for t of 29, 30 and 31"
    assert found.filter(pl.col("role") == "answer")["right"].null_count() == 0


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=4, max_size=12), st.data())
def test_a_rank_counts_all_keys_that_score_as_high(values: list[float], data: st.DataObject) -> None:
    up = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    scores = torch.tensor([[value if ok else -torch.inf for value, ok in zip(values, up, strict=True)]])
    eligible = torch.ones(1, len(values), dtype=torch.bool)
    found = ranks(scores, torch.arange(len(values)), eligible)[0].tolist()
    for place, rank in enumerate(found):
        same = [other for other in range(len(values)) if up[other] and values[other] >= values[place]]
        assert rank == (len(same) if up[place] else len(values))


def test_a_layer_that_selects_nothing_holds_nothing_to_speak_of() -> None:
    _, seen = record(tiny_llama(), tokens(), LENGTH)
    assert kept_tokens(seen[0][0], torch.tensor(TOKENS)) is None
