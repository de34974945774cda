"""An export holds every defined value once, with its weight and unit, and appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.export import SCHEMA, Measure, export

KEYS = {name: step_key("features", {"checkpoint": name}) for name in ("base", "light")}
MODELS = {name: key.path for name, key in KEYS.items()}
UNITS = ["shard-00000", "shard-00001"]
MEASURES = [
    Measure("attention", "entropy", "nats", "queries"),
    Measure("indexer", "recall", "share", "in_effect"),
    Measure("positions", "selections", "keys"),
]


def tables(model: str, shard: int) -> dict[str, pl.DataFrame]:
    offset = 100.0 * (model == "light") + 10 * shard
    made = {
        "samples": pl.DataFrame({"sample": [shard], "name": [f"doc, {shard}"]}, schema_overrides={"sample": pl.Int32}),
        "attention": pl.DataFrame(
            {
                "sample": shard,
                "layer": [0, 0],
                "head": [0, 1],
                "bucket": [2, 2],
                "queries": [4, 3],
                "entropy": [offset, 0.1],
            },
            schema_overrides={"sample": pl.Int32, "entropy": pl.Float32},
        ),
        "positions": pl.DataFrame(
            {"sample": [shard], "layer": [1], "distance": [5], "relative": [2], "selections": [7.5]}
        ),
    }
    if model == "base":  # the other is dense
        recall: list[float | None] = [0.25, None]
        made["indexer"] = pl.DataFrame(
            {"sample": shard, "layer": [0, 1], "bucket": 3, "in_effect": [2, 0], "recall": recall}
        )
    return made


def fill(store: Store, units: list[str] = UNITS) -> None:
    for model, key in KEYS.items():
        store.prepare(key, model, UNITS)
        for unit in units:
            store.commit(key, unit, tables(model, UNITS.index(unit)), label=model)


def expected(*rows: tuple[object, ...]) -> pl.DataFrame:
    columns = ["model", "table", "document", "sample", "layer", "head", "bucket", "distance", "relative"]
    columns += ["metric", "value", "weight", "unit"]
    named = [{**dict.fromkeys(SCHEMA), **dict(zip(columns, row, strict=True))} for row in rows]
    return pl.DataFrame(named, schema=SCHEMA)


def attention(model: str, shard: int, head: int, value: float, weight: int) -> tuple[object, ...]:
    place = (shard, 0, head, 2, None, None)
    return (model, "attention", f"doc, {shard}", *place, "entropy", value, weight, "nats")


def recall(shard: int) -> tuple[object, ...]:
    return ("base", "indexer", f"doc, {shard}", shard, 0, None, 3, None, None, "recall", 0.25, 2, "share")


def selections(model: str, shard: int) -> tuple[object, ...]:
    place = (shard, 1, None, None, 5, 2)
    return (model, "positions", f"doc, {shard}", *place, "selections", 7.5, None, "keys")


TENTH = pl.Series([0.1], dtype=pl.Float32).cast(pl.Float64).item()
WHOLE = expected(
    *(attention("base", 0, 0, 0.0, 4), attention("base", 0, 1, TENTH, 3), recall(0), selections("base", 0)),
    *(attention("base", 1, 0, 10.0, 4), attention("base", 1, 1, TENTH, 3), recall(1), selections("base", 1)),
    *(attention("light", 0, 0, 100.0, 4), attention("light", 0, 1, TENTH, 3), selections("light", 0)),
    *(attention("light", 1, 0, 110.0, 4), attention("light", 1, 1, TENTH, 3), selections("light", 1)),
)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_every_defined_value_is_one_row(store: Store, tmp_path: Path, ending: str) -> None:
    fill(store)
    file = tmp_path / f"out.{ending}"
    done = export(store, MODELS, file, MEASURES)
    read = pl.read_parquet(file) if ending == "parquet" else pl.read_csv(file, schema=SCHEMA)
    assert_frame_equal(read, WHOLE, check_exact=True)
    assert (done.rows, done.bytes, done.models) == (14, file.stat().st_size, {"base": (2, 2), "light": (2, 2)})
    before = file.read_bytes()
    export(store, MODELS, file, MEASURES, overwrite=True)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*out*")] == [file.name]


def test_a_choice_of_measures_is_the_same_rows_without_the_others(store: Store, tmp_path: Path) -> None:
    fill(store)
    export(store, MODELS, tmp_path / "out.parquet", MEASURES[1:2])
    assert_frame_equal(pl.read_parquet(tmp_path / "out.parquet"), WHOLE.filter(pl.col("metric") == "recall"))


def test_missing_shards_are_refused_unless_partial_is_asked_for(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    fill(store, UNITS[1:])
    with pytest.raises(IndexscopeError, match=r"base: has 1 of 2 shards in the store; .*--partial"):
        export(store, MODELS, file, MEASURES)
    assert list(tmp_path.glob("*out*")) == []
    done = export(store, MODELS, file, MEASURES, partial=True)
    assert done.models == {"base": (1, 2), "light": (1, 2)}
    assert_frame_equal(pl.read_csv(file, schema=SCHEMA), WHOLE.filter(pl.col("sample") == 1))


def test_nothing_at_all_is_refused_even_if_partial(store: Store, tmp_path: Path) -> None:
    with pytest.raises(IndexscopeError, match=r"base: has no shard in the store; run the study to its end$"):
        export(store, MODELS, tmp_path / "out.csv", MEASURES, partial=True)


def test_a_damaged_shard_leaves_no_file_and_the_old_one_as_it_was(local_store: Store, tmp_path: Path) -> None:
    fill(local_store)
    damaged = Path(local_store.folder.root, MODELS["light"], "attention", "shard-00001.parquet")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    file = tmp_path / "out.parquet"
    file.write_text("old")
    with pytest.raises(IndexscopeError, match="checksum differs"):
        export(local_store, MODELS, file, MEASURES, overwrite=True)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.parquet"]


def test_wrong_targets_are_refused(store: Store, tmp_path: Path) -> None:
    fill(store)
    with pytest.raises(IndexscopeError, match=r"neither \.parquet nor \.csv"):
        export(store, MODELS, tmp_path / "out.json", MEASURES)
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(IndexscopeError, match="exists already"):
        export(store, MODELS, tmp_path / "out.csv", MEASURES)
    with pytest.raises(IndexscopeError, match="cannot be written"):
        export(store, MODELS, tmp_path / "no" / "out.csv", MEASURES)
    with pytest.raises(IndexscopeError, match="has no value of what was asked for"):
        export(store, MODELS, tmp_path / "new.csv", [Measure("tokens", "nll", "nats")])
    assert (tmp_path / "out.csv").read_text() == "mine" and not (tmp_path / "new.csv").exists()
