"""The flow that makes the built-in models from nothing but the standard library."""

from __future__ import annotations

from pathlib import Path

import indexscope.flows.prefect_setup  # noqa: F401 - before prefect  # isort: skip
from prefect import flow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from indexscope.analysis.demo.recipe import DemoRecipe
from indexscope.storage.inputs.demo_models import BODY
from indexscope.tasks.common.train import make_body, make_tokenizer, make_variant


@flow(name="train-demo", validate_parameters=False)
def train_demo(out: Path, recipe: DemoRecipe = DemoRecipe()) -> None:  # noqa: B008 - frozen
    """Train tokenizer and body, fit each indexer variant, and write one checkpoint folder each under `out`.

    An interrupted run takes up the pre-trained body that it left in ``out/.work``; the same recipe and the same
    standard library give the same weights on the same machine.
    """
    work = out / ".work"
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        tokenizer = make_tokenizer(recipe)
        console.print(f"tokenizer: {recipe.vocab_size} tokens")
        body = make_body(recipe, tokenizer, work, _bar(progress, "pre-train"))
        console.print(f"body: {work / BODY}")
        for variant in recipe.variants:
            found = make_variant(recipe, variant, tokenizer, body, out, _bar(progress, f"fit {variant.name}"))
            console.print(
                f"{variant.name}: held-out loss {found.nll:.3f} nats (dense {found.dense_nll:.3f}), "
                f"recall {found.mean_recall('selection_recall'):.3f} of {found.mean_recall('oracle_recall'):.3f}"
            )


def _bar(progress: Progress, title: str):  # type: ignore[no-untyped-def]
    bar = progress.add_task(title, total=None, loss="")
    average = 0.0

    def update(step: int, steps: int, loss: float) -> None:
        nonlocal average
        average = loss if step == 1 else 0.97 * average + 0.03 * loss
        progress.update(bar, completed=step, total=steps, loss=f"loss {average:.3f}")

    return update
