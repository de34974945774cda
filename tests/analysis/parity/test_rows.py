"""Dumps of a model itself, changed in known ways, are found out; every number is that of a slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from indexscope import IndexscopeError
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.parity.dumps import parity_dumps
from indexscope.analysis.parity.rows import Reference, compare_rows
from indexscope.analysis.parity.watch import parity_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa
from tests.analysis.parity.made import Array, Counted, dump_of, dumped, rows_of, seen
from tests.analysis.samples import samples

TOP, TOLERANCE = 8, 1e-5
EXTRACT = ExtractSettings(chunk=16, device="cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dsa(topk=TOP)


def held(model: Any, some: list[Sample], dump: Any, journal: Journal | None = None) -> dict[str, pl.DataFrame]:
    return parity_samples(model, some, dump, TOLERANCE, EXTRACT, journal)


def totals(tables: dict[str, pl.DataFrame]) -> dict[str, float]:
    return tables["counted"].drop("sample", "layer", "bucket").sum().row(0, named=True)


def test_a_dump_of_the_model_itself_is_identical_everywhere(model: Any) -> None:
    some = samples(40, 25)
    tables = held(model, some, dump_of(model, some, TOP))
    found = totals(tables)
    assert found["in_effect"] == 3 * (40 - TOP + 25 - TOP)
    assert found["queries"] == 3 * 65
    for name in ("identical", "alike", "scored", "attended"):
        assert found[name] == found["in_effect"], name
    assert found["overlap"] == pytest.approx(found["in_effect"])
    assert found["recall"] == found["baseline_recall"] > 0
    for name in ("missing", "extra", "differing", "tied", "gap", "future", "outside", "repeated", "incomplete"):
        assert found[name] == 0, name
    assert tables["matched"]["layer"].null_count() == 2
    assert tables["matched"]["compared"].to_list() == [40, 25]
    assert tables["distances"]["selected"].sum() == TOP * found["in_effect"]


def test_one_layer_shifted_by_a_key_is_found_at_that_layer(model: Any) -> None:
    some = samples(40)

    def shift(rows: Array) -> None:
        own = rows[20:, 1]
        own[own >= 0] -= 1
        own[own < 0] = 0  # key 0 had no key before it

    tables = held(model, some, dump_of(model, some, TOP, shift))
    by_layer = tables["counted"].group_by("layer").agg(pl.col("identical", "in_effect", "alike").sum()).sort("layer")
    assert (by_layer["identical"] == by_layer["in_effect"]).to_list() == [True, False, True]
    parted = tables["matched"].row(0, named=True)
    assert (parted["layer"], parted["query"]) == (1, 20)
    assert (parted["beyond_layer"], parted["beyond_query"]) == (1, 20)
    assert (parted["earliest_layer"], parted["earliest_query"]) == (1, 20)
    assert 0 <= parted["distance"] <= 20
    assert set(tables["distances"].filter(pl.col("missing") + pl.col("extra") > 0)["layer"]) == {1}


def reference_of(scores: list[float], keys: list[int], query: int) -> Reference:
    """One query that sees all keys up to it, with even attention."""
    mask = torch.zeros((1, len(scores)), dtype=torch.bool)
    mask[0, keys] = True
    eligible = torch.arange(len(scores))[None] <= query
    attention = torch.full((1, len(scores)), 1 / (query + 1))
    return Reference(torch.tensor([query]), 0, eligible, mask, torch.tensor([scores]), attention)


def test_ties_swapped_are_explained_by_ties_and_other_keys_are_not() -> None:
    one = reference_of([3.0, 0.0, 2.0, 0.0, 0.0, 0.0], [0, 2, 1], 5)  # two of four zeros would do as well
    swapped = compare_rows(torch.tensor([[0, 2, 4]]), one, 6, TOLERANCE, 4).counts
    assert (swapped["identical"].item(), swapped["alike"].item()) == (0, 1)
    assert (swapped["differing"].item(), swapped["tied"].item(), swapped["gap"].item()) == (2, 2, 0)
    wrong = compare_rows(torch.tensor([[0, 3, 4]]), one, 6, TOLERANCE, 4).counts
    assert wrong["alike"].item() == 0
    assert (wrong["differing"].item(), wrong["tied"].item()) == (4, 2)  # one zero for another
    spread = np.std([3.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    assert wrong["gap"].item() == pytest.approx(2.0 / spread)
    fewer = compare_rows(torch.tensor([[0, 2, -1]]), one, 6, TOLERANCE, 4).counts
    assert fewer["alike"].item() == 0  # a key too few is no tie
    assert fewer["tied"].item() == 0


def test_what_ties_is_within_the_tolerance_of_the_rows_largest_score() -> None:
    one = reference_of([100.0, 1.0, 1.0005, 0.0], [0, 2], 3)
    near = compare_rows(torch.tensor([[0, 1]]), one, 4, 1e-5, 3).counts
    far = compare_rows(torch.tensor([[0, 1]]), one, 4, 1e-6, 3).counts
    assert (near["alike"].item(), far["alike"].item()) == (1, 0)
    assert (near["tied"].item(), far["tied"].item()) == (2, 0)  # that the k-th key ties with itself explains nothing


def test_entries_of_the_future_out_of_range_and_repeated_are_counted_and_no_selection() -> None:
    one = reference_of([3.0, 2.0, 1.0, 0.0], [0, 1], 3)
    found = compare_rows(torch.tensor([[0, 0, 4, 9, -7, -1, 1]]), one, 6, TOLERANCE, 3).counts
    assert (found["future"].item(), found["outside"].item(), found["repeated"].item()) == (1, 2, 1)
    assert (found["identical"].item(), found["overlap"].item(), found["missing"].item()) == (0, 1, 0)
    window = Reference(one.query, 0, torch.tensor([[False, True, True, True]]), one.selected)
    outside = compare_rows(torch.tensor([[0, 1]]), window, 4, TOLERANCE, 3).counts
    assert outside["outside"].item() == 1  # a key before the window


def test_a_row_that_must_hold_every_key_and_does_not_is_counted(model: Any) -> None:
    some = samples(20)

    def lose(rows: Array) -> None:
        rows[3, 0, 1] = -1

    found = totals(held(model, some, dump_of(model, some, TOP, lose)))
    assert found["incomplete"] == 1
    assert found["identical"] == found["in_effect"]


def slow(own: list[Any], rows: Array, length: int) -> dict[str, float]:
    """The same numbers with Python's sets and float64."""
    found: dict[str, float] = dict.fromkeys(totals_of, 0.0)
    for layer, one in enumerate(own):
        for query in range(len(rows)):
            entries = [int(key) for key in rows[query, layer] if key != -1]
            real = [key for key in entries if 0 <= key <= query]
            found["queries"] += 1
            found["future"] += sum(query < key < length for key in entries)
            found["outside"] += sum(key < 0 or key >= length for key in entries)
            found["repeated"] += len(real) - len(set(real))
            selected = set(np.flatnonzero(one.selected[query]))
            other = set(real)
            if query + 1 <= len(selected):
                found["incomplete"] += bool(selected - other)
                continue
            clean = len(real) == len(entries)
            scores = one.scores[query, : query + 1]
            level, largest = min(scores[key] for key in selected), np.abs(scores).max()
            differing = selected ^ other
            ties = {key for key in differing if abs(scores[key] - level) <= TOLERANCE * largest}
            tied = 2 * min(len(ties & selected), len(ties & other))
            found["in_effect"] += 1
            found["scored"] += 1
            found["attended"] += 1
            found["identical"] += clean and not differing
            found["alike"] += clean and tied == len(differing)
            found["overlap"] += len(selected & other) / len(selected)
            found["missing"] += len(selected - other)
            found["extra"] += len(other - selected)
            found["differing"] += len(differing)
            found["tied"] += tied
            found["gap"] += sum(abs(scores[key] - level) for key in differing) / scores.std()
            found["recall"] += sum(one.attention[query, key] for key in other)
            found["baseline_recall"] += sum(one.attention[query, key] for key in selected)
    return found


