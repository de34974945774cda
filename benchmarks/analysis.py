"""What the Parquet-side analyses cost on a store of many shards, in seconds, peak memory and against bare polars.

    python benchmarks/analysis.py FOLDER [--shards 10000] [--analyses NAME ...] [--save FILE.json] [--keep]

The store is simulated: a shard is one sample of a model with 32 layers of 32 heads and 10 position buckets, 10,240
rows of attention, beside the other tables that analyses read. Values are random. Every analysis runs in a fresh
process, through the same `StoredFeatures` as in a study, so every checksum is verified. The ratio is to a bare polars
query over the attention files that groups by sample and layer and sums every column that a metric takes with its
weight; it verifies nothing. "comparison" pairs two models, each with the distribution's table of values by sample.
Memory is the process's own peak (VmHWM, Linux). The folder must not exist; it is deleted unless --keep is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import datasketches
import numpy as np
import polars as pl

# The package of the same name as this file must come before it.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from store_scale import attention, peak_mebibytes, write_unit

from indexscope.analysis.features.columns import FEATURES
from indexscope.storage.store import parquet
from indexscope.storage.store.store import Store, step_key

KEY = step_key("features", {"simulated": "analyses"})
MODEL = step_key("models", {"simulated": "analyses"})
RESULTS = step_key("analyses/distribution", {"simulated": "analyses"})
LAYERS, HEADS, BUCKETS = 32, 32, 10
START, BARE, COMPARISON = "start", "polars", "comparison"
ANALYSES = ("distribution", "positional_bias", "clustering", "context_length", "efficiency")
TEMPLATES = 8
#: Stands for the id of a sample.
MARK = 0x5A3C7E19


def shard(seed: int) -> dict[str, pl.DataFrame]:
    """Tables of one sample; only their sample ids are left to be set."""
    random = np.random.default_rng(seed)
    rows = LAYERS * HEADS * BUCKETS
    place = np.arange(rows)
    axes = [place // (HEADS * BUCKETS), place // BUCKETS % HEADS, place % BUCKETS]
    kinds = [pl.Int16, pl.Int16, pl.Int8]
    names = ["layer", "head", "bucket"]
    whole = attention(rows, seed).with_columns(
        pl.Series(name, axis, dtype=kind) for name, axis, kind in zip(names, axes, kinds, strict=True)
    )
    # "queries" were made for the buckets of another order.
    counts = [name for name in whole.columns if name.startswith("queries")]
    whole = whole.with_columns(pl.Series(name, 1 << axes[2], dtype=pl.Int32) for name in counts)
    by_layer = whole.filter(pl.col("head") == 0)
    return {
        "samples": pl.DataFrame({"sample": [0], "name": ["simulated"], "tokens": [1023]}).cast(
            {"sample": pl.Int32, "tokens": pl.Int32}
        ),
        "attention": whole,
        "tokens": _random(by_layer.filter(pl.col("layer") == 0).select("sample", "bucket"), "tokens", random),
        "indexer": _random(by_layer.select("sample", "layer", "bucket", *counts), "indexer", random),
        "heads": _random(whole.filter(pl.col("bucket") == 0).select("sample", "layer", "head"), "heads", random),
        "positions": _positions(random),
        "scores": _scores(random),
    }


def _random(keys: pl.DataFrame, table: str, random: np.random.Generator) -> pl.DataFrame:
    """A described table of random values; counts are those of whole buckets."""
    columns = []
    for column in FEATURES[table].columns:
        if column.name in keys.columns:
            columns.append(keys[column.name])
        elif column.unit in ("queries", "tokens") and column.name != "slash_distance":
            size = 1 << keys["bucket"].to_numpy() if "bucket" in keys.columns else np.full(keys.height, 1007)
            columns.append(pl.Series(column.name, size, dtype=pl.Int32))
        else:
            columns.append(pl.Series(column.name, random.random(keys.height)))
    return pl.DataFrame(columns)


def _positions(random: np.random.Generator) -> pl.DataFrame:
    # The cells that queries with 65 to 1,023 eligible keys reach.
    n, d = (part.ravel() for part in np.indices((1024, 1024)))
    seen = (n > 64) & (d < n)
    found = np.unique(np.stack([np.frexp(d[seen])[1], 10 * (n - 1 - d)[seen] // n[seen]]), axis=1)
    keys = {
        "sample": np.zeros(LAYERS * found.shape[1]),
        "layer": np.repeat(np.arange(LAYERS), found.shape[1]),
        "distance": np.tile(found[0], LAYERS),
        "relative": np.tile(found[1], LAYERS),
        "queries": np.full(LAYERS * found.shape[1], 900),
    }
    values = ("selections", "expected_selections", "attention_mass", "attention_expected")
    frame = pl.DataFrame({**keys, **{name: 1 + random.random(len(keys["layer"])) for name in values}})
    kinds = {"sample": pl.Int32, "layer": pl.Int16, "distance": pl.Int8, "relative": pl.Int8, "queries": pl.Int32}
    return frame.cast(kinds)  # type: ignore[arg-type]


def facts() -> pl.DataFrame:
    """The model: heads as wide as DeepSeek-V3.2's, with its indexer, in the layers and heads of the shards."""
    widths = {"key_width": 192, "value_width": 128, "indexer_heads": 64, "indexer_dim": 128, "index_topk": 64}
    counts = {"layers": LAYERS, "attention_heads": HEADS, "indexer_layers": LAYERS}
    parameters = {"parameters": 10**9, "indexer_parameters": 10**7, "attention_parameters": 10**8}
    words = {"family": "simulated", "entry": "token", "dtype": "float32", "device": "cpu"}
    return pl.DataFrame([{**words, **counts, **widths, **parameters}])


