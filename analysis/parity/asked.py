"""What of an answer's evidence rows of a dump hold: selections alone tell, no attention and no loss is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from indexscope.analysis.evidence.watch import Marking
from indexscope.analysis.features.intake import TokenSequence
from indexscope.analysis.parity.records import Dumped
from indexscope.analysis.parity.rows import Reference


@dataclass(frozen=True)
class Asked:
    """An answer of a sample whose queries a dump has rows of, all of them.

    Attributes:
        queries: Positions of the answer's queries, first and one past the last.
        evidence: Positions of the evidence's tokens, [E], at least one.
    """

    queries: tuple[int, int]
    evidence: torch.Tensor

    def shares(self, keys: torch.Tensor, reference: Reference) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What of the evidence rows hold, weighted so that the answer's queries have 1 in all.

        Args:
            keys: Rows of the dump, [Q, W]; -1 for no key.
            reference: The baseline's rows of the same queries.

        Returns:
            [Q] float64 each: a query's share of the answer's queries, 0 for any other; that times the share of the
            evidence that the dump's row holds, and times what the baseline's holds.
        """
        first, last = self.queries
        rows = torch.nonzero((reference.query >= first) & (reference.query < last))[:, 0]
        asked, dumped, own = torch.zeros((3, len(keys)), dtype=torch.float64, device=keys.device)
        place = self.evidence.to(keys.device) - reference.start
        place = place[(place >= 0) & (place < reference.eligible.shape[1])]  # others left a sliding cache
        up = reference.eligible[rows][:, place]
        held = (keys[rows].long()[:, :, None] == place + reference.start).any(1) & up
        every = (last - first) * len(self.evidence)
        asked[rows] = 1 / (last - first)
        dumped[rows] = held.double().sum(-1) / every
        own[rows] = (reference.selected[rows][:, place] & up).double().sum(-1) / every
        return asked, dumped, own


def asked_of(sample: TokenSequence, *records: Dumped) -> Asked | None:
    """The answer of a sample; None where it marks none with evidence, or a record lacks rows of its queries."""
    marks: Marking | None = getattr(sample, "evidence", None)
    if marks is None or not marks.spans or not all(covers(record, marks.answer) for record in records):
        return None
    first, last = marks.answer
    positions = [position for span in marks.spans for position in range(*span)]
    return Asked((first - 1, last - 1), torch.tensor(positions, dtype=torch.int64))


class _HasRows(Protocol):
    """What has rows of queries one after the other."""

    @property
    def first(self) -> int: ...
    @property
    def rows(self) -> int: ...


def covers(record: _HasRows, answer: Sequence[int]) -> bool:
    """Whether a record has rows of all queries of an answer, those before its tokens."""
    return record.first <= answer[0] - 1 and answer[1] - 1 <= record.first + record.rows
