"""One watched call of attention: what it saw, and what is known of the dense attention behind it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from indexscope.analysis.capture.watching.picks import Pick
from indexscope.analysis.capture.watching.stack import Call


@dataclass
class Attention:
    """One call that attends from S queries to S keys.

    Attributes:
        call: The function.
        number: Which attention of the forward it is.
        visible: What it attends to, [B or 1, 1 or H, S, S], bool.
        selects: Whether a selection is in that.
        pick: The topk that it came from, where that is the layer's own.
        shared: The selection is that of an earlier attention.
        query: [B, H, S, width], as are key and value with as many heads or fewer; None where only ``weights`` are told.
        scale: Factor on query x key.
        bias: What is added to the logits besides, [B or 1, 1 or H, S, S].
        weights: What came out of a softmax written by hand, as [B, H, S, S].
        late: Some of these were set to 0 afterwards, so that ``visible`` is less than they are.
        around: The calls of modules that it is in, outermost first, where a stack of them was given.
    """

    call: str
    number: int
    visible: torch.Tensor
    selects: bool = False
    pick: Pick | None = None
    shared: bool = False
    query: torch.Tensor | None = None
    key: torch.Tensor | None = None
    value: torch.Tensor | None = None
    scale: float | None = None
    bias: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    late: bool = False
    around: tuple[Call, ...] = ()
