"""The steps of a fit: train with checkpoints, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from prefect import task
from pydantic import JsonValue
from transformers import PreTrainedModel

from indexscope import __version__
from indexscope.analysis.fitting.card import fitted_card
from indexscope.analysis.fitting.export import deepseek_v32, why_not
from indexscope.analysis.fitting.fitted import FittedIndexer
from indexscope.analysis.fitting.held_out import held_out_sums
from indexscope.analysis.fitting.scorer import ScorerShape
from indexscope.analysis.fitting.selector import lay_over, lift
from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings
from indexscope.analysis.fitting.summary import held_out_rows, held_out_table, summarised
from indexscope.analysis.fitting.tables import CURVES, HELD_OUT
from indexscope.analysis.fitting.train import Fitting
from indexscope.storage.inputs.checkpoints import load_model, load_tokenizer
from indexscope.storage.inputs.fitted import (
    CURVES_FILE,
    HELD_OUT_FILE,
    FittedParts,
    LayerParts,
    StoredIndexer,
    load_state,
    save_fitted,
    save_state,
)
from indexscope.storage.inputs.model_saving import save_weights
from indexscope.storage.inputs.model_skeleton import Dtype
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.store.files import open_store
from indexscope.storage.store.parquet import decode, encode

STATE = "state.safetensors"
#: Folder of the indexers that were kept on the way, one for each of the sweep.
STEPS = "steps"
WORK = ".work"


@dataclass(frozen=True)
class Job:
    """What the steps are told.

    Attributes:
        key: Of everything that decides the results.
        folder: Of the model.
        fingerprint: Of the model.
        family: model_type of the model.
        training: Tokens to fit to, [sequences, length].
        held_out: Tokens to measure on.
        sizes: The sweep.
        topk: Numbers of keys.
        settings: Of the training.
        dtype: In which the body runs while indexers train.
        device: Where.
        queries: Of a held-out sequence, while indexers train.
        evaluate_every: Steps.
        checkpoint_every: Steps.
        keep_every: Steps; None keeps no indexer on the way.
        out: Where results go.
        shown: Settings for the card.
    """

    key: str
    folder: Path
    fingerprint: str
    family: str
    training: torch.Tensor
    held_out: tuple[torch.Tensor, ...]
    sizes: tuple[IndexerSize, ...]
    topk: tuple[int, ...]
    settings: TrainingSettings
    dtype: Dtype
    device: str
    queries: int
    evaluate_every: int
    checkpoint_every: int
    keep_every: int | None
    out: Path
    shown: Mapping[str, object]

    @property
    def work(self) -> Path:
        """What an interrupted fit goes on from."""
        return self.out / WORK


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes:
        fitted: The sweep.
        curves: Rows of `CURVES`.
        held_out: Rows of `HELD_OUT`, the body dense.
    """

    fitted: tuple[FittedIndexer, ...]
    curves: pl.DataFrame
    held_out: pl.DataFrame


#: Told of steps made, steps in all, the last KL in nats (mean over layers) and recall of the oracle's, once known.
Told = Callable[[int, int, float, float | None], None]
#: Told of what was measured on held-out text.
Measured = Callable[[pl.DataFrame], None]


@task(name="train indexers")
def train_indexers(
    job: Job, began: Callable[[], None] | None = None, told: Told | None = None, measured: Measured | None = None
) -> Trained:
    """Make all steps, from where an interrupted run stopped; ``began`` is called once it is sure that they can be."""
    model = load_model(job.folder, job.dtype, job.device)
    fitting = Fitting(model, job.sizes, job.topk, job.settings)
    if began is not None:
        began()
    record = _Record(job, fitting)
    recall = record.recall()
    if record.done == 0 and job.keep_every is not None:
        for place in range(len(job.sizes)):
            _keep(job, fitting.fitted(place), 0)
    for step in fitting.steps[record.done :]:
        rows = fitting.step(step, job.training)
        record.curves.extend({**row, "step": row["step"] + 1} for row in rows)
        record.done = step.number + 1
        # An indexer's own steps: those of the dense stage, which all share, and of its own sparse one.
        own = step.place + 1 + (job.settings.dense if step.stage == "sparse" else 0)
        if job.keep_every is not None and own % job.keep_every == 0:
            for place in range(len(job.sizes)) if step.indexer is None else (step.indexer,):
                _keep(job, fitting.fitted(place), own)
        if record.done % job.evaluate_every == 0 or record.done in (job.settings.dense, len(fitting.steps)):
            record.measure()
            recall = record.recall()
            if measured is not None:
                measured(record.held_out_table())
        if record.done % job.checkpoint_every == 0 or record.done == len(fitting.steps):
            record.save()
        if told is not None:
            told(record.done, len(fitting.steps), float(np.mean([row["kl"] for row in rows])), recall)
    fitted = tuple(fitting.fitted(place) for place in range(len(job.sizes)))
    fitting.close()
    return Trained(fitted, record.curves_table(), record.held_out_table())


