"""The close look in the extraction's run: neither changes what the other sees."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.collect import Look, Vocabulary
from indexscope.analysis.closeup.looking import Looking, collect_samples
from indexscope.analysis.closeup.run import closeup_samples, makers_of
from indexscope.analysis.closeup.tables import RERUN_TABLES, TABLES
from indexscope.analysis.features import TokenSequence, extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.indexer_heads.removal import divided, removal_order
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.samples import samples

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6)
CLOSE = CloseupSettings(queries=12)
MANY = samples(50, 50, 33, 48)
WORDS = Vocabulary([f" {chr(97 + token % 26)}" for token in range(512)], {0})
Tables = dict[str, pl.DataFrame]


def both(model: torch.nn.Module, settings: ExtractSettings, begin: Callable[..., Looking] = Looking) -> Tables:
    makers = makers_of(Look([sample.index for sample in MANY], CLOSE, WORDS))
    return extract_samples(model, MANY, settings, Journal(), beside=lambda one: begin(one, makers, CLOSE.queries))


def alone(model: torch.nn.Module, settings: ExtractSettings) -> Tables:
    makers = makers_of(Look([sample.index for sample in MANY], CLOSE, WORDS))
    source = as_source(model)
    return collect_samples(source, MANY, makers, CLOSE.queries, Attempt(source, settings, Journal()))


@pytest.mark.parametrize("make", [tiny_dsa, tiny_llama, FAMILIES["minimax_m3"], FAMILIES["mistral_large4"]])
def test_features_are_the_same_bit_by_bit_with_a_close_look_beside_them(make: Callable[[], torch.nn.Module]) -> None:
    found, expected = both(make(), SETTINGS), extract_samples(make(), MANY, SETTINGS)
    assert set(found) - set(expected) == set(TABLES)
    for name, table in expected.items():
        assert table.equals(found[name]), name


@pytest.mark.parametrize("make", [tiny_dsa, tiny_llama, FAMILIES["minimax_m3"], FAMILIES["mistral_large4"]])
def test_beside_the_extraction_the_same_is_seen_as_in_a_run_of_its_own(make: Callable[[], torch.nn.Module]) -> None:
    # Where only some queries are measured the model goes on from the same attention output in both, to the bit.
    settings = SETTINGS.model_copy(update={"query_every": 2})
    found, expected = both(make(), settings), alone(make(), settings)
    for name in TABLES:
        assert found[name].equals(expected[name]), name
    assert sum(len(found[name]) for name in TABLES), "something was seen"
    kernels = both(make(), SETTINGS)
    for name in TABLES:
        floats = expected[name].drop([name for name, kind in expected[name].schema.items() if kind == pl.Binary])
        if name not in ("attended", "attention_maps", "examples", "selection_stability"):  # which of two near equals
            assert_frame_equal(kernels[name].select(floats.columns), floats, rel_tol=1e-3, abs_tol=1e-3)


def test_a_run_out_of_memory_is_looked_at_anew_from_its_start() -> None:
    begun: list[Looking] = []

    class Tight(Looking):
        def observe(self, chunk: AttentionChunk) -> None:
            if chunk.query.shape[2] > 16 and chunk.start:
                raise MemoryError
            super().observe(chunk)

    def begin(one: TokenSequence, *more: object) -> Looking:
        begun.append(Tight(one, *more))  # type: ignore[arg-type]
        return begun[-1]

    settings = SETTINGS.model_copy(update={"chunk": 32, "query_every": 2})
    found = both(tiny_dsa(), settings, begin)
    assert len(begun) == len(MANY) + 1, "the first sample twice; then the smaller chunk is known"
    expected = both(tiny_dsa(), settings.model_copy(update={"chunk": 16}))
    for name in TABLES:
        assert found[name].equals(expected[name]), name


def test_batches_of_several_samples_are_not_looked_at() -> None:
    seen: list[TokenSequence] = []
    extract_samples(tiny_dsa(), MANY[:2], SETTINGS.model_copy(update={"batch": 2}), Journal(), beside=seen.append)
    assert seen == []


@pytest.mark.parametrize("count", range(1, 70))
@pytest.mark.parametrize("asked", [0, 1, 16, 64])
def test_samples_that_judge_had_no_part_in_the_choice(count: int, asked: int) -> None:
    judged, pilot = divided(count, asked)
    assert sorted([*judged, *pilot]) == list(range(count))
    assert len(judged) == min(asked, count * 3 // 4)


def test_the_order_of_removal_is_learned_on_the_samples_that_do_not_judge() -> None:
    tables = closeup_samples(tiny_dsa(), MANY, CLOSE.model_copy(update={"rerun_samples": 0}), SETTINGS, Journal())
    judged, pilot = divided(len(MANY), CLOSE.removal_of(len(MANY)))
    assert (judged, pilot) == ([0, 2, 3], [1])
    pruning = tables["indexer_pruning"]
    assert pruning["sample"].unique(maintain_order=True).to_list() == judged
    order = removal_order(tables["indexer_heads"].filter(pl.col("sample").is_in(pilot)))
    for (_, layer), own in pruning.group_by("sample", "layer", maintain_order=True):
        assert own["indexer_head"].to_list() == [None, *order[int(str(layer))][:-1].tolist()]
    assert set(tables) == {*TABLES, *RERUN_TABLES}


def test_without_samples_to_judge_nothing_runs_again() -> None:
    ran: list[int] = []
    source = as_source(tiny_dsa())
    run = source.run
    source.run = lambda *given, **more: ran.append(1) or run(*given, **more)  # type: ignore[method-assign, func-returns-value]
    none = CLOSE.model_copy(update={"rerun_samples": 0, "removal_samples": 0})
    tables = closeup_samples(source, MANY, none, SETTINGS, Journal())
    assert len(ran) == len(MANY) and tables["indexer_pruning"].is_empty()
