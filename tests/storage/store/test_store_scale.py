"""A small version of benchmarks/store_scale.py: what a store of many shards answers is right."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import store_scale
from indexscope.storage.store import packs
from indexscope.storage.store.store import Store

SHARDS, ROWS = 200, 120


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("scale") / "store")
    store_scale.simulate(store, SHARDS, ROWS)
    return store


def test_many_shards_are_listed_planned_and_scanned(simulated: Store) -> None:
    assert store_scale.answer("ls", simulated) == [(SHARDS, SHARDS, SHARDS * ROWS, "complete")]
    planned = store_scale.answer("plan", simulated)
    assert isinstance(planned, tuple) and planned[0] == SHARDS
    frames = [store_scale.attention(ROWS, number % store_scale.TEMPLATES) for number in range(SHARDS)]
    mean = (pl.col("attention_entropy") * pl.col("queries")).sum() / pl.col("queries").sum()
    expected = pl.concat(frames).group_by("layer").agg(mean).sort("layer").rows()
    assert len(expected) == 2
    for question in ("polars", "duckdb", "verified"):
        found = store_scale.answer(question, simulated)
        assert isinstance(found, list)
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, rel=1e-5), question


def test_one_lost_and_one_cut_shard_among_many_are_seen(simulated: Store) -> None:
    folder = Path(simulated.location(store_scale.KEY))
    lost, cut = (folder / "attention" / f"shard-{number:05}.parquet" for number in (7, 100))
    kept = lost.read_bytes(), cut.read_bytes()
    try:
        lost.unlink()
        cut.write_bytes(kept[1][:-1])
        statuses = simulated.unit_statuses(store_scale.KEY, [f"shard-{number:05}" for number in range(SHARDS)])
        assert [unit for unit, status in statuses.items() if status != "committed"] == ["shard-00007", "shard-00100"]
        (row,) = simulated.list_steps().rows(named=True)
        assert (row["units"], row["state"], row["complete"]) == (SHARDS - 2, "damaged", False)
    finally:
        lost.write_bytes(kept[0])
        cut.write_bytes(kept[1])


def test_a_study_of_many_shards_is_planned_alike_from_markers_and_from_packs(
    simulated: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("ls", "plan", "study")
    monkeypatch.setattr(packs, "LEAST", 100)
    before = [store_scale.answer(question, simulated) for question in asked]
    assert store_scale.answer("compact", simulated) == 1
    try:
        assert [store_scale.answer(question, simulated) for question in asked] == before
    finally:
        for file in Path(simulated.location(store_scale.KEY), packs.FOLDER).iterdir():
            file.unlink()
    told = store_scale.study(simulated, SHARDS)
    assert ("extract simulated", SHARDS, SHARDS, "") in told
    assert next(line for line in told if line[1] == SHARDS)[0].endswith("simulated")


def test_tables_that_are_links_are_stored_as_others_are(tmp_path: Path) -> None:
    linked, copied = Store(tmp_path / "linked"), Store(tmp_path / "copied")
    sizes = [store_scale.simulate(store, 12, ROWS, linked=store is linked) for store in (linked, copied)]
    assert sizes[0] == sizes[1]
    assert store_scale.answer("ls", linked) == store_scale.answer("ls", copied) == [(12, 12, 12 * ROWS, "complete")]
    assert store_scale.answer("polars", linked) == store_scale.answer("polars", copied)
