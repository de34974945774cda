"""Which keys after their query a chunk's layer attends to, and a word to the journal where there are any."""

from __future__ import annotations

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.leaks import LEAKS


def future_keys(chunk: AttentionChunk) -> tuple[torch.Tensor, bool]:
    """Pairs of a query and a key after it that the layer attends to, as far as the chunk holds them.

    Returns:
        [batch or 1, queries, keys], bool, of the last keys where only those can be after a query; and whether of all
        keys it is known where they are.
    """
    attended = chunk.eligible if chunk.selected is None else chunk.selected
    queries, keys = attended.shape[2:]
    last = chunk.start + queries
    query = torch.arange(chunk.start, last, device=attended.device)
    if chunk.positions is None:
        own = min(queries, keys)  # those before the chunk are before all of its queries
        key = torch.arange(last - own, last, device=attended.device)
        return attended[..., keys - own :].any(1) & (key > query[:, None]), True
    key, known = chunk.positions.unsqueeze(0), True
    compressed = chunk.positions < 0
    if bool(compressed.any()):
        # A compressed key is in the future as soon as the last token in it is.
        if chunk.entries is None or chunk.entries.last.shape[1] != int(compressed.sum()):
            known = False
        else:
            key = key.repeat(chunk.entries.last.shape[0], 1)
            key[:, compressed] = chunk.entries.last.to(key.dtype)
    return attended.any(1) & (key[:, None, :] > query[None, :, None]), known


class Alarm:
    """Tells a journal, once, that a model is seen to attend to keys after their query.

    It looks at what the layers show, at the cost of a comparison of masks; what a model does unseen, the causality
    audit alone can find.

    Args:
        model: What the model is called.
        journal: What is told.
    """

    def __init__(self, model: str, journal: Journal) -> None:
        self.model, self.journal = model, journal

    def look(self, chunk: AttentionChunk) -> None:
        """Look at a chunk."""
        if self.journal.leaks or not (chunk.ahead or bool(future_keys(chunk)[0].any())):
            return
        self.journal.leaks = (
            f"{LEAKS}: {self.model} attends to keys after their query (a top-k mask alone does not hide them), so that "
            "none of its numbers can be used; the causality audit says more"
        )
        self.journal.note(self.journal.leaks)
