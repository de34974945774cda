"""How a store of many shards behaves: listing, planning a rerun and scanning, in seconds and peak memory.

    python benchmarks/store_scale.py FOLDER [--shards 10000] [--rows 10000] [--linked | --index]
        [--questions ls plan compact ls plan study] [--save FILE.json] [--keep]

The store is simulated: a few attention tables of random values are encoded as the store does, and copied as the shards
of one step, each with a true commit marker. Every question is put by a fresh process, after the store was written, so
files may lie in the system's memory. Memory is the process's own peak (VmHWM, Linux): ru_maxrss would begin at what
the parent held. With --linked the tables are hard links to a few files, so that a million fit on a disk; nothing but a
scan opens them. With --index there are packs alone, which is all that listing and planning open. Questions may be put
again: `compact` writes the packs, and what follows is answered from them. The folder must not exist; it is deleted in
the end unless --keep is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.analyses import AnalysisSettings
from indexscope.analysis.features.columns import ATTENTION
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings
from indexscope.flows.engine.graph import Graph, expand
from indexscope.storage.inputs.samples import Sample, shard
from indexscope.storage.store import packs, parquet
from indexscope.storage.store.records import FileRecord, UnitRecord, encode_marker, marker_file, table_file
from indexscope.storage.store.store import StepKey, Store
from indexscope.tasks.common.declared import Given
from indexscope.tasks.common.models import Checkpoint
from indexscope.tasks.common.registry import STEPS

#: Distinct tables; the shards take turns.
TEMPLATES = 8
#: Links that one file may have; some filesystems allow no more than 65,000.
LINKS = 10_000
NAME = "simulated"
QUESTIONS = {
    "nothing": "start of Python and imports",
    "ls": "`ls`",
    "plan": "plan a rerun: status of every shard, checksum over all markers",
    "compact": "write the packs: a thousand markers in one file",
    "study": "plan a study of so many shards: its graph, what is there, and why the rest would run",
    "polars": "one metric by layer, polars",
    "duckdb": "one metric by layer, DuckDB",
    "verified": "the same through `Store.read`, shard by shard, every checksum verified",
}


def simulate_packs(store: Store, shards: int, rows: int) -> int:
    """Write the manifest and the packs of such a store and nothing else; returns the bytes of its tables."""
    units = [f"shard-{number:05}" for number in range(shards)]
    store.prepare(KEY, NAME, units)
    templates = [parquet.encode(attention(rows, seed), ATTENTION) for seed in range(TEMPLATES)]
    files = [FileRecord("attention", len(data), rows, _digest(data)) for data in templates]
    total = 0
    for name, run in groupby(enumerate(units), key=lambda unit: packs.pack_file(unit[1])):
        records = [_record(KEY, unit, [files[number % TEMPLATES]]) for number, unit in run]
        pack = packs.packed(records)
        assert name is not None and pack is not None
        path = Path(store.location(KEY)) / name
        _made(path.parent)
        path.write_bytes(pack.encode())
        total += sum(record.bytes for record in records)
    return total


def _record(key: StepKey, unit: str, files: Sequence[FileRecord]) -> UnitRecord:
    made = {name: "1.0.0" for name in ("indexscope", "torch", "transformers", "numpy", "polars")}
    extra = {"seconds": round(1 + len(unit) / 7, 3), "notes": [], "chunks": [256], "versions": made}
    return UnitRecord(key.kind, key.digest, unit, tuple(files), extra)


def planned(shards: int) -> tuple[dict[str, tuple[Sample, ...]], Graph]:
    """The samples of a study of so many shards by shard, and the graph of its results."""
    cut = dict(shard([Sample(number, "text", (1, 2)) for number in range(shards)], 1))
    given = Given(ExtractSettings(), CloseupSettings(), AnalysisSettings(), ComparisonSettings(), 1, "cpu", NAME)
    return cut, expand(list(STEPS.values()), [Checkpoint(NAME, NAME, NAME)], given, NAME, cut)


def _features() -> StepKey:
    node = planned(1)[1].of("extract", NAME)
    assert node is not None
    return node.key


KEY = _features()


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


@cache
def _made(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


@cache
def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_unit(
    store: Store, key: StepKey, unit: str, tables: Mapping[str, tuple[bytes, int]], link: Path | None = None
) -> int:
    """Commit encoded tables and their rows as one unit, fast and not durably; returns their bytes.

    With a link the tables, which are then of the same bytes each time, are links to files of that name.
    """
    folder = Path(store.location(key))
    files = []
    for table, (data, rows) in tables.items():
        file = folder / table_file(table, unit)
        _made(file.parent)
        if link is None:
            file.write_bytes(data)
        else:
            source = link.with_name(f"{link.name}-{table}")
            if not source.exists():
                source.write_bytes(data)
            os.link(source, file)
        files.append(FileRecord(table, len(data), rows, _digest(data)))
    record = _record(key, unit, files)
    marker = folder / marker_file(unit)
    _made(marker.parent)
    marker.write_bytes(encode_marker(record))
    return sum(file.bytes for file in files)


def simulate(store: Store, shards: int, rows: int, linked: bool = False) -> int:
    """Write the store, fast and not durably; returns the bytes of its tables, links counted like files."""
    units = [f"shard-{number:05}" for number in range(shards)]
    store.prepare(KEY, NAME, units)
    templates = [parquet.encode(attention(rows, seed), ATTENTION) for seed in range(TEMPLATES)]
    links = Path(store.url) / ".links"
    if linked:
        links.mkdir(parents=True, exist_ok=True)
    total = 0
    for number, unit in enumerate(units):
        tables = {"attention": (templates[number % TEMPLATES], rows)}
        link = links / f"{number % TEMPLATES}-{number // (TEMPLATES * LINKS)}" if linked else None
        total += write_unit(store, KEY, unit, tables, link)
    return total


def study(store: Store, shards: int) -> list[tuple[str, int, int, str]]:
    """What `indexscope study --dry-run` tells of each result: its units, those that are there, and why it would run."""
    from indexscope.flows.engine.contents import Contents
    from indexscope.flows.engine.make import Engine
    from indexscope.flows.engine.settings import LOOKUP

    cut, graph = planned(shards)
    engine, contents = Engine(graph, store, lambda: LOOKUP, cut), Contents(store)
    lines = []
    for node in graph:
        reason = engine.why(node, contents)
        there = list(store.unit_statuses(node.key, node.units).values()).count("committed") if reason else shards
        lines.append((node.title, len(node.units), there, reason))
    return sorted(lines, key=lambda line: line[1], reverse=True)


def answer(question: str, store: Store, key: StepKey = KEY) -> object:
    """Put one of QUESTIONS to a store."""
    files = f"{store.location(key)}/attention/*.parquet"
    if question == "ls":
        return store.list_steps().select("units", "expected", "rows", "state").rows()
    manifest = store.manifest(key)
    assert manifest is not None and manifest.units is not None
    if question == "compact":
        return store.compact(key, manifest.units)
    if question == "study":
        return study(store, len(manifest.units))
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
    start, worked = time.perf_counter(), time.process_time()
    found = answer(question, store)
    seconds, busy = time.perf_counter() - start, time.process_time() - worked
    print(
        json.dumps(
            {
                "question": question,
                "seconds": seconds,
                "processor": busy,
                "mebibytes": peak_mebibytes(),
                "answer": str(found)[:200],
            }
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
    asked = [question for question in QUESTIONS if question != "compact"]
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=asked, help="in order, also twice")
    parser.add_argument("--linked", action="store_true", help="write tables as links to a few files")
    parser.add_argument("--index", action="store_true", help="write packs, and neither markers nor tables")
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
        if options.index:
            size = simulate_packs(store, options.shards, options.rows)
        else:
            size = simulate(store, options.shards, options.rows, options.linked)
        complete = [(options.shards, options.shards, options.shards * options.rows, "complete")]
        # Of a hundred thousand it would take longer than all questions; those about packs tell.
        whole = options.linked or options.index or answer("ls", store) == complete
        if not whole:  # figures of a store that is not whole would say nothing
            raise SystemExit(f"the simulated store is {answer('ls', store)}, not {complete}")
        print(f"{options.shards:,} shards, {options.shards * options.rows:,} rows, {size / 1e9:.2f} GB\n")
        print("| question | s | of the processor | peak MiB |\n| --- | ---: | ---: | ---: |")
        rows = []
        for question in options.questions:
            rows.append(ask(question, options.folder))
            told = f"{rows[-1]['seconds']:.2f} | {rows[-1]['processor']:.2f} | {rows[-1]['mebibytes']:,.0f}"
            print(f"| {QUESTIONS[question]} | {told} |", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    if options.save:
        saved = {"shards": options.shards, "rows": options.rows, "bytes": size, "questions": rows}
        Path(options.save).write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
