"""Home-made torch modules as models of a study: no `trace`, no checkpoint folder, every step."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import Store
from indexscope.tasks.common.registry import STEPS
from tests.analysis.capture import plain_modules
from tests.flows.conftest import address, run_command
from tests.tiny import save_model

MODELS = """\
import torch
from torch import nn

from plain_modules import Plain, VOCABULARY, WIDTH


class Multi(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, input_ids):
        x, length = self.tokens(input_ids), input_ids.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        out, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return (x + out) @ self.tokens.weight.T, None, None


def load(kind="bool", within="tuple"):
    return Multi() if kind == "multi" else Plain(kind, within=within)


def load_weights(weights):
    model = Plain()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model
"""
ROOT = Path(__file__).parents[2]
EXAMPLE, GUIDE = ROOT / "examples" / "own_model", ROOT / "docs" / "own-models.md"
#: What a study calls each model, and the kind that it is.
KINDS = {"sparse": "bool", "by hand": "by hand", "window": "window", "ratio": "ratio", "multi": "multi", "leak": "leak"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment folder that knows nothing of Indexscope, and a study file in it."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "models.py").write_text(MODELS)
    shutil.copy(str(plain_modules.__file__), folder / "plain_modules.py")
    generator = random.Random(0)
    rows = [[generator.randrange(31) for _ in range(40)] for _ in range(4)]
    (folder / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    models = [{"name": name, "loader": "models.py:load", "arguments": {"kind": kind}} for name, kind in KINDS.items()]
    study = {
        "name": "own",
        "baseline": models[0],
        "candidates": models[1:],
        "dataset": {"source": "data.jsonl"},
        "extract": {"profile_lengths": [16, 32], "profile_repeats": 2},
        "closeup": {"samples": 2, "queries": 8, "rerun_samples": 1},
        "shard_size": 2,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@pytest.fixture
def folder(experiment: Path, tmp_path: Path) -> Path:
    """An experiment folder of one's own, whose study has not run."""
    return Path(shutil.copytree(experiment, tmp_path / "exp"))


def planned(folder: Path, *overrides: str) -> Plan:
    return make_plan(load_study(folder / "study.yaml", overrides))


def features(folder: Path, model: str) -> dict[str, pl.DataFrame]:
    plan = planned(folder)
    return Store(plan.study.store).read_all(address(plan, "extract", model))


def addresses(folder: Path, *overrides: str) -> dict[tuple[str, str], str]:
    return {(node.step.name, node.owner): node.key.digest for node in planned(folder, *overrides).graph}


def test_home_made_models_go_through_every_step_without_a_trace(folder: Path, no_model_later: Any) -> None:
    run = run_command("study", folder / "study.yaml")
    assert not [line for line in run.err if "Traceback" in line], run.err
    report = json.loads((folder / "reports" / "own" / "report.json").read_text())
    assert {model["name"] for model in report["models"]} == set(KINDS)
    leak = next(name for name, kind in KINDS.items() if kind == "leak")
    assert [model["name"] for model in report["models"] if model["leaks"]] == [leak]
    verdicts = {(row["candidate"] == leak, row["verdict"] == "leaks") for row in report["comparisons"]}
    assert verdicts == {(True, True), (False, False)} and report["verdict"]["headline"].startswith("Do not use")
    assert any("note: leaks: Plain attends to keys after their query" in line for line in run.out)
    plan = planned(folder)
    samples = [Sample(sample.index, sample.name, sample.input_ids) for sample in plan.samples]
    for name, kind in KINDS.items():
        if kind in ("multi", "leak"):
            continue
        # Of a k that grows with the length, the largest that was seen is told, and a note says so.
        k = {"window": None, "ratio": int(0.3 * 513)}.get(kind, plain_modules.K)
        told = extract_samples(plain_modules.Told(plain_modules.Plain(kind).eval(), k), samples, ExtractSettings())
        found = features(folder, name)
        for table in ("samples", "attention", "tokens", *(("indexer", "scores") if k else ())):
            close(found[table], told[table], f"{name} {table}")
    facts = Store(plan.study.store).read(address(plan, "profile", "sparse"), "facts").row(0, named=True)
    assert facts["indexer_parameters"] == 2 * sum(
        one.numel() for one in plain_modules.Plain().layers[0].indexer.parameters()
    )
    no_model_later()
    again = run_command("study", folder / "study.yaml")
    assert again.code == run.code
    assert not [line for line in again.err if "computed in" in line]


