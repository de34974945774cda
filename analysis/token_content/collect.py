"""What kind of tokens the selection holds, beside what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES, RELATIONS, class_codes
from indexscope.analysis.closeup.collect import CloseupSample, Collected, Look, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.token_content.examples import example_collector
from indexscope.analysis.token_content.tables import COLLECTED, CONTENT


def content_collector(classes: NDArray[np.int8] | None, dense: bool = False) -> Maker:
    """Collects the table ``token_content``: selected keys by kind of token, corrected for exposure.

    One row per sample, layer with a selection, and kind, over the layer's queries in effect, each weighted by the
    queries that it stands for. selections counts the selected keys of the kind, expected_selections what a random
    selector of the same size would take (each eligible key with probability k_t / n_t), attention_mass is the dense
    attention of the head mean on the kind, attention_expected what uniform attention would give (1 / n_t a key).

    Kinds: the classes of `indexscope.analysis.closeup.classes.CLASSES`, which part the keys; and three that overlap
    with them: *induction* (the key's previous token is the query's token, as `induction_mass`: Olsson et al. 2022),
    *repeated* (the key's token is the query's token and s < t), *first occurrence* (no earlier token of the sample is
    the same).

    Args:
        classes: Class code of each id of the vocabulary, of `token_classes`; None leaves the classes out. Ids beyond
            it are special: they have no text.
        dense: Count layers without a selection too, at the queries that have more than one key to choose from; all of
            E_t is then selected.
    """
    return lambda sample: _Content(sample, classes, dense)


class _Content:
    def __init__(self, sample: CloseupSample, classes: NDArray[np.int8] | None, dense: bool = False) -> None:
        ids = sample.input_ids.numpy()
        self.sample, self.dense = sample.index, dense
        self.ids = sample.input_ids
        self.first = torch.zeros(len(ids), dtype=torch.bool)
        self.first[np.unique(ids, return_index=True)[1]] = True
        self.codes = None if classes is None else torch.from_numpy(class_codes(classes, ids))
        self.sums: dict[int, torch.Tensor] = {}
        self.counts: dict[int, tuple[int, float]] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Count one chunk."""
        for rows in layers:
            counted = rows.in_effect.cpu()
            if rows.selected is None:
                if not self.dense:
                    continue
                rows, counted = replace(rows, selected=rows.eligible), (rows.n > 1).cpu()
            queries, weight = self.counts.get(rows.layer, (0, 0.0))
            part = torch.where(counted, rows.weight, 0.0)
            self.counts[rows.layer] = queries + int(counted.sum()), weight + float(part.sum())
            sums = self._of(rows, part.to(rows.p.device))
            self.sums[rows.layer] = self.sums[rows.layer] + sums if rows.layer in self.sums else sums

    def _of(self, rows: CloseupRows, weight: torch.Tensor) -> torch.Tensor:
        """Selections, their expectation, attention and its expectation of every kind, [kinds, 4], on the CPU."""
        assert rows.selected is not None
        n = rows.n.clamp(min=1).double()
        shares = ((weight, rows.selected), (weight * rows.k / n, rows.eligible), (weight, rows.p))
        # Weighted sums over queries, [quantities, K]: what only the key decides needs nothing more.
        sums = torch.stack([_down(*share) for share in (*shares, (weight / n, rows.eligible))]).cpu()
        keys = sums.shape[1]
        parts = []
        if self.codes is not None:
            parts.append(torch.zeros(len(CLASSES), 4, dtype=torch.float64).index_add_(0, self.codes[:keys], sums.T))
        related = [self._related(rows, weight, kind) for kind in ("induction", "repeated")]
        return torch.cat([*parts, *related, sums[:, self.first[:keys]].sum(-1)[None]])

    def _related(self, rows: CloseupRows, weight: torch.Tensor, kind: str) -> torch.Tensor:
        """The four sums over the keys that stand in a relation to the query, [1, 4]."""
        assert rows.selected is not None
        keys = rows.p.shape[1]
        token = self.ids[rows.query][:, None]
        if kind == "induction":
            # The key after an earlier copy: the first key follows nothing.
            match = torch.cat([torch.zeros(len(token), 1, dtype=torch.bool), self.ids[: keys - 1] == token], dim=1)
            match &= torch.arange(keys) <= rows.query[:, None]
        else:
            match = (self.ids[:keys] == token) & (torch.arange(keys) < rows.query[:, None])
        match = match.to(rows.p.device) & rows.eligible
        size = match.sum(-1).double()
        n = rows.n.clamp(min=1).double()
        values = (
            (match & rows.selected).sum(-1).double(),
            size * rows.k / n,
            (rows.p.double() * match).sum(-1),
            size / n,
        )
        return torch.stack([(weight * value).sum() for value in values])[None].cpu()

    def tables(self) -> Tables:
        """The table ``token_content``."""
        kinds = (*(CLASSES if self.codes is not None else ()), *RELATIONS)
        rows = [
            (self.sample, layer, kind, *self.counts[layer], *self.sums[layer][place].tolist())
            for layer in sorted(self.sums)
            for place, kind in enumerate(kinds)
        ]
        return {"token_content": pl.DataFrame(rows, schema=CONTENT.schema, orient="row")}


def _down(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Sum over queries of weight x value of each key, [K], float64."""
    return (weight[:, None] * values).sum(0)


def _makers(look: Look) -> tuple[Maker, ...]:
    shown = {look.samples[place] for place in (0, len(look.samples) // 2, -1)}
    pieces = None if look.vocabulary is None else look.vocabulary.pieces
    return content_collector(look.classes), example_collector(pieces, shown)


CLOSEUP = Collected(COLLECTED, _makers)
