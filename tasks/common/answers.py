"""The look at the answers of a shard's samples, while the extraction runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.tasks.common.declared import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from indexscope.analysis.evidence.watch import AnswerWatch, Marked


def answer_watch(job: Job) -> Callable[[Sequence[Marked]], AnswerWatch]:
    """What makes the watch of a batch, with the texts of token ids where the study has a tokenizer."""
    from indexscope.analysis.evidence.watch import AnswerWatch
    from indexscope.storage.inputs.checkpoints import load_tokenizer
    from indexscope.storage.inputs.vocabulary import vocabulary_pieces

    pieces = None if job.tokenizer is None else vocabulary_pieces(load_tokenizer(Path(job.tokenizer)))[0]
    return lambda batch: AnswerWatch(batch, pieces)
