"""Evaluations on disk: what a search that was killed goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Loss
from indexscope.storage.store.json_types import JSON
from indexscope.storage.store.lines import Lines, open_lines


@dataclass
class Kept:
    """Evaluations of one model, dataset and loss, whatever the bound, the cost and the budget.

    Attributes:
        losses: By edit and sample.
        latencies: Relative latency by edit.
        budgets: What budgets in time came to, in evaluations.
        seconds: What all of them took.
    """

    losses: dict[tuple[Edit, int], Loss]
    latencies: dict[Edit, float]
    budgets: dict[str, float]
    seconds: float
    _lines: Lines

    def heard(self, edit: Edit, sample: int, loss: Loss, seconds: float) -> None:
        """Keep a new evaluation."""
        self._add({"sample": sample, "sums": list(loss.sums), "weights": list(loss.weights)}, edit, seconds)
        self.losses[edit, sample] = loss

    def timed(self, edit: Edit, latency: float, seconds: float) -> None:
        """Keep a new latency."""
        self._add({"latency": latency}, edit, seconds)
        self.latencies[edit] = latency

    def budget(self, name: str, evaluations: float) -> None:
        """Keep what a budget in time came to."""
        self._lines.add({"budget": name, "evaluations": evaluations})
        self.budgets[name] = evaluations

    def _add(self, told: dict[str, JSON], edit: Edit, seconds: float) -> None:
        line = {"edit": edit.model_dump(mode="json", exclude_defaults=True), **told, "seconds": round(seconds, 4)}
        self._lines.add(line)
        self.seconds += seconds


@contextmanager
def kept(folder: Path, fingerprint: str) -> Iterator[Kept]:
    """The evaluations of a fingerprint, of model, data and how it is run, below a folder.

    Raises:
        IndexscopeError: They cannot be read or written.
    """
    with open_lines(folder / f"evaluations-{fingerprint[:16]}.jsonl") as lines:
        found = Kept({}, {}, {}, 0.0, lines)
        for line in lines.known:
            if "budget" in line:
                found.budgets[str(line["budget"])] = float(line["evaluations"])  # type: ignore[arg-type]
                continue
            edit = Edit.model_validate(line["edit"])
            found.seconds += float(line["seconds"])  # type: ignore[arg-type]
            if "latency" in line:
                found.latencies[edit] = float(line["latency"])  # type: ignore[arg-type]
            else:
                sums, weights = (tuple(map(float, line[name])) for name in ("sums", "weights"))  # type: ignore[arg-type]
                found.losses[edit, int(line["sample"])] = Loss(sums, weights)  # type: ignore[arg-type]
        yield found
