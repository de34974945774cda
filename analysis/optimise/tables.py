"""The table of a search: every edit that was run, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.optimise.evaluations import Arm
from indexscope.analysis.optimise.validation import Held, Interval
from indexscope.columns import band, interval, of, table_of

FRONT = table_of(
    "edit that was run",
    "search edit",
    of(
        pl.String,
        search="Which search ran it: search, greedy, evenly spaced or random.",
        edit="The edit, as JSON.",
        origin="Who proposed it within its search.",
    ),
    of(
        pl.Float64,
        "share",
        cost="Its cost, relative to the model as it is.",
        cost_to_dense="Indexers and attention, relative to dense attention.",
    ),
    of(pl.Float64, "as the loss", loss="Mean loss on the calibration samples that it ran on."),
    interval("as the loss", whose="the loss'"),
    of(pl.Int32, "samples", n="Calibration samples that it ran on."),
    of(
        pl.Boolean,
        full="Whether these are all.",
        on_front="Whether nothing that ran on all of them beats it, in its search, in cost and in loss.",
        within="Whether the interval of its loss on them lies within the bound.",
    ),
    of(pl.Float64, "as the loss", held_out_loss="Mean loss on the held-out samples; null where it was not run there."),
    band("as the loss", "held_out_"),
    of(pl.Int32, "samples", held_out_n="Held-out samples that it ran on."),
    of(pl.Int32, test="Place in the sequence of tests on held-out samples, from 1; null where it was not tested."),
    of(pl.Boolean, holds="Whether it is within the bound as the tests have it; null where it was not tested."),
    ordered=False,
)


def front_table(
    arms: Mapping[str, Arm], tests: Sequence[Held], beside: Mapping[Edit, Interval], to_dense: Mapping[Edit, float]
) -> pl.DataFrame:
    """One row for every edit of every search.

    Args:
        arms: Searches by name; the first is the one whose finds were tested.
        tests: What was tested, in order.
        beside: Other edits that ran on held-out samples.
        to_dense: Cost relative to dense attention, by edit.
    """
    rows = []
    tested = {one.edit: (place, one) for place, one in enumerate(tests, 1)}
    for number, (name, arm) in enumerate(arms.items()):
        front = {one.edit for one in arm.front}
        for one in arm.tried.values():
            place, held = tested.get(one.edit, (None, None)) if not number else (None, None)
            loss = held.loss if held is not None else beside.get(one.edit)
            rows.append(
                {
                    "search": name,
                    "edit": one.edit.model_dump_json(exclude_defaults=True),
                    "origin": one.origin,
                    "cost": one.cost,
                    "cost_to_dense": to_dense.get(one.edit),
                    "loss": one.loss.mean,
                    "ci_low": one.loss.bound(arm.goal.confidence, -1),
                    "ci_high": one.loss.bound(arm.goal.confidence),
                    "n": one.loss.samples,
                    "full": one.full,
                    "on_front": one.edit in front,
                    "within": arm.within(one),
                    "held_out_loss": None if loss is None else loss.mean,
                    "held_out_ci_low": None if loss is None else loss.low,
                    "held_out_ci_high": None if loss is None else loss.high,
                    "held_out_n": None if loss is None else loss.samples,
                    "test": place,
                    "holds": None if held is None else held.holds,
                }
            )
    frame = pl.DataFrame(rows, schema=FRONT.schema, strict=False)
    return frame.with_columns(finite_or_null(*FRONT.floats))
