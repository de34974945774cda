"""Claims about stored features: read shard by shard, verified, and the same whatever the shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.storage.store.store import AHEAD, DamagedUnit, StepKey, Store, step_key
from indexscope.tasks.common.features import StoredFeatures
from tests.analysis import planted

SAMPLES = 9
TABLES = {name: frame for name, frame in planted.features(SAMPLES).items() if "sample" in frame.columns}
SETTINGS = DistributionSettings(resamples=20)


def committed(store: Store, size: int, kind: str = "features", only: Sequence[str] = ()) -> tuple[StepKey, list[str]]:
    """The planted tables in shards of so many samples."""
    key, units = step_key(kind, {"size": size}), []
    for low in range(0, SAMPLES, size):
        units.append(f"shard-{len(units):05}")
        inside = pl.col("sample").is_between(low, low + size, closed="left")
        tables = {name: frame.filter(inside) for name, frame in TABLES.items() if not only or name in only}
        store.commit(key, units[-1], tables, "planted")
    return key, units


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_same_dataset_in_one_three_and_nine_shards_gives_identical_results(store: Store) -> None:
    whole = distribution.run(TABLES, SETTINGS)
    for size in (9, 3, 1):
        features = StoredFeatures(store, [committed(store, size)])
        for name, frame in distribution.run(features, SETTINGS).items():
            assert_frame_equal(frame, whole[name], check_exact=True)


def test_a_table_is_read_whole_like_from_a_dictionary(store: Store) -> None:
    features = StoredFeatures(store, [committed(store, 4)])
    assert isinstance(features, Sharded)
    assert set(features) == set(TABLES)
    assert "selections" not in features and features.get("selections") is None
    assert_frame_equal(features["attention"], TABLES["attention"])


def test_selected_keys_are_left_unread(store: Store) -> None:
    key = step_key("features", {})
    store.commit(key, "shard-00000", {"selections": pl.DataFrame({"sample": [0]}), "tokens": TABLES["tokens"]}, "x")
    features = StoredFeatures(store, [(key, ["shard-00000"])])
    assert list(features) == ["tokens"]
    assert [set(shard) for shard in features.shards(["selections", "tokens"])] == [{"tokens"}]


def test_steps_with_the_same_units_are_read_together_and_others_after_them(store: Store) -> None:
    first, looked = committed(store, 3, only=["attention"]), committed(store, 3, "closeups", ["positions"])
    facts = (step_key("models", {}), ["result"])
    store.commit(facts[0], "result", {"facts": pl.DataFrame({"layers": [3]})}, "x")
    features = StoredFeatures(store, [first, facts, looked])
    found = [set(shard) for shard in shards(features, ["attention", "facts", "positions"])]
    assert found == [{"attention", "positions"}] * 3 + [{"facts"}]


def test_a_damaged_shard_is_named_whenever_it_comes(store: Store) -> None:
    key, units = committed(store, 1)
    file = Path(store.location(key)) / "attention" / f"{units[7]}.parquet"
    file.write_bytes(file.read_bytes()[:-9] + b"!" + file.read_bytes()[-8:])
    features, seen = StoredFeatures(store, [(key, units)]), []
    with pytest.raises(DamagedUnit) as damage:
        seen.extend(features.shards(["attention"]))
    assert (damage.value.key, damage.value.unit, len(seen)) == (key, units[7], 7)
    assert len(list(features.shards(["tokens"]))) == SAMPLES  # its file is whole


def test_few_shards_are_read_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key, units = committed(store, 1)
    read: list[str] = []
    frame = Store._frame
    monkeypatch.setattr(Store, "_frame", lambda *given: read.append(given[2].unit) or frame(*given))
    shard = iter(StoredFeatures(store, [(key, units)]).shards(["tokens"]))
    next(shard)
    assert len(read) <= AHEAD + 1 < SAMPLES
    assert len(list(shard)) == SAMPLES - 1
    assert sorted(read) == units
