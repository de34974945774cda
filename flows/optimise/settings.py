"""What a search is asked for, and what its options may be."""

from __future__ import annotations

import math
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import Field

from indexscope import IndexscopeError
from indexscope.settings import Frozen

LossName = Literal["nll", "output_kl", "skill"]
CostName = Literal["attention", "indexer", "latency"]
BaselineName = Literal["greedy", "even", "random"]
LOSSES: tuple[LossName, ...] = ("nll", "output_kl", "skill")
COSTS: tuple[CostName, ...] = ("attention", "indexer", "latency")
BASELINES: tuple[BaselineName, ...] = ("greedy", "even", "random")
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
#: A tenth of this many evaluations is the least with which the search does better than chance.
LEAST = 2.0
#: Of the samples, for calibration, where nothing is said.
SHARE = 0.5


class Asked(Frozen):
    """One search.

    Attributes:
        max_loss: Bound on the loss.
        loss: What is lost.
        cost: What is saved.
        evaluations: How many times all calibration samples may be run; None where the budget is in seconds.
        seconds: The budget in seconds of evaluation.
        calibration: Share of the samples that the search sees.
        text: File or folder of other text that the search sees in their place; all samples of the study test then.
        model: What the study calls the model that is edited; "" is the baseline.
        baselines: Searches to compare it with, each with the same budget.
        seed: What is drawn.
    """

    max_loss: float = 0.005
    loss: LossName = "nll"
    cost: CostName = "attention"
    evaluations: float | None = 40.0
    seconds: float | None = None
    calibration: float = Field(SHARE, gt=0.0, lt=1.0)
    text: str = ""
    model: str = ""
    baselines: tuple[BaselineName, ...] = ("greedy", "even")
    seed: int = Field(0, ge=0, lt=2**32)

    def fingerprint(self, *more: str) -> str:
        """Tells a search from others over the same evaluations."""
        return sha256("\n".join([self.model_dump_json(), *more]).encode()).hexdigest()


def asked(
    max_loss: float, loss: str, cost: str, budget: str, calibration: str, baselines: str, seed: int, model: str = ""
) -> Asked:
    """Options as a user types them.

    Raises:
        IndexscopeError: One of them cannot be.
    """
    if not (math.isfinite(max_loss) and max_loss >= 0):
        raise IndexscopeError(f"--max-loss {max_loss:g}", "is no loss that may be allowed", "give 0 or more")
    share, text = _calibration(calibration)
    if not 0 <= seed < 2**32:
        raise IndexscopeError(f"--seed {seed}", "is out of range", "give 0 to 4294967295")
    names = tuple(name for name in re.split(r"[,\s]+", baselines.strip()) if name and name != "none")
    for option, value, known in (
        ("--loss", loss, LOSSES),
        ("--cost", cost, COSTS),
        *(("--baselines", name, BASELINES) for name in names),
    ):
        if value not in known:
            raise IndexscopeError(f"{option} {value}", "is not known", f"choose {', '.join(known)}")
    evaluations, seconds = budget_of(budget, f"--budget {budget}")
    return Asked.model_validate(
        {
            "max_loss": max_loss,
            "loss": loss,
            "cost": cost,
            "evaluations": evaluations,
            "seconds": seconds,
            "calibration": share,
            "text": text,
            "model": model,
            "baselines": names,
            "seed": seed,
        }
    )


def _calibration(given: str) -> tuple[float, str]:
    """A share of the samples, or else 0.5, which does nothing, and the path of other text."""
    where = f"--calibration {given}"
    try:
        share = float(given)
    except ValueError:
        path = Path(given).expanduser()
        if not os.path.exists(path):
            remedy = "give a number between 0 and 1, or a file or folder of other text"
            raise IndexscopeError(where, "is no share, and there is no such file", remedy) from None
        return SHARE, str(path.resolve())
    if not 0 < share < 1:
        raise IndexscopeError(where, "is no share", "give a number between 0 and 1")
    return share, ""


def budget_of(text: str, where: str) -> tuple[float | None, float | None]:
    """Evaluations or seconds of a budget, as a user writes it; the other is None.

    Args:
        text: A number, or a time as in 5min.
        where: What an error names.

    Raises:
        IndexscopeError: It is neither, or too little.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*(s|min|h)?", text.strip())
    if found is None:
        raise IndexscopeError(where, "is no budget", "give evaluations, as in 40, or a time, as in 5min")
    number, unit = float(found[1]), found[2]
    if unit is None and number < LEAST:
        raise IndexscopeError(where, "is too little to search with", f"give {LEAST:g} evaluations or more")
    if unit is not None and number <= 0:
        raise IndexscopeError(where, "is no time", "give a time as in 5min")
    return (number, None) if unit is None else (None, number * SECONDS[unit])
