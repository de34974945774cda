"""What the close-up costs beside the forwards that it takes, collector by collector.

    python benchmarks/closeup.py [--samples 8] [--length 512] [--rounds 3] [--before FOLDER]

The built-in baseline looks at its own source code on one torch thread. Figures are processor time, so
that other work on the machine counts little, in ms a sample and relative to the model's plain sdpa forward. With
--before, a checkout of an earlier commit is measured in the same run, in turn; every round is a process of its own.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
Times = dict[str, float]


class Clock:
    """Adds up processor time by what it is spent on."""

    def __init__(self) -> None:
        self.spent: Times = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def call(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.spent[name] += time.process_time() - start

        return call

    def maker(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """A maker whose collectors are timed."""

        def made(sample: Any) -> Any:
            collector = make(sample)
            name = type(collector).__module__.partition("analysis.")[2]
            for method in ("add", "tables", "predicted"):
                if hasattr(collector, method):
                    setattr(collector, method, self.timed(name, getattr(collector, method)))
            return collector

        return made


def measure(count: int, length: int) -> Times:
    """Milliseconds a sample of everything, once."""
    import torch

    torch.set_num_threads(1)
    from indexscope.analysis.capture.protocol import as_source
    from indexscope.analysis.closeup import looking, run
    from indexscope.analysis.closeup.collect import collected
    from indexscope.analysis.settings import CloseupSettings, ExtractSettings
    from indexscope.storage.inputs.checkpoints import load_tokenizer, resolve
    from indexscope.storage.inputs.model_loading import load_model
    from indexscope.storage.inputs.samples import Sample

    checkpoint = resolve("builtin:baseline")
    text = "".join(inspect.getsource(module) for module in (argparse, inspect, subprocess))
    ids = load_tokenizer(checkpoint)(text)["input_ids"]
    samples = [Sample(i, f"d{i}", tuple(ids[i * length : (i + 1) * length])) for i in range(count)]
    plain, model = (load_model(checkpoint, "float32", "cpu") for _ in range(2))
    plain.set_attn_implementation("sdpa")
    source = as_source(model)

    def forwards() -> float:
        inputs = [torch.tensor([one.input_ids]) for one in samples]
        start = time.process_time()
        with torch.inference_mode():
            for one in inputs:
                plain(input_ids=one, use_cache=False)
        return time.process_time() - start

    def look(seen: list[Sample], reruns: int, judged: int = 0) -> float:
        start = time.process_time()
        settings = CloseupSettings(rerun_samples=reruns, removal_samples=judged)
        run.closeup_samples(source, seen, settings, ExtractSettings())
        return time.process_time() - start

    look(samples[:2], 1, 1), forwards()
    rerun = look(samples[:2], 1) - look(samples[:2], 0)
    removal = look(samples[:4], 0, 3) - look(samples[:4], 0)
    clock = Clock()

    def timed(part: Any) -> Any:
        return replace(part, makers=lambda look: [clock.maker(make) for make in part.makers(look)])

    run.collected = lambda: [timed(part) for part in collected()]  # type: ignore[assignment]
    looking.closeup_rows = clock.timed("closeup.rows", looking.closeup_rows)
    whole, before, after = forwards(), look(samples, 0), forwards()
    found = {"plain forward": (whole + after) / 2, **clock.spent}
    found["all but the forward"] = sum(clock.spent.values())
    found["the close-up"] = before
    found = {name: value / count for name, value in found.items()}
    found["reruns of a sample"] = rerun
    found["removal of heads of a sample"] = removal / 3
    return {name: 1000 * value for name, value in found.items()}


def measured(folder: Path, options: argparse.Namespace) -> Times:
    """The same in a process of its own, by the code of a checkout."""
    command = [sys.executable, __file__, "--once", f"--samples={options.samples}", f"--length={options.length}"]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=folder).stdout
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Measure in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.samples, options.length)))
        return
    folders = {"before": options.before.resolve()} if options.before else {}
    folders["now"] = HERE
    rounds: dict[str, list[Times]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, folder in folders.items():
            rounds[name].append(measured(folder, options))
    medians = {
        name: {part: statistics.median(one[part] for one in own) for part in own[0]} for name, own in rounds.items()
    }
    print("| ms a sample | " + " | ".join(f"{name} | of plain" for name in medians) + " |")
    print("| --- |" + " ---: | ---: |" * len(medians))
    for part in medians["now"]:
        cells = [f"{own.get(part, 0):.1f} | {own.get(part, 0) / own['plain forward']:.2f}" for own in medians.values()]
        print(f"| {part} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
