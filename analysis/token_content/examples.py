"""Excerpts of real texts with the selected tokens, few and small."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.token_content.excerpt import shown_positions
from indexscope.analysis.token_content.tables import EXAMPLES


def example_collector(pieces: Sequence[str] | None, samples: Collection[int]) -> Maker:
    """Collects the table ``examples``: one query per layer of a few samples, a typical one, with what it selects.

    The query is, among the sample's sampled queries in effect in the layer, that of median selection recall (the lower
    of two; the earlier of equals): neither a lucky nor an unlucky one. One row a token that is shown, of at most 160:
    `indexscope.analysis.token_content.excerpt.shown_positions` chooses them.

    Args:
        pieces: Text of each id as it stands inside a text; None writes "id 123".
        samples: The samples to show, e.g. the first, the middle and the last; others give no rows.
    """
    shown = frozenset(samples)
    return lambda sample: _Examples(sample, pieces, sample.index in shown)


class _Excerpt(NamedTuple):
    """One query and the keys around it that are shown."""

    recall: float
    query: int
    position: NDArray[np.int64]
    selected: NDArray[np.bool_]
    attention: NDArray[np.float32]
    score: NDArray[np.floating[Any]]
    outside: int


class _Examples:
    def __init__(self, sample: CloseupSample, pieces: Sequence[str] | None, shown: bool) -> None:
        self.sample, self.pieces, self.shown = sample, pieces, shown
        self.found: dict[int, list[_Excerpt]] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Keep an excerpt of each query in effect; the whole of them is known only at the end."""
        for rows in layers if self.shown else ():
            if rows.selected is None:
                continue
            recall = (rows.p * rows.selected).sum(-1).double().cpu().numpy()
            selected, attention = rows.selected.cpu().numpy(), rows.p.cpu().numpy()
            scores = None if rows.scores is None else rows.scores.cpu().numpy()
            for place in np.flatnonzero(rows.in_effect.cpu().numpy()):
                query, chosen = int(rows.query[place]), selected[place]
                at = shown_positions(attention[place].astype(np.float64) * chosen, query)
                score = np.full(len(at), np.nan) if scores is None else scores[place, at]
                outside = int(chosen.sum() - chosen[at].sum())
                excerpt = _Excerpt(float(recall[place]), query, at, chosen[at], attention[place, at], score, outside)
                self.found.setdefault(rows.layer, []).append(excerpt)

    def _frame(self, layer: int, excerpt: _Excerpt) -> pl.DataFrame:
        size = len(excerpt.position)
        columns = {
            "sample": np.full(size, self.sample.index),
            "layer": np.full(size, layer),
            "query": np.full(size, excerpt.query),
            "position": excerpt.position,
            "token": [self._text(int(token)) for token in self.sample.input_ids.numpy()[excerpt.position]],
            "selected": excerpt.selected,
            "attention": excerpt.attention,
            "score": np.where(np.isfinite(excerpt.score), excerpt.score, np.nan),
            "recall": np.full(size, excerpt.recall),
            "outside": np.full(size, excerpt.outside),
        }
        return EXAMPLES.shaped(pl.DataFrame(columns, nan_to_null=True))

    def _text(self, token: int) -> str:
        if self.pieces is None or token >= len(self.pieces):
            return f"id {token}"
        # Lone surrogates cannot be written to a file.
        return self.pieces[token].encode("utf-8", "replace").decode()

    def tables(self) -> Tables:
        """The table ``examples``."""
        frames = []
        for layer in sorted(self.found):
            ordered = sorted(self.found[layer], key=lambda excerpt: (excerpt.recall, excerpt.query))
            frames.append(self._frame(layer, ordered[(len(ordered) - 1) // 2]))
        return {"examples": pl.concat([EXAMPLES.empty(), *frames])}
