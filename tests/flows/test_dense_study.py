"""A study of dense models on a user's own text: attention and quality, no indexer tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from indexscope.storage.inputs.checkpoints import resolve
from tests.analysis.conftest import sharpened
from tests.flows.conftest import run_command


def save(folder: Path, seed: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    torch.manual_seed(seed)
    sharpened(LlamaForCausalLM(config), seed).save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve("builtin:baseline")).save_pretrained(folder)


def test_two_dense_models_are_compared_without_an_indexer(tmp_path: Path) -> None:
    save(tmp_path / "a", 0)
    save(tmp_path / "b", 1)
    texts = [f"def f{i}(x):\n    return x * {i} + {i * i}  # <script>alert({i})</script>" for i in range(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    (tmp_path / "study.yaml").write_text(
        "name: dense pair\nbaseline: a\ncandidates: [b]\n"
        "dataset: {source: data.jsonl, column: body, max_length: 64, samples: 6}\n"
        "extract: {chunk: 16, profile_lengths: [32], profile_repeats: 1}\nshard_size: 3\n"
        "closeup: {samples: 2, queries: 8, rerun_samples: 1}\n"
        "gates:\n  - nll.difference <= -100\n"
    )
    done = run_command("study", tmp_path / "study.yaml")
    assert done.code == 1, done.err  # the gate cannot be met
    folder = Path(done.out[-1])
    report = json.loads((folder / "report.json").read_text())
    assert [model["indexer"] for model in report["models"]] == [None, None]
    names = {row["name"] for row in report["metrics"] if row["value"] is not None}
    assert {"attention_entropy", "nll", "sparsity_ratio", "sink_mass"} <= names
    assert not {"selection_recall", "indexer_kl", "tie_share"} & names
    (row,) = [c for c in report["comparisons"] if c["metric"] == "nll" and c["layer"] is None]
    assert row["difference"] == pytest.approx(row["value"] - row["baseline"])
    assert [gate["passed"] for gate in report["gates"]] == [False]
    assert "<script>alert(" not in (folder / "report.html").read_text()
    assert not list((tmp_path / ".indexscope").glob("features/*/indexer"))