totals_of = (
    *("queries", "in_effect", "incomplete", "identical", "scored", "alike", "overlap", "missing", "extra"),
    *("differing", "tied", "future", "outside", "repeated", "gap", "attended", "recall", "baseline_recall"),
)


def test_every_number_is_that_of_a_slow_reference(model: Any) -> None:
    (sample,) = samples(48)
    own = seen(model, sample.input_ids)
    rows = rows_of(own, TOP)
    draw = np.random.default_rng(0)
    for _ in range(400):
        query, layer, place = (int(draw.integers(0, size)) for size in rows.shape)
        rows[query, layer, place] = draw.choice([-1, -4, 60, query, *range(48)])
    tables = held(model, [sample], {0: dumped(rows)})
    wanted = slow(own, rows, 48)
    assert wanted["future"] > 0 and wanted["outside"] > 0 and wanted["repeated"] > 0 and wanted["incomplete"] > 0
    assert 0 < wanted["identical"] <= wanted["alike"] < wanted["in_effect"]
    unasked = dict.fromkeys(("asked", "evidence", "baseline_evidence"), 0.0)  # the sample marks no answer
    assert totals(tables) == pytest.approx(wanted | unasked, rel=1e-5)
    by_bin = tables["distances"].group_by("bin").agg(pl.col("missing", "extra").sum()).sum().row(0, named=True)
    assert (by_bin["missing"], by_bin["extra"]) == (wanted["missing"], wanted["extra"])


