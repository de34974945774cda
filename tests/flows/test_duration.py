"""What is said of a long study's time: by the square of its lengths, of what is still to do, and of nothing short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from indexscope.analysis.capture.memory import MOST_PAIRS, Widths, choose_chunk, fixed_bytes, query_bytes
from indexscope.analysis.features.speed import seconds_per_pair
from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.study import duration
from indexscope.flows.study.duration import pairs, time_note, work
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan

LAYERS, HEADS, INDEXER_HEADS = 2, 2, 2


def planned(folder: Path, *settings: str) -> Plan:
    return make_plan(load_study(folder / "study.yaml", settings))


def test_a_short_study_says_nothing_and_asks_no_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duration, "work", lambda *_: pytest.fail("the store was asked"))
    assert not any(note.startswith("time: ") for note in planned(folder).notes)


def test_the_work_is_that_of_every_pair_of_the_runs_that_are_left(folder: Path) -> None:
    plan = planned(folder, "extract.dense_reference=false", "closeup.rerun_samples=0")
    (model, _) = plan.models
    every = pairs(len(sample.input_ids) for sample in plan.samples) * LAYERS * (HEADS + INDEXER_HEADS)
    assert work(plan, plan.graph, model) == every
    dense = planned(folder, "extract.dense_reference=true", "closeup.rerun_samples=0")
    assert work(dense, dense.graph, model) == pytest.approx(1.75 * every)
    again = planned(folder, "extract.dense_reference=false", "closeup.rerun_samples=1", "closeup.samples=null")
    assert work(again, again.graph, model) == pytest.approx((1 + 8 * 0.75 / 8) * every)
    asked = planned(folder, "extract.dense_reference=false", "closeup.rerun_samples=0", "lengths=[24,48]")
    assert work(asked, asked.graph, model) == every, "shorter lengths come from the same pass"
    mine = replace(model, info=replace(model.info, own_code=True))
    more = pairs([24] * len(plan.samples)) * LAYERS * (HEADS + INDEXER_HEADS)
    assert work(asked, asked.graph, mine) == every + more


def test_what_is_in_the_store_takes_no_time(done: Path) -> None:
    plan = planned(done)
    assert work(plan, plan.graph, plan.models[0]) == 0.0


def test_the_note_names_time_and_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(folder)
    monkeypatch.setattr(duration, "LEAST", 1.0)
    monkeypatch.setattr("indexscope.analysis.features.speed.seconds_per_pair", lambda *_: 1.0)
    (note,) = time_note(plan, plan.graph, ())
    hours = sum(work(plan, plan.graph, model) for model in plan.models) / 3600
    assert note.startswith(f"time: about {hours:.1f} hours for the runs of the models") and "the 48 tokens" in note
    assert time_note(plan, plan.graph, [model.name for model in plan.models]) == ()


def test_a_moment_on_this_machine_gives_the_time_of_a_pair() -> None:
    found = seconds_per_pair(16, torch.device("cpu"), ExtractSettings())
    assert 1e-12 < found < 1e-4


@pytest.mark.parametrize("length", [16_384, 65_536, 262_144])
def test_the_memory_of_long_sequences_goes_by_their_length_and_not_by_its_square(length: int) -> None:
    """Whatever memory there is: the tiny model of benchmarks/lengths.py stays below half a GiB at 65,536 tokens."""
    widths = Widths(heads=2, indexer_heads=2, key_value_width=24, cached_bytes=2 * 4 * 96, vocabulary=300, blocked=True)
    chunk = choose_chunk(1 << 40, widths, 1, length)
    assert chunk == MOST_PAIRS // length
    together = chunk * query_bytes(widths, 1, length) + fixed_bytes(widths, 1, length)
    assert together < 0.5 * 2**30 * max(1.0, length / 65_536)