def close(found: pl.DataFrame, expected: pl.DataFrame, what: str) -> None:
    keys = [name for name in ("sample", "layer", "head", "bucket", "position") if name in found.columns]
    found, expected = found.sort(keys), expected.sort(keys)
    assert found.height == expected.height, what
    for name, kind in found.schema.items():
        if not kind.is_float():
            continue
        one, other = found[name].to_numpy(), expected[name].to_numpy()
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6, nan_ok=True), f"{what} {name}"


@pytest.fixture
def no_model_later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it to make loading a model an error from then on."""
    from indexscope.tasks.common import models

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    def begin() -> None:
        models.release()
        monkeypatch.setattr(models, "_load", refuse)

    return begin


def test_an_edited_forward_is_a_new_model_and_a_moved_folder_is_not(folder: Path, tmp_path: Path) -> None:
    before = addresses(folder)
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    after = addresses(moved)
    assert {key for key, digest in after.items() if before[key] != digest} == {("report", "")}, "which shows the paths"
    code = (moved / "plain_modules.py").read_text()
    (moved / "plain_modules.py").write_text(code.replace("triu(-5)", "triu(-7)"))
    edited = addresses(moved)
    assert not [key for key, digest in edited.items() if after[key] == digest]
    other = addresses(moved, "candidates.0.arguments.kind=float")
    changed = {key for key, digest in other.items() if edited[key] != digest and key[1]}
    assert {name for _, name in changed if _ not in ("clustering", "prototypes")} == {"by hand"}
    of_others = {"plugin_features", "plugins", "parity", "parity_rows", "series", "evidence", "evidence_changes"}
    assert set(STEPS) - {step for step, _ in edited} == of_others


def test_the_longest_sequence_and_the_vocabulary_are_asked_of_the_model(folder: Path) -> None:
    code = (folder / "plain_modules.py").read_text()
    (folder / "plain_modules.py").write_text(code.replace("nn.Embedding(600, WIDTH)", "nn.Embedding(24, WIDTH)"))
    plan = planned(folder)
    assert {len(sample.input_ids) for sample in plan.samples} == {24}
    assert {model.info.vocab_size for model in plan.models} == {31}
    assert [model.info.index_topk for model in plan.models] == [8, 8, None, int(0.3 * 24), None, 8]
    with pytest.raises(
        Exception, match=r"sparse: was made for 24 tokens, and sample .* has 40; set dataset\.max_length"
    ):
        planned(folder, "dataset.max_length=40")


def test_a_model_of_transformers_from_a_loader_is_captured_as_from_its_folder(folder: Path) -> None:
    save_model(folder / "checkpoint", heads=2, seed=0)
    (folder / "models.py").write_text(
        "from transformers import AutoModelForCausalLM\n\n"
        "def load(weights):\n    return AutoModelForCausalLM.from_pretrained(weights)\n"
    )
    raw = {
        "name": "pair",
        "baseline": {"name": "own", "loader": "models.py:load", "weights": "checkpoint"},
        "candidates": [{"name": "folder", "path": "checkpoint"}],
        "dataset": {"source": "data.jsonl"},
        "shard_size": 2,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    plan = planned(folder)
    own, checkpoint = plan.models
    differ = {"parameters", "bytes", "dtypes", "architecture"}
    assert {name for name, value in vars(own.info).items() if value != getattr(checkpoint.info, name)} <= differ, (
        "parameters are counted once loaded"
    )
    assert own.info.index_topk


WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "no such file": (
        {"loader": "model.py:load"},
        r"baseline.loader: there is no .*model\.py; did you mean 'models\.py'\?$",
    ),
    "no such weights": (
        {"loader": "models.py:load", "weights": "runs/x.pt"},
        r"baseline.weights: there is no .*runs/x\.pt; give a file that exists$",
    ),
    "an address": (
        {"loader": "models.py:load", "weights": "s3://bucket/x.pt"},
        r"baseline.weights: s3://bucket/x\.pt is an address; give a local file or folder$",
    ),
    "no function": (
        {"loader": "models.py"},
        r"baseline: has the loader 'models\.py', which is not FILE\.py:FUNCTION; write ",
    ),
    "another function": (
        {"loader": "models.py:lod"},
        r"models\.py: has no function 'lod'; give one of its functions: load, ",
    ),
    "both": (
        {"loader": "models.py:load", "path": "x"},
        r"baseline: has both a path and a loader; give path, a checkpoint, or ",
    ),
    "neither": ({"name": "x"}, r"baseline: has neither a path nor a loader; give path"),
    "weights of a path": (
        {"path": "builtin:light", "weights": "x"},
        r"baseline: has weights, which is a loader's; remove it",
    ),
    "arguments that are a list": ({"loader": "models.py:load", "arguments": [1]}, r"baseline.arguments: "),
    "an argument too many": (
        {"loader": "models.py:load", "arguments": {"depth": 3}},
        r"models\.py: load: cannot be called so \(got an unexpected keyword argument 'depth'\); its arguments are ",
    ),
    "an endless argument": ({"loader": "models.py:load", "arguments": {"a": float("inf")}}, r"baseline.arguments"),
    "a forward that raises": (
        {"loader": "models.py:load", "arguments": {"within": "nothing"}},
        r"error: load: .*plain_modules\.py:\d+: Plain: its forward fails on ids of shape .* \(KeyError: 'nothing'\)",
    ),
    "a loader that raises": (
        {"loader": "models.py:load_weights", "weights": "data.jsonl"},
        r"models\.py:\d+: raised .*; mend it, or the `weights` and `arguments` that it is given$",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_with_an_own_model_is_one_line_before_any_work(folder: Path, how: str) -> None:
    baseline, expected = WRONG[how]
    raw = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump({**raw, "baseline": baseline, "candidates": []}))
    run = run_command("study", folder / "study.yaml")
    assert run.code == 2
    assert len(run.err) == 1, run.err
    assert re.search(expected, run.err[0]), run.err[0]
    assert not (folder / "reports").exists()
    store = folder / ".indexscope"
    assert not store.exists() or {path.name for path in store.iterdir()} <= {"_models"}


def test_text_without_a_tokenizer_says_how_to_name_one(folder: Path) -> None:
    run = run_command("study", folder / "study.yaml", "--set", "dataset.source=builtin:python-stdlib", "--dry-run")
    assert (run.code, len(run.err)) == (2, 1)
    assert "is text, and the baseline has no tokenizer; save one beside the checkpoint, give a loader's" in run.err[0]
    tokenizer = ["--set", "baseline.tokenizer=builtin:baseline"]
    run = run_command(
        "study", folder / "study.yaml", "--set", "dataset.source=builtin:python-stdlib", *tokenizer, "--dry-run"
    )
    assert run.code == 2
    assert "token id" in run.err[0], "the ids of that tokenizer are not this model's"


def test_the_guide_leads_from_an_experiment_folder_to_a_report(tmp_path: Path) -> None:
    folder = Path(
        shutil.copytree(EXAMPLE, tmp_path / "own_model", ignore=shutil.ignore_patterns("runs", ".*", "*.jsonl"))
    )
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)]
    study = {**blocks[0], "candidates": [*blocks[0]["candidates"], *blocks[1]["candidates"]]}
    assert study == yaml.safe_load((folder / "study.yaml").read_text()), "the guide and the example say the same"
    subprocess.run([sys.executable, "train.py", "2"], cwd=folder, check=True, timeout=600)
    small = ["closeup.samples=2", "closeup.queries=8", "extract.profile_lengths=[64]", "extract.profile_repeats=2"]
    run = run_command("study", folder / "study.yaml", *(word for key in small for word in ("--set", key)))
    assert run.out[-1].endswith("reports/own-model")
    report = json.loads((folder / "reports" / "own-model" / "report.json").read_text())
    assert {model["model"]: model["passed"] for model in report["causality"]} == {
        "sparse": True,
        "k 8": True,
        "leaking twin": False,
    }
    assert [line for line in run.out + run.err if "leaking twin failed the causality audit" in line]
    recall = {
        row["model"]: row["value"]
        for row in report["metrics"]
        if row["name"] == "selection_recall" and row["layer"] is None
    }
    assert 0 < recall["k 8"] < recall["sparse"] < 1