def test_chunks_and_shards_do_not_matter_and_rows_are_read_a_chunk_at_a_time(model: Any) -> None:
    some = samples(50, 30)
    dump = dump_of(model, some, TOP, lambda rows: rows.__setitem__((slice(12, None), 0, 0), 5))
    arrays = {index: Counted(record.open().rows) for index, record in dump.items()}  # type: ignore[attr-defined]
    counted = {index: dumped(rows.rows) for index, rows in arrays.items()}
    watched = {
        index: type(record)(
            *(getattr(record, name) for name in list(vars(record))[:-1]), open=lambda i=index: arrays[i]
        )
        for index, record in counted.items()
    }
    whole = held(model, some, watched)
    assert [rows.most for rows in arrays.values()] == [16, 16]
    parts = [held(model, [one], dump) for one in some]
    for name, table in whole.items():
        assert table.equals(pl.concat([part[name] for part in parts]))
    other = parity_samples(model, some, dump, TOLERANCE, ExtractSettings(chunk=7, device="cpu"))
    for name in ("identical", "missing", "extra", "in_effect"):
        assert totals(other)[name] == totals(whole)[name]


def test_a_record_may_be_shorter_than_its_sample_or_begin_later(model: Any) -> None:
    (sample,) = samples(40)
    rows = rows_of(seen(model, sample.input_ids), TOP)
    part = held(model, [sample], {0: dumped(rows[15:30], first=15, tokens=31)})
    assert totals(part)["in_effect"] == totals(part)["identical"] == 3 * 15
    assert part["matched"]["compared"].to_list() == [15]
    longer = np.concatenate([rows, rows[-5:]])
    whole = held(model, [sample], {0: dumped(longer, tokens=46)})
    assert totals(whole)["identical"] == 3 * (40 - TOP)
    assert whole["matched"]["compared"].to_list() == [40]


def test_samples_without_a_record_are_listed_and_not_run(model: Any) -> None:
    some = [*samples(20), Sample(1, "other", (999_999,) * 5)]  # no id of the model
    tables = held(model, some, dump_of(model, some[:1], TOP))
    assert tables["matched"].select("record", "compared").rows() == [("record", 20), (None, 0)]


def test_layers_are_those_that_the_study_names_or_that_the_model_has(model: Any) -> None:
    (sample,) = samples(30)
    rows = rows_of(seen(model, sample.input_ids), TOP)
    named = held(model, [sample], {0: dumped(rows[:, [2, 0]], named=(2, 0))})
    assert totals(named)["identical"] == totals(named)["in_effect"] == 2 * (30 - TOP)
    with pytest.raises(IndexscopeError, match="holds 2 layers, and the model has 3, of which 3 select and 3 have an"):
        held(model, [sample], {0: dumped(rows[:, :2])})
    with pytest.raises(IndexscopeError, match="holds layer 7, which does not select; those that do are 0, 1, 2"):
        held(model, [sample], {0: dumped(rows[:, :1], named=(7,))})


