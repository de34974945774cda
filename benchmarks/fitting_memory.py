"""What a step of `indexscope fit` holds at once: tensors counted, by length and chunk.

Run from the repository's root: python -m benchmarks.fitting_memory MODEL [--lengths 512 1024 2048] [--chunks 128 256].
The model's weights, the indexers and the optimizer's moments are not counted: they are there before the step.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import torch

from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings
from indexscope.analysis.fitting.train import Fitting
from indexscope.storage.inputs.checkpoints import load_model, resolve
from tests.analysis.live_bytes import LiveBytes


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--chunks", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--stages", nargs="+", default=["dense", "sparse"])
    told = parser.parse_args()
    print(f"| stage | chunk | {' | '.join(f'{length:,} tokens' for length in told.lengths)} |")
    print(f"| --- | ---: |{' ---: |' * len(told.lengths)}")
    for stage in told.stages:
        for chunk in told.chunks:
            held = [f"{peak(told.model, stage, chunk, length) / 2**20:.0f} MiB" for length in told.lengths]
            print(f"| {stage} | {chunk} | {' | '.join(held)} |", flush=True)


def peak(model: str, stage: str, chunk: int, length: int) -> int:
    """Bytes of tensors at their most during one step of one indexer of 4 heads x 64."""
    loaded = load_model(Path(resolve(model)), "bfloat16", "cpu")
    settings = TrainingSettings(dense=1, sparse=1, chunk=chunk)
    fitting = Fitting(loaded, (IndexerSize(heads=4, dim=64),), (64,), settings)
    step = next(step for step in fitting.steps if step.stage == stage)
    ids = torch.randint(loaded.config.get_text_config().vocab_size, (1, length))
    fitting.step(step, ids[:, :64])  # which makes the moments
    gc.collect()
    with LiveBytes() as live:
        fitting.step(step, ids)
    fitting.close()
    return live.peak


if __name__ == "__main__":
    main()
