"""What the analyses of a stored study cost: each alone, from Python and without Prefect, in this process.

    OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 python benchmarks/analyses.py [STUDY.yaml] [--set KEY=VALUE ...]

The study, by default the built-in one, must be in its store. CPU seconds of all models and wall time by step. The first
step that needs a library pays for its import, and a kernel's first call on a machine for its compilation: run it twice.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    plan = make_plan(load_study(given.study, given.set))
    wall, cpu = defaultdict[str, float](float), defaultdict[str, float](float)
    for command in ("analyze", "compare"):
        for node in plan.made_by(command):
            job = plan.engine._job(node, node.units[0], "")
            started, used = time.perf_counter(), time.process_time()
            node.step.compute(job, plan.store)
            wall[node.step.name] += time.perf_counter() - started
            cpu[node.step.name] += time.process_time() - used
    print("| step | CPU, s | wall, s |\n| --- | ---: | ---: |")
    for name in cpu:
        print(f"| {name} | {cpu[name]:.2f} | {wall[name]:.2f} |")
    print(f"| all | {sum(cpu.values()):.2f} | {sum(wall.values()):.2f} |")


if __name__ == "__main__":
    main()
