"""How results are made: in order, once, anew where asked, mended where damaged, without what failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect import flow

from indexscope import IndexscopeError
from indexscope.flows.engine import make, side_by_side
from indexscope.flows.engine.contents import Contents
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import ModelsFailed, UnitsFailed
from indexscope.storage.store import packs
from indexscope.storage.store.store import StepKey, Store, UnitRecord
from indexscope.tasks.common.declared import Job, Made, Reads, Step
from indexscope.tasks.common.unit import StepRecord
from tests.flows.engine.fakes import House, house, step

STEPS: list[Step] = [
    step("audit", "extract", runs_model=True, first=True),
    step("extract", "extract", runs_model=True, sharded=True),
    step("shape", "analyze", "extract"),
    step("fitted", "analyze", Reads("extract", of_each=True)),
    step("advice", "analyze", "shape", "fitted"),
    step("compare", "compare", "[analyze]", per="study"),
]
SECOND = "shard-00001"
FOUR = Spread(kind="threads", workers=4)
ALL = [
    *("audit base", "audit light"),
    *("extract base shard-00000", "extract base shard-00001", "extract light shard-00000", "extract light shard-00001"),
    *("fitted base", "fitted light", "shape base", "shape light", "advice base", "advice light", "compare"),
]


def made(fake: House, *commands: str) -> list[str]:
    """What is computed, inside a flow as Prefect wants it; side by side in any order that has sources first."""

    @flow(name="fakes", persist_result=False)
    def run() -> list[str]:
        return fake.make(*commands)

    return run()


def value(fake: House, name: str, model: str = "") -> int:
    node = fake.engine.graph.of(name, model)
    assert node is not None
    return int(fake.engine.store.read(node.key, "table", node.units)["value"].sum())


def damage(fake: House, name: str, model: str = "", unit: int = 0) -> None:
    """Change a byte of a unit's table, of the same size, so that only its checksum tells."""
    node = fake.engine.graph.of(name, model)
    assert node is not None
    file = Path(fake.engine.store.url) / node.key.path / "table" / f"{node.units[unit]}.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_audits_of_all_models_come_first_and_every_result_after_what_it_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    order = made(fake)
    assert order[:6] == ALL[:6], "first what may make the rest worthless, then one model after the other"
    assert sorted(order) == sorted(ALL)
    assert order[-1] == "compare" and set(order[-3:-1]) == {"advice base", "advice light"}
    assert value(fake, "extract", "base") == 2 + 21, "1 for each shard, and the token ids"
    assert value(fake, "shape", "base") == 1 + 23 and value(fake, "fitted", "base") == 1 + 46
    assert value(fake, "advice", "light") == 1 + 24 + 47
    assert value(fake, "compare") == 1 + 2 * (24 + 47 + 72)
    assert made(fake) == [], "the store has everything"


def test_a_refreshed_step_reruns_its_readers_only_if_other_bytes_come_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made(house(monkeypatch, str(tmp_path), STEPS))
    again = house(monkeypatch, str(tmp_path), STEPS, refresh=["shape"])
    assert sorted(made(again)) == ["shape base", "shape light"]

    def other(job: Job, store: Store) -> Made:
        return Made({"table": pl.DataFrame({"value": [100 if job.title == "shape light" else 1]})})

    changed = [step("shape", "analyze", "extract", compute=other) if one.name == "shape" else one for one in STEPS]
    again = house(monkeypatch, str(tmp_path), changed, refresh=["shape"])
    assert sorted(made(again)) == ["advice light", "compare", "shape base", "shape light"]
    assert value(again, "compare") == 1 + 2 * (24 + 47 + 72) + 2 * 99


