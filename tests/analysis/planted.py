"""Feature tables with known contents: random ones of any size, and those of planted attention maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import datasketches
import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]
ATTENTION = [
    "attention_entropy",
    "effective_keys",
    "participation",
    "sparsity_ratio",
    "max_weight",
    "top_5_mass",
    "top_10_mass",
    "top_20_mass",
    "top_64_mass",
    "top_k_mass",
    "keys_for_95",
    "local_mass",
    "sink_mass",
    "self_mass",
    "previous_mass",
    "mean_distance",
    "induction_mass",
]
SELECTION = [
    "selection_recall",
    "oracle_recall",
    "random_recall",
    "oracle_overlap",
    "top_key_kept",
    "selection_reuse",
    "cache_hits_2k",
    "cache_hits_4k",
    "tie_share",
    "score_margin",
    "score_gap",
]
WINDOW, SINKS, FIRST_QUERY = 32, 4, 16
UNIFORM = ("uniform_key", "uniform_local", "uniform_sink", "uniform_induction", "uniform_distance")
SHAPES = ("vertical_mass", "slash_mass", "slash_distance", "block_mass", "block_size")


def features(
    samples: int = 6,
    layers: int = 3,
    heads: int = 2,
    length: int = 100,
    top_k: int | None = 8,
    seed: int = 0,
    shift: float = 0.0,
    one_map: bool = False,
) -> dict[str, pl.DataFrame]:
    """Random tables of the extraction's schema; ``shift`` moves recall and nll, ``top_k`` None is dense.

    ``one_map`` gives all samples and layers the same positions, which spares the loops over large maps.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(max(2, length // 2), length + 1, samples)
    tables = {
        "samples": pl.DataFrame(
            {"sample": np.arange(samples), "name": [f"s{i}" for i in range(samples)], "tokens": lengths},
            schema={"sample": pl.Int32, "name": pl.String, "tokens": pl.Int32},
        ),
        "attention": _rows(random, lengths, layers, heads, top_k),
        "tokens": _tokens(random, lengths, shift),
        "heads": _heads(random, lengths, layers, heads),
        "positions": _positions(random, lengths, layers, top_k, one_map),
        "facts": facts(layers, top_k),
        "profile": profile(),
    }
    if top_k is not None:
        tables["indexer"] = _indexer(tables["attention"], random, shift)
        tables["scores"] = scores(random, samples, layers)
    return tables


def buckets(length: int) -> list[tuple[int, int, int, int]]:
    """Bucket, queries, queries with n_t > 1 and the first position, for a sequence."""
    result = []
    for bucket in range(int(length).bit_length()):
        first, last = 2**bucket - 1, min(length, 2 ** (bucket + 1) - 1)
        if last > first:
            result.append((bucket, last - first, last - max(first, 1), first))
    return result


def _rows(
    random: np.random.Generator, lengths: NDArray[np.int64], layers: int, heads: int, top_k: int | None
) -> pl.DataFrame:
    rows = []
    for sample, length in enumerate(lengths):
        for layer in range(layers):
            for head in range(heads):
                for bucket, queries, multi, first in buckets(int(length)):
                    effect = 0 if top_k is None else max(0, first + queries - max(first, top_k))
                    values = random.random(len(ATTENTION)).astype(np.float32).tolist()
                    normal = float(random.random()) if multi else None
                    late = [float(v) for v in random.random(2)] if effect else [None, None]
                    uniform = _uniform(np.arange(first, first + queries))
                    rows.append((sample, layer, head, bucket, queries, multi, effect, *uniform, *values, normal, *late))
    keys = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "bucket": pl.Int8}
    counts = dict.fromkeys(("queries", "queries_multi", "queries_in_effect"), pl.Int32)
    names = dict.fromkeys((*UNIFORM, *ATTENTION, "normalized_entropy", "head_recall", "output_error"), pl.Float32)
    return pl.DataFrame(rows, schema=keys | counts | names, orient="row")


def _uniform(t: NDArray[np.int64]) -> list[float]:
    """Means of `UNIFORM` over queries of different tokens that see all keys up to themselves."""
    n = t + 1.0
    each = (1 / n, np.minimum(n, WINDOW) / n, np.minimum(n, SINKS) / n, 0 * n, t / 2)
    return [float(one.mean()) for one in each]


def _indexer(attention: pl.DataFrame, random: np.random.Generator, shift: float) -> pl.DataFrame:
    base = attention.filter(pl.col("head") == 0).select(
        "sample", "layer", "bucket", "queries", "queries_multi", "queries_in_effect"
    )
    frame = base.with_columns(
        pl.Series(name, random.random(base.height)) for name in (*SELECTION, "indexer_kl", "zero_share")
    )
    return frame.with_columns(
        pl.col("selection_recall") * 0.5 + shift, pl.col("oracle_recall") * 0.25 + 0.75
    ).with_columns(
        *(pl.when(pl.col("queries_in_effect") > 0).then(pl.col(name)).alias(name) for name in SELECTION),
        *(pl.when(pl.col("queries_multi") > 0).then(pl.col(name)).alias(name) for name in ("indexer_kl", "zero_share")),
    )


def _tokens(random: np.random.Generator, lengths: NDArray[np.int64], shift: float) -> pl.DataFrame:
    rows = []
    for sample, length in enumerate(lengths):
        for bucket, queries, _, _ in buckets(int(length) - 1):
            dense = 2.0 + float(random.random())
            rows.append((sample, bucket, queries, dense + 0.1 - shift, float(random.random()), dense))
    schema = {"sample": pl.Int32, "bucket": pl.Int8, "tokens": pl.Int32}
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(("nll", "accuracy", "dense_nll"), pl.Float64), orient="row")