def _keep(job: Job, fitted: FittedIndexer, step: int) -> None:
    """Write an indexer as it is after so many of its steps; the folder appears whole."""
    of = job.settings.dense + job.settings.sparse
    card = f"# {fitted.name} after {step} of {of} steps\n\nKept on the way by `indexscope fit` (training.keep_every).\n"
    save_fitted(job.out / STEPS / fitted.name / f"step-{step}", parts_of(job, fitted), fitted.weights, card)


class _Record:
    """What a fit has done so far, kept in one file, so that it is of one moment."""

    def __init__(self, job: Job, fitting: Fitting) -> None:
        self.job, self.fitting = job, fitting
        self.done = 0
        self.curves: list[dict[str, Any]] = []
        self.held_out: list[dict[str, Any]] = []
        found = load_state(job.work / STATE)
        if found is not None and found[0].get("key") == job.key:
            about, tensors = found
            tables = {name: decode(tensors.pop(f"table/{name}").numpy().tobytes(), name) for name in ("curves", "held")}
            fitting.restore(tensors)
            self.done = int(about["step"])
            self.curves, self.held_out = tables["curves"].to_dicts(), tables["held"].to_dicts()

    def save(self) -> None:
        tables = {"curves": encode(self.curves_table(), CURVES), "held": encode(self.held_out_table(), HELD_OUT)}
        packed = {
            f"table/{name}": torch.frombuffer(bytearray(data), dtype=torch.uint8) for name, data in tables.items()
        }
        about = {"key": self.job.key, "step": self.done}
        save_state(self.job.work / STATE, about, {**self.fitting.state(), **packed})

    def measure(self) -> None:
        found = self.fitting.measure(self.job.held_out, self.job.queries)
        for size, sums in zip(self.job.sizes, found, strict=True):
            self.held_out += held_out_rows(self.done, "dense", size.name, sums, self.job.topk)

    def recall(self) -> float | None:
        """Recall of the oracle's at the last look, of the first indexer and the middle number of keys."""
        if not self.held_out:
            return None
        rows = self.held_out_table().filter(
            step=self.held_out[-1]["step"], indexer=self.job.sizes[0].name, topk=middle(self.job.topk)
        )
        return float(summarised(rows, ("indexer",))["recall_of_oracle"][0]) if len(rows) else None

    def curves_table(self) -> pl.DataFrame:
        return pl.DataFrame(self.curves, schema=CURVES.schema).sort(CURVES.key)

    def held_out_table(self) -> pl.DataFrame:
        return held_out_table(self.held_out)


