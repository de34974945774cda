"""Whether a GPU gives the CPU's numbers for every family and feature, and what it takes: under ten minutes on one.

    python benchmarks/cuda_check.py [--device cuda] [--minutes 9] [--lengths 512 2048 8192] [--save FILE.json]

First the tiny checkpoints of all families and a dense model: features and close-up on the device beside the CPU in the
same precision, float32 and bfloat16, column by column. In float32 a column fails if more than TOLD of its rows differ
by more than NEAR: equal index scores may be broken otherwise there. In bfloat16 it fails if more than LOST of what is
finite here is not there. Means that moved are relative to the column's largest value.
Where there are two GPUs and accelerate, the same in float32 with layers on both in turn and in memory, beside one.
Then milliseconds and peak memory of the plain forward, the chunked forward and extraction of the built-in baseline and
of a dense model, in both precisions, as far as the time allows. Exit code 1 where a column failed.

With ``--device cpu`` it tries itself out: nothing differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
import torch

from benchmarks.extraction import METHODS, MODELS, Peak, build, runner
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import CloseupSettings, ExtractSettings
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.conftest import tiny_llama
from tests.analysis.samples import samples

#: What counts as the same: a difference relative to the value, or to the column's mean where that is larger.
NEAR = 1e-3
#: Share of rows that may differ, by ties that are broken otherwise.
TOLD = 0.05
#: The same in bfloat16, where rounding decides which queries a head selects for.
LOST = 0.25
SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)
CLOSE = CloseupSettings(queries=8, rerun_samples=1, removal_samples=1)
PRECISIONS = ("float32", "bfloat16")
TIMED = ("plain", "floor", "extract")


def tables(model: torch.nn.Module) -> dict[str, pl.DataFrame]:
    """Features and close-up of two short samples."""
    some, journal = samples(40, 33), Journal(lambda _: None)
    return {
        **extract_samples(model, some, SETTINGS, journal),
        **closeup_samples(model, some, CLOSE, SETTINGS, journal),
    }


def compared(
    here: Mapping[str, pl.DataFrame], there: Mapping[str, pl.DataFrame], exact: bool
) -> Iterator[dict[str, Any]]:
    """Every column of numbers that fails, or whose mean moved: its rows that differ, and by how much its mean does."""
    for name, table in here.items():
        other = there.get(name)
        if other is None or other.columns != table.columns:
            yield {"column": name, "failed": "the table is not the same"}
            continue
        share = TOLD if exact else LOST
        if other.height != table.height:  # of tables with a row for each key that was selected, and the like
            failed = f"{table.height} and {other.height} rows"
            apart = abs(other.height - table.height) > share * table.height
            yield {"column": name, "failed": failed if apart else ""}
            continue
        for column, kind in table.schema.items():
            if not kind.is_float():
                continue
            a, b = (frame[column].cast(pl.Float64).to_numpy() for frame in (table, other))
            known, both = np.isfinite(a), np.isfinite(a) & np.isfinite(b)
            if not both.any():
                yield {"column": f"{name}.{column}", "failed": "not finite there" if known.any() else ""}
                continue
            largest = np.abs(a[both]).max()
            near = np.abs(a - b) <= NEAR * np.maximum(np.abs(a), np.abs(a[both]).mean()) + 1e-6
            off = 1 - (near & both)[known].mean() if exact else 1 - both[known].mean()
            mean = float(abs(a[both].mean() - b[both].mean()) / largest) if largest else 0.0
            yield {
                "column": f"{name}.{column}",
                "rows": float(off),
                "mean": mean,
                "failed": f"{off:.0%} of the rows" if off > share else "",
            }


def correctness(device: str, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every family in both precisions; one line each, and one more for each column that failed."""
    found = []
    for family, make in {**FAMILIES, "dense": tiny_llama}.items():
        for precision in PRECISIONS:
            here = tables(make().to(dtype=getattr(torch, precision)))
            model = make().to(device=device, dtype=getattr(torch, precision))
            try:
                rows = list(compared(here, tables(model), precision == "float32"))
            except Exception as error:
                rows = [{"column": "all", "failed": f"{type(error).__name__}: {error}"}]
            worst = max(rows, key=lambda row: row.get("mean", 0.0))
            failed = [row for row in rows if row["failed"]]
            found += [{"family": family, "precision": precision, **row} for row in rows]
            told(
                f"{family:16} {precision:9} {len(rows):3} columns, {len(failed)} failed; the mean that moved most: "
                f"{worst['column']} by {worst.get('mean', 0.0):.2%}"
            )
            for row in failed:
                told(f"    FAILED {row['column']}: {row['failed']}")
    return found


