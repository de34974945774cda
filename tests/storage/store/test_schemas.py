"""Every column that a study writes says in its Parquet file what it is, and rows lie in the order that is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.columns import FEATURES, TOKENS
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.parquet import decode, encode, units
from indexscope.storage.store.store import Store, step_key
from indexscope.tasks.common.tables import declared
from tests.declared import check
from tests.storage.conftest import _model

KEY = step_key("features", {"checkpoint": "tiny"})
#: Tables that a model with an indexer has.
TABLES = {"samples", "tokens", "attention", "heads", "indexer", "positions", "scores", "recalls", "selections"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The features of a tiny random model with an indexer, two shards of two samples."""
    folder = tmp_path_factory.mktemp("schemas")
    _model("deepseek_v32").save_pretrained(folder / "model")
    model = load_model(folder / "model", "float32", "cpu")
    samples = [Sample(n, f"text {n}", tuple((7 * n + 5 * t) % 60 + 1 for t in range(40))) for n in range(4)]
    store = Store(folder / "store")
    for number in range(2):
        tables = extract_samples(model, samples[2 * number : 2 * number + 2], ExtractSettings(dense_reference=True))
        store.commit(KEY, f"shard-{number:05}", tables, label="tiny", described=FEATURES)
    return store


def files(store: Store) -> Iterator[tuple[str, Path]]:
    for table in store.tables(KEY):
        for file in sorted(Path(store.location(KEY), table).glob("*.parquet")):
            yield table, file


def test_every_column_of_features_carries_what_is_known_of_it(stored: Store) -> None:
    seen = set()
    for table, file in files(stored):
        seen.add(table)
        known = FEATURES[table]
        for field in pq.read_schema(file):
            column = known.column(field.name)
            assert column is not None, f"{table}.{field.name} is not described"
            found = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            assert {key: found[key] for key in found if not key.startswith("PARQUET:")} == column.metadata
            assert found["description"].endswith(".")
            if field.type in ("float", "double"):
                assert found["unit"]
            if "weight" in found:
                assert found["weight"] in pq.read_schema(file).names
    assert seen == TABLES


def test_features_are_as_declared(stored: Store) -> None:
    checked = 0
    for table, file in files(stored):
        frame = pl.read_parquet(file)
        check(frame, FEATURES[table])
        checked += frame.height > 1
    assert checked == 2 * len(TABLES)


def test_units_are_read_back_from_bytes() -> None:
    frame = pl.DataFrame({"sample": [0], "bucket": [1], "tokens": [1], "nll": [0.5], "other": [1.0]})
    assert units(encode(frame, TOKENS)) == {"tokens": "tokens", "nll": "nats"}
    assert units(encode(frame)) == {}
    assert decode(encode(frame, TOKENS), "here").equals(frame)


def test_descriptions_are_sentences_and_names_are_unique() -> None:
    for place, table in declared().items():
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names), place
        assert set(table.key) <= set(names), place
        for column in table.columns:
            assert column.meaning[0].isupper() or column.meaning[0].isdigit(), (place, column.name)
            assert column.meaning.endswith("."), (place, column.name)
            assert not column.weight or column.weight in names, (place, column.name)
