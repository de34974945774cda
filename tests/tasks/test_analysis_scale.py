"""A small version of benchmarks/analysis.py: it measures what it says, in memory that does not grow with the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FEW, MORE = 10, 110


def measured(folder: Path, shards: int, *analyses: str) -> tuple[dict[str, Any], str]:
    """The figures of a run by analysis, and what it printed."""
    saved = folder / f"{shards}.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "analysis.py"), str(folder / "store")]
    command += ["--shards", str(shards), "--analyses", *analyses, "--save", str(saved)]
    few_threads = {**os.environ, "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=few_threads)
    figures = json.loads(saved.read_text(encoding="utf-8"))
    assert figures["rows"] == shards * 10_240
    assert not (folder / "store").exists()
    return {found["analysis"]: found for found in figures["analyses"]}, done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_a_small_run_has_all_figures_and_memory_grows_far_slower_than_the_tables(tmp_path: Path) -> None:
    few, printed = measured(tmp_path, FEW, "distribution", "comparison")
    assert list(few) == ["start", "polars", "distribution", "comparison"]
    assert few["polars"]["rows"] == FEW * 32
    own = few["distribution"]
    assert own["ratio"] == own["seconds"] / few["polars"]["seconds"]
    assert own["rows"]["by_head"] >= 32 * 32 * 20
    assert own["rows"]["per_sample"] > FEW * 32 * 20
    assert few["comparison"]["rows"]["comparisons"] > 32 * 20
    assert "| distribution |" in printed
    more, _ = measured(tmp_path, MORE, "distribution")
    # 26 columns of four bytes or less beside each other, in one frame as a study's features were read before.
    tables = (MORE - FEW) * 10_240 * 26 * 4 / 2**20
    assert more["distribution"]["mebibytes"] - own["mebibytes"] < tables / 2
