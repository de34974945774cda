"""Size, write time and scan time of feature tables: the store's layout beside plain defaults and beside its neighbours.

    python benchmarks/storage.py [--samples 64] [--shard 16] [--rounds 7] [--save FILE.json]

The tables are real ones: the features of the built-in baseline over the built-in dataset. Every variant changes one
thing of `store.parquet.LAYOUT`, or is what a library does when it is asked nothing. Round by round all
variants are written to files and scanned, so that they meet the same machine; figures are medians, and ratios are to
the store's own layout. Bytes per token count every feature table. Scans read files that the system has in memory:
*metric* is the mean of attention_entropy by layer, *layer* all columns of one layer of the attention table,
*all* the whole attention table.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.features.columns import FEATURES
from indexscope.storage.store.parquet import LAYOUT, encode

Shards = list[dict[str, pl.DataFrame]]
Writer = Callable[[pl.DataFrame, str], bytes]
#: The middle one of six layers.
LAYER = 3
TIMES = ("write", "polars all", "polars metric", "polars layer", "duckdb metric", "duckdb layer")


def features(samples: int, shard: int) -> tuple[Shards, int]:
    """Feature tables of the built-in baseline, shard by shard, and how many tokens they are of."""
    from indexscope.analysis.features import extract_samples
    from indexscope.analysis.settings import ExtractSettings
    from indexscope.flows.study.load import load_study
    from indexscope.flows.study.plan import make_plan
    from indexscope.storage.inputs.checkpoints import resolve
    from indexscope.storage.inputs.model_loading import load_model

    chosen = make_plan(load_study(None)).samples[:samples]
    model = load_model(resolve("builtin:baseline"), "float32", "cpu")
    settings = ExtractSettings()
    shards = [extract_samples(model, chosen[at : at + shard], settings) for at in range(0, len(chosen), shard)]
    return [dict(tables) for tables in shards], sum(len(sample.input_ids) for sample in chosen)


def variants() -> dict[str, Writer]:
    """Ways to write a table, by what is told of them; "ours" is the store's."""

    def polars_plain(frame: pl.DataFrame, _: str) -> bytes:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()

    def arrow_plain(frame: pl.DataFrame, _: str) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(frame.to_arrow(), buffer)
        return buffer.getvalue()

    def ours(**changes: Any) -> Writer:
        layout = replace(LAYOUT, **changes)
        return lambda frame, table: encode(frame, FEATURES[table], layout)

    def ordered(*order: str) -> Writer:
        def write(frame: pl.DataFrame, table: str) -> bytes:
            names = [name for name in order if name in frame.columns]
            return encode(frame.sort(names) if names else frame, FEATURES[table])

        return write

    codecs = [("none", None), ("snappy", None), ("lz4", None), ("zstd", 1), ("zstd", 3), ("zstd", 9)]
    within = ("group", "bucket", "distance", "relative", "query")
    return {
        "ours": ours(),
        "polars defaults": polars_plain,
        "pyarrow defaults": arrow_plain,
        "order: layer first": ordered("layer", "head", *within, "sample"),
        "order: layer, then sample": ordered("layer", "sample", "head", *within),
        **{f"row groups of {rows:,}": ours(row_group=rows) for rows in (1_000, 4_000, 16_000, 1 << 20)},
        "floats: byte stream split": ours(floats="BYTE_STREAM_SPLIT"),
        "floats: dictionary": ours(floats="DICTIONARY"),
        "others: plain": ours(others="PLAIN"),
        "others: delta": ours(others="DELTA_BINARY_PACKED"),
        **{
            f"compression: {codec}{'' if level is None else f' {level}'}": ours(compression=codec, level=level)
            for codec, level in codecs
            if (codec, level) != (LAYOUT.compression, LAYOUT.level)
        },
    }


