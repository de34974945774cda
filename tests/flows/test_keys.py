"""What goes into each key: docs/keys.md says it of every setting, and here every setting is changed to see."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.flows.study.provenance import settled
from indexscope.tasks.common.registry import STEPS
from tests.tiny import save_model

DOCUMENT = Path(__file__).parents[2] / "docs" / "keys.md"
#: One of each kind, so that the study has the steps of its own metrics.
METRICS = """\
from indexscope.plugins import feature, metric

@feature(unit="share", meaning="Attention on the query's own token.")
def own_token(rows):
    return rows.mass(rows.distance == 0)

@metric(table="attention", unit="share", meaning="Attention on the first keys.")
def first_keys(frame):
    return frame.select("sample", "layer", value="sink_mass", weight="queries")
"""
EVERY = frozenset(STEPS)
#: Fitted on all models of a study, and what reads that.
SHARED = ("clustering", "prototypes")
#: What there is one of in a study: it holds all models.
OF_STUDY = frozenset(name for name, step in STEPS.items() if step.per == "study")
#: Made of a dump of selections, whatever other candidates there are.
OF_DUMPS = ("parity_rows", "parity")
#: Another value of every setting that is no name of a file.
OTHER: dict[str, Any] = {
    "name": "another",
    "baseline.name": "one",
    "candidates.name": "two",
    "series.name": "another",
    "series.axis": "tokens",
    "series.settled_for": 1,
    "dataset.max_length": 44,
    "dataset.min_length": 45,
    "dataset.samples": 5,
    "dataset.seed": 1,
    "dataset.packing": False,
    "dataset.split": "test",
    "extract.chunk": 8,
    "extract.batch": 2,
    "extract.dtype": "bfloat16",
    "extract.placement": "stream",
    "extract.sparsity_threshold": 0.02,
    "extract.local_window": 16,
    "extract.sink_keys": 2,
    "extract.top_k": 4,
    "extract.dense_reference": False,
    "extract.query_every": 2,
    "extract.selection_queries": 4,
    "lengths": [16, 48],
    "extract.profile_lengths": [16, 40],
    "extract.profile_repeats": 3,
    "closeup.samples": 3,
    "closeup.queries": 6,
    "closeup.rerun_samples": 1,
    "closeup.removal_samples": 1,
    "closeup.top_logits": 100,
    "closeup.attended_keys": 100,
    "shard_size": 4,
    "fingerprint": "full",
    "analyses.distribution.resamples": 40,
    "analyses.distribution.confidence": 0.9,
    "analyses.distribution.seed": 1,
    "analyses.distribution.quantiles": [0.5],
    "analyses.distribution.histogram_bins": 7,
    "analyses.clustering.resamples": 40,
    "analyses.clustering.confidence": 0.9,
    "analyses.clustering.clusters": 3,
    "analyses.clustering.max_clusters": 4,
    "analyses.clustering.seed": 1,
    "analyses.clustering.max_rows": 11,
    "analyses.positional_bias.resamples": 40,
    "analyses.positional_bias.confidence": 0.9,
    "analyses.positional_bias.seed": 1,
    "analyses.efficiency.resamples": 40,
    "analyses.efficiency.confidence": 0.9,
    "analyses.efficiency.seed": 1,
    "analyses.efficiency.project_lengths": [4096],
    "analyses.key_budget.resamples": 40,
    "analyses.key_budget.confidence": 0.9,
    "analyses.key_budget.seed": 1,
    "analyses.indexer_heads.resamples": 40,
    "analyses.indexer_heads.confidence": 0.9,
    "analyses.indexer_heads.seed": 1,
    "analyses.indexer_heads.quantiles": [0.5],
    "analyses.layer_sharing.resamples": 40,
    "analyses.layer_sharing.confidence": 0.9,
    "analyses.layer_sharing.seed": 1,
    "analyses.token_content.resamples": 40,
    "analyses.token_content.confidence": 0.9,
    "analyses.token_content.seed": 1,
    "analyses.stability.resamples": 40,
    "analyses.stability.confidence": 0.9,
    "analyses.stability.seed": 1,
    "analyses.stability.fragile": 0.5,
    "analyses.context_length.resamples": 40,
    "analyses.context_length.confidence": 0.9,
    "analyses.context_length.seed": 1,
    "analyses.evidence.resamples": 40,
    "analyses.evidence.confidence": 0.9,
    "analyses.evidence.seed": 1,
    "analyses.evidence.depth_bins": 5,
    "analyses.evidence.missing": 0.4,
    "analyses.parity.tie_tolerance": 0.1,
    "analyses.prototypes.of_each": 1,
    "analyses.recommendations.max_recall_loss": 0.2,
    "analyses.recommendations.tolerance": 0.002,
    "analyses.plugins.resamples": 40,
    "analyses.plugins.confidence": 0.9,
    "analyses.plugins.seed": 1,
    "comparison.resamples": 40,
    "comparison.confidence": 0.9,
    "comparison.seed": 1,
    "comparison.margin": 0.02,
    "comparison.margins": {"accuracy": 0.01},
    "gates": ["nll.difference <= 1"],
    "store": "elsewhere",
    "report": "elsewhere",
    "runner.kind": "processes",
    "runner.workers": 2,
    "runner.address": "auto",
    "runner.cpus_per_worker": 2,
    "runner.gpus_per_worker": 1,
    "runner.patience": 5,
}
#: What only a cluster has.
ON_A_CLUSTER = ("runner.address", "runner.cpus_per_worker", "runner.gpus_per_worker", "runner.patience")
#: What has tests of its own below, since what counts is what lies there or what it comes to.
NEEDLES = {f"dataset.needle.{key}" for key in ("kinds", "lengths", "depths", "per_cell", "haystack")}
BY_CONTENT = (
    {"dataset.source", "dataset.column", "extract.device", "plugins"}
    | {"candidates.series", "candidates.at", "series.models"}
    | NEEDLES
    | {
        f"{model}.{key}"
        for model in ("baseline", "candidates")
        for key in (
            "path",
            "loader",
            "root",
            "weights",
            "arguments",
            "tokenizer",
            "selections",
            "format",
            "layers",
            "indexer",
            "topk",
            "edit",
        )
    }
)
#: Settings that are told as one.
WHOLE = ("gates", "edit", "models")
#: So that the study has the steps of answers and evidence.
MARKS = {"evidence_tokens": [[2, 4]], "answer": [20, 22]}
DUMP = {"name": "dump", "selections": "dump", "format": "npz"}
SERIES = [{"name": "runs", "models": "runs/step-*", "settled_for": 0}]
#: They leave the data of this test as it is: lists of ids are not packed, and one file has no splits.
WITHOUT_EFFECT = {"dataset.packing", "dataset.split"}


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all settings; those of an entry of a list are named like those of a single one."""
    found = []
    for name, field in model.model_fields.items():
        inner = [part for part in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_model(part)]
        nested = inner and name not in WHOLE
        found += leaves(inner[0], f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def documented() -> dict[str, frozenset[str]]:
    """The table of the document: the steps whose keys each setting is part of."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.count("|") == len(STEPS) + 2]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert tuple(head[1:]) == tuple(STEPS)
    found = {}
    for name, *cells in rows:
        assert set(cells) <= {"x", ""}
        found[name.strip("`")] = frozenset(step for step, cell in zip(STEPS, cells, strict=True) if cell)
    return found


def addresses(study: Study) -> dict[str, Any]:
    """The digest of every step; of those that are made per model, of each."""
    found: dict[str, Any] = {name: [] for name in STEPS}
    for node in make_plan(study).graph:
        found[node.step.name].append(node.key.digest)
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> frozenset[str]:
    return frozenset(step for step in STEPS if before[step] != after[step])


def rewritten(folder: Path, **settings: Any) -> Study:
    """The study of the folder with other settings."""
    raw = yaml.safe_load((folder / "study.yaml").read_text()) | settings
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    return load_study(folder / "study.yaml")


@pytest.fixture(scope="module")
def inputs(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of this folder's tests with metrics of its own, and with a dump of selections."""
    folder = Path(shutil.copytree(inputs, tmp_path_factory.mktemp("keys") / "study"))
    (folder / "own.py").write_text(METRICS)
    (folder / "dump").mkdir()
    for number, line in enumerate((folder / "data.jsonl").read_text().splitlines()):
        ids = np.array(json.loads(line)["input_ids"])
        np.savez(folder / "dump" / f"{number}.npz", input_ids=ids, selected=np.zeros((len(ids), 2, 8), np.int32))
    shutil.copytree(folder / "models" / "light", folder / "runs" / "step-1")
    rows = [json.loads(line) | MARKS for line in (folder / "data.jsonl").read_text().splitlines()]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewritten(folder, plugins=["own.py"], candidates=["models/light", DUMP], series=SERIES)
    return folder


@pytest.fixture(scope="module")
def before(inputs: Path) -> dict[str, Any]:
    return addresses(load_study(inputs / "study.yaml"))


def test_every_setting_is_documented_and_tested() -> None:
    assert set(leaves(Study)) == set(OTHER) | BY_CONTENT == set(documented())


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_setting_is_part_of_exactly_the_documented_keys(name: str, inputs: Path, before: dict[str, Any]) -> None:
    key, value = re.sub(r"^(candidates|series)\.", r"\1.0.", name), json.dumps(OTHER[name])
    others = ["runner={kind: ray, workers: 2}"] if name in ON_A_CLUSTER else []
    after = addresses(load_study(inputs / "study.yaml", [*others, f"{key}={value}"]))
    expected = frozenset({"report"}) if name in WITHOUT_EFFECT else documented()[name]
    assert changed(before, after) == expected


def test_where_a_checkpoint_lies_does_not_count_and_what_is_in_it_does(folder: Path, before: dict[str, Any]) -> None:
    (folder / "models" / "base").rename(folder / "moved")
    moved = addresses(rewritten(folder, baseline={"path": "moved", "name": "base"}))
    assert changed(before, moved) == {"report"}, "the report shows the path"
    weights = folder / "moved" / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "indexer" in name)
    tensors[name].view(-1)[-1] += 2**-10
    save_file(tensors, weights, metadata={"format": "pt"})
    retrained = addresses(load_study(folder / "study.yaml"))
    assert changed(before, retrained) == EVERY
    alone = [name for name in STEPS if name not in (*OF_STUDY, *SHARED, *OF_DUMPS)]
    assert [retrained[step][1] for step in alone] == [before[step][1] for step in alone], "the candidate is what it was"
    for step in SHARED:
        assert retrained[step][1] != before[step][1], "fitted on the baseline too"


