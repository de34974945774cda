"""Adds up one sample's rows by layer and position, and remembers where they first part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch

from indexscope.analysis.features.buckets import bucket_count, bucket_of
from indexscope.analysis.parity.asked import Asked
from indexscope.analysis.parity.rows import COUNTS, Compared, Reference, compare_rows
from indexscope.analysis.parity.tables import COUNTED, DISTANCES
from indexscope.analysis.statistics.resampling import Array

Place = tuple[int, int]


@dataclass
class _Layer:
    """Sums of one layer: counts [names, buckets], keys by distance [3, bins], and where it first differs."""

    counts: Array
    keys: Array
    first: Place | None = None
    beyond: Place | None = None


@dataclass
class SampleSums:
    """What is found in one sample.

    Attributes:
        length: Tokens of the longer of sample and record.
        tolerance: What counts as a tie.
        asked: Its answer, if its evidence is to be looked for.
    """

    length: int
    tolerance: float
    asked: Asked | None = None
    _layers: dict[int, _Layer] = field(default_factory=dict)

    def add(self, layer: int, keys: torch.Tensor, reference: Reference) -> None:
        """Take some rows of a layer, later ones after earlier ones.

        Args:
            layer: The model's layer.
            keys: Rows of the dump, [queries, keys]; -1 for no key.
            reference: The baseline's rows of the same queries.
        """
        buckets = bucket_count(self.length)
        found = compare_rows(keys, reference, self.length, self.tolerance, buckets + 1)
        own = self._layers.get(layer)
        if own is None:
            own = self._layers[layer] = _Layer(np.zeros((len(_NAMES), buckets)), np.zeros((3, buckets + 1)))
        bucket = bucket_of(reference.query).cpu().numpy()
        for place, values in enumerate(_values(found, keys, reference, self.asked)):
            own.counts[place] += np.bincount(bucket, values, minlength=buckets)
        own.keys += found.by_distance.numpy()
        here = found.counts
        parted = here["in_effect"].bool() & ~here["identical"].bool()
        own.first = own.first or _first(parted, found, reference)
        if reference.scores is not None:
            own.beyond = own.beyond or _first(parted & here["scored"].bool() & ~here["alike"].bool(), found, reference)

    @property
    def layers(self) -> list[int]:
        """The layers that were compared."""
        return sorted(self._layers)

    def counted(self, sample: int) -> pl.DataFrame:
        """The sums, a row a layer and bucket that has queries."""
        frames = [COUNTED.empty()]
        for layer in self.layers:
            counts = self._layers[layer].counts
            columns = dict(zip(_NAMES, counts, strict=True))
            frame = pl.DataFrame({"bucket": np.arange(counts.shape[1]), **columns}).with_columns(
                sample=pl.lit(sample), layer=pl.lit(layer)
            )
            frames.append(COUNTED.shaped(frame.filter(pl.col("queries") > 0)))
        return pl.concat(frames)

    def distances(self, sample: int) -> pl.DataFrame:
        """Keys by distance, a row a layer and bin that has any."""
        frames = [DISTANCES.empty()]
        for layer in self.layers:
            selected, missing, extra = self._layers[layer].keys
            frame = pl.DataFrame(
                {"bin": np.arange(len(selected)), "selected": selected, "missing": missing, "extra": extra}
            ).with_columns(sample=pl.lit(sample), layer=pl.lit(layer))
            frames.append(DISTANCES.shaped(frame.filter((pl.col("selected") > 0) | (pl.col("extra") > 0))))
        return pl.concat(frames)

    def parting(self) -> dict[str, int | None]:
        """Where the two part: by layer, by layer beyond ties, and by position."""
        first = next(((layer, *place) for layer in self.layers if (place := self._layers[layer].first)), None)
        beyond = next(((layer, *place) for layer in self.layers if (place := self._layers[layer].beyond)), None)
        earliest = min(((one.first[0], layer) for layer, one in self._layers.items() if one.first), default=None)
        return {
            **_named(("layer", "query", "distance"), first),
            **_named(("beyond_layer", "beyond_query", "beyond_distance"), beyond),
            **_named(("earliest_query", "earliest_layer"), earliest),
        }


_NAMES = ("queries", *COUNTS, "attended", "asked", "evidence", "baseline_evidence")


def _values(found: Compared, keys: torch.Tensor, reference: Reference, asked: Asked | None) -> Array:
    """What is added up of each query, in the order of the names, [names, queries]."""
    effect = found.counts["in_effect"]
    attended = effect if reference.attention is not None else torch.zeros_like(effect)
    nothing = torch.zeros_like(effect)
    evidence = (nothing, nothing, nothing) if asked is None else asked.shares(keys, reference)
    rows = [torch.ones_like(effect), *(found.counts[name] for name in COUNTS), attended, *evidence]
    return np.asarray(torch.stack(rows).cpu().numpy())  # one transfer for all of them


def _first(rows: torch.Tensor, found: Compared, reference: Reference) -> Place | None:
    """Position and nearest distance of the first of some rows."""
    places = rows.nonzero()
    if not len(places):
        return None
    place = int(places[0])
    return int(reference.query[place]), int(found.nearest[place])


def _named(names: Sequence[str], values: Sequence[int] | None) -> dict[str, int | None]:
    if values is None:
        return dict.fromkeys(names)
    return {name: None if value < 0 else value for name, value in zip(names, values, strict=True)}