def _heads(random: np.random.Generator, lengths: NDArray[np.int64], layers: int, heads: int) -> pl.DataFrame:
    rows = [
        (sample, layer, head, int(length) - FIRST_QUERY, *random.random(2).tolist(), 3.0, float(random.random()), 16.0)
        for sample, length in enumerate(lengths)
        for layer in range(layers)
        for head in range(heads)
        if length > FIRST_QUERY
    ]
    keys = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "queries": pl.Int32}
    return pl.DataFrame(rows, schema=keys | dict.fromkeys(SHAPES, pl.Float32), orient="row")


def _positions(
    random: np.random.Generator, lengths: NDArray[np.int64], layers: int, top_k: int | None, one_map: bool
) -> pl.DataFrame:
    if one_map:
        own = positions(0, 0, 60, None if top_k is None else random_selection(random, 60, top_k))
        ids = pl.DataFrame({"sample": np.arange(len(lengths))}, schema={"sample": pl.Int32})
        ids = ids.join(pl.DataFrame({"layer": np.arange(layers)}, schema={"layer": pl.Int16}), how="cross")
        return ids.join(own.drop("sample", "layer"), how="cross")
    frames = []
    for sample, length in enumerate(lengths):
        for layer in range(layers):
            selected = None if top_k is None else random_selection(random, int(length), top_k)
            frames.append(positions(sample, layer, int(length), selected))
    return pl.concat(frames)


def random_selection(random: np.random.Generator, length: int, top_k: int) -> NDArray[np.bool_]:
    """A selector without preferences: top_k keys of each query at random, [queries, keys]."""
    score = np.where(np.tri(length, dtype=bool), random.random((length, length)), -1.0)
    order = np.argsort(-score, axis=1)
    selected = np.zeros((length, length), dtype=bool)
    np.put_along_axis(selected, order[:, :top_k], True, axis=1)
    return selected & np.tri(length, dtype=bool)


