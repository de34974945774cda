"""Needles in a real pre-trained model, dense and with selections laid over it: the maps of depth by length.

    python benchmarks/evidence.py FOLDER/model OUT [--indexer FOLDER/fitted/h4-d64] [--lengths 512 1024 2048]
        [--depths 5] [--per-cell 2] [--kinds single multi_key] [--topk 64 128 256 512]

Every selection runs by itself through all samples, looked at by what a study looks with (`AnswerWatch`) and by nothing
else, so that it takes little more than a plain forward each; the dense run is shared, as the weights are. OUT gets
`cells.parquet`, `outcomes.parquet` and `maps.svg`. For a real model see `benchmarks/real_model.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import torch
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_dense, capture_sparse
from indexscope.analysis.edits.apply import edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.evidence import EvidenceSettings
from indexscope.analysis.evidence.figures import evidence_maps
from indexscope.analysis.evidence.run import run
from indexscope.analysis.evidence.watch import AnswerWatch
from indexscope.analysis.fitting.selector import lay_over
from indexscope.storage.inputs.checkpoints import CheckpointFolder, load_tokenizer
from indexscope.storage.inputs.datasets import DatasetSettings, Sample, load_samples
from indexscope.storage.inputs.fitted import load_fitted
from indexscope.storage.inputs.needle.settings import NeedleSettings
from indexscope.tasks.common.fitting import fitted_of

CHUNK = 256
Tables = dict[str, pl.DataFrame]
Answers = dict[int, tuple[int, torch.Tensor]]


def chunks(
    source: CapturedModel, sample: Sample, watch: AnswerWatch | None, select: bool
) -> Iterator[tuple[int, torch.Tensor]]:
    """One run of a sample."""

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        if watch is not None:
            watch.observe(chunk)
        return capture_sparse(chunk) if select else capture_dense(chunk)

    return source.run(torch.tensor([sample.input_ids]), observe, CHUNK, select=select)


@torch.inference_mode()
def watched(source: CapturedModel, samples: Sequence[Sample], dense: Answers, selects: bool) -> Tables:
    """The tables of answers of all samples; a model without a selection leaves what it predicts in ``dense``."""
    parts: list[Tables] = []
    for sample in samples:
        watch = AnswerWatch([sample])
        assert sample.evidence is not None
        first, last = sample.evidence.answer
        for start, logits in chunks(source, sample, watch, selects):
            watch.predicted(start, logits)
            if not selects:
                here = slice(max(first - 1 - start, 0), max(last - 1 - start, 0))
                if logits[:, here].shape[1]:
                    dense[sample.index] = (start + here.start, logits[:, here].clone())
        if selects:
            watch.dense(*dense[sample.index], [0])
        parts.append(watch.tables())
    return {name: pl.concat([part[name] for part in parts]) for name in parts[0]}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--indexer", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["single", "multi_key"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 1024, 2048])
    parser.add_argument("--topk", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--depths", type=int, default=5)
    parser.add_argument("--per-cell", type=int, default=2)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    needle = NeedleSettings(kinds=told.kinds, lengths=told.lengths, depths=told.depths, per_cell=told.per_cell)
    data = DatasetSettings(source="builtin:needle", needle=needle)
    samples = load_samples(data, load_tokenizer(told.model), 1 << 20)
    model = CheckpointFolder(str(told.model)).load("float32", "cpu")
    laid: PreTrainedModel | None = None
    if told.indexer is not None:
        body = CheckpointFolder(str(told.model)).load("float32", "cpu")
        laid = lay_over(body, fitted_of(load_fitted(str(told.indexer))), told.topk[0])
    runs: list[tuple[str, PreTrainedModel, Edit | None]] = [("dense", model, None)]
    for k in told.topk:
        runs.append((f"window {k}", model, Edit(selector={"recent": {"window": k - 4, "sink": 4}})))
        if laid is not None:
            runs.append((f"indexer {k}", laid, Edit(topk=k) if k != told.topk[0] else None))
        runs.append((f"oracle {k}", model, Edit(selector="oracle", topk=k)))
    dense: Answers = {}
    found: dict[str, Tables] = {}
    for name, one, edit in runs:
        began = time.perf_counter()
        with nullcontext(one) if edit is None else edited(one, edit) as changed:
            tables = watched(CapturedModel(changed), samples, dense, selects=name != "dense")
        found[name] = run(tables, EvidenceSettings(resamples=200))
        values = found[name]["metrics"].filter(pl.col("layer").is_null())
        shown = {row["metric"]: row["value"] for row in values.iter_rows(named=True) if row["value"] is not None}
        print(
            f"{name}: {time.perf_counter() - began:.0f} s,",
            {key: round(value, 3) for key, value in shown.items()},
            flush=True,
        )
        for table, file in (("evidence_cells", "cells"), ("answer_outcomes", "outcomes"), ("evidence_keys", "keys")):
            every = [frame[table].select(pl.lit(key).alias("model"), pl.all()) for key, frame in found.items()]
            pl.concat(every).write_parquet(told.out / f"{file}.parquet")
        figure = evidence_maps({key: frame["evidence_cells"] for key, frame in found.items()}, list(found))
        if figure is not None:
            figure.savefig(told.out / "maps.svg")
            figure.savefig(told.out / "maps.png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
