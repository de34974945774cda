"""A study of indexers that select pools of tokens, in a model that also sees: what has no formula is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.analysis.capture.tiny_families import glm5_next
from tests.flows.conftest import run_command


def test_pools_are_compared_and_their_flops_are_left_out(tmp_path: Path) -> None:
    model = glm5_next()
    model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.02)
    model.save_pretrained(tmp_path / "b")
    random = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(97, (60,), generator=random).tolist()} for _ in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "study.yaml").write_text(
        "baseline: a\ncandidates: [b]\ndataset: {source: data.jsonl, column: input_ids}\n"
        "extract: {chunk: 16, profile_lengths: [16], profile_repeats: 1}\nshard_size: 3\n"
        "closeup: {samples: 2, queries: 4, rerun_samples: 1}\n"
    )
    done = run_command("study", tmp_path / "study.yaml")
    assert done.code == 0, done.err
    assert "extract a: note: layer 0 (linear attention) has no attention map and is skipped" in done.out
    report = json.loads((Path(done.out[-1]) / "report.json").read_text())
    found = {row["name"]: row["value"] for row in report["metrics"] if row["layer"] is None}
    assert found["relative_cost"] is found["indexer_flops"] is found["efficiency_score"] is None
    # Of 60 queries the first 11 (2 pools of 4 and an incomplete one) see every key.
    assert found["in_effect"] == pytest.approx(49 / 60)
    assert 0 < found["random_recall"] < 1
    assert found["selection_recall"] <= found["oracle_recall"]
