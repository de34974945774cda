"""Which keys the sampled queries attend to most, and what kind of tokens a sample's keys are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import class_codes
from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.selection_changes.attended import ATTENDED, COLLECTED, LEAST, TOKEN_KINDS, packed, packed_kinds

TIMES, MOST = 4, 4096
"""How many keys ``auto`` keeps, relative to k_t and at most.

Attention on keys that are not kept is estimated as if they shared it evenly, which those at the margin of a selection
do not. The built-in candidate (k = 64, 512 tokens) loses 0.257 % of the baseline's attention; from 16 keys the loss
would come out as 1.66 %, from 64 as 0.55 %, from 128 as 0.28 %. A row takes 40, 113, 183 and, with 256, 271 bytes.
"""


def attended_collector(count: int | Literal["auto"], classes: NDArray[np.int8] | None) -> Maker:
    """Collects ``attended`` and ``token_kinds``, from which two models' selections are told apart later.

    ``attended`` has a row for each layer with a selection and each query, whether or not it is in effect here (another
    model may leave keys out where this one does not): the keys of most dense attention of the head mean with their
    attention, and the sums over all other keys, selected and not. ``token_kinds`` has one row, with the class of each
    token and the position of the first token that is the same: what relations to a query need, and no text.

    Args:
        count: Keys to keep of each query, at most; 0 keeps neither table's rows, auto as many as `TIMES` k_t.
        classes: Class code of each id of the vocabulary, of `token_classes`; None leaves the classes null.
    """
    return lambda sample: _Attended(sample, count, classes)


class _Attended:
    def __init__(self, sample: CloseupSample, count: int | Literal["auto"], classes: NDArray[np.int8] | None) -> None:
        self.sample, self.count = sample, count
        ids = sample.input_ids.numpy()
        kinds = packed_kinds(None if classes is None else class_codes(classes, ids), ids)
        rows = [(sample.index, len(ids), *kinds)] if count else []
        self.kinds = pl.DataFrame(rows, schema=TOKEN_KINDS.schema, orient="row")
        self.parts: list[dict[str, NDArray[Any]]] = []
        self.packed: dict[str, list[bytes]] = {"keys": [], "mass": []}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Keep the keys of one chunk."""
        for rows in layers if self.count else ():
            if rows.selected is None:
                continue
            counts = self._counts(rows).clamp(max=rows.p.shape[1])
            best = rows.p.topk(int(counts.max()), dim=-1).indices
            among = torch.arange(best.shape[1], device=best.device) < counts[:, None]
            kept = torch.zeros_like(rows.eligible).scatter(-1, best, among) & (rows.p >= LEAST)
            rest = rows.p.double().masked_fill(kept, 0.0)
            sizes = kept.sum(-1).cpu().numpy()
            self.parts.append(
                {
                    "layer": np.full(len(sizes), rows.layer),
                    "query": rows.query.numpy(),
                    "kept": sizes,
                    "weight": rows.weight.numpy(),
                    "selected_rest": (rest * rows.selected).sum(-1).cpu().numpy(),
                    "unselected_rest": (rest * ~rows.selected).sum(-1).cpu().numpy(),
                }
            )
            keys, mass = kept.nonzero()[:, 1].cpu().numpy(), rows.p[kept].double().cpu().numpy()
            for name, column in packed(keys, mass, sizes).items():
                self.packed[name] += column

    def _counts(self, rows: CloseupRows) -> torch.Tensor:
        """Keys to keep of each query, [Q]."""
        if self.count == "auto":
            return (TIMES * rows.k).clamp(max=MOST)
        return torch.full_like(rows.n, self.count)

    def tables(self) -> Tables:
        """``attended`` and ``token_kinds``."""
        if not self.parts:
            return {"attended": ATTENDED.empty(), "token_kinds": self.kinds}
        joined = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        places = {"sample": np.full(len(joined["layer"]), self.sample.index)}
        attended = ATTENDED.shaped(pl.DataFrame(places | joined | self.packed))
        return {"attended": attended.sort("layer", "query"), "token_kinds": self.kinds}


CLOSEUP = Collected(COLLECTED, lambda look: (attended_collector(look.settings.attended_keys, look.classes),))