def test_what_the_store_has_of_a_step_of_several_units_is_one_run_and_the_rest_has_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted: list[str] = []
    looked: list[tuple[str, list[str]]] = []
    task_of, looked_up = side_by_side.task_of, make.looked_up

    def counted(job: Job) -> Any:
        submitted.append(job.title)
        return task_of(job)

    def told(step: str, title: str, *more: Any) -> list[StepRecord]:
        found: list[StepRecord] = looked_up(step, title, *more)
        looked.append((title, [record.unit for record in found]))
        return found

    monkeypatch.setattr(side_by_side, "task_of", counted)
    monkeypatch.setattr(make, "looked_up", told)
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    assert not looked and len(submitted) == len(ALL)
    submitted.clear()
    capsys.readouterr()
    assert made(fake) == []
    both = ["shard-00000", SECOND]
    assert looked == [("extract base", both), ("extract light", both)]
    assert not [title for title in submitted if title.startswith("extract")]
    assert "extract base: 2 shards, 2 cached" in capsys.readouterr().out
    looked.clear()
    submitted.clear()
    damage(fake, "extract", "light", 1)
    assert made(fake) == [f"extract light {SECOND}"], "whose bytes are looked at, as those of every unit are"
    assert looked[1] == ("extract light", both[:1]) and f"extract light {SECOND}" in submitted


HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "half a file": lambda data: data[: len(data) // 2],
    "no file": lambda _: None,
    "half a marker": lambda data: data[: len(data) // 2],
    "no marker": lambda _: None,
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_torn_or_lost_is_made_anew_alone_and_nothing_that_reads_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: str
) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    node = fake.engine.graph.of("extract", "light")
    assert node is not None
    file = tmp_path / node.key.path / ("_commits/{}.json" if "marker" in harm else "table/{}.parquet").format(SECOND)
    whole, table = file.read_bytes(), (tmp_path / node.key.path / f"table/{SECOND}.parquet").read_bytes()
    file.unlink()
    if (left := HARMS[harm](whole)) is not None:
        file.write_bytes(left)
    assert made(house(monkeypatch, str(tmp_path), STEPS)) == [f"extract light {SECOND}"]
    assert (tmp_path / node.key.path / f"table/{SECOND}.parquet").read_bytes() == table


@pytest.mark.parametrize(
    ("where", "anew"),
    [
        (("extract", "base", 1), ["extract base shard-00001"]),
        (("shape", "light", 0), ["shape light"]),
    ],
)
def test_what_is_damaged_is_discarded_and_made_anew_and_the_reader_tries_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: tuple[str, str, int], anew: list[str]
) -> None:
    """The damaged step is not among those that are run, so that its reader is the one to meet it."""
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    before = value(fake, "compare")
    damage(fake, *where)
    readers = "analyze" if where[0] == "extract" else "compare"
    refresh = ["shape", "fitted"] if where[0] == "extract" else ["compare"]
    again = house(monkeypatch, str(tmp_path), STEPS, refresh=refresh)
    order = made(again, readers)
    assert [name for name in order if name in anew] == anew, "once, however many readers met it"
    assert value(again, "compare") == before


def test_readers_that_meet_the_same_damage_at_once_all_try_again_after_it_is_made_anew_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    before = value(fake, "compare")
    damage(fake, "extract", "base", 1)
    again = house(monkeypatch, str(tmp_path), STEPS, refresh=["shape", "fitted", "compare"])
    four = Engine(again.engine.graph, again.engine.store, lambda: FOUR, again.engine.shards, again.engine.refresh)
    order = made(House(four, again.made), "analyze", "compare")
    assert order.count("extract base shard-00001") == 1
    assert order.count("fitted base") == 2, "both read it while it was damaged"
    assert value(again, "compare") == before


def test_damage_below_damage_is_mended_from_the_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    before = value(fake, "compare")
    damage(fake, "shape", "base")
    damage(fake, "extract", "base", 0)
    order = made(house(monkeypatch, str(tmp_path), STEPS, refresh=["advice"]), "analyze")
    assert "extract base shard-00000" in order and "shape base" in order and "extract base shard-00001" not in order
    assert value(fake, "compare") == before


def test_what_is_damaged_again_at_once_is_told_and_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    made(fake)
    damage(fake, "shape", "base")
    again = house(monkeypatch, str(tmp_path), STEPS, refresh=["compare"])
    whole = Store.commit

    def commit(self: Store, key: StepKey, *given: Any, **more: Any) -> UnitRecord:
        record = whole(self, key, *given, **more)
        if key.kind == "shape":
            damage(again, "shape", "base")
        return record

    monkeypatch.setattr(Store, "commit", commit)
    with pytest.raises(UnitsFailed) as failed:
        made(again, "compare")
    assert "is not what was committed" in failed.value.reason
    assert again.made.count("shape base") == 1


