"""What audit and profile of a model take beside its plain forwards over the samples of a study.

    python benchmarks/audit_profile.py [MODEL] [--samples 64] [--length 512] [--measured 8] [--rounds 3]

MODEL is a folder of transformers, or builtin:baseline. Text is the source of torch's own functions. Every round runs
one after the other, in one process and on one thread, by its CPU seconds: plain sdpa forwards of ``--measured`` samples
one by one, which stand for all ``--samples``; the causality audit; facts, layers and profile. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.anatomy import anatomy_of
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.model import own_attention
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import load_tokenizer, resolve
from indexscope.storage.inputs.model_loading import load_model


def clocked(work: Callable[[], object]) -> float:
    """CPU seconds of this process, which other work on the machine hardly moves."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin:baseline")
    for name, default in (("samples", 64), ("length", 512), ("measured", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = resolve(options.model)
    source = CapturedModel(load_model(checkpoint, "float32", "cpu"))
    ids = load_tokenizer(checkpoint)(Path(torch.functional.__file__).read_text())["input_ids"]
    pieces = [ids[start : start + options.length] for start in range(0, len(ids) - options.length, options.length)]
    tokens = [options.length] * options.samples

    def plain() -> None:
        with own_attention(source.model), torch.inference_mode():
            for piece in (pieces * options.measured)[: options.measured]:
                source.model(input_ids=torch.tensor([piece]), use_cache=False)

    def profile() -> None:
        found = anatomy_of(source)
        facts, layers = model_facts(source, found), layer_facts(source)
        profile_model(source, ExtractSettings(), Journal(lambda _: None), facts, layers, found, tokens)

    plain()
    scale = options.samples / options.measured
    rounds = [
        (clocked(plain) * scale, clocked(lambda: audit_causality(source, pieces)), clocked(profile))
        for _ in range(options.rounds)
    ]
    whole, *parts = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"| | s | of the plain forwards |\n| --- | ---: | ---: |\n| plain | {whole:.1f} | 1 |")
    for name, seconds in zip(("audit", "profile", "both"), (*parts, sum(parts)), strict=True):
        print(f"| {name} | {seconds:.1f} | {seconds / whole:.3f} |")


if __name__ == "__main__":
    main()
