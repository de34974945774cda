"""A small version of benchmarks/analysis.py: it measures what it says, in memory that does not grow with the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARDS = 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_a_benchmark_of_few_shards_has_all_figures_and_stays_far_below_the_size_in_memory(tmp_path: Path) -> None:
    saved = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "analysis.py"), str(tmp_path / "store")]
    options = ["--shards", str(SHARDS), "--analyses", "distribution", "comparison", "--save", str(saved)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=True, env={**os.environ, "POLARS_MAX_THREADS": "2"}
    )
    figures = json.loads(saved.read_text(encoding="utf-8"))
    assert figures["rows"] == SHARDS * 10_240
    by_name = {found["analysis"]: found for found in figures["analyses"]}
    assert list(by_name) == ["start", "polars", "distribution", "comparison"]
    assert by_name["polars"]["rows"] == SHARDS * 32
    assert by_name["distribution"]["ratio"] == by_name["distribution"]["seconds"] / by_name["polars"]["seconds"]
    assert by_name["distribution"]["rows"]["by_head"] >= 32 * 32 * 20
    assert by_name["distribution"]["rows"]["per_sample"] > SHARDS * 32 * 20
    assert by_name["comparison"]["rows"]["comparisons"] > 32 * 20
    assert "| distribution |" in done.stdout
    assert not (tmp_path / "store").exists()
    # 26 columns of single precision or counts, as one frame; compilers and libraries are most of what is used.
    in_memory = figures["rows"] * 26 * 4 / 2**20
    used = by_name["distribution"]["mebibytes"] - by_name["start"]["mebibytes"]
    assert used < 300 + in_memory
