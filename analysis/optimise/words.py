"""What a search found, in words that can be quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Arm, Tried
from indexscope.analysis.optimise.space import Space
from indexscope.analysis.optimise.validation import Held, Interval
from indexscope.analysis.recommendations.budget import budget_words
from indexscope.analysis.recommendations.change import listed
from indexscope.analysis.recommendations.run import reuse_words
from indexscope.analysis.report.markdown_table import table

UNITS = {"nll": "nats per token", "output_kl": "nats of KL per token", "skill": "skill"}
COSTS = {"attention": "FLOPs of attention and indexers", "indexer": "FLOPs of the indexers", "latency": "prefill time"}


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        study: The study's name.
        model: What it calls its baseline.
        space: What could vary.
        loss: Name of the loss.
        cost: Name of the cost.
        max_loss: The bound.
        arms: Searches by name, the one that counts first.
        tests: What was tested on held-out samples, in order.
        beside: Other edits on held-out samples.
        calibration: Calibration samples.
        held_out: Held-out samples.
        to_dense: Cost relative to dense attention, by edit; empty where no formula is known.
        confidence: Of the intervals.
    """

    study: str
    model: str
    space: Space
    loss: str
    cost: str
    max_loss: float
    arms: Mapping[str, Arm]
    tests: Sequence[Held]
    beside: Mapping[Edit, Interval]
    calibration: int
    held_out: int
    to_dense: Mapping[Edit, float]
    confidence: float = 0.95

    @property
    def search(self) -> Arm:
        """The search that counts."""
        return next(iter(self.arms.values()))

    @property
    def winner(self) -> Held | None:
        """The cheapest that holds on held-out samples."""
        return next((one for one in reversed(self.tests) if one.holds), None)

    def cost_of(self, edit: Edit) -> float:
        """Relative cost of an edit that was run."""
        return self.search.goal.cost(edit)


def describe(space: Space, edit: Edit) -> str:
    """An edit in words.

    >>> from indexscope.analysis.optimise.space import Layer
    >>> own = Space(3, tuple(Layer(layer, 4, 64) for layer in range(3)))
    >>> describe(own, Edit(indexer_heads={0: (1, 3)}, topk={0: 32}, share="FSF"))
    'let layer 1 reuse the selection of layer 0; k = 32 in layer 0; keep indexer heads 1 and 3 of 4 in layer 0'
    """
    parts = []
    layers = [layer.layer for layer in space.layers]
    sources = edit.sources(layers)
    kept = [layer for layer in layers if sources[layer] == layer]
    if len(kept) < len(layers):
        parts.append(reuse_words(kept, layers))
    topk = {layer: k for layer in kept if (k := edit.topk_of(layer)) is not None}
    if topk:
        parts.append(budget_words(topk))
    counts = {layer.layer: layer.heads for layer in space.layers}
    groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for layer, heads in edit.indexer_heads.items():
        groups.setdefault((heads, counts[layer]), []).append(layer)
    for (heads, count), own in groups.items():
        where = f"{'layer' if len(own) == 1 else 'layers'} {listed(own)}"
        named = f"indexer {'head' if len(heads) == 1 else 'heads'} {listed(heads)} of {count}"
        if len(heads) > 8:
            named = f"{len(heads)} of {count} indexer heads"
        parts.append(f"keep {named} in {where}")
    if edit.precision is not None:
        parts.append(f"score in {edit.precision}")
    return "; ".join(parts) or "nothing changed"


def sentence(found: Found) -> str:
    """What was found, in one sentence."""
    unit = UNITS[found.loss]
    level = f"{100 * found.confidence:g} %"
    winner = found.winner
    if winner is None:
        bound = f"a loss of at most {found.max_loss:+g} {unit}"
        if not found.tests:
            return f"No edit of {found.model} was found that stays within {bound} on the calibration samples."
        lost = _loss(found.tests[0].loss)
        return (
            f"No edit of {found.model} holds {bound} on {found.held_out} held-out samples: the most conservative one "
            f"tested loses {lost} ({level} interval)."
        )
    cost = f"{100 * found.cost_of(winner.edit):.1f} % of its {COSTS[found.cost]}"
    return (
        f"{found.model} runs at {cost}; loss {_loss(winner.loss)} {unit} ({level} interval) on {winner.loss.samples} "
        f"held-out samples, within {found.max_loss:+g}."
    )


