"""What extraction costs beside the model's plain forward and beside the usual way.

    python benchmarks/extraction.py [--lengths 512 2048] [--rounds 3] [--threads 2]

Every measurement runs in a process of its own, round by round, so that the methods meet the same machine; memory is the
growth of the process's peak over what it held with the model loaded. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

METHODS = {
    "plain": "plain sdpa forward",
    "floor": "chunked forward, nothing extracted",
    "extract": "extraction (indexscope)",
    "extract + dense": "extraction with the dense reference",
    "usual": "output_attentions, then numpy",
}


@dataclass(frozen=True)
class Sample:
    """A sequence to extract."""

    index: int
    name: str
    input_ids: tuple[int, ...]


def runner(method: str, length: int, chunk: int) -> Callable[[], object]:
    """The work of one method on one sequence of the built-in baseline."""
    from analysis.capture import CapturedModel, capture_sparse
    from analysis.features import extract_samples
    from analysis.settings import ExtractSettings
    from storage.checkpoints import resolve
    from storage.model_loading import load_model

    model = load_model(resolve("builtin:baseline"), "float32", "cpu")
    ids = torch.randint(model.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    if method == "plain":
        model.set_attn_implementation("sdpa")
        return lambda: model(input_ids=ids, use_cache=False)
    if method == "usual":
        model.set_attn_implementation("eager")
        return lambda: usual_way(model(input_ids=ids, use_cache=False, output_attentions=True).attentions)
    if method == "floor":
        captured = CapturedModel(model)
        return lambda: [None for _ in captured.run(ids, capture_sparse, chunk)]
    settings = ExtractSettings(chunk=chunk, dense_reference=method == "extract + dense")
    sample = Sample(0, "", tuple(ids[0].tolist()))
    return lambda: extract_samples(model, [sample], settings)


def usual_way(attentions: tuple[torch.Tensor, ...]) -> list[dict[str, np.ndarray]]:
    """The attention features alone, from whole [heads, S, S] arrays; no recall, no scores, no positions."""
    found = []
    for attention in attentions:
        p = attention[0].numpy()
        length = p.shape[-1]
        causal = np.tril(np.ones((length, length), dtype=bool))
        n = np.arange(1, length + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(p > 0, p * np.log(p), 0).sum(-1)
            normalized = entropy / np.log(n)
        descending = np.sort(p, axis=-1)[..., ::-1].cumsum(-1)
        distance = n[:, None] - n[None, :]
        found.append(
            {
                "entropy": entropy,
                "normalized": normalized,
                "participation": 1 / (p**2).sum(-1),
                "sparsity": ((p < 0.01) & causal).sum(-1) / n,
                "masses": descending[..., [0, 4, 9, 19, 63]],
                "keys_for_95": (descending < 0.95).sum(-1) + 1,
                "local": (p * ((distance >= 0) & (distance < 32))).sum(-1),
                "sink": p[..., :4].sum(-1),
                "distance": (p * distance).sum(-1),
            }
        )
    return found


def child(method: str, length: int, chunk: int, threads: int) -> None:
    """Measure one method in this process and print it as JSON."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        run = runner(method, length, chunk)
        torch.zeros(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": statistics.median(times), "mebibytes": peak / 1024}))


def main() -> None:
    """Run all methods side by side and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]), options.chunk, options.threads)
        return
    for length in options.lengths:
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        memory: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(options.rounds):
            for method in METHODS:
                command = [sys.executable, __file__, "--child", method, str(length)]
                command += ["--chunk", str(options.chunk), "--threads", str(options.threads)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                measured = json.loads(output.splitlines()[-1])
                seconds[method].append(measured["seconds"])
                memory[method].append(measured["mebibytes"])
        plain = statistics.median(seconds["plain"])
        print(
            f"\n{length} tokens, chunk {options.chunk}, {options.threads} threads, median of {options.rounds} rounds\n"
        )
        print("| method | ms | of plain | peak memory above the model, MiB |\n| --- | ---: | ---: | ---: |")
        for method, meaning in METHODS.items():
            middle = statistics.median(seconds[method])
            print(
                f"| {meaning} | {middle * 1e3:.0f} | {middle / plain:.2f} | {statistics.median(memory[method]):.0f} |"
            )


if __name__ == "__main__":
    main()
