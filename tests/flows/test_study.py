"""A study from end to end on a tiny random model: what is computed, what is cached, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from prefect.client.orchestration import get_client

from indexscope.analysis.report.json_schema import schema
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.inputs.datasets import load_samples
from indexscope.tasks.common import step
from tests.flows.conftest import ANALYSES, Run, run_command

#: Analyses that read others.
LATER = ("prototypes", "recommendations")
FIRST = [name for name in ANALYSES if name not in LATER]
FEW = ("--set", "candidates=[]", "--set", "dataset.samples=3")
STEPS = [
    *("audit base", "audit light"),
    *(f"{step} {model}" for model in ("base", "light") for step in ("extract", "closeup", "reruns", "profile")),
    *(f"{step} {model}" for step in FIRST for model in ("base", "light")),
    *(f"{step} {model}" for step in LATER for model in ("base", "light")),
    *("compare", "transitions", "selection_changes", "output_divergence", "report"),
]


def told(out: list[str]) -> dict[str, str]:
    """What a run says of its steps; the lines after the last of them tell the report."""
    end = max((place for place, line in enumerate(out, 1) if line.startswith("report: ")), default=len(out))
    return dict(line.split(": ", 1) for line in out[:end] if ": " in line and ": note: " not in line)


def fresh(out: list[str]) -> list[str]:
    return [name for name, what in told(out).items() if "computed" in what]


def test_study_prints_a_line_a_step_and_the_report_folder_last(first_run: tuple[Path, Run]) -> None:
    folder, run = first_run
    assert run.code == 0, run.err
    assert list(told(run.out)) == STEPS
    assert run.out[0].startswith("audit base: computed in ")
    assert told(run.out)["extract base"].startswith("3 shards, 3 computed in ")
    report = Path(run.out[-1])
    assert report == folder / "reports" / "tiny"
    assert {file.name for file in report.iterdir()} == {"report.html", "report.json", "report.md", "report.junit.xml"}
    content = json.loads((report / "report.json").read_text())
    place = run.out.index(content["verdict"]["headline"])
    assert 8 <= len(run.out) - place <= 12 and run.out[place + 1].startswith("  next-token loss (nats) ")
    jsonschema.validate(content, schema())
    assert [model["name"] for model in content["models"]] == ["base", "light"]
    assert content["provenance"]["dataset"]["samples"] == 8
    assert set(content["provenance"]["seconds"]) == {*STEPS} - {"report"}
    assert content["provenance"]["versions"]["torch"]


@pytest.mark.usefixtures("no_model")
def test_same_study_again_does_no_model_work_and_says_so(done: Path) -> None:
    before = (done / "reports" / "tiny" / "report.html").read_bytes()
    run = run_command("study", done / "study.yaml")
    assert run.code == 0, run.err
    assert told(run.out) == {
        name: "3 shards, 3 cached" if name.startswith(("extract", "closeup")) else "cached" for name in STEPS
    }
    assert (done / "reports" / "tiny" / "report.html").read_bytes() == before


def test_prefect_shows_what_is_cached_in_one_run_a_step_under_readable_names(done: Path) -> None:
    run_command("extract", done / "study.yaml")
    with get_client(sync_client=True) as client:
        flow = max(client.read_flow_runs(), key=lambda run: run.created)
        steps = ("audit", "profile", "reruns", "extract", "closeup")
        named = {f"{step} {model}" for step in steps for model in ("base", "light")}
        runs: dict[str, str | None] = {}
        ends = time.monotonic() + 60
        # Task runs reach the database through a queue, first as pending and under names of Prefect's own.
        while runs != dict.fromkeys(named, "Cached") and time.monotonic() < ends:
            time.sleep(0.1)
            runs = {run.name: run.state_name for run in client.read_task_runs() if run.flow_run_id == flow.id}
    assert flow.name == "extract study"
    assert runs == dict.fromkeys(named, "Cached")


@pytest.mark.usefixtures("no_model")
def test_number_of_clusters_reruns_clustering_and_what_follows_alone_and_is_named_with_both_values(done: Path) -> None:
    run = run_command("study", done / "study.yaml", "--set", "analyses.clustering.clusters=3")
    assert run.code == 0, run.err
    assert fresh(run.out) == [
        *("clustering base", "clustering light", "prototypes base", "prototypes light"),
        *("compare", "transitions", "report"),
    ]
    assert any("clustering" in line and "clusters changed" in line and "→ 3" in line for line in run.out), run.out


def test_failed_shard_keeps_the_rest_and_the_same_command_resumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import indexscope.analysis.features as features

    real = features.extract_samples

    def fail(model: object, samples: list, *more: object, **also: object) -> object:
        if samples[0].index == 3:
            raise RuntimeError("out of luck")
        return real(model, samples, *more, **also)

    monkeypatch.setattr(features, "extract_samples", fail)
    run = run_command("study", folder / "study.yaml")
    assert run.code == 3
    assert "error: extract and closeup base shard-00001 failed: RuntimeError: out of luck" in run.err
    assert "error: extract and closeup light shard-00001 failed: RuntimeError: out of luck" in run.err
    assert run.err[-1] == f"kept: 10 of 47 units in {folder / '.indexscope'}; to resume, run the same command again"
    assert not (folder / "reports").exists()
    monkeypatch.setattr(features, "extract_samples", real)
    run = run_command("extract", folder / "study.yaml")
    assert run.code == 0, run.err
    assert told(run.out)["extract base"].startswith("3 shards, 1 computed in ")


def test_passing_io_error_is_tried_again_and_bad_input_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step.make_unit, "retry_delay_seconds", [0, 0])
    tries: list[int] = []
    real = step.Store.commit

    def flaky(self: object, *arguments: object, **options: object) -> object:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("the disk is away")
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(step.Store, "commit", flaky)
    assert run_command("extract", folder / "study.yaml", "--set", "candidates=[]").code == 0
    assert len(tries) == 2 + 3 + 3 + 1 + 1 + 1


def test_failed_gate_exits_1_and_still_prints_the_folder(done: Path) -> None:
    rules = "gates=[{name: free, rule: nll.difference < -100}, {name: output, rule: output_kl <= 9 on upper}]"
    run = run_command("study", done / "study.yaml", "--set", rules)
    assert run.code == 1
    small, failed = run.err
    assert small.startswith("warning: The study is too small to settle light")
    assert failed == "gate failed: free"
    suite = ElementTree.parse(done / "reports" / "tiny" / "report.junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None and "it needs to be < -100" in str(failure.get("message"))
    assert Path(run.out[-1]) == done / "reports" / "tiny"
    content = json.loads((done / "reports" / "tiny" / "report.json").read_text())
    kl = [row for row in content["output_divergence"] if (row["model"], row["statistic"]) == ("light", "output_kl")]
    assert 0 < kl[0]["value"] <= kl[0]["ci_high"] and kl[0]["n"] == 4, "4 samples are looked at"
    assert content["gates"][1]["value"] == kl[0]["ci_high"] and content["gates"][1]["passed"] is True
    ratio = [row for row in content["metrics"] if (row["model"], row["name"]) == ("light", "perplexity_ratio")]
    (compared,) = [row for row in content["comparisons"] if row["metric"] == "perplexity"]
    assert ratio[0]["value"] == pytest.approx(compared["value"] / compared["baseline"], rel=1e-9)
    assert ratio[0]["n"] == 8, "all samples count"


def test_steps_run_alone_and_name_the_step_that_is_missing(folder: Path) -> None:
    file = folder / "study.yaml"
    file.write_text(file.read_text().replace("  - models/light\n", "  []\n"))
    for command, before in [("analyze", "extract"), ("compare", "analyze"), ("report", "extract")]:
        run = run_command(command, file)
        assert (run.code, len(run.err)) == (2, 1)
        assert run.err[0].endswith(f"run `indexscope {before} {file}` first")
    for command in ("extract", "analyze", "compare", "report"):
        run = run_command(command, file)
        assert run.code == 0, run.err
    assert Path(run.out[-1]) == folder / "reports" / "tiny"


def test_dry_run_says_what_would_run_and_why_and_does_nothing(folder: Path, done: Path) -> None:
    run = run_command("study", folder / "study.yaml", "--dry-run")
    assert run.code == 0, run.err
    assert any(line.startswith("extract base") and "not in the store" in line for line in run.out)
    assert not (folder / ".indexscope").exists()
    run = run_command("study", done / "study.yaml", "--dry-run", "--set", "analyses.clustering.clusters=3")
    why = {line.split("  ")[0]: line for line in run.out}
    assert "clusters changed auto → 3" in why["clustering base"]
    assert "cached" in why["extract base"]


def test_worker_processes_give_the_same_tables(done: Path, folder: Path) -> None:
    file = folder / "study.yaml"
    run = run_command("extract", file, "--set", "runner.kind=processes", "--set", "candidates=[]")
    assert run.code == 0, run.err
    features = make_plan(load_study(file)).graph.of("extract", "base")
    assert features is not None
    left, right = (
        pl.read_parquet(where / ".indexscope" / features.key.path / "tokens" / "*.parquet") for where in (folder, done)
    )
    assert left.drop("nll", "dense_nll").equals(right.drop("nll", "dense_nll"))
    assert (left["nll"] - right["nll"]).abs().max() < 1e-5  # type: ignore[operator]


def test_diff_compares_finished_reports_and_fails_on_a_rule(done: Path, tmp_path: Path) -> None:
    other = shutil.copytree(done / "reports" / "tiny", tmp_path / "other")
    report = json.loads((other / "report.json").read_text())
    for row in report["metrics"]:
        if row["name"] == "selection_recall" and row["value"] is not None:
            row["value"] -= 0.5
    (other / "report.json").write_text(json.dumps(report))
    assert run_command("diff", done / "study.yaml", done / "reports" / "tiny", "--fail-on", "recall < -0.01").code == 0
    assert run_command("diff", done / "reports" / "tiny", other, "--fail-on", "recall < -0.01").code == 1
    run = run_command("diff", done / "reports" / "tiny", other, "--json")
    assert json.loads("\n".join(run.out))["differences"]
    assert run_command("diff", done, other).code == 2


def test_ls_shows_every_step_of_the_store(done: Path) -> None:
    run = run_command("ls", done / ".indexscope")
    assert run.code == 0
    for kind in ("features", "audits", "profiles", "analyses/clustering", "comparisons", "reports"):
        assert any(line.startswith(kind) for line in run.out), kind
    rows = json.loads("\n".join(run_command("ls", done / ".indexscope", "--json").out))
    assert {row["state"] for row in rows} == {"complete"}


def test_candidate_with_another_tokenizer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexscope.flows.study import plan

    def tokenizer(model: Path) -> object:
        return model.name

    def samples(settings: object, tokenizer: str, vocabulary: int) -> object:
        return load_samples(settings, None, vocabulary)[:: 1 if tokenizer == "base" else -1]  # type: ignore[arg-type]

    monkeypatch.setattr(plan, "_tokenizer", tokenizer)
    monkeypatch.setattr(plan, "load_samples", samples)
    run = run_command("study", folder / "study.yaml")
    assert run.code == 2
    assert run.err == [
        "error: light: cuts the dataset into other tokens than base, so nothing could be paired; "
        "compare models that share a tokenizer"
    ]


def test_sample_longer_than_the_model_is_refused(folder: Path) -> None:
    config = folder / "models" / "light" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 32}))
    run = run_command("study", folder / "study.yaml")
    assert run.code == 2
    assert len(run.err) == 1
    assert re.fullmatch(
        r"error: light: was made for 32 tokens, and sample data.jsonl:\d+ has 48; set dataset.max_length to 32 or less",
        run.err[0],
    )


def test_dense_model_without_candidates_has_a_report_without_indexer(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "models" / "dense")
    run = run_command("study", folder / "study.yaml", "--set", "baseline=./models/dense", *FEW)
    assert run.code == 0, run.err
    report = json.loads((Path(run.out[-1]) / "report.json").read_text())
    assert [model["indexer"] for model in report["models"]] == [None]
    assert report["comparisons"] == []
