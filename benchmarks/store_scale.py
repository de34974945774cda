"""How a store of many shards behaves: listing, planning a rerun and scanning, in seconds and peak memory.

    python benchmarks/store_scale.py FOLDER [--shards 10000] [--rows 10000] [--save FILE.json] [--keep]

The store is simulated: a few attention tables of random values are encoded as the store does, and copied as the shards
of one step, each with a true commit marker. Every question is put by a fresh process, after the store was written, so
files may lie in the system's memory. Memory is the process's own peak (VmHWM, Linux): ru_maxrss would begin at what
the parent held. The folder must not exist; it is deleted at the end unless --keep is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.features.columns import ATTENTION
from indexscope.storage.store import parquet
from indexscope.storage.store.records import FileRecord, UnitRecord, encode_marker, marker_file, table_file
from indexscope.storage.store.store import StepKey, Store, step_key

KEY = step_key("features", {"simulated": True})
#: Distinct tables; the shards take turns.
TEMPLATES = 8
QUESTIONS = {
    "nothing": "start of Python and imports",
    "ls": "`ls`",
    "plan": "plan a rerun: status of every shard, checksum over all markers",
    "polars": "one metric by layer, polars",
    "duckdb": "one metric by layer, DuckDB",
    "verified": "the same through `Store.read`, shard by shard, every checksum verified",
}


def attention(rows: int, seed: int) -> pl.DataFrame:
    """A table of random values with the columns and types of real ones: 6 layers, 6 heads, 10 buckets."""
    generator = np.random.default_rng(seed)
    place = np.arange(rows)
    keys = {"sample": place // 360, "layer": place // 60 % 6, "head": place // 10 % 6, "bucket": place % 10}
    columns: dict[str, object] = {**keys}
    for column in ATTENTION.columns:
        if column.name not in keys:
            queries = column.unit == "queries"
            columns[column.name] = 1 << keys["bucket"] if queries else generator.random(rows, dtype=np.float32)
    return pl.DataFrame(columns).cast(ATTENTION.schema)


def write_unit(store: Store, key: StepKey, unit: str, tables: Mapping[str, tuple[bytes, int]]) -> int:
    """Commit encoded tables and their rows as one unit, fast and not durably; returns their bytes."""
    folder = Path(store.location(key))
    files = []
    for table, (data, rows) in tables.items():
        file = folder / table_file(table, unit)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        files.append(FileRecord(table, len(data), rows, hashlib.sha256(data).hexdigest()))
    record = UnitRecord(key.kind, key.digest, unit, tuple(files), {"seconds": 1.5, "notes": [], "chunks": [256]})
    marker = folder / marker_file(unit)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_bytes(encode_marker(record))
    return sum(file.bytes for file in files)


def simulate(store: Store, shards: int, rows: int) -> int:
    """Write the store, fast and not durably; returns its bytes."""
    units = [f"shard-{number:05}" for number in range(shards)]
    store.prepare(KEY, "simulated", units)
    templates = [parquet.encode(attention(rows, seed), ATTENTION) for seed in range(TEMPLATES)]
    return sum(
        write_unit(store, KEY, unit, {"attention": (templates[number % TEMPLATES], rows)})
        for number, unit in enumerate(units)
    )


def answer(question: str, store: Store, key: StepKey = KEY) -> object:
    """Put one of QUESTIONS to a store."""
    files = f"{store.location(key)}/attention/*.parquet"
    if question == "ls":
        return store.list_steps().select("units", "expected", "rows", "state").rows()
    manifest = store.manifest(key)
    assert manifest is not None and manifest.units is not None
    if question == "plan":
        statuses = store.unit_statuses(key, manifest.units)
        return sum(status == "committed" for status in statuses.values()), store.content(key, manifest.units)
    weighted = pl.col("attention_entropy") * pl.col("queries")
    mean = weighted.sum() / pl.col("queries").cast(pl.Float64).sum()
    if question == "polars":
        lazy = pl.scan_parquet(files).group_by("layer").agg(mean).sort("layer")
        return lazy.collect(engine="streaming").rows()
    if question == "duckdb":
        import duckdb

        sql = "sum(attention_entropy * queries) / sum(queries)"
        return duckdb.sql(f"SELECT layer, {sql} FROM '{files}' GROUP BY layer ORDER BY layer").fetchall()
    if question == "verified":
        sums = []
        for unit in manifest.units:
            frame = store.read(key, "attention", [unit])
            sums.append(frame.group_by("layer").agg(weighted.sum().alias("sum"), pl.col("queries").sum().alias("n")))
        total = pl.concat(sums).group_by("layer").sum().sort("layer")
        return total.select("layer", pl.col("sum") / pl.col("n")).rows()
    return None


def ask(question: str, url: str) -> dict[str, Any]:
    """Put a question in a fresh process."""
    command = [sys.executable, __file__, url, "--child", question]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(question: str, store: Store) -> None:
    """Answer in this process and print seconds, peak memory and the beginning of the answer."""
    start = time.perf_counter()
    found = answer(question, store)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {"question": question, "seconds": seconds, "mebibytes": peak_mebibytes(), "answer": str(found)[:200]}
        )
    )


def peak_mebibytes() -> float:
    """Peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def main() -> None:
    """Write a store, put every question to it, print a table in Markdown, delete the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the store is written; on a disk with room for it")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of a shard")
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--save", help="write what was measured as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the store behind")
    parser.add_argument("--child", choices=list(QUESTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    store = Store(options.folder)
    if options.child:
        child(options.child, store)
        return
    if Path(options.folder).exists():
        parser.error(f"{options.folder} exists already")
    try:
        size = simulate(store, options.shards, options.rows)
        complete = [(options.shards, options.shards, options.shards * options.rows, "complete")]
        if answer("ls", store) != complete:  # figures of a store that is not whole would say nothing
            raise SystemExit(f"the simulated store is {answer('ls', store)}, not {complete}")
        print(f"{options.shards:,} shards, {options.shards * options.rows:,} rows, {size / 1e9:.2f} GB\n")
        print("| question | s | peak MiB |\n| --- | ---: | ---: |")
        rows = []
        for question in options.questions:
            rows.append(ask(question, options.folder))
            print(f"| {QUESTIONS[question]} | {rows[-1]['seconds']:.2f} | {rows[-1]['mebibytes']:,.0f} |", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    if options.save:
        saved = {"shards": options.shards, "rows": options.rows, "bytes": size, "questions": rows}
        Path(options.save).write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