def test_which_candidates_there_are_counts_for_clustering_comparison_and_report_only(
    folder: Path, before: dict[str, Any]
) -> None:
    save_model(folder / "models" / "third", heads=2, seed=1)
    after = addresses(rewritten(folder, candidates=["models/light", "models/third", DUMP]))
    for step in [name for name in STEPS if name not in (*OF_STUDY, *OF_DUMPS)]:
        assert (after[step][:2] == before[step][:2]) is (step not in SHARED), step
        assert len(set(after[step])) == 3
    assert all((after[step] != before[step]) is (step not in OF_DUMPS) for step in OF_STUDY)


def test_a_members_step_counts_for_its_series_and_its_series_for_what_is_fitted_on_the_others(
    folder: Path, before: dict[str, Any]
) -> None:
    one = addresses(rewritten(folder, candidates=[{"path": "models/light", "series": "keys", "at": 1}, DUMP]))
    assert changed(before, one) == documented()["candidates.series"]
    other = addresses(rewritten(folder, candidates=[{"path": "models/light", "series": "keys", "at": 2}, DUMP]))
    assert changed(one, other) == documented()["candidates.at"]


def test_another_member_of_a_series_changes_what_holds_all_models_and_nothing_else(
    folder: Path, before: dict[str, Any]
) -> None:
    save_model(folder / "runs" / "step-2", heads=2, seed=1)
    after = addresses(load_study(folder / "study.yaml"))
    assert changed(before, after) == documented()["series.models"] == EVERY - {*OF_DUMPS}
    for step in [name for name in STEPS if name not in (*OF_STUDY, *OF_DUMPS)]:
        assert after[step][:3] == before[step], step
    (folder / "runs").rename(folder / "moved")
    moved = addresses(rewritten(folder, series=[{**SERIES[0], "models": "moved/step-*"}]))
    assert changed(after, moved) == {"report"}, "the report shows the path"


