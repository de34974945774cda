"""The search for a cheaper edit against greedy, evenly spaced and random ones, at equal evaluations.

Run from the repository's root: python -m benchmarks.optimise [--budget N] [--out FOLDER]. Evaluations are kept in the
folder, so that a run that was stopped goes on. With Optuna installed its TPE and NSGA-II samplers run too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from indexscope.analysis.optimise.baselines import chance, even, greedy
from indexscope.analysis.optimise.evaluations import Arm, Evaluations, Goal, Spent, Tried
from indexscope.analysis.optimise.model import ModelEvaluator, cost_of, space_of
from indexscope.analysis.optimise.search import Search
from indexscope.analysis.optimise.space import Choice, Point, Space
from indexscope.analysis.optimise.surrogate import Proposer
from indexscope.analysis.optimise.validation import interval_of
from indexscope.analysis.settings import BootstrapSettings
from indexscope.flows.optimise.kept import kept
from indexscope.flows.optimise.split import divided
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.tasks.common.models import borrow


def sampled(space: Space, arm: Arm, sampler: Any) -> Tried | None:
    """Optuna: cost and loss as two objectives (NSGA-II), or cost with a penalty above the bound (TPE)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    both = isinstance(sampler, optuna.samplers.NSGAIISampler)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * (2 if both else 1))

    def objective(trial: Any) -> Any:
        choices: list[Choice | None] = []
        for place, layer in enumerate(space.layers):
            shares = place > 0 and trial.suggest_categorical(f"share {place}", [False, True])
            k = trial.suggest_categorical(f"k {place}", [k for k in layer.budgets if k <= layer.topk])
            flags = [trial.suggest_categorical(f"head {place} {head}", [True, False]) for head in range(layer.heads)]
            heads = tuple(head for head, flag in enumerate(flags) if flag) or (0,)
            choices.append(None if shares else Choice(heads, k))
        found = arm.race(space.edit(Point(tuple(choices))), type(sampler).__name__)
        over = max(0.0, found.loss.mean - arm.goal.max_loss)
        return (found.cost, found.loss.mean) if both else found.cost + min(over / arm.goal.max_loss, 100.0)

    try:
        for _ in range(400):
            study.optimize(objective, n_trials=1, catch=())
    except Spent:
        pass
    return arm.best


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=40)
    parser.add_argument("--max-loss", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/.work"))
    told = parser.parse_args()
    plan = make_plan(load_study(None, []))
    model = borrow(plan.models[0].checkpoint, plan.study.extract)
    samples = {sample.index: sample for sample in plan.samples}
    split = divided(plan.samples, 0.5, "demo")
    cost = cost_of(model, [len(sample.input_ids) for sample in plan.samples], whole=True)  # type: ignore[arg-type]
    space = space_of(model, cost.time)  # type: ignore[arg-type]
    goal = Goal(told.max_loss, cost.relative)
    evaluator = ModelEvaluator(model, samples, "nll", plan.study.extract)  # type: ignore[arg-type]
    arms: dict[str, Callable[[Arm, int], object]] = {
        "search": lambda arm, seed: Search(space, Proposer(space, cost), arm, seed).run(),
        "greedy": lambda arm, seed: greedy(space, arm),
        "evenly spaced": lambda arm, seed: even(space, arm),
        "random": lambda arm, seed: chance(space, arm, seed),
    }
    try:
        import optuna

        arms["Optuna TPE"] = lambda arm, seed: sampled(space, arm, optuna.samplers.TPESampler(seed=seed))
        arms["Optuna NSGA-II"] = lambda arm, seed: sampled(space, arm, optuna.samplers.NSGAIISampler(seed=seed))
    except ImportError:
        pass
    rows = []
    with kept(told.out, plan.models[0].checkpoint.fingerprint) as memory:
        clock = [time.perf_counter()]

        def heard(edit: Any, sample: int, loss: Any) -> None:
            now = time.perf_counter()
            memory.heard(edit, sample, loss, now - clock[0])
            clock[0] = now

        evaluations = Evaluations(evaluator, memory.losses, heard)
        for seed in range(told.seeds):
            for name, run in arms.items():
                arm = Arm(evaluations, split.calibration, goal, told.budget)
                clock[0] = start = time.perf_counter()
                run(arm, seed)
                seconds, best = time.perf_counter() - start, arm.best
                row: dict[str, Any] = {"search": name, "seed": seed, "evaluations": round(arm.spent, 1)}
                row |= {"edits": len(arm.tried), "seconds": round(seconds, 1)}
                if best is not None:
                    clock[0] = time.perf_counter()
                    held = interval_of(evaluations.of(best.edit, split.held_out), BootstrapSettings())
                    row |= {"cost": round(best.cost, 4), "loss": round(best.loss.mean, 5)}
                    row |= {"held out": [round(value, 5) for value in (held.mean, held.low, held.high)]}
                    row |= {"edit": best.edit.model_dump(mode="json", exclude_defaults=True)}
                rows.append(row)
                print(json.dumps(row), flush=True)
    told.out.mkdir(parents=True, exist_ok=True)
    (told.out / "optimise.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
