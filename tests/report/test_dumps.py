"""Reports of studies in which some candidates are selections from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import polars as pl
import pytest

from indexscope.analysis.comparison.gates import evaluate
from indexscope.analysis.parity.dumps import parity_dumps
from indexscope.analysis.parity.run import run
from indexscope.analysis.report import ModelPage, ReportInput, render
from indexscope.analysis.report.json_schema import schema
from indexscope.analysis.report.limits import limits
from indexscope.analysis.report.ranking import ranking
from indexscope.analysis.report.verdict import verdict
from indexscope.analysis.settings import ComparisonSettings
from tests.analysis.conftest import tiny_dsa
from tests.analysis.parity.made import dump_of
from tests.analysis.samples import samples
from tests.report.fixtures import report


@pytest.fixture(scope="module")
def frames() -> dict[str, pl.DataFrame]:
    """A dump that is identical."""
    some = samples(30, 24)
    dump = dump_of(tiny_dsa(topk=8), some, 8)
    return run({"fp8": parity_dumps(dump, some, dump, 1e-5)}, ComparisonSettings(resamples=40))


def with_dump(given: ReportInput, frames: dict[str, pl.DataFrame]) -> ReportInput:
    page = ModelPage("fp8", "candidate", "abc", {"family": "selections (sglang)"}, {"parity": frames}, "sglang")
    own = frames["metrics"].drop("candidate").select(pl.lit("fp8").alias("model"), pl.all())
    metrics = pl.concat([given.metrics, own.select(given.metrics.columns).cast(dict(given.metrics.schema))])
    return replace(given, models=[*given.models, page], metrics=metrics)


def test_a_dump_beside_a_model_is_told_first_and_changes_nothing_of_the_model(frames: dict[str, pl.DataFrame]) -> None:
    plain, mixed = report(), with_dump(report(), frames)
    told, before = verdict(mixed), verdict(plain)
    assert told.headline == f"fp8 selects exactly what the baseline selects. {before.headline}"
    assert told.level == before.level and told.sentences == before.sentences
    assert ranking(mixed).equals(ranking(plain))
    assert [page.name for page in mixed.candidates] == ["light"]
    assert [page.name for page in mixed.dumps] == ["fp8"]
    files = render(mixed)
    assert "It selects exactly the baseline" in files["report.html"]
    assert "selections, made by" in files["report.html"]
    assert "selections (sglang)" in files["report.md"]
    content = json.loads(files["report.json"])
    jsonschema.validate(content, schema())
    assert content["parity_where"] and content["models"][-1]["selections"] == "sglang"


def test_a_model_that_leaks_is_told_before_any_dump(frames: dict[str, pl.DataFrame]) -> None:
    told = verdict(with_dump(report(audit_failed=("baseline",)), frames)).headline
    assert told.startswith("Do not use these numbers") and told.endswith(
        "fp8 selects exactly what the baseline selects."
    )


def test_nothing_is_said_of_what_a_dump_does_not_have(frames: dict[str, pl.DataFrame]) -> None:
    alone = report(candidates=())
    told = limits(with_dump(alone, frames))
    assert not any("fp8" in text for text in told), "it has no attention that an audit or a mask could be of"
    text = render(with_dump(alone, frames))
    assert "Selections compared" in text["report.html"]
    assert "Nothing compared" not in text["report.html"]
    assert "no candidate" not in text["report.md"]


def test_gates_about_dumps_are_held_against_dumps_and_all_others_against_models() -> None:
    rows = [("base", "nll", 2.0), ("light", "nll", 3.0), ("fp8", "rows_identical", 0.5)]
    schema: Any = {"model": pl.String, "metric": pl.String, "value": pl.Float64}
    metrics = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        layer=pl.lit(None, pl.Int16), ci_low=pl.col("value"), ci_high=pl.col("value")
    )
    compared = metrics.filter(pl.col("model") == "light").with_columns(candidate=pl.col("model"), verdict=pl.lit(""))

    class Rule:
        def __init__(self, rule: str) -> None:
            self.name = self.rule = rule

    rules = [Rule("nll <= 2.5"), Rule("rows_identical >= 0.9")]

    def judged(comparisons: pl.DataFrame, dumps: list[str], leaking: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        found = evaluate(rules, comparisons, metrics, dumps=dumps, leaking=leaking)
        return found.select("candidate", "value", "passed").rows()

    assert judged(compared, ["fp8"]) == [("light", 3.0, False), ("fp8", 0.5, False)]
    assert judged(compared, []) == [("light", 3.0, False), (None, None, False)], "a gate that could not look"
    alone = judged(compared.clear(), ["fp8"])
    assert ("base", 2.0, True) in alone and ("fp8", 0.5, False) in alone
    rules[1] = Rule("rows_identical >= 0.4")
    assert judged(compared, ["fp8"])[1] == ("fp8", 0.5, True)
    assert judged(compared, ["fp8"], ("base",))[1] == ("fp8", 0.5, False), "nothing is compared with a model that leaks"