def test_a_dump_counts_by_its_content_and_its_layers(folder: Path, before: dict[str, Any]) -> None:
    of_dumps = {*OF_DUMPS, "report"}
    (folder / "dump").rename(folder / "moved")
    elsewhere = [{**DUMP, "selections": "moved"}]
    moved = addresses(rewritten(folder, candidates=["models/light", *elsewhere]))
    assert changed(before, moved) == {"report"}, "the report shows the path"
    layers = addresses(rewritten(folder, candidates=["models/light", {**elsewhere[0], "layers": [1, 0]}]))
    assert changed(before, layers) == of_dumps == documented()["candidates.layers"]
    study = rewritten(folder, candidates=["models/light", *elsewhere])
    (folder / "moved" / "0.npz").unlink()
    assert changed(before, addresses(study)) == of_dumps == documented()["candidates.selections"]


def test_where_data_lies_and_under_which_key_does_not_count_and_its_ids_do(
    folder: Path, before: dict[str, Any]
) -> None:
    rows = [json.loads(line)["input_ids"] for line in (folder / "data.jsonl").read_text().splitlines()]
    other = folder / "renamed.jsonl"
    other.write_text("".join(json.dumps({"more": "x", "ids": row, **MARKS}) + "\n" for row in rows))
    data = {"source": "renamed.jsonl", "column": "ids", "max_length": 48, "samples": None}
    assert changed(before, addresses(rewritten(folder, dataset=data))) == {"report"}
    rows[-1][-1] ^= 1
    other.write_text("".join(json.dumps({"ids": row, **MARKS}) + "\n" for row in rows))
    assert changed(before, addresses(load_study(folder / "study.yaml"))) == EVERY