def layers() -> pl.DataFrame:
    """The model's layers, all sparse."""
    kinds = {"layer": pl.Int16, "window": pl.Int32, "attention_chunk": pl.Int32}
    row = {"attention_heads": HEADS, "key_width": 192, "value_width": 128, "window": None, "attention_chunk": None}
    return pl.DataFrame([{"layer": layer, **row, "selects": True} for layer in range(LAYERS)], schema_overrides=kinds)


def _scores(random: np.random.Generator) -> pl.DataFrame:
    rows = []
    for layer in range(LAYERS):
        for group in ("selected", "unselected"):
            values = random.normal(size=600).astype(np.float32)
            digest = datasketches.tdigest_float(100)
            for value in values:
                digest.update(value)
            deviation = float(((values - values.mean()) ** 2).sum())
            facts = (float(values.mean()), deviation, float(values.min()), float(values.max()), 0, digest.serialize())
            rows.append((0, layer, group, len(values), *facts))
    names = ["sample", "layer", "group", "count", "mean", "m2", "minimum", "maximum", "zeros", "sketch"]
    return pl.DataFrame(rows, schema=names, orient="row").cast({"sample": pl.Int32, "layer": pl.Int16})


def simulate(store: Store, shards: int) -> int:
    """Commit the shards; returns the bytes of their tables.

    Encoding every shard anew would take far longer than the analyses: the id of a shard's one sample stands in few
    places of a Parquet file, as its four bytes, and is put there.
    """
    units = names(shards)
    store.commit(MODEL, "model", {"facts": facts(), "layers": layers()}, "simulated")
    store.prepare(KEY, "simulated", units)
    templates = [encoded(seed) for seed in range(TEMPLATES)]
    size = 0
    for number, unit in enumerate(units):
        template = templates[number % TEMPLATES]
        size += write_unit(
            store, KEY, unit, {table: (placed(data, number), n) for table, (data, n) in template.items()}
        )
    return size


def encoded(seed: int) -> dict[str, tuple[bytes, int]]:
    """The tables of a shard as Parquet and their rows, once it is sure that the id of the sample can be put in."""
    found = {}
    for name, frame in shard(seed).items():
        data = parquet.encode(frame.with_columns(_sample(MARK)), FEATURES[name])
        for number in (0, 7, 9_999):
            if not parquet.decode(placed(data, number), name).equals(frame.with_columns(_sample(number))):
                raise SystemExit(f"the sample of {name} cannot be changed in its encoded form")
        found[name] = (data, frame.height)
    return found


def placed(data: bytes, number: int) -> bytes:
    """An encoded table with the id of its sample put in."""
    return data.replace(MARK.to_bytes(4, "little"), number.to_bytes(4, "little"))


def _sample(number: int) -> pl.Expr:
    return pl.lit(number, dtype=pl.Int32).alias("sample")