def test_two_dumps_are_compared_without_a_model(model: Any) -> None:
    some = samples(40, 25)
    dump = dump_of(model, some, TOP)
    same = parity_dumps(dump, some, dump, TOLERANCE)
    assert totals(same)["identical"] == totals(same)["in_effect"] == 3 * (40 - TOP + 25 - TOP)
    for name in ("scored", "attended", "alike", "recall", "tied"):
        assert totals(same)[name] == 0
    changed = dump_of(model, some, TOP)
    rows = changed[0].open().rows  # type: ignore[attr-defined]
    rows[30, 2, 0] = min(set(range(31)) - set(rows[30, 2].tolist()))
    journal = Journal(lambda line: None)
    found = parity_dumps(dump, some, {0: changed[0]}, TOLERANCE, journal)
    one = held(model, some, changed)
    parted = found["matched"].row(0, named=True)
    assert (parted["layer"], parted["query"], parted["beyond_layer"]) == (2, 30, None)
    assert parted["distance"] == one["matched"].row(0, named=True)["distance"]
    assert found["matched"]["record"].to_list() == ["record", None]
    # What the baseline's own dump holds that is no key is told.
    bad = dump_of(model, some, TOP, lambda rows: rows.__setitem__((20, 1, 0), 39))
    parity_dumps(bad, some, dump, TOLERANCE, journal)
    assert journal.notes == ["the baseline's dump has 2 entries that name no earlier token; they count for nothing"]


def test_two_dumps_share_the_layers_that_both_name(model: Any) -> None:
    (sample,) = samples(30)
    rows = rows_of(seen(model, sample.input_ids), TOP)
    both = parity_dumps({0: dumped(rows, named=(0, 1, 2))}, [sample], {0: dumped(rows[:, 1:], named=(1, 2))}, TOLERANCE)
    assert both["counted"]["layer"].unique().to_list() == [1, 2]
    assert totals(both)["identical"] == totals(both)["in_effect"]
    with pytest.raises(IndexscopeError, match="holds 2 layers, and record holds 3"):
        parity_dumps({0: dumped(rows)}, [sample], {0: dumped(rows[:, 1:])}, TOLERANCE)


def test_a_layer_that_selects_nothing_of_tokens_is_told_and_left_out() -> None:
    from tests.analysis.conftest import tiny_llama

    (sample,) = samples(12)
    journal = Journal(lambda line: None)
    rows = np.full((12, 2, 4), -1, np.int32)
    tables = held(tiny_llama(), [sample], {0: dumped(rows)}, journal)
    assert tables["counted"].is_empty()
    assert tables["matched"]["compared"].to_list() == [0]


def test_the_built_in_model_in_other_chunks_differs_by_ties_and_rounding_alone() -> None:
    """Another tiling of the same computation is what a correct port looks like."""
    from indexscope.storage.inputs.checkpoints import resolve
    from indexscope.storage.inputs.model_loading import load_model

    light = load_model(resolve("builtin:light"), "float32", "cpu")
    some = [Sample(0, "a", tuple(range(300, 396))), Sample(1, "b", tuple(range(1000, 900, -1)))]
    own = {sample.index: seen(light, sample.input_ids, chunk=13) for sample in some}
    width = max(int(layer.selected.sum(1).max()) for layers in own.values() for layer in layers)
    dump = {index: dumped(rows_of(layers, width)) for index, layers in own.items()}
    found = totals(held(light, some, dump))
    assert found["in_effect"] > 100
    assert found["overlap"] / found["in_effect"] > 0.999
    assert found["gap"] <= 0.01 * max(found["differing"], 1)
    exact = {sample.index: dumped(rows_of(seen(light, sample.input_ids), width)) for sample in some}
    same = totals(held(light, some, exact))
    assert same["identical"] == same["in_effect"] == found["in_effect"]