def test_where_files_of_plugins_lie_does_not_count_and_what_is_in_them_does(
    folder: Path, before: dict[str, Any]
) -> None:
    (folder / "own.py").rename(folder / "moved.py")
    moved = addresses(rewritten(folder, plugins=["moved.py"]))
    assert changed(before, moved) == {"report"}, "the report shows the path"
    (folder / "moved.py").write_text(METRICS + "# more\n")
    after = addresses(load_study(folder / "study.yaml"))
    assert (
        changed(before, after)
        == {"plugin_features", "plugins", "compare", "series", "report"}
        == documented()["plugins"]
    )
    feature, metric = METRICS.split("@metric")
    (folder / "moved.py").write_text(feature)
    (folder / "metric.py").write_text(f"{feature.split('@feature')[0]}@metric{metric}")
    apart = addresses(rewritten(folder, plugins=["moved.py", "metric.py"]))
    (folder / "metric.py").write_text((folder / "metric.py").read_text() + "# more\n")
    assert changed(apart, addresses(load_study(folder / "study.yaml"))) == {"plugins", "compare", "series", "report"}


def test_a_tokenizer_counts_by_the_ids_it_makes(folder: Path) -> None:
    def tokenizer(ids: dict[str, int]) -> None:
        plain = Tokenizer(models.WordLevel(ids, unk_token="?"))
        plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="?")
        for name in ("base", "light"):
            fast.save_pretrained(folder / "models" / name)

    text = " ".join(["a b c", "b a c d"] * 40)
    (folder / "text.jsonl").write_text(
        "".join(json.dumps({"text": text, "evidence": [[0, 1]], "answer": [4, 5]}) + "\n" for _ in range(3))
    )
    study = rewritten(folder, dataset={"source": "text.jsonl", "max_length": 48}, candidates=["models/light"])
    ids = {"?": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    tokenizer(ids)
    first = addresses(study)
    for name in ("base", "light"):
        file = folder / "models" / name / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()), indent=5))
        (file.parent / "tokenizer_config.json").unlink()
        PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="?", model_max_length=99).save_pretrained(
            file.parent
        )
    assert addresses(study) == first, "the same ids, whatever the files look like"
    tokenizer(ids | {"a": 2, "b": 1})
    assert changed(first, addresses(study)) == EVERY - {*OF_DUMPS}