def positions(sample: int, layer: int, length: int, selected: NDArray[np.bool_] | None) -> pl.DataFrame:
    """The positions table of one selection by slow loops; the attention is uniform."""
    sums: dict[tuple[int, int], list[float]] = {}
    counted = 0
    for t in range(length):
        n, k = t + 1, t + 1 if selected is None else int(selected[t].sum())
        if selected is not None and k >= n:
            continue
        counted += 1
        for s in range(n):
            cell = sums.setdefault((int(t - s).bit_length(), 10 * s // n), [0.0] * 4)
            cell[0] += 0.0 if selected is None else float(selected[t, s])
            cell[1] += k / n
            cell[2] += 1 / n
            cell[3] += 1 / n
    rows = [
        (sample, layer, *place, counted, *([None, None, *cell[2:]] if selected is None else cell))
        for place, cell in sorted(sums.items())
    ]
    return pl.DataFrame(rows, schema=POSITIONS, orient="row")


POSITIONS = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "distance": pl.Int8,
    "relative": pl.Int8,
    "queries": pl.Int32,
    **dict.fromkeys(("selections", "expected_selections", "attention_mass", "attention_expected"), pl.Float64),
}


def scores(random: np.random.Generator, samples: int, layers: int, size: int = 400) -> pl.DataFrame:
    """Index scores: selected ones around 2, unselected ones around 0 with exact zeros among them."""
    rows = []
    for sample in range(samples):
        for layer in range(layers):
            for group, centre in (("selected", 2.0), ("unselected", 0.0)):
                values = random.normal(centre, 1.0, size).astype(np.float32)
                if group == "unselected":
                    values[values < 0] = 0.0
                rows.append(score_row(sample, layer, group, values))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


SCORES = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "group": pl.String,
    "count": pl.Int64,
    "mean": pl.Float64,
    "m2": pl.Float64,
    "minimum": pl.Float64,
    "maximum": pl.Float64,
    "zeros": pl.Int64,
    "sketch": pl.Binary,
}


def score_row(sample: int, layer: int, group: str, values: NDArray[np.float32]) -> tuple[object, ...]:
    """One row of the scores table."""
    digest = datasketches.tdigest_float(100)
    digest.update(values)
    exact = values.astype(np.float64)
    m2 = float(((exact - exact.mean()) ** 2).sum())
    low, high, zeros = float(exact.min()), float(exact.max()), int((exact == 0).sum())
    return sample, layer, group, len(exact), float(exact.mean()), m2, low, high, zeros, digest.serialize()


def facts(layers: int = 3, top_k: int | None = 8) -> pl.DataFrame:
    """One row of model facts: 4 heads of widths 16 and 8, 2 indexer heads of width 32."""
    sparse = top_k is not None
    row = {
        "family": "planted",
        "parameters": 10_000,
        "indexer_parameters": 500 if sparse else 0,
        "attention_parameters": 4_000,
        "layers": layers,
        "attention_heads": 4,
        "key_width": 16,
        "value_width": 8,
        "latent_key_width": None,
        "latent_value_width": None,
        "indexer_layers": layers if sparse else 0,
        "indexer_heads": 2 if sparse else None,
        "indexer_dim": 32 if sparse else None,
        "index_topk": top_k,
        "entry": None if top_k is None else "token",
        "indexer_precision": None,
        "dtype": "float32",
        "device": "cpu",
    }
    whole = {name: pl.Int64 for name, value in row.items() if not isinstance(value, str)}
    return pl.DataFrame([row], schema_overrides=whole)


def profile(milliseconds: float = 2.0, spread: float = 0.5) -> pl.DataFrame:
    """Timings of the indexer and the attention at two lengths, growing with the length."""
    rows = [
        (component, length, 5, time, time - spread, time + spread, 1e6, None)
        for component, time in (("indexer", milliseconds), ("attention", 5.0), ("model", 20.0))
        for length, time in ((128, time / 2), (256, time))
    ]
    keys = {"component": pl.String, "length": pl.Int32, "repeats": pl.Int32}
    names = ("milliseconds", "milliseconds_low", "milliseconds_high", "flops_formula", "flops_counted")
    return pl.DataFrame(rows, schema=keys | dict.fromkeys(names, pl.Float64), orient="row")


def shuffled(tables: dict[str, pl.DataFrame], seed: int) -> dict[str, pl.DataFrame]:
    """The same tables with their rows in another order, as other shards would deliver them."""
    return {name: frame.sample(fraction=1.0, shuffle=True, seed=seed) for name, frame in tables.items()}