def _loss(one: Interval) -> str:
    return f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def progress(arm: Arm, loss: str) -> str:
    """How far a search is, with the best so far."""
    best, spent = arm.best, f"{arm.spent:.1f} of {arm.budget:g} evaluations, {len(arm.tried)} edits"
    return f"{spent}; {'none within the bound yet' if best is None else short(best, arm, loss)}"


def short(one: Tried, arm: Arm, loss: str) -> str:
    """An edit's numbers on calibration samples."""
    high = one.loss.bound(arm.goal.confidence)
    return f"{100 * one.cost:.1f} % of the cost, {loss} {one.loss.mean:+.4f} (upper end {high:+.4f})"


def document(found: Found) -> str:
    """A page of Markdown: what was found, how sure it is, where it loses, and what it was compared with."""
    lines = [f"# {found.study}: a cheaper indexer", "", sentence(found), ""]
    winner = found.winner
    if winner is not None:
        lines += [f"**The edit**: {describe(found.space, winner.edit)}.", ""]
        if winner.edit in found.to_dense:
            base = found.to_dense.get(Edit.model_validate({}))
            was = "" if base is None else f" (the model as it is: {100 * base:.0f} %)"
            lines += [f"Relative to dense attention: {100 * found.to_dense[winner.edit]:.0f} %{was}.", ""]
    if found.tests:
        lines += _tests(found)
    if winner is not None:
        lines += _positions(winner, UNITS[found.loss])
    lines += _searches(found)
    lines += [
        "## How to read this",
        "",
        f"- The search saw {found.calibration} samples; the {found.held_out} held-out ones, of other documents, were "
        "run only for the tests and for the best of the other searches.",
        "- Edits are tested from the safest to the cheapest, each at the full level, until the first that fails: all "
        f"that hold do so together with {100 * found.confidence:g} % confidence (two-sided), however many were tried.",
        f"- Losses are against the same model unedited on the same samples, in {UNITS[found.loss]}; costs are "
        f"{COSTS[found.cost]}"
        + (", by formula, as served, at the lengths of the samples." if found.cost != "latency" else ", measured."),
        "- Nothing was retrained, and longer contexts than the study's were not run.",
        "",
    ]
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(heads, [[cell.replace("|", "\\|") for cell in row] for row in rows], "l" * len(heads))


def _tests(found: Found) -> list[str]:
    tried = found.search.tried
    rows = [
        [
            str(place),
            f"{100 * found.cost_of(one.edit):.1f} %",
            f"{tried[one.edit].loss.mean:+.4f}" if one.edit in tried else "",
            _loss(one.loss),
            "holds" if one.holds else "does not hold",
            describe(found.space, one.edit),
        ]
        for place, one in enumerate(found.tests, 1)
    ]
    head = ["test", "cost", "loss that chose it", "loss on held-out samples", "", "edit"]
    return ["## Tests", "", _table(head, rows), ""]


def _positions(winner: Held, unit: str) -> list[str]:
    rows = [
        [f"{2**bucket - 1:,} to {2 ** (bucket + 1) - 2:,}", _loss(one), str(one.samples)]
        for bucket, one in winner.by_position.items()
        if bucket >= 3
    ]
    if not rows:
        return []
    head = ["position of the query", f"loss ({unit})", "samples"]
    return ["## Risk by context length", "", _table(head, rows), ""]


def _searches(found: Found) -> list[str]:
    rows = []
    for name, arm in found.arms.items():
        best = arm.best
        held = None if best is None else found.beside.get(best.edit)
        tested = next((one.loss for one in found.tests if best is not None and one.edit == best.edit), held)
        rows.append(
            [
                name,
                f"{arm.spent:.1f}",
                str(len(arm.tried)),
                "none" if best is None else f"{100 * best.cost:.1f} %",
                "" if best is None else f"{best.loss.mean:+.4f}",
                "" if tested is None else _loss(tested),
            ]
        )
    head = ["search", "evaluations", "edits", "cheapest within the bound", "its loss", "held out"]
    return ["## Searches", "", _table(head, rows), ""]