def test_the_kind_of_device_counts_and_its_number_does_not(
    inputs: Path, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(inputs / "study.yaml")
    found = {}
    for device in ("cuda:0", "cuda:1"):
        monkeypatch.setattr("indexscope.flows.study.plan.resolve_device", lambda _, device=device: device)
        found[device] = addresses(study)
    assert found["cuda:0"] == found["cuda:1"]
    assert changed(before, found["cuda:0"]) == EVERY


def test_the_code_that_makes_a_result_counts_by_its_version(
    inputs: Path, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(inputs / "study.yaml")
    of_reruns = {"reruns", "indexer_heads", "stability"}
    of_closeup = {"closeup", "key_budget", "layer_sharing", "token_content", *of_reruns}
    of_features = {
        "extract",
        "distribution",
        "clustering",
        "positional_bias",
        "efficiency",
        "context_length",
        "evidence",
        "plugins",
    }
    beside = {"recommendations", "clustering", "selection_changes"}  # each of these is followed over series
    side_by_side = {"selection_changes", "output_divergence", "compare", "report"}
    after_features = of_features | side_by_side | {"prototypes", "recommendations", "transitions", "evidence_changes"}
    versions = {
        "indexscope.analysis.features.extract.FEATURES_VERSION": after_features,
        "indexscope.analysis.evidence.watch.VERSION": after_features,
        "indexscope.analysis.evidence.run.VERSION": {"evidence", "evidence_changes", "compare", "report"},
        "indexscope.analysis.evidence_changes.run.VERSION": {"evidence_changes", "report"},
        "indexscope.analysis.plugins.extract.PLUGIN_FEATURES_VERSION": {
            "plugin_features",
            "plugins",
            "compare",
            "report",
        },
        "indexscope.analysis.plugins.run.VERSION": {"plugins", "compare", "report"},
        "indexscope.analysis.closeup.run.VERSION": of_closeup | side_by_side | {"prototypes", "recommendations"},
        "indexscope.analysis.closeup.run.RERUN_VERSION": of_reruns | {"recommendations", "compare", "report"},
        "indexscope.analysis.capture.audit.AUDIT_VERSION": {"audit", "recommendations", "compare", "report"},
        "indexscope.analysis.capture.profile.PROFILE_VERSION": {
            "profile",
            "efficiency",
            "recommendations",
            "compare",
            "report",
        },
        "indexscope.analysis.clustering.run.VERSION": {"clustering", "prototypes", "transitions", "compare", "report"},
        "indexscope.analysis.selection_changes.run.VERSION": {"selection_changes", "report"},
        "indexscope.analysis.comparison.compare.VERSION": {"compare", "report"},
        "indexscope.analysis.parity.watch.VERSION": {"parity_rows", "parity", "report"},
        "indexscope.analysis.parity.run.VERSION": {"parity", "report"},
        "indexscope.analysis.series.run.VERSION": {"series", "report"},
        "indexscope.tasks.report.VERSION": {"report"},
        "indexscope.storage.store.keys.SCHEMA_VERSION": EVERY,
    }
    versions = {
        name: steps | {"series"} if steps & {"plugins", "evidence", *beside} else steps
        for name, steps in versions.items()
    }
    for name, expected in versions.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, 99, raising=False)
            assert changed(before, addresses(study)) == expected, name
    assert addresses(study) == before


def test_the_report_follows_the_versions_it_shows_and_features_do_not(
    inputs: Path, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexscope.flows.study.provenance.versions", lambda: {"torch": "99"})
    plan = make_plan(load_study(inputs / "study.yaml"))
    assert settled(plan, plan.graph.nodes)["versions"] == {"torch": "99"}
    assert changed(before, addresses(load_study(inputs / "study.yaml"))) == {"report"}


def test_what_the_features_key_leaves_out_changes_no_byte_of_them(inputs: Path) -> None:
    from indexscope.analysis.features import extract_samples
    from indexscope.analysis.features.columns import FEATURES
    from indexscope.analysis.settings import ExtractSettings
    from indexscope.storage.inputs.checkpoints import CheckpointFolder
    from indexscope.storage.store.parquet import encode
    from indexscope.tasks.common.placing import placed, placement

    left_out = {name.removeprefix("extract.") for name, steps in documented().items() if "extract" not in steps}
    left_out &= set(ExtractSettings.model_fields)
    assert left_out == {"placement", "profile_lengths", "profile_repeats"}
    plan = make_plan(load_study(inputs / "study.yaml"))
    origin = CheckpointFolder(str(inputs / "models" / "base"))
    settings = plan.study.extract
    made = []
    for chosen in (settings, settings.model_copy(update={name: OTHER[f"extract.{name}"] for name in left_out})):
        model = placed(origin, chosen, placement(origin, chosen).kind)
        tables = extract_samples(model, plan.samples[:3], chosen)  # type: ignore[arg-type]
        made.append({name: encode(frame, FEATURES[name]) for name, frame in tables.items()})
    assert made[0] == made[1]
    torch.manual_seed(5)  # nor does the state of a random generator
    tables = extract_samples(model, plan.samples[:3], settings)  # type: ignore[arg-type]
    assert {name: encode(frame, FEATURES[name]) for name, frame in tables.items()} == made[0]