def middle(topk: Sequence[int]) -> int:
    """The number of keys that stands for all.

    >>> middle((32, 64, 128))
    64
    """
    return topk[len(topk) // 2]


@task(name="measure indexers")
def measure_indexers(job: Job, trained: Trained, told: Callable[[int, int], None] | None = None) -> pl.DataFrame:
    """Rows of `HELD_OUT` at the end: float32, every query, the body attending to what is selected."""
    model = load_model(job.folder, "float32", job.device)
    rows: list[dict[str, Any]] = []
    wanted = [(fitted, k) for fitted in trained.fitted for k in job.topk]
    steps = job.settings.dense + job.settings.sparse * len(job.sizes)
    for number, (fitted, k) in enumerate(wanted):
        lay_over(model, fitted, k)
        sums = [held_out_sums(model, tokens, k, job.settings.chunk) for tokens in job.held_out]
        rows += held_out_rows(steps, "sparse", fitted.name, sums, (k,))
        if told is not None:
            told(number + 1, len(wanted))
    lift(model)
    return held_out_table(rows)


@task(name="write indexers")
def write_indexers(job: Job, trained: Trained, final: pl.DataFrame) -> None:
    """Write a folder for each indexer of the sweep, then the tables and figure of all."""
    model = load_model(job.folder, "float32", "cpu")
    for fitted in trained.fitted:
        checkpoint, whole = None, why_not(model, fitted)
        if not whole:
            checkpoint = job.work / f"checkpoint-{fitted.name}"
            _save_checkpoint(job, model, fitted, checkpoint)
            whole = f"`checkpoint/` is a whole deepseek_v32 model with it (index_topk {middle(job.topk)})."
        else:
            whole = f"There is no whole deepseek_v32 checkpoint of it: {whole}."
        own = final.filter(indexer=fitted.name)
        parameters = sum(one.numel() for one in fitted.weights.values())
        card = fitted_card(fitted.name, f"a {job.family} model", parameters, job.shown, own, whole)
        save_fitted(job.out / fitted.name, parts_of(job, fitted), fitted.weights, card, checkpoint)
    out = open_store(job.out)
    out.write(CURVES_FILE, encode(trained.curves, CURVES))
    held_out = pl.concat([trained.held_out, final]).sort(HELD_OUT.key)
    out.write(HELD_OUT_FILE, encode(held_out, HELD_OUT))
    from indexscope.analysis.fitting.figures import learning_curves
    from indexscope.analysis.plots.svg import to_svg

    figure = learning_curves(trained.curves, trained.held_out, middle(job.topk))
    out.write("curves.svg", to_svg(figure, "curves", "Learning curves", standalone=True).encode())


def _save_checkpoint(job: Job, model: PreTrainedModel, fitted: FittedIndexer, folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_weights(deepseek_v32(model, fitted, middle(job.topk)), folder)
    with quiet():
        if any((job.folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            load_tokenizer(job.folder).save_pretrained(folder)


def parts_of(job: Job, fitted: FittedIndexer) -> FittedParts:
    """The description that is stored with a fitted indexer."""
    layers = {
        layer: LayerParts(hidden=shape.hidden, query=shape.query, source=shape.source, rotary=shape.rotary)
        for layer, shape in fitted.shapes.items()
    }
    about: dict[str, JsonValue] = {
        "settings": job.settings.model_dump(mode="json"),
        "dtype": job.dtype,
        "indexscope": __version__,
        "torch": str(torch.__version__),
    }
    return FittedParts(
        format=1,
        heads=fitted.heads,
        dim=fitted.dim,
        topk=fitted.topk,
        layers=layers,
        model=job.fingerprint,
        family=job.family,
        about=about,
    )


def fitted_of(stored: StoredIndexer) -> FittedIndexer:
    """What `lay_over` takes, from what `load_fitted` read."""
    parts = stored.parts
    shapes = {
        layer: ScorerShape(
            parts.heads, parts.dim, one.hidden, one.query, "latent" if one.source == "latent" else "hidden", one.rotary
        )
        for layer, one in parts.layers.items()
    }
    return FittedIndexer(parts.heads, parts.dim, parts.topk, shapes, stored.weights)


def told_of(final: pl.DataFrame) -> list[str]:
    """A line for each indexer and number of keys."""
    lines = []
    for row in summarised(final, ("indexer", "topk")).iter_rows(named=True):
        of_best = f"{100 * row['recall_of_oracle']:.1f} % of the best choice's recall"
        band = f"({100 * row['recall_of_oracle_low']:.1f} to {100 * row['recall_of_oracle_high']:.1f})"
        recall = f"recall {row['selection_recall']:.3f}, random {row['random_recall']:.3f}"
        lines.append(
            f"{row['indexer']}, {row['topk']} keys: {of_best} {band}; {recall}, skill {row['selection_skill']:.3f}"
        )
    return lines
