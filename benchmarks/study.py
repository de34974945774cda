"""What a whole study takes beside the plain forwards of its models over its tokens, step by step.

    python benchmarks/study.py [STUDY.yaml] [--set KEY=VALUE ...] [--rounds 3] [--fresh] [--save FILE.json]

Without a study file it is the built-in one. Every round runs, in processes of their own and one after the other: the
plain sdpa forwards of every model over every sample, one by one; the study into an empty store; the study again from
that store. Ratios are of the medians; seconds of single steps are those that the store remembers. Where steps run side
by side they add up to more than the whole; otherwise what they leave of it is start, plan, records and waiting.
Prefect's database and the compiled kernels are there already, as on a machine that ran a study before; `--fresh` has
none of either, which is what a first run meets.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

COMMAND = [str(Path(sys.executable).with_name("indexscope")), "study"]
PLAIN = "plain"


def plain(study: str, overrides: list[str]) -> float:
    """Seconds of the plain forwards of every model of a study over its samples, each once, after one for warmth."""
    import torch

    from indexscope.flows.study.load import load_study
    from indexscope.flows.study.plan import make_plan

    made = make_plan(load_study(Path(study) if study else None, overrides))
    seconds = 0.0
    with torch.inference_mode():
        for planned in made.models:
            model = planned.checkpoint.origin.load(made.given.extract.dtype, made.given.device)
            model.set_attn_implementation("sdpa")
            batches = [torch.tensor([sample.input_ids], device=model.device) for sample in made.samples]
            model(input_ids=batches[0], use_cache=False)
            start = time.perf_counter()
            for batch in batches:
                model(input_ids=batch, use_cache=False)
            seconds += time.perf_counter() - start
    return seconds


def timed(command: list[str], environment: Mapping[str, str]) -> tuple[float, str]:
    """Seconds of a command, and what it says."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "gate failed" not in done.stderr:  # with a gate that fails, the study is whole
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def steps(told: str) -> dict[str, float]:
    """Seconds of each step, all models together, as the study tells them."""
    found: dict[str, float] = {}
    for name, seconds in re.findall(r"^(\w+)(?: [^:\n]+)?: .*computed in ([\d.]+) s", told, flags=re.MULTILINE):
        found[f"step {name}"] = found.get(f"step {name}", 0.0) + float(seconds)
    return found


def one_round(options: argparse.Namespace, home: Path) -> dict[str, float]:
    """The plain forwards, the study and the study again."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as place:
        if options.fresh:
            environment |= {"PREFECT_HOME": f"{place}/prefect", "NUMBA_CACHE_DIR": f"{place}/kernels"}
        else:
            environment |= {"PREFECT_HOME": str(home)}
        where = [f"store={place}/store", f"report={place}/reports"]
        overrides = [part for one in (*options.set, *where) for part in ("--set", one)]
        command = [*COMMAND, *([options.study] if options.study else []), *overrides]
        alone = [sys.executable, __file__, options.study, "--only-plain", *overrides]
        found = {PLAIN: float(subprocess.run(alone, check=True, capture_output=True, text=True).stdout.split()[-1])}
        found["cold"], told = timed(command, environment)
        found["again"], _ = timed(command, environment)
    return found | steps(told)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--only-plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_plain:
        print(plain(options.study, options.set))
        return
    with tempfile.TemporaryDirectory() as home:
        if not options.fresh:  # the database
            one_round(argparse.Namespace(**{**vars(options), "set": [*options.set, "dataset.samples=2"]}), Path(home))
        rounds = [one_round(options, Path(home)) for _ in range(options.rounds)]
    median = {name: statistics.median(one.get(name, 0.0) for one in rounds) for name in rounds[-1]}
    steps_alone = sum(value for name, value in median.items() if name.startswith("step "))
    print("| | s | of the plain forwards |\n| --- | ---: | ---: |")
    for name, value in [*median.items(), ("all steps", steps_alone)]:
        print(f"| {name} | {value:.1f} | {value / median[PLAIN]:.2f} |")
    print(f"again of cold: {median['again'] / median['cold']:.1%}")
    if options.save:
        options.save.write_text(json.dumps({"rounds": rounds, "median": median}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
