"""Units that are made along with those of another step, in one run of the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from indexscope.flows.engine import side_by_side
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import threads
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Job, Made
from tests.flows.engine.fakes import House, house, step
from tests.flows.engine.test_make import made

FIRST, SECOND = "shard-00000", "shard-00001"


def both(job: Job, store: Store) -> Made:
    """A run that sees what the other step wants as well."""
    return Made(table(1), along=Made(table(10 + len(job.along.chosen.value)), seconds=0.0) if job.along else None)


def alone(job: Job, store: Store) -> Made:
    return Made(table(10 + len(job.chosen.value) - sum(sum(sample.input_ids) for sample in job.samples.value)))


def table(value: int) -> dict[str, pl.DataFrame]:
    return {"table": pl.DataFrame({"value": [value]})}


def steps(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    samples: int = 3,
    extract: Callable[[Job, Store], Made] = both,
    **more: object,
) -> House:
    chosen = {"samples": lambda all_of_them, given: all_of_them[:samples], "along": lambda given: "extract"}
    declared = [
        step("extract", "extract", runs_model=True, sharded=True, compute=extract),
        step("look", "extract", runs_model=True, sharded=True, compute=alone, **chosen),
        step("again", "extract", "look", runs_model=True),
    ]
    return house(monkeypatch, str(folder), declared, **more)  # type: ignore[arg-type]


def values(fake: House, name: str) -> list[int]:
    node = fake.engine.graph.of(name, "base")
    assert node is not None
    return fake.engine.store.read(node.key, "table", node.units)["value"].to_list()


def of_base(titles: list[str]) -> list[str]:
    return [title for title in titles if "base" in title]


def test_one_run_of_the_model_makes_the_units_of_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = steps(monkeypatch, tmp_path)
    order = of_base(made(fake, "extract"))
    assert order == [f"extract and look base {FIRST}", f"extract and look base {SECOND}", "again base"]
    assert values(fake, "look") == [13, 13], "as alone, see below"
    assert values(fake, "again") == [1 + 26]
    told = capsys.readouterr().out
    assert "look base: 2 shards, 2 computed in 0.0 s" in told and "cached" not in told
    assert made(fake, "extract") == []


def test_what_is_missing_of_one_alone_is_made_alone_and_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = steps(monkeypatch, tmp_path)
    made(fake, "extract")
    store, before = fake.engine.store, {name: values(fake, name) for name in ("extract", "look")}
    for name, unit in (("look", SECOND), ("extract", FIRST)):
        node = fake.engine.graph.of(name, "base")
        assert node is not None
        store.discard(node.key, unit)
    assert made(fake, "extract") == [f"extract base {FIRST}", f"look base {SECOND}"]
    assert {name: values(fake, name) for name in before} == before


def test_a_step_that_is_asked_for_again_runs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(steps(monkeypatch, tmp_path), "extract")
    assert of_base(made(steps(monkeypatch, tmp_path, refresh=["look"]), "extract")) == [
        f"look base {FIRST}",
        f"look base {SECOND}",
    ]
    together = steps(monkeypatch, tmp_path, refresh=["look", "extract"])
    assert of_base(made(together, "extract")) == [f"extract and look base {unit}" for unit in (FIRST, SECOND)]


def test_only_shards_that_hold_samples_for_a_step_are_units_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = steps(monkeypatch, tmp_path, samples=1)
    order = of_base(made(fake, "extract"))
    assert order == [f"extract and look base {FIRST}", f"extract base {SECOND}", "again base"]
    assert values(fake, "look") == [11]


def test_a_run_that_fails_leaves_nothing_of_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = steps(monkeypatch, tmp_path, broken={f"extract and look base {SECOND}": ValueError("broken")})
    with pytest.raises(Exception, match="base"):
        made(fake, "extract")
    node = fake.engine.graph.of("look", "base")
    assert node is not None
    assert fake.engine.store.unit_statuses(node.key, node.units) == {FIRST: "committed", SECOND: "missing"}
    assert "again light" in fake.made and "again base" not in fake.made


def test_what_was_waited_for_begins_at_once_and_not_after_what_is_under_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lasting = {f"extract and look base {SECOND}": 0.4, f"extract and look light {FIRST}": 1.2}

    def slow(job: Job, store: Store) -> Made:
        time.sleep(lasting.get(job.title, 0.05))
        return both(job, store)

    monkeypatch.setattr(side_by_side, "pool", lambda spread: threads(spread.workers))  # played by threads
    fake = steps(monkeypatch, tmp_path, extract=slow)
    two = Engine(fake.engine.graph, fake.engine.store, lambda: Spread(kind="processes", workers=2), fake.engine.shards)
    order = made(House(two, fake.made), "extract")
    places = [order.index(f"extract and look light {FIRST}"), order.index("again base")]
    assert places == [2, 3] and order[4] == f"extract and look light {SECOND}"


def test_a_step_learns_which_samples_it_chose_of_all_units_and_still_gets_every_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def seen(job: Job, store: Store) -> Made:
        return Made(table(100 * len(job.samples.value) + sum(job.chosen.value)))

    declared = [
        step("extract", "extract", runs_model=True, sharded=True, compute=seen, chooses=lambda every, _: every[1:3])
    ]
    fake = house(monkeypatch, str(tmp_path), declared)
    made(fake, "extract")
    second, third = [one.index for part in fake.engine.shards.values() for one in part][1:3]
    tokens = [sum(sum(one.input_ids) for one in part) for part in fake.engine.shards.values()]  # the fake adds them
    parts = [100 * len(part) + second + third for part in fake.engine.shards.values()]
    assert values(fake, "extract") == [own + more for own, more in zip(parts, tokens, strict=True)]