def test_what_fails_of_one_model_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken: dict[str, BaseException] = {"extract light shard-00001": IndexscopeError("light", "is NaN", "mend it")}
    fake = house(monkeypatch, str(tmp_path), STEPS, broken)
    with pytest.raises(ModelsFailed) as failed:
        made(fake, "extract")
    assert list(failed.value.failures) == ["light"] and failed.value.failures["light"].bad_input
    assert failed.value.failures["light"].reason == "extract light shard-00001: light: is NaN; mend it"
    assert fake.made == ALL[:6]
    broken.clear()
    assert made(fake, "extract") == ["extract light shard-00001"], "the other shard is kept"


def test_an_analysis_that_fails_leaves_out_what_reads_it_and_goes_on_with_the_other_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS, {"shape light": ValueError("a defect")})
    made(fake, "extract")
    with pytest.raises(ModelsFailed) as failed:
        made(fake, "analyze")
    assert list(failed.value.failures) == ["light"] and not failed.value.failures["light"].bad_input
    assert "ValueError: a defect" in failed.value.failures["light"].reason
    assert "advice base" in fake.made and "advice light" not in fake.made


def test_what_is_made_from_models_that_all_failed_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS, {f"audit {name}": ValueError("no") for name in ("base", "light")})
    with pytest.raises(ModelsFailed):
        made(fake)
    assert sorted(fake.made) == ["audit base", "audit light"]


def test_a_failing_result_of_the_study_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS, {"compare": ValueError("a defect")})
    with pytest.raises(UnitsFailed, match="compare: 1 of 1 failed"):
        made(fake)


def test_an_interrupt_passes_through_and_what_was_made_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)
    real = side_by_side.SideBySide._fill

    def interrupted(self: side_by_side.SideBySide, runner: Any) -> None:
        if "shape base" in fake.made:
            raise KeyboardInterrupt
        real(self, runner)

    monkeypatch.setattr(side_by_side.SideBySide, "_fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.engine.make(fake.engine.graph.some(["extract", "analyze"]))
    first = list(fake.made)
    assert "shape base" in first and "shape light" not in first
    monkeypatch.setattr(side_by_side.SideBySide, "_fill", real)
    assert sorted([*first, *made(fake)]) == sorted(ALL)


def test_every_step_says_why_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = house(monkeypatch, str(tmp_path), STEPS)

    def why(house: House, name: str, model: str = "") -> str:
        node = house.engine.graph.of(name, model)
        assert node is not None
        return house.engine.why(node, Contents(house.engine.store))

    assert why(fake, "shape", "base") == "not in the store"
    made(fake)
    assert why(fake, "shape", "base") == ""
    newer = [
        step("shape", "analyze", "extract", settings=lambda given: {"checkpoint": given.checkpoint, "k": 5})
        if one.name == "shape"
        else one
        for one in STEPS
    ]
    other = house(monkeypatch, str(tmp_path), newer)
    assert why(other, "shape", "base") == "k changed none → 5"
    assert why(other, "advice", "base") == "shape changed (k changed none → 5)"
    assert why(house(monkeypatch, str(tmp_path), STEPS, refresh=["shape"]), "shape", "base") == (
        "asked for by --refresh shape"
    )
    node = fake.engine.graph.of("extract", "base")
    assert node is not None
    fake.engine.store.discard(node.key, node.units[1])
    assert why(fake, "extract", "base") == "1 of 2 missing"


def test_a_run_packs_what_it_completes_and_packs_hide_no_harm_from_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packs, "LEAST", 2)
    for place, harm in enumerate(HARMS):
        store = tmp_path / str(place)
        test_what_is_torn_or_lost_is_made_anew_alone_and_nothing_that_reads_it(monkeypatch, store, harm)
        assert len(list(store.rglob("_packs/shard-00xxx.json.gz"))) == 2, "one of each model's extraction"
    met = ("extract", "base", 1), ["extract base shard-00001"]
    test_what_is_damaged_is_discarded_and_made_anew_and_the_reader_tries_again(monkeypatch, tmp_path / "met", *met)
