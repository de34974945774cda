"""The evidence that rows of a dump hold: planted rows with closed-form answers, and what the model itself holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.evidence.watch import AnswerWatch
from indexscope.analysis.parity.asked import asked_of
from indexscope.analysis.parity.dumps import parity_dumps
from indexscope.analysis.parity.run import run
from indexscope.analysis.settings import ComparisonSettings
from indexscope.storage.inputs.evidence import Evidence
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa
from tests.analysis.parity.made import Array, dump_of, dumped
from tests.analysis.parity.test_rows import TOP, held
from tests.analysis.samples import samples

MARKS = Evidence(((3, 6), (20, 21)), (30, 34))
METRICS = ("dumped_evidence_selected", "dumped_evidence_lost")


def marked(count: int = 2) -> list[Sample]:
    return [replace(sample, evidence=MARKS) for sample in samples(*[40] * count)]


def overall(tables: dict[str, pl.DataFrame]) -> dict[str, dict[str, Any]]:
    found = run({"dump": tables}, ComparisonSettings(resamples=50))["metrics"].filter(pl.col("layer").is_null())
    return {row["metric"]: row for row in found.iter_rows(named=True) if row["metric"] in METRICS}


def own_share(model: Any, some: list[Sample]) -> float:
    """Mean over samples, layers and queries of the evidence that the model selects, by what a study watches with."""
    parts = []
    for sample in some:
        watch = AnswerWatch([sample])

        def observe(chunk: AttentionChunk, watch: AnswerWatch = watch) -> torch.Tensor:
            watch.observe(chunk)
            return capture_sparse(chunk)

        for _ in as_source(model).run(torch.tensor([sample.input_ids]), observe, 16):
            pass
        parts.append(watch.tables()["evidence"]["selected"].mean())
    return float(np.mean(parts))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dsa(topk=TOP)


def test_a_dump_of_the_model_itself_holds_the_evidence_that_the_model_selects(model: Any) -> None:
    some = marked()
    found = overall(held(model, some, dump_of(model, some, TOP)))
    assert found["dumped_evidence_selected"]["value"] == pytest.approx(own_share(model, some))
    assert found["dumped_evidence_selected"]["n"] == 2
    assert found["dumped_evidence_lost"]["value"] == pytest.approx(0.0, abs=1e-12)


def test_planted_rows_hold_just_the_evidence_that_was_planted(model: Any) -> None:
    """In layer 0 two of four tokens at every query, in layer 1 all at one of four, in layer 2 none: 1/2, 1/4 and 0."""
    some = marked()

    def plant(rows: Array) -> None:
        rows[29:33] = -1
        rows[29:33, 0, :3] = (3, 20, 3)
        rows[31, 1, :4] = (5, 4, 20, 3)
        rows[29:33, 2, :2] = (6, 2)

    tables = held(model, some, dump_of(model, some, TOP, plant))
    found = overall(tables)
    assert found["dumped_evidence_selected"]["value"] == pytest.approx((1 / 2 + 1 / 4) / 3)
    lost = own_share(model, some) - 1 / 4
    assert found["dumped_evidence_lost"]["value"] == pytest.approx(lost)
    asked = tables["counted"].group_by("sample", "layer").agg(pl.col("asked").sum())
    assert asked["asked"].to_list() == pytest.approx([1.0] * 6), "each sample and layer the same"


def test_two_dumps_are_held_beside_each_other_without_a_model(model: Any) -> None:
    some = marked()
    one = dump_of(model, some, TOP)

    def forget(rows: Array) -> None:
        rows[np.isin(rows, (3, 4, 5, 20))] = -1

    found = overall(parity_dumps(one, some, dump_of(model, some, TOP, forget), 1e-5))
    assert found["dumped_evidence_selected"]["value"] == 0.0
    assert found["dumped_evidence_lost"]["value"] == pytest.approx(own_share(model, some))


def test_without_evidence_or_without_rows_of_all_its_queries_a_sample_says_nothing(model: Any) -> None:
    plain = samples(40)
    assert overall(held(model, plain, dump_of(model, plain, TOP))) == {}
    bare = [replace(plain[0], evidence=Evidence((), (30, 34)))]
    assert overall(held(model, bare, dump_of(model, bare, TOP))) == {}
    some = marked()
    whole = dump_of(model, some, TOP)
    rows = whole[0].open().read(0, 40)
    for first, last, known in ((29, 33, True), (30, 40, False), (0, 32, False), (0, 33, True)):
        part = dumped(np.asarray(rows[first:last]), first, 40)
        assert (asked_of(some[0], part) is not None) is known
        assert asked_of(some[0], whole[0], part) is None or known
    late = {0: dumped(np.asarray(rows[30:]), 30, 40), 1: whole[1]}
    assert overall(held(model, some, late))["dumped_evidence_selected"]["n"] == 1