def scans(folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed on written files."""
    attention = f"{folder}/attention/*.parquet"
    mean = "sum(attention_entropy * queries) / sum(queries)"
    metric = f"SELECT layer, {mean} FROM '{attention}' GROUP BY layer"
    layer = f"SELECT * FROM '{attention}' WHERE layer = {LAYER}"
    weighted = (pl.col("attention_entropy") * pl.col("queries")).sum() / pl.col("queries").sum()
    return {
        "polars all": lambda: pl.read_parquet(attention),
        "polars metric": lambda: pl.scan_parquet(attention).group_by("layer").agg(weighted).collect(),
        "polars layer": lambda: pl.scan_parquet(attention).filter(pl.col("layer") == LAYER).collect(),
        "duckdb metric": lambda: duckdb.sql(metric).fetchall(),
        "duckdb layer": lambda: duckdb.sql(layer).to_arrow_table(),
    }


def measure(shards: Shards, tokens: int, rounds: int) -> list[dict[str, Any]]:
    """One row a variant: bytes, bytes per token, and the median of each time in milliseconds."""
    writers = variants()
    times: dict[str, dict[str, list[float]]] = {name: {what: [] for what in TIMES} for name in writers}
    sizes: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / str(number) for number, name in enumerate(writers)}
        for number in range(rounds):
            # Whoever comes first pays for what is cold.
            names = [*list(writers)[number % len(writers) :], *list(writers)[: number % len(writers)]]
            for name in names:
                writer = writers[name]
                start = time.perf_counter()
                written = [{table: writer(frame, table) for table, frame in tables.items()} for tables in shards]
                times[name]["write"].append(time.perf_counter() - start)
                if not number:
                    sizes[name] = _put(folders[name], written)
            for name in names:
                for what, scan in scans(folders[name]).items():
                    start = time.perf_counter()
                    scan()
                    times[name][what].append(time.perf_counter() - start)
    return [
        {
            "variant": name,
            "bytes": sum(sizes[name].values()),
            "bytes_per_token": sum(sizes[name].values()) / tokens,
            "tables": sizes[name],
            "milliseconds": {what: statistics.median(found) * 1e3 for what, found in times[name].items()},
        }
        for name in writers
    ]


def _put(folder: Path, written: list[dict[str, bytes]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for number, tables in enumerate(written):
        for table, data in tables.items():
            (folder / table).mkdir(parents=True, exist_ok=True)
            (folder / table / f"shard-{number:05}.parquet").write_bytes(data)
            sizes[table] = sizes.get(table, 0) + len(data)
    return sizes


def tell(rows: list[dict[str, Any]], tokens: int, shards: Shards) -> None:
    """Print the tables in Markdown."""
    counts = {table: sum(tables[table].height for tables in shards) for table in shards[0]}
    print(f"{tokens:,} tokens, {len(shards)} shards; rows: {', '.join(f'{n} {c:,}' for n, c in counts.items())}\n")
    print("| layout | bytes per token | of ours | " + " | ".join(f"{name}, ms" for name in TIMES) + " |")
    print("| --- | " + "---: | " * (len(TIMES) + 2))
    for row in rows:
        ratio = row["bytes"] / rows[0]["bytes"]
        numbers = " | ".join(f"{row['milliseconds'][name]:.1f}" for name in TIMES)
        print(f"| {row['variant']} | {row['bytes_per_token']:.1f} | {ratio:.2f} | {numbers} |")
    print("\n| table | rows | bytes per token, ours | polars defaults | pyarrow defaults |\n| --- | " + "---: | " * 4)
    for table, count in counts.items():
        print(
            f"| `{table}` | {count:,} | "
            + " | ".join(f"{row['tables'][table] / tokens:.2f}" for row in rows[:3])
            + " |"
        )


def main() -> None:
    """Extract, measure all layouts side by side, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--shard", type=int, default=16, help="samples of a shard")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", help="write what was measured as JSON")
    options = parser.parse_args()
    shards, tokens = features(options.samples, options.shard)
    rows = measure(shards, tokens, options.rounds)
    tell(rows, tokens, shards)
    if options.save:
        Path(options.save).write_text(json.dumps({"tokens": tokens, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