def several(device: str, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every family with its layers on two devices in turn and in memory, beside the model on one of them."""
    from indexscope.storage.inputs.dispatched import MEMORY, has_accelerate
    from tests.analysis.capture.apart import over

    main, other = ("cuda:0", "cuda:1") if device.startswith("cuda") else ("cpu", "cpu")
    if not has_accelerate() or (main != other and torch.cuda.device_count() < 2):
        told("several devices: needs two GPUs and accelerate, so that it was left out")
        return []
    found = []
    for family, make in {**FAMILIES, "dense": tiny_llama}.items():
        here = tables(make().to(device=main))
        try:
            rows = list(compared(here, tables(over(make(), other, main, MEMORY, others=main, main=main)), True))
        except Exception as error:
            rows = [{"column": "all", "failed": f"{type(error).__name__}: {error}"}]
        failed = [row for row in rows if row["failed"]]
        found += [{"family": family, "precision": "float32", "devices": [other, main, MEMORY], **row} for row in rows]
        told(f"{family:16} over {other}, {main} and memory: {len(rows):3} columns, {len(failed)} failed")
        for row in failed:
            told(f"    FAILED {row['column']}: {row['failed']}")
    return found


def timed(device: str, lengths: list[int], until: float, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Milliseconds (median of three after one) and MiB above the loaded model, of each method and length."""
    found = []
    for name in MODELS:
        for precision in PRECISIONS:
            for method in TIMED:
                work = runner(method, build(name, precision, device), Namespace(chunk=256))
                for length in lengths:
                    if time.monotonic() > until:
                        told("out of time: what follows was not measured")
                        return found
                    with torch.inference_mode():
                        work(length)
                        peak, times = Peak(device), []
                        for _ in range(3):
                            start = time.perf_counter()
                            work(length)
                            if device.startswith("cuda"):
                                torch.cuda.synchronize()
                            times.append(time.perf_counter() - start)
                    row = {"model": name, "precision": precision, "method": method, "length": length}
                    found.append({**row, "ms": statistics.median(times) * 1e3, "mib": peak.grown()})
                    told(
                        f"| {name} | {precision} | {METHODS[method]} | {length:,} | {found[-1]['ms']:,.1f} | "
                        f"{found[-1]['mib']:,.0f} |"
                    )
    return found


def main() -> None:
    """Check, time, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here; --device cpu tries the script itself")
    until = time.monotonic() + 60 * options.minutes

    def told(line: str) -> None:
        print(line, flush=True)

    told(f"torch {torch.__version__}, {torch.cuda.get_device_name() if cuda else 'CPU'}")
    columns = correctness(options.device, told)
    columns += several(options.device, told)
    told("\n| model | precision | method | tokens | ms | MiB |\n| --- | --- | --- | ---: | ---: | ---: |")
    speeds = timed(options.device, options.lengths, until, told)
    if options.save:
        options.save.write_text(json.dumps({"columns": columns, "speeds": speeds}, indent=1) + "\n")
    failed = sum(bool(row["failed"]) for row in columns)
    told(f"\n{failed} of {len(columns)} columns failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
