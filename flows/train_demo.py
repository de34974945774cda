"""The flow that makes the built-in models from nothing but the standard library."""

from __future__ import annotations

from pathlib import Path

import indexscope.flows.prefect_setup  # noqa: F401 - before prefect  # isort: skip
from prefect import flow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from indexscope.analysis.demo.recipe import DemoRecipe
from indexscope.storage.inputs.checkpoints import load_tokenizer, resolve
from indexscope.storage.inputs.demo_models import BODY, COPYING, body_of
from indexscope.tasks.common.train import make_body, make_copying, make_tokenizer, make_variant


@flow(name="train-demo", validate_parameters=False)
def train_demo(out: Path, recipe: DemoRecipe = DemoRecipe(), begin: str = "") -> None:  # noqa: B008 - frozen
    """Train tokenizer and body, teach the body to copy, fit each indexer variant, and write one checkpoint folder each.

    An interrupted run takes up what the stages before it left in ``out/.work``; the same recipe and the same standard
    library give the same weights on the same machine.

    Args:
        out: Where the folders go.
        recipe: Every number that shapes the weights.
        begin: A built-in model that was made earlier, whose tokenizer and body are taken in place of the first stage.
    """
    work = out / ".work"
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        if begin:
            tokenizer, body = load_tokenizer(resolve(begin)), body_of(resolve(begin))
        else:
            tokenizer = make_tokenizer(recipe)
            console.print(f"tokenizer: {recipe.vocab_size} tokens")
            body = make_body(recipe, tokenizer, work, _bar(progress, "pre-train"))
            console.print(f"body: {work / BODY}")
        body = make_copying(recipe, tokenizer, body, work, _bar(progress, "learn copies"))
        console.print(f"body that copies: {work / COPYING}")
        for variant in recipe.variants:
            found = make_variant(
                recipe, variant, tokenizer, body, out, _bar(progress, f"fit {variant.name}"), bool(begin)
            )
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
