"""What the report of a stored study costs: the step alone, from Python and without Prefect, in this process.

    python benchmarks/report.py STUDY.yaml [--rounds 3]

The study must be in its store up to the comparison. One round warms up, then medians of wall and CPU seconds. Where
other work runs, compare two versions in two processes at the same time, by their CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.tasks.report import STEP


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    plan = make_plan(load_study(given.study, []))
    (node,) = plan.made_by("report")
    job = plan.engine._job(node, node.units[0], "")
    STEP.compute(job, plan.store)
    wall, cpu = [], []
    for _ in range(given.rounds):
        started, used = time.perf_counter(), time.process_time()
        STEP.compute(job, plan.store)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    print(f"wall {median(wall):.2f} s, CPU {median(cpu):.2f} s")


if __name__ == "__main__":
    main()
