"""What a model predicts after the sampled queries, with the selection that it makes itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES, class_codes
from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.buckets import bucket_of
from indexscope.analysis.output_divergence.predictions import COLLECTED, LOGITS, packed


def prediction_collector(top: int, classes: NDArray[np.int8] | None = None) -> Maker:
    """Collects the table ``logits``: the next-token distribution after each sampled query.

    Of each distribution the likeliest tokens are kept, as ids and log-probabilities
    (`indexscope.analysis.output_divergence.predictions`), and the probability of all others as one number. ``nll`` and
    ``top_token`` are of the whole distribution in float64, and ``token_class`` is that of the true next token; it is
    null, like nll and next_token, after the last token.

    Args:
        top: Tokens to keep of each distribution, at most; 0 keeps none.
        classes: Class code of each id of the vocabulary, of `token_classes`; None leaves the classes null.
    """
    return lambda sample: _Predictions(sample, top, classes)


class _Predictions:
    def __init__(self, sample: CloseupSample, top: int, classes: NDArray[np.int8] | None) -> None:
        self.sample, self.places, self.weights, self.top = sample, sample.queries, sample.weights, top
        ids = sample.input_ids.numpy()
        self.classes = None if classes is None else class_codes(classes, ids)
        self.parts: list[pl.DataFrame] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Layers do not matter."""

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take one chunk: the logits of the queries from start on, [1, queries, vocabulary]."""
        here = (self.places >= start) & (self.places < start + logits.shape[1])
        if not bool(here.any()):
            return
        queries = self.places[here]
        rows = logits[0, (queries - start).to(logits.device)].double().log_softmax(-1)
        kept = min(self.top, rows.shape[1])
        likeliest = torch.zeros_like(rows, dtype=torch.bool).scatter(-1, rows.topk(kept, dim=-1).indices, True)
        tokens = likeliest.nonzero()[:, 1].view(len(rows), kept)
        ids, following = self.sample.input_ids, queries + 1
        known = following < len(ids)
        truth = ids[following.clamp(max=len(ids) - 1)]
        nll = -rows.gather(-1, truth.to(rows.device)[:, None])[:, 0].cpu()
        frame = pl.DataFrame(
            {
                "sample": np.full(len(queries), self.sample.index),
                "query": queries.numpy(),
                "bucket": bucket_of(queries).numpy(),
                "weight": self.weights[here].numpy(),
                "next_token": truth.numpy(),
                "token_class": self._classes(following.clamp(max=len(ids) - 1)),
                "nll": nll.numpy(),
                "top_token": rows.argmax(-1).cpu().numpy(),
                "vocabulary": np.full(len(queries), rows.shape[1]),
                "kept": np.full(len(queries), kept),
                "rest": rows.exp().masked_fill(likeliest, 0.0).sum(-1).cpu().numpy(),
                **packed(tokens.cpu().numpy(), rows.gather(-1, tokens).cpu().numpy()),
            },
            schema_overrides=LOGITS.schema,
        )
        of_next = ("next_token", "token_class", "nll")
        self.parts.append(frame.with_columns(pl.when(pl.Series(known.numpy())).then(pl.col(*of_next))))

    def _classes(self, positions: torch.Tensor) -> list[str | None]:
        if self.classes is None:
            return [None] * len(positions)
        return [CLASSES[code] for code in self.classes[positions.numpy()]]

    def tables(self) -> Tables:
        """The rows of the sample, by query."""
        return {"logits": pl.concat([LOGITS.empty(), *(part.select(*LOGITS.schema) for part in self.parts)])}


CLOSEUP = Collected(COLLECTED, lambda look: (prediction_collector(look.settings.top_logits, look.classes),))
