"""Metrics of one's own from end to end: the example of docs/plugins.md on a tiny study, and what can go wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.store.parquet import units
from indexscope.storage.store.store import StepKey
from indexscope.tasks.common.tables import declared
from tests.flows.conftest import Run, address, run_command
from tests.flows.test_described import described_tables, of_any_study

DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"
EXAMPLE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
OWN = {"even_mass", "sink_heads"}
HEAD = "import polars as pl\nimport torch\nfrom indexscope.plugins import feature, metric\n"
FEATURE = HEAD + '@feature(unit="share", meaning="Mine.")\ndef mine(rows):\n    return {}\n'
METRIC = HEAD + '@metric(table="attention", unit="share", meaning="Mine.")\ndef mine(frame):\n    return {}\n'
KNOWN = 'frame.select("sample", "layer", value="sink_mass", weight="queries")'


def named(folder: Path, **files: str) -> Path:
    """The study of a folder with files of metrics, and a gate on the example's feature."""
    for name, code in files.items():
        (folder / f"{name}.py").write_text(code)
    raw = yaml.safe_load((folder / "study.yaml").read_text()) | {"plugins": [f"{name}.py" for name in files]}
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    return folder / "study.yaml"


def gated(study: Path, rule: str) -> None:
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"gates": [rule]}))


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "reports" / "tiny" / "report.json").read_text())
    return content


def computed(run: Run) -> list[str]:
    return [line.split(":")[0] for line in run.out if " computed" in line]


