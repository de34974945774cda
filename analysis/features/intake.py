"""What may be looked at: samples that fit the model, and numbers that are finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import polars as pl
import torch

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk
from indexscope.analysis.capture.source import Source


class TokenSequence(Protocol):
    """A sample: its index in the dataset, its document's name and its token ids."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def input_ids(self) -> Sequence[int]: ...  # noqa: D102


class _Restorable(Protocol):
    """What can be put away between two layers, and taken up again by another process that runs the same samples."""

    def state(self) -> object:
        """What it gathered of the layers that are done: plain objects, arrays and tensors."""
        ...

    def restore(self, state: Any) -> None:
        """Take that up, having seen nothing yet."""
        ...


class Beside(_Restorable, Protocol):
    """What looks at a sample beside its extraction, in the same run."""

    def observe(self, chunk: AttentionChunk) -> None:
        """Take what one layer sees of one chunk."""
        ...

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take the logits of one chunk from query start on, once all its layers were observed."""
        ...

    def tables(self) -> dict[str, pl.DataFrame]:
        """What it saw, by tables of its own names."""
        ...


class Watch(_Restorable, Protocol):
    """What looks at a batch in its run and in that of its dense reference."""

    def observe(self, chunk: AttentionChunk) -> None:
        """Take what one layer sees of one chunk."""
        ...

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take the logits of one chunk from query start on, [batch, queries, vocabulary]."""
        ...

    def dense(self, start: int, logits: torch.Tensor, rows: Sequence[int]) -> None:
        """Take those of some rows of the batch, with every key selected."""
        ...

    def tables(self) -> dict[str, pl.DataFrame]:
        """What it saw, by tables of its own names: always all of them, empty ones included."""
        ...


def called(batch: Sequence[TokenSequence]) -> str:
    """What messages call a batch: its first sample, and how many more there are."""
    more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
    return f"sample {batch[0].index} ({batch[0].name}){more}"


def check_samples(source: Source, samples: Sequence[TokenSequence]) -> None:
    """Refuse token ids and lengths that the model does not know; an accelerator would not survive such an id.

    Learned positions end where they end, and rotary ones go on silently beyond what the model was made for, so that
    every number would be about a model that nobody meant. Both are refused.

    Raises:
        IndexscopeError: It names the sample, the id and the vocabulary, or the length and the range.
    """
    for sample in samples:
        ids, where = sample.input_ids, called([sample])
        if not ids:
            raise IndexscopeError(where, "has no tokens", "leave it out")
        if min(ids) < 0 or max(ids) >= source.vocabulary:
            foreign = next(token for token in ids if not 0 <= token < source.vocabulary)
            reason = f"has token id {foreign}, but the vocabulary of {source.family} is 0 to {source.vocabulary - 1}"
            raise IndexscopeError(where, reason, "use the tokenizer that belongs to the model")
        if source.max_length is not None and len(ids) > source.max_length:
            reason = f"has {len(ids)} tokens, but the positions of {source.family} end at {source.max_length}"
            raise IndexscopeError(where, reason, f"cut samples to {source.max_length} tokens (dataset.max_length)")


class Finite:
    """Collects, without waiting for the device, whether everything seen was finite.

    A NaN among index scores counts as the largest for topk and would choose keys without leaving another trace.

    Args:
        where: The samples being run.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._seen: list[tuple[str, torch.Tensor]] = []

    def look(self, chunk: AttentionChunk, output: torch.Tensor) -> None:
        """Take note of a layer's attention output and of its index scores, whose -inf means "not up for selection"."""
        low, high = output.aminmax()  # both are NaN if any number is
        self._seen.append((f"the attention outputs of layer {chunk.layer}", (low > -torch.inf) & (high < torch.inf)))
        if chunk.scores is not None and chunk.scores.numel():
            self._seen.append((f"the index scores of layer {chunk.layer}", chunk.scores.amax() < torch.inf))

    def state(self) -> tuple[list[str], torch.Tensor]:
        """What was seen since the last check."""
        flags = [flag for _, flag in self._seen]
        return [what for what, _ in self._seen], torch.stack(flags) if flags else torch.empty(0)

    def restore(self, state: tuple[Sequence[str], torch.Tensor]) -> None:
        """Take up what another one saw."""
        self._seen = list(zip(*state, strict=True))

    def check(self, logits: torch.Tensor) -> None:
        """Refuse what was seen since the last check, and these logits, if anything is not finite.

        Raises:
            IndexscopeError: It names the first that is not.
        """
        if logits.numel():
            low, high = logits.aminmax()
            self._seen.append(("the logits", (low > -torch.inf) & (high < torch.inf)))
        device = self._seen[-1][1].device  # layers of one model may be on several
        fine = torch.stack([flag.to(device) for _, flag in self._seen]).tolist()
        for (what, _), good in zip(self._seen, fine, strict=True):
            if not good:
                remedy = "use dtype float32 (or bfloat16), and check the weights"
                raise IndexscopeError(self.where, f"{what} are NaN or infinite", remedy)
        self._seen.clear()


def evenly(samples: int, count: int) -> list[int]:
    """Places of at most so many samples, evenly spaced.

    >>> evenly(10, 4), evenly(2, 3)
    ([1, 3, 6, 8], [0, 1])
    """
    count = min(count, samples)
    return [(2 * place + 1) * samples // (2 * count) for place in range(count)]
