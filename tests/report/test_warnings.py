"""What makes numbers worthless or weak is told wherever a reader may look first."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.report import ReportInput, render, verdict
from indexscope.analysis.report.markdown_report import build_markdown
from indexscope.analysis.report.warnings import warnings
from tests.report.fixtures import bare, report


def in_effect(
    given: ReportInput, shares: dict[str, float], layer: int | None = None, facts: dict[str, Any] | None = None
) -> ReportInput:
    """The report with other shares of queries in effect, overall and in all layers (or in one layer only)."""
    metrics = given.metrics
    for name, share in shares.items():
        own = (pl.col("model") == name) & (pl.col("metric") == "in_effect")
        own = own if layer is None else own & (pl.col("layer") == layer)
        metrics = metrics.with_columns(value=pl.when(own).then(pl.lit(share)).otherwise("value"))
    models = [replace(page, facts={**page.facts, **(facts or {})}) for page in given.models]
    return replace(given, metrics=metrics, models=models)


def usual(**changes: Any) -> ReportInput:
    """A report whose layers are all well in effect."""
    given = report(**changes)
    names = [page.name for page in given.models]
    return in_effect(given, dict.fromkeys(names, 0.8))


def shown(given: ReportInput) -> dict[str, str]:
    """What a reader sees first of each file, as plain text."""
    files = render(bare(given))
    html = files["report.html"]
    found = {
        "html": html[html.index('<section id="overview"') : html.index('<section id="trust"')],
        "md": files["report.md"].split("\n## ")[0],
        "json": "\n".join(warning["text"] for warning in json.loads(files["report.json"])["warnings"]),
    }
    return {where: text.replace("\u202f", " ") for where, text in found.items()}


def test_a_study_in_effect_has_no_warning() -> None:
    given = usual()
    assert warnings(given) == ()
    files = render(bare(given))
    assert json.loads(files["report.json"])["warnings"] == []
    assert "Warning" not in files["report.md"]
    assert "hardly in effect" not in files["report.html"]


@pytest.mark.parametrize("model", ["baseline", "light"])
def test_an_indexer_that_is_hardly_in_effect_is_told_everywhere(model: str) -> None:
    """Of the baseline and of a candidate alike, with the length that mends it: 4k tokens for k = 64."""
    given = in_effect(usual(), {model: 0.31})
    for where, text in shown(given).items():
        assert f"The indexer of {model} is in effect for 31 % of the queries" in text, where
        assert "max_length of 256" in text, where
    assert "! indexer hardly in effect" in shown(given)["html"]
    assert "Read with care" in verdict(given).headline and model in verdict(given).headline


def test_an_indexer_that_selects_everything_is_the_headline_and_leaves_no_level() -> None:
    given = in_effect(usual(), {"baseline": 0.0, "light": 0.0})
    assert (verdict(usual()).level, verdict(given).level) == ("mixed", "none")
    headline = verdict(given).headline
    assert headline.startswith("Nothing is said of sparsity: the indexers of baseline and light select everything.")
    assert "! indexer selects everything: <bdi>baseline and light</bdi>" in shown(given)["html"]
    assert [warning.kind for warning in warnings(given)] == ["nothing", "nothing"]


def test_one_layer_that_is_hardly_in_effect_is_named() -> None:
    given = in_effect(usual(), {"light": 0.2}, layer=2)
    (warning,) = warnings(given)
    assert "is in effect for 80\u202f% of the queries (in layer 2 for 20\u202f%)" in warning.text


@pytest.mark.parametrize(("share", "told"), [(0.499, 1), (0.5, 0)])
def test_half_of_the_queries_is_enough(share: float, told: int) -> None:
    assert len(warnings(in_effect(usual(), {"baseline": share}))) == told


def test_what_selects_blocks_is_given_no_number_of_tokens() -> None:
    given = in_effect(usual(candidates=()), {"baseline": 0.1}, facts={"entry": "block"})
    (warning,) = warnings(given)
    assert "A larger dataset.max_length mends it" in warning.text and "128" not in warning.text


def test_a_dense_model_has_nothing_to_be_in_effect() -> None:
    given = usual(dense=("baseline",))
    assert warnings(given) == ()


@pytest.mark.parametrize("model", ["baseline", "light"])
def test_a_failed_audit_is_told_everywhere_before_anything_else(model: str) -> None:
    given = in_effect(usual(audit_failed=(model,)), {"light": 0.2})
    assert [warning.kind for warning in warnings(given)] == ["audit", "little"]
    for where, text in shown(given).items():
        assert f"{model} failed the causality audit" in text, where
    assert verdict(given).headline.startswith("Do not use these numbers")
    assert "✗ causality: 1 of 2 failed" in shown(given)["html"]
    assert "**failed**" in build_markdown(given)


def test_a_model_that_passed_layer_by_layer_is_told_so_and_is_no_warning() -> None:
    given = usual()
    light = pl.col("model") == "light"
    moved = pl.when(light).then(5.8).otherwise("max_logit_change").alias("max_logit_change")
    by_layer = pl.when(light).then(0.004).alias("layer_change")
    given = replace(given, causality=given.causality.with_columns(moved, by_layer))
    assert warnings(given) == ()
    assert render(bare(given))["report.html"].count("✓ passed, layer by layer: what moves is rounding") == 1
    assert build_markdown(given).count("passed, layer by layer") == 1


def test_names_in_warnings_are_text() -> None:
    given = in_effect(usual(baseline="<b>`x`", candidates=()), {"<b>`x`": 0.1})
    assert "<b>" not in shown(given)["html"].replace("<bdi>", "") and "<b>" not in shown(given)["md"]