@pytest.fixture(scope="module")
def extended(first_run: tuple[Path, Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A study that had run before it named the example's metrics, run again with them."""
    folder = Path(shutil.copytree(first_run[0], tmp_path_factory.mktemp("extended") / "study"))
    study = named(folder, my_metrics=EXAMPLE)
    gated(study, "even_mass.value >= 0")
    return folder, run_command("study", study)


@pytest.fixture
def own(extended: tuple[Path, Run], tmp_path: Path) -> Path:
    """A copy of that study."""
    return Path(shutil.copytree(extended[0], tmp_path / "own"))


def test_the_example_is_short() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10


def test_new_metrics_compute_nothing_that_was_there(extended: tuple[Path, Run]) -> None:
    run = extended[1]
    assert run.code == 0, run.err
    models = ("base", "light")
    expected = [f"{step} {model}" for step in ("plugin_features", "plugins") for model in models]
    assert computed(run) == [*expected, "compare", "report"]


def test_own_metrics_are_in_the_report_with_intervals(extended: tuple[Path, Run]) -> None:
    content = report(extended[0])
    rows = {(row["model"], row["name"], row["layer"]): row for row in content["metrics"] if row["name"] in OWN}
    assert set(rows) == {(m, n, layer) for m in ("base", "light") for n in OWN for layer in (None, 0, 1)}
    for row in rows.values():
        assert row["unit"] == "share" and row["n"] == 8
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert 0 <= row["value"] <= 1
    (gate,) = content["gates"]
    assert gate["rule"] == "even_mass.value >= 0" and gate["passed"] is True
    assert gate["value"] == rows["light", "even_mass", None]["value"]
    compared = [row for row in content["comparisons"] if row["metric"] == "even_mass" and row["layer"] is None]
    assert len(compared) == 1 and compared[0]["ci_low"] <= compared[0]["difference"] <= compared[0]["ci_high"]
    assert set(content["provenance"]["plugins"]) == {"my_metrics.py"}
    page = (extended[0] / "reports" / "tiny" / "report.html").read_text()
    assert "even_mass" in page and "Attention on keys at even positions." in page
    assert "sink_heads" in page and "Metrics of the study&#39;s own" in page


def test_every_column_of_a_study_with_own_metrics_is_described(extended: tuple[Path, Run]) -> None:
    own = {table for table in declared() if table[0] == "analyses/plugins"}
    assert described_tables(extended[0] / ".indexscope") == of_any_study() | own


@pytest.mark.usefixtures("no_model")
def test_a_second_run_computes_nothing(own: Path) -> None:
    run_command("study", own / "study.yaml")  # the file of metrics has moved with the copy, and the report names it
    again = run_command("study", own / "study.yaml")
    assert again.code == 0, again.err
    assert computed(again) == []


@pytest.mark.usefixtures("no_model")
def test_a_change_of_a_metric_recomputes_what_follows_from_it_and_runs_no_model(
    first_run: tuple[Path, Run], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(first_run[0], tmp_path / "study"))
    study = named(folder, own=METRIC.format(KNOWN))
    assert run_command("study", study).code == 0
    (folder / "own.py").write_text(METRIC.format(KNOWN.replace("sink", "local")))
    told = " ".join(run_command("study", study, "--dry-run").out)
    assert "own.py: code of mine changed" in " ".join(told.split()), told
    run = run_command("study", study)
    assert run.code == 0, run.err
    assert computed(run) == ["plugins base", "plugins light", "compare", "report"]
    values = {row["name"]: row["value"] for row in report(folder)["metrics"] if row["layer"] is None}
    assert values["mine"] == pytest.approx(values["local_mass"], abs=1e-12)


def test_only_the_content_of_a_file_counts(own: Path) -> None:
    def of_model(study: Path) -> dict[str, StepKey]:
        nodes = make_plan(load_study(study)).graph
        return {node.step.name: node.key for node in nodes if node.model and node.model.name == "base"}

    before = of_model(own / "study.yaml")
    assert of_model(named(own, renamed=EXAMPLE)) == before
    after = of_model(named(own, renamed=EXAMPLE + "\n"))
    assert {name for name, key in after.items() if key != before[name]} == {"plugin_features", "plugins"}


def test_a_file_without_features_runs_no_model(folder: Path) -> None:
    plan = make_plan(load_study(named(folder, own=METRIC.format(KNOWN))))
    assert "plugins" in {node.step.name for node in plan.graph}
    assert "plugin_features" not in {node.step.name for node in plan.graph}


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_own_features_are_weighted_means_that_the_table_holds(own: Path, kind: str) -> None:
    study = own / "study.yaml"
    if kind == "processes":
        processes = ("--set", "runner.kind=processes", "--set", "runner.workers=1", "--set", "candidates=[]")
        run = run_command("extract", study, *processes, "--refresh", "plugin_features")
        assert run.code == 0, run.err
    plan = make_plan(load_study(study))
    key = address(plan, "plugin_features", "base")
    table = plan.store.read(key, "plugin_attention", [name for name, _ in plan.shards])
    file = next(Path(plan.store.location(key), "plugin_attention").glob("*.parquet"))
    assert units(file.read_bytes()) == {"even_mass": "share", "even_mass_queries": "queries"}
    assert table.columns == ["sample", "layer", "head", "bucket", "even_mass", "even_mass_queries"]
    value = table.select((pl.col("even_mass") * pl.col("even_mass_queries")).sum() / pl.sum("even_mass_queries")).item()
    found = [row for row in report(own)["metrics"] if (row["name"], row["layer"]) == ("even_mass", None)]
    assert found[0]["value"] == pytest.approx(value, rel=1e-12)


def test_own_features_are_exported_without_running_the_file_that_declares_them(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    (own / "my_metrics.py").write_text("raise SystemExit\n")
    run = run_command("export", own / ".indexscope", file, "--metric", "even_mass")
    assert run.code == 0, run.err
    frame = pl.read_parquet(file)
    assert set(frame.select("table", "metric", "unit").unique().rows()) == {("plugin_attention", "even_mass", "share")}
    rows = {(row["model"], row["layer"]): row for row in report(own)["metrics"] if row["name"] == "even_mass"}
    mean = (pl.col("value") * pl.col("weight")).sum() / pl.col("weight").sum()
    for model in ("base", "light"):
        part = frame.filter(pl.col("model") == model)
        assert part.select(mean).item() == pytest.approx(rows[model, None]["value"], rel=1e-12)
        assert part.filter(layer=1).select(mean).item() == pytest.approx(rows[model, 1]["value"], rel=1e-12)
    assert frame["document"].null_count() == 0
    whole = tmp_path / "all.parquet"
    assert run_command("export", own / ".indexscope", whole).code == 0
    assert {"even_mass", "nll"} <= set(pl.read_parquet(whole, columns=["metric"])["metric"].unique())


def test_a_difference_judges_own_metrics_without_running_the_file_that_declares_them(own: Path) -> None:
    (own / "my_metrics.py").write_text("raise SystemExit\n")
    store, folder = own / ".indexscope", own / "reports" / "tiny"
    for sides in ([store], [store, store], [folder, own / "study.yaml"]):
        run = run_command("diff", *sides, "--metric", "own", "--json", "--fail-on", "even_mass.value > 0")
        assert run.code == 1, run.err
        content = json.loads(run.out[0])
        assert content["failed"] == ["even_mass.value > 0"]
        rows = [row for row in content["differences"] if row["layer"] is None]
        assert {row["metric"] for row in rows} == OWN
        assert {(row["unit"], row["direction"]) for row in rows} == {("share", "neither")}
    run = run_command("diff", store, "--model", "light", "--fail-on", "even_mas < 1")
    assert run.code == 2 and "did you mean even_mass?" in run.err[0]


#: What is wrong: file, and what the line must say beside the file's name. More in tests/analysis/plugins.
WRONG = {
    "when read": (HEAD + "1 / 0\n", ":4", "ZeroDivisionError"),
    "feature raises": (FEATURE.format("rows.nothing"), "mine", "AttributeError in line 6"),
    "feature of nothing": (FEATURE.format("rows.log_z * torch.nan"), "mine", "NaN at every query of the data"),
    "metric without values": (METRIC.format("frame.select('sample')"), "mine", "without value and weight"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_ends_in_one_line_and_leaves_nothing(
    case: str, first_run: tuple[Path, Run], tmp_path: Path
) -> None:
    code, *said = WRONG[case]
    folder = Path(shutil.copytree(first_run[0], tmp_path / "study"))
    run = run_command("study", named(folder, wrong=code))
    errors = [line for line in run.err if line.startswith("error:")]
    assert run.code == 2 and len(errors) == 1, run.err
    assert "wrong.py" in errors[0]
    for words in said:
        assert words in errors[0]
    for kind in ("plugin_features", "analyses/plugins"):
        assert not list((folder / ".indexscope" / kind).rglob("*.parquet"))
    report = Path("reports") / "tiny" / "report.json"
    assert (folder / report).read_bytes() == (first_run[0] / report).read_bytes(), "the report is the old one"


def test_a_file_that_is_not_there_and_a_name_twice_are_refused(folder: Path) -> None:
    code = FEATURE.format("rows.p.sum(-1)")
    study = named(folder, one=code, two=code + "# another\n")
    run = run_command("study", study, "--dry-run")
    assert run.code == 2 and len(run.err) == 1 and "two.py: mine: one.py declares mine too" in run.err[0]
    (folder / "two.py").unlink()
    run = run_command("study", study, "--dry-run")
    assert run.code == 2 and len(run.err) == 1 and "two.py: there is no such file" in run.err[0]


def test_a_study_does_not_know_the_metrics_of_another(own: Path, folder: Path) -> None:
    load_study(own / "study.yaml")
    gated(folder / "study.yaml", "even_mass.value >= 0")
    run = run_command("study", folder / "study.yaml", "--dry-run")
    assert run.code == 2 and "there is no metric even_mass" in run.err[0]