def names(shards: int) -> list[str]:
    """Units of the store."""
    return [f"shard-{number:05}" for number in range(shards)]


def bare(store: Store) -> int:
    """The same columns of the attention table, summed by bare polars; returns the rows of the answer."""
    from indexscope.analysis.metrics.metric import Ratio
    from indexscope.analysis.metrics.registry import REGISTRY

    rules = {n: m.rule for n, m in REGISTRY.items() if isinstance(m.rule, Ratio) and m.rule.table == "attention"}
    sums = [(pl.col(rule.value) * pl.col(rule.weight)).sum().alias(name) for name, rule in rules.items()]
    weights = [pl.col(name).sum() for name in sorted({rule.weight for rule in rules.values()})]
    files = pl.scan_parquet(f"{store.location(KEY)}/attention/*.parquet")
    return files.group_by("sample", "layer").agg(*sums, *weights).collect(engine="streaming").height


def analyse(name: str, store: Store, shards: int) -> dict[str, int]:
    """Run one analysis; returns the rows of its tables."""
    from indexscope.analysis.analyses import AnalysisSettings
    from indexscope.tasks.common.features import StoredFeatures

    features = StoredFeatures(store, [(KEY, names(shards)), (MODEL, ("model",))])
    tables: Mapping[str, pl.DataFrame] = import_module(f"indexscope.analysis.{name}.run").run(
        features, getattr(AnalysisSettings(), name)
    )
    rows = {table: frame.height for table, frame in tables.items()}
    if name == "distribution":
        store.commit(RESULTS, "result", tables, "simulated")
    return rows


def compare(store: Store) -> dict[str, int]:
    """Compare the model with itself, as the study's task does."""
    from indexscope.analysis.comparison.compare import compare as compare_models
    from indexscope.analysis.settings import ComparisonSettings
    from indexscope.tasks.common.results import stored_models

    models = stored_models(store, {name: {"distribution": RESULTS} for name in ("baseline", "candidate")})
    return {"comparisons": compare_models(models, "baseline", ComparisonSettings()).height}


def ask(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run something in a fresh process."""
    command = [sys.executable, __file__, options.folder, "--shards", str(options.shards), "--child", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"analysis": name, "failed": (done.stderr.splitlines() or [f"stopped by {-done.returncode}"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(name: str, store: Store, shards: int) -> None:
    """Run in this process and print seconds, peak memory and the rows of the results."""
    start = time.perf_counter()
    found: object = None
    if name == BARE:
        found = bare(store)
    elif name == COMPARISON:
        found = compare(store)
    elif name != START:
        found = analyse(name, store, shards)
    seconds = time.perf_counter() - start
    print(json.dumps({"analysis": name, "seconds": seconds, "mebibytes": peak_mebibytes(), "rows": found}))


def main() -> None:
    """Write a store, run everything on it, print a table in Markdown, delete the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the store is written; 0.8 MB a shard")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--analyses", nargs="+", choices=(*ANALYSES, COMPARISON), default=[*ANALYSES, COMPARISON])
    parser.add_argument("--save", help="write what was measured as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the store behind")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    store = Store(options.folder)
    if options.child:
        child(options.child, store, options.shards)
        return
    if Path(options.folder).exists():
        parser.error(f"{options.folder} exists already")
    rows = LAYERS * HEADS * BUCKETS * options.shards
    try:
        size = simulate(store, options.shards)
        print(f"{options.shards:,} shards, {rows:,} rows of attention, {size / 1e9:.2f} GB\n")
        print("| analysis | s | of bare polars | peak MiB |\n| --- | ---: | ---: | ---: |")
        found: list[dict[str, Any]] = []
        for name in (START, BARE, *options.analyses):
            found.append(ask(name, options))
            if "failed" in found[-1]:
                print(f"| {name} | {found[-1]['failed']} | | |", flush=True)
                continue
            seconds = found[-1]["seconds"]
            found[-1]["ratio"] = None if name == START else seconds / next(f["seconds"] for f in found[1:])
            shown = "" if name == START else f"{found[-1]['ratio']:.2f}"
            print(f"| {name} | {seconds:.2f} | {shown} | {found[-1]['mebibytes']:,.0f} |", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    if options.save:
        saved = {"shards": options.shards, "rows": rows, "bytes": size, "analyses": found}
        Path(options.save).write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
