"""One reader finds every step of a finished study, its tables and its report, from what the store itself says."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from indexscope.storage.store.json_types import JSON
from indexscope.storage.store.keys import StepKey
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.finished import FinishedStudy, is_report, open_finished
from indexscope.storage.studies.records import new_record
from indexscope.storage.studies.reports import read_report, write_report
from tests.storage.studies.test_reports import FILES, REPORT


def planted(store: Store) -> dict[str, StepKey]:
    """A study of two models: features, an analysis of them and of a close-up, an audit, a comparison and a report."""
    keys: dict[str, StepKey] = {}

    def plant(name: str, kind: str, inputs: dict[str, JSON], **tables: pl.DataFrame) -> str:
        keys[name] = step_key(kind, inputs)
        store.commit(keys[name], "result", tables or {name.split()[0]: pl.DataFrame({"of": [name]})}, name)
        return keys[name].digest

    entries: list[JSON] = []
    for model in ("base", "light"):
        extract = plant(f"attention {model}", "features", {"checkpoint": model, "dataset": "d"})
        closeup = plant(f"heads {model}", "closeups", {"checkpoint": model})
        budget = plant(f"metrics {model}", "analyses/budget", {"extract": extract, "closeup": closeup, "version": 1})
        # What is fitted on all models is of each, and of none.
        other = {"extract": extract, "budget of each": [budget], "settings": {"seed": extract}}
        shown = plant(f"kept {model}", "analyses/shown", other)
        audit = plant(f"passed {model}", "audits", {"checkpoint": model})
        entries.append({"name": model, "budget": budget, "shown": shown, "audit": audit})
    compare = plant("rows", "comparisons", {"models": entries})
    files = pl.DataFrame({"name": list(FILES), "content": [_text(content) for content in FILES.values()]})
    plant("report", "reports", {"models": entries, "compare": compare, "provenance": {}}, files=files)
    return keys


def _text(content: bytes | str) -> str:
    return content if isinstance(content, str) else content.decode()


@pytest.fixture
def keys(store: Store) -> dict[str, StepKey]:
    return planted(store)


@pytest.fixture
def run(store: Store, keys: dict[str, StepKey]) -> FinishedStudy:
    models = {model: keys[f"attention {model}"].path for model in ("base", "light")}
    record = replace(new_record("mine", "mine-1", models, [key.path for key in keys.values()]), complete=True)
    store.folder.write(record.file, record.encode())
    return open_finished(store.url, None, "give a store")


def test_every_step_is_found_of_its_own_model(run: FinishedStudy, keys: dict[str, StepKey]) -> None:
    assert run.models == {"base": "baseline", "light": "candidate"} and run.name == "mine"
    assert run.report_key == keys["report"]
    assert run.steps[""] == {"compare": keys["rows"]}
    names = {"extract": "attention", "closeup": "heads", "budget": "metrics", "shown": "kept", "audit": "passed"}
    for model in run.models:
        assert run.steps[model] == {step: keys[f"{table} {model}"] for step, table in names.items()}
    assert run.inputs(keys["heads light"]) == {"checkpoint": "light"}


def test_features_bear_their_own_names_and_other_tables_their_steps(run: FinishedStudy) -> None:
    tables = run.tables("light")
    assert next(iter(tables)) == "attention"
    assert set(tables) == {"attention", "closeup.heads", "budget.metrics", "shown.kept", "audit.passed"}
    assert_frame_equal(tables["closeup.heads"], pl.DataFrame({"of": ["heads light"]}))
    with pytest.raises(IndexscopeError, match=r"^model 'dark': is not in the study mine; choose one of base, light$"):
        run.tables("dark")


def test_a_step_that_the_run_does_not_name_is_not_taken(run: FinishedStudy, keys: dict[str, StepKey]) -> None:
    fewer = replace(run.record, steps=tuple(path for path in run.record.steps if not path.startswith("closeups/")))
    assert "closeup" not in FinishedStudy(run.store, fewer).steps["base"]


def test_a_report_has_the_same_numbers_in_a_store_and_in_a_folder(run: FinishedStudy, store: Store) -> None:
    folder = f"{store.url}/written"
    write_report(folder, FILES)
    assert run.report == read_report(folder) == REPORT
    assert is_report(folder) and is_report(f"{folder}/report.json") and not is_report(store.url)


def test_what_is_gone_is_said_in_one_line(run: FinishedStudy, store: Store, keys: dict[str, StepKey]) -> None:
    store.folder.remove(f"{keys['report'].path}/manifest.json")
    with pytest.raises(IndexscopeError, match="no longer has a list of the steps behind the report of mine; run the"):
        _ = run.steps
    assert run.inputs(keys["report"]) == {}
    torn = pl.DataFrame({"name": ["report.json"], "content": [json.dumps(REPORT)[:-9]]})
    store.discard(keys["report"], "result")
    store.commit(keys["report"], "result", {"files": torn}, "report")
    with pytest.raises(IndexscopeError, match=r"has an unreadable report\.json"):
        _ = run.report


def test_a_store_without_a_finished_study_says_what_to_give(store: Store) -> None:
    with pytest.raises(IndexscopeError, match="is no report and no store; give a store"):
        open_finished(store.url, None, "give a store")
    planted(store)
    with pytest.raises(IndexscopeError, match=r"holds no report\.json and no finished study; give a store"):
        open_finished(store.url, None, "give a store")