def maps(
    patterns: Sequence[Callable[[int], Array]], length: int, samples: int = 1, tokens: NDArray[np.int64] | None = None
) -> dict[str, pl.DataFrame]:
    """Attention and heads tables of planted attention maps, one head each in layer 0, by a plain numpy reference.

    Args:
        patterns: Functions of the length that give unnormalised weights [queries, keys].
        length: Tokens of every sample.
        samples: How often to repeat the maps.
        tokens: Token ids of every sample, for the induction mass; all different by default.
    """
    tokens = np.arange(length) if tokens is None else tokens
    attention, heads = [], []
    for sample in range(samples):
        for head, pattern in enumerate(patterns):
            causal = np.tri(length) * np.maximum(pattern(length), 1e-12)
            p = causal / causal.sum(axis=1, keepdims=True)
            attention += _map_rows(p, sample, head, tokens)
            heads.append((sample, 0, head, length - FIRST_QUERY, *_map_shape(p)))
    keys = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "queries": pl.Int32}
    return {
        "attention": pl.DataFrame(attention),
        "heads": pl.DataFrame(heads, schema=keys | dict.fromkeys(SHAPES, pl.Float64), orient="row"),
    }


def follows_copy(tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys follow an earlier copy of the query's token, [queries, keys]."""
    length = len(tokens)
    follows = np.zeros((length, length), dtype=bool)
    for t in range(length):
        for s in range(1, t + 1):
            follows[t, s] = tokens[s - 1] == tokens[t]
    return follows


def _map_rows(p: Array, sample: int, head: int, tokens: NDArray[np.int64]) -> list[dict[str, float]]:
    length = len(p)
    t, s = np.arange(length)[:, None], np.arange(length)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    of_query = {
        "normalized_entropy": entropy / np.log(np.maximum(np.arange(length) + 1, 2)),
        "max_weight": p.max(axis=1),
        "local_mass": (p * (t - s < WINDOW)).sum(axis=1),
        "sink_mass": (p * (s < SINKS)).sum(axis=1),
        "self_mass": np.diag(p),
        "previous_mass": np.r_[0.0, np.diag(p, -1)],
        "induction_mass": (p * follows_copy(tokens)).sum(axis=1),
        "mean_distance": (p * (t - s)).sum(axis=1),
    }
    even = np.tri(length) / (np.arange(length) + 1)[:, None]
    of_uniform = (
        even[:, 0],
        (even * (t - s < WINDOW)).sum(axis=1),
        even[:, :SINKS].sum(axis=1),
        (even * follows_copy(tokens)).sum(axis=1),
        (even * (t - s)).sum(axis=1),
    )
    of_query |= dict(zip(UNIFORM, of_uniform, strict=True))
    return [
        {"sample": sample, "layer": 0, "head": head, "bucket": bucket, "queries": queries}
        | {name: float(value[first : first + queries].mean()) for name, value in of_query.items()}
        for bucket, queries, _, first in buckets(length)
    ]


def _map_shape(p: Array) -> tuple[float | None, ...]:
    late = p[FIRST_QUERY:]
    columns = np.sort(late.sum(axis=0)[SINKS:])[-4:].sum() / len(late)
    diagonals = [sum(late[i, t - d] for i, t in enumerate(range(FIRST_QUERY, len(p))) if t >= d) for d in range(len(p))]
    best = 2 + int(np.argmax(diagonals[2:]))
    return float(columns), float(diagonals[best] / len(late)), float(best), *blocks(p)


def blocks(p: Array) -> tuple[float | None, float | None]:
    """block_mass and block_size of a causal map from their definition in docs/metrics.md; None where not defined."""
    found = {}
    queries = np.arange(19, len(p), 4)
    for size in (16, 32, 64, 128, 256, 512):
        places = [queries[queries % size // 16 == place] for place in range(size // 16)]
        if min(map(len, places)) >= 12:
            found[size] = np.mean([np.mean([contrast(p[t, : t + 1], size) for t in own]) for own in places])
    if not found:
        return None, None
    best = max(found, key=lambda size: found[size])
    return (float(found[best]), float(best)) if found[best] > 0 else (0.0, None)


def contrast(row: Array, size: int) -> float:
    """Evenness over aligned blocks less that over blocks shifted by half a block; row is attention to keys 0 .. t."""
    part = size // 4
    mass = row[: len(row) // part * part].reshape(-1, part).sum(axis=1)
    if not len(mass):
        return 0.0
    even = []
    for shift in (0, 2):
        block = (np.arange(len(mass)) + shift) // 4
        even.append(sum(own.sum() * mass[own].min() for own in (block == one for one in np.unique(block))))
    return float(even[0] - even[1])
