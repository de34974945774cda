"""Excerpts of real texts with the selected tokens, few and small."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

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


class _Examples:
    def __init__(self, sample: CloseupSample, pieces: Sequence[str] | None, shown: bool) -> None:
        self.sample, self.pieces, self.shown = sample, pieces, shown
        self.found: dict[int, list[tuple[float, int, pl.DataFrame]]] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Keep an excerpt of each query in effect; the whole of them is known only at the end."""
        for rows in layers if self.shown else ():
            if rows.selected is None:
                continue
            recall = (rows.p * rows.selected).sum(-1).double().cpu().numpy()
            for place in np.flatnonzero(rows.in_effect.cpu().numpy()):
                excerpt = self._excerpt(rows, int(place), float(recall[place]))
                self.found.setdefault(rows.layer, []).append((float(recall[place]), int(rows.query[place]), excerpt))

    def _excerpt(self, rows: CloseupRows, place: int, recall: float) -> pl.DataFrame:
        assert rows.selected is not None
        query = int(rows.query[place])
        selected = rows.selected[place].cpu().numpy()
        attention = rows.p[place].cpu().numpy()
        at = shown_positions(attention.astype(np.float64) * selected, query)
        score = np.full(len(at), np.nan, np.float32) if rows.scores is None else rows.scores[place].cpu().numpy()[at]
        size = len(at)
        columns = {
            "sample": np.full(size, self.sample.index),
            "layer": np.full(size, rows.layer),
            "query": np.full(size, query),
            "position": at,
            "token": [self._text(int(token)) for token in self.sample.input_ids.numpy()[at]],
            "selected": selected[at],
            "attention": attention[at],
            "score": pl.Series(np.where(np.isfinite(score), score, np.nan)).fill_nan(None),
            "recall": np.full(size, recall),
            "outside": np.full(size, selected.sum() - selected[at].sum()),
        }
        return pl.DataFrame(columns).cast(EXAMPLES.schema)

    def _text(self, token: int) -> str:
        if self.pieces is None or token >= len(self.pieces):
            return f"id {token}"
        # Lone surrogates cannot be written to a file.
        return self.pieces[token].encode("utf-8", "replace").decode()

    def tables(self) -> Tables:
        """The table ``examples``."""
        frames = []
        for layer in sorted(self.found):
            ordered = sorted(self.found[layer], key=lambda entry: entry[:2])
            frames.append(ordered[(len(ordered) - 1) // 2][2])
        return {"examples": pl.concat([EXAMPLES.empty(), *frames])}
