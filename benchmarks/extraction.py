"""What extraction costs beside the model's plain forward, beside the usual way and beside its own floor.

    python benchmarks/extraction.py [--models dsa dense] [--lengths 512 ... 16384] [--rounds 3] [--threads 2]
                                    [--device cpu] [--dtype float32] [--save FILE.json] [--plot FILE.png]
    python benchmarks/extraction.py --load FILE.json --plot FILE.png      (draw an earlier run again)

Every measurement runs in a process of its own, round by round, so that the methods meet the same machine; memory is the
growth of the process's peak over what it held with the model loaded and warm. Ratios are of medians. A method that runs
out of memory shows a dash, and so does the usual way beyond USUAL_LIMIT.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

MODELS = {
    "dsa": "DSA: the built-in baseline (6 layers, 6 heads, MLA 80/48, indexer 4 x 64, k = 64)",
    "dense": "Dense: random Llama of SmolLM-135M's widths (6 layers, 9 heads x 64, 3 key heads, vocabulary 2048)",
}
METHODS = {
    "plain": "plain sdpa forward",
    "floor": "chunked forward, nothing extracted",
    "extract": "extraction (indexscope)",
    "extract + dense": "extraction with the dense reference",
    "usual": "output_attentions, then numpy",
}
# The usual way keeps every map of every layer, and numpy copies of one layer's.
USUAL_LIMIT = 4096


def build(name: str, dtype: str, device: str) -> Any:
    """One of MODELS."""
    if name == "dsa":
        from indexscope.storage.inputs.checkpoints import resolve
        from indexscope.storage.inputs.model_loading import load_model

        model = load_model(resolve("builtin:baseline"), dtype, device)
        # Time does not ask whether the model was trained for such lengths; extraction would refuse them.
        model.config.max_position_embeddings = 1 << 20
        return model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=576, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=16384,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().to(device=device, dtype=getattr(torch, dtype))


def runner(method: str, model: Any, options: argparse.Namespace) -> Callable[[int], object]:
    """The work of one method on one sequence of a given length."""
    from indexscope.analysis.capture import CapturedModel, capture_sparse
    from indexscope.analysis.features import extract_samples
    from indexscope.analysis.settings import ExtractSettings
    from indexscope.storage.inputs.samples import Sample

    def tokens(length: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(model.config.vocab_size, (1, length), generator=generator)

    if method == "plain":
        model.set_attn_implementation("sdpa")
        return lambda length: model(input_ids=tokens(length).to(model.device), use_cache=False)
    if method == "usual":
        model.set_attn_implementation("eager")
        return lambda length: usual_way(
            model(input_ids=tokens(length).to(model.device), use_cache=False, output_attentions=True).attentions
        )
    if method == "floor":
        captured = CapturedModel(model)
        return lambda length: [
            None for _ in captured.run(tokens(length).to(model.device), capture_sparse, options.chunk)
        ]
    settings = ExtractSettings(chunk=options.chunk, dense_reference=method == "extract + dense")
    return lambda length: extract_samples(model, [Sample(0, "", tuple(tokens(length)[0].tolist()))], settings)


def usual_way(attentions: tuple[torch.Tensor, ...]) -> list[dict[str, np.ndarray]]:
    """The attention features alone, from whole [heads, S, S] arrays; no recall, no scores, no positions."""
    found = []
    for attention in attentions:
        p = attention[0].float().cpu().numpy()
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


class Peak:
    """Growth of the memory's peak, of the GPU where the model is on one, else of the process (Linux)."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / 2**20
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak falls back to what is held now
            self.before = self._status("VmRSS")

    def grown(self) -> float:
        """MiB above the start."""
        now = torch.cuda.max_memory_allocated() / 2**20 if self.cuda else self._status("VmHWM")
        return now - self.before

    @staticmethod
    def _status(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def child(method: str, length: int, options: argparse.Namespace) -> None:
    """Measure one method in this process and print it as JSON."""
    torch.set_num_threads(options.threads)

    def timed() -> float:
        start = time.perf_counter()
        run(length)
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.inference_mode():
        run = runner(method, build(options.models[0], options.dtype, options.device), options)
        run(min(length, 300))
        peak = Peak(options.device)
        times = [timed()]
        grown = peak.grown()
        while len(times) < 3 and sum(times) < 6:
            times.append(timed())
    print(json.dumps({"seconds": statistics.median(times[1:] or times), "mebibytes": grown}))


def measure(model: str, method: str, length: int, options: argparse.Namespace) -> dict[str, float] | None:
    """One measurement in a fresh process; None where it does not fit."""
    command = [sys.executable, __file__, "--child", method, str(length), "--models", model]
    for name in ("chunk", "threads", "device", "dtype"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        memory = ("OutOfMemory", "not enough memory", "MemoryError")
        if done.returncode < 0 or any(word in done.stderr for word in memory):
            return None
        raise SystemExit(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All models, lengths and methods, round by round; prints each length's table as it is done."""
    rows: list[dict[str, Any]] = []
    for model in options.models:
        print(f"\n### {MODELS[model]}")
        print(f"{options.device} {options.dtype}, chunk {options.chunk}, {options.threads} threads\n")
        print("| tokens | method | ms | of plain | of the floor | peak memory above the model, MiB |")
        print("| ---: | --- | ---: | ---: | ---: | ---: |")
        for length in options.lengths:
            methods = [method for method in METHODS if method in options.methods]
            methods = [method for method in methods if model == "dsa" or method != "extract + dense"]
            found: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
            for _ in range(options.rounds if length <= 4096 else 1):
                for method in methods:
                    if method == "usual" and length > USUAL_LIMIT:
                        continue
                    measured = measure(model, method, length, options)
                    if measured:
                        found[method].append(measured)
            for method in methods:
                rows.append({"model": model, "length": length, "method": method, **_middle(found[method])})
            _print_rows([row for row in rows if row["model"] == model and row["length"] == length])
    return rows


def _middle(found: list[dict[str, float]]) -> dict[str, float | None]:
    names = ("seconds", "mebibytes")
    return {name: statistics.median(one[name] for one in found) if found else None for name in names}


def _print_rows(rows: list[dict[str, Any]]) -> None:
    seconds = {row["method"]: row["seconds"] for row in rows}

    def ratio(value: float | None, other: str) -> str:
        return f"{value / seconds[other]:.2f}" if value and seconds.get(other) else "-"

    for row in rows:
        time_, memory = row["seconds"], row["mebibytes"]
        cells = [f"{row['length']:,}", METHODS[row["method"]], f"{time_ * 1e3:,.0f}" if time_ else "-"]
        cells += [ratio(time_, "plain"), ratio(time_, "floor"), f"{memory:,.0f}" if memory is not None else "-"]
        print("| " + " | ".join(cells) + " |", flush=True)


def plot(rows: list[dict[str, Any]], path: str) -> None:
    """Time and peak memory against length, one row of axes a model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in rows))
    colours = {"plain": "#555555", "floor": "#999999", "extract": "#0072b2", "extract + dense": "#56b4e9"}
    figure, axes = plt.subplots(len(models), 2, figsize=(10, 4 * len(models)), squeeze=False, layout="constrained")
    for line, model in enumerate(models):
        for axis, field, label in zip(
            axes[line], ("seconds", "mebibytes"), ("time of one sequence, s", "peak memory above the model, MiB"),
            strict=True,
        ):  # fmt: skip
            for method, meaning in METHODS.items():
                own = [row for row in rows if (row["model"], row["method"]) == (model, method) and row[field]]
                if own:
                    style = "--" if method == "floor" else "-"
                    x, y = [row["length"] for row in own], [row[field] for row in own]
                    axis.plot(x, y, style, marker="o", label=meaning, color=colours.get(method, "#d55e00"))
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(sorted({row["length"] for row in rows}))
            axis.set_xticklabels([f"{length:,}" for length in sorted({row["length"] for row in rows})])
            axis.set_xlabel("sequence length, tokens")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        axes[line][0].set_title(MODELS[model].split(":")[0], loc="left")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run all methods side by side, print tables in Markdown, and save and draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=3, help="up to 4,096 tokens; one round beyond")
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--save", help="write what was measured as JSON")
    parser.add_argument("--load", help="read it from there instead of measuring")
    parser.add_argument("--plot", help="draw time and memory against length")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]), options)
        return
    rows = json.loads(Path(options.load).read_text()) if options.load else measure_all(options)
    if options.save:
        Path(options.save).write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
