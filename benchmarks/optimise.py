"""The search for a cheaper edit against greedy, evenly spaced and random ones, at equal evaluations.

Run from the repository's root: python -m benchmarks.optimise [--budget N] [--seeds N] [--set KEY=VALUE] [--out FOLDER].
Evaluations are kept in the folder, so that a run that was stopped goes on; each search pays in full all the same. With
Optuna installed its TPE and NSGA-II samplers run too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import mean
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

#: Searches that are the same for every seed.
DRAWS_NOTHING = ("greedy", "evenly spaced")
#: Trials of an Optuna study at most: those of an edit that was tried before cost no evaluation.
TRIALS = 400


def sampled(space: Space, arm: Arm, sampler: Any) -> Tried | None:
    """Optuna: cost and loss as two objectives (NSGA-II), or cost with a penalty above the bound (TPE).

    Its first trial is the model as it is, which every other search starts from.

    Returns:
        The cheapest within the bound.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    both = isinstance(sampler, optuna.samplers.NSGAIISampler)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * (2 if both else 1))
    study.enqueue_trial(dict(_unchanged(space)))

    def objective(trial: Any) -> Any:
        found = arm.race(space.edit(_suggested(space, trial)), type(sampler).__name__)
        lost = found.loss.bound(arm.goal.confidence)  # the end of the interval that counts
        over = max(0.0, lost - arm.goal.max_loss)
        return (found.cost, lost) if both else found.cost + min(over / arm.goal.max_loss, 100.0)

    try:
        for _ in range(TRIALS):
            study.optimize(objective, n_trials=1)
    except Spent:
        pass
    return arm.best


def _suggested(space: Space, trial: Any) -> Point:
    choices: list[Choice | None] = []
    for place, layer in enumerate(space.layers):
        shares = place > 0 and trial.suggest_categorical(f"share {place}", [False, True])
        k = trial.suggest_categorical(f"k {place}", [k for k in layer.budgets if k <= layer.topk])
        flags = [trial.suggest_categorical(f"head {place} {head}", [True, False]) for head in range(layer.heads)]
        heads = tuple(head for head, flag in enumerate(flags) if flag) or (0,)
        choices.append(None if shares else Choice(heads, k))
    return Point(tuple(choices), trial.suggest_categorical("precision", [None, *space.precisions]))


def _unchanged(space: Space) -> Iterator[tuple[str, Any]]:
    for place, layer in enumerate(space.layers):
        if place:
            yield f"share {place}", False
        yield f"k {place}", layer.topk
        yield from ((f"head {place} {head}", True) for head in range(layer.heads))
    yield "precision", None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: of each search the mean and the range over seeds."""
    lines = [
        "| search | seeds | evaluations | edits | cost, mean (range) | found none | held-out loss, mean |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for name in dict.fromkeys(row["search"] for row in rows):
        own = [row for row in rows if row["search"] == name]
        costs = [row.get("cost", 1.0) for row in own]
        held = [row["held out"][0] for row in own if "held out" in row]
        told = f"{100 * mean(costs):.1f} % ({100 * min(costs):.1f} to {100 * max(costs):.1f})"
        lost = f"{mean(held):+.4f}" if held else ""
        evaluations, edits = mean(row["evaluations"] for row in own), mean(row["edits"] for row in own)
        none = sum(not row.get("edit") for row in own)
        lines.append(f"| {name} | {len(own)} | {evaluations:.1f} | {edits:.0f} | {told} | {none} | {lost} |")
    return "\n".join(lines)


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=40)
    parser.add_argument("--max-loss", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="Of the built-in study.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/.work"))
    told = parser.parse_args()
    plan = make_plan(load_study(None, told.set))
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
    known = f"{plan.models[0].checkpoint.fingerprint} {plan.given.dataset}"
    with kept(told.out, sha256(known.encode()).hexdigest()) as memory:
        clock = [time.perf_counter()]

        def heard(edit: Any, sample: int, loss: Any) -> None:
            now = time.perf_counter()
            memory.heard(edit, sample, loss, now - clock[0])
            clock[0] = now

        evaluations = Evaluations(evaluator, memory.losses, heard)
        for seed in range(told.seeds):
            for name, run in arms.items():
                if seed and name in DRAWS_NOTHING:
                    continue
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
    print(table(rows))
    told.out.mkdir(parents=True, exist_ok=True)
    (told.out / "optimise.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
