"""One layer's rows of two programs: which keys both select, which one of them alone, and whether ties say why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from indexscope.analysis.features.positions import distance_bins


@dataclass(frozen=True)
class Reference:
    """What the baseline selects at some queries of one layer: Q queries, K keys.

    Attributes:
        query: Positions of the queries, [Q], int64, ascending.
        start: Position of the first key; the others follow one by one.
        eligible: E_t, [Q, K], bool.
        selected: S_t, [Q, K], bool.
        scores: Index scores I, [Q, K]; None where the baseline shows none.
        attention: Dense attention of the head mean, [Q, K]; None where the baseline shows none.
    """

    query: torch.Tensor
    start: int
    eligible: torch.Tensor
    selected: torch.Tensor
    scores: torch.Tensor | None = None
    attention: torch.Tensor | None = None


@dataclass(frozen=True)
class Compared:
    """What is found at Q queries. Numbers of queries that are not in effect are 0 but for the first five.

    Attributes:
        counts: By name, [Q], float64: ``future``, ``outside``, ``repeated`` (entries of the dump that are no selection
            of an eligible key, of any query), ``in_effect``, ``incomplete`` (1 where a query that is not in effect
            misses keys), ``identical``, ``alike`` (1 where the sets are equal, or equal up to ties), ``overlap``,
            ``missing``, ``extra``, ``scored`` (1 where index scores are known), ``differing`` (keys that one side alone
            selects, of scored queries), ``tied`` (those of them that are exchanged for each other and have the k-th
            score), ``gap`` (distances of differing keys from the k-th score in standard deviations of the row's
            scores), ``recall`` and ``baseline_recall``.
        by_distance: Keys of queries in effect by power-of-two distance, [3, bins], int64: selected by the baseline,
            missing, extra.
        nearest: Distance of the nearest key that differs, [Q], int64; -1 where none does.
    """

    counts: dict[str, torch.Tensor]
    by_distance: torch.Tensor
    nearest: torch.Tensor


COUNTS = (
    *("future", "outside", "repeated", "in_effect", "incomplete", "identical", "alike", "overlap", "missing", "extra"),
    *("scored", "differing", "tied", "gap", "recall", "baseline_recall"),
)


def compare_rows(keys: torch.Tensor, reference: Reference, length: int, tolerance: float, bins: int) -> Compared:
    """Hold rows of a dump against the baseline's.

    Args:
        keys: Positions of the selected keys, [Q, W], integers; -1 for none.
        reference: The baseline's rows of the same queries.
        length: Tokens of the longer of sample and record: keys from there on are out of range.
        tolerance: Ties are within this share of the row's largest score.
        bins: Number of distance bins.
    """
    keys = keys.long()
    query, own = reference.query[:, None], reference.selected & reference.eligible
    given, count = keys != -1, own.shape[1]
    future = given & (keys > query) & (keys < length)
    place = keys - reference.start
    known = given & ~future & (place >= 0) & (place < count)
    known &= reference.eligible.gather(1, place.clamp(0, max(count - 1, 0))) & known
    other = torch.zeros((len(keys), count + 1), dtype=torch.bool, device=keys.device)
    other = other.scatter_(1, torch.where(known, place, count), True)[:, :count]
    bad = {"future": future.sum(1), "outside": (given & ~future & ~known).sum(1)}
    bad["repeated"] = known.sum(1) - other.sum(1)
    k, n = own.sum(1), reference.eligible.sum(1)
    in_effect = n > k
    missing, extra = own & ~other, other & ~own
    differs = missing | extra
    clean = (bad["future"] + bad["outside"]) == 0
    identical = clean & ~differs.any(1)
    values = {
        "in_effect": torch.ones_like(k),
        "identical": identical,
        "overlap": (own & other).sum(1).double() / k.clamp(min=1),
        "missing": missing.sum(1),
        "extra": extra.sum(1),
        **_by_score(reference, own, other, identical, clean, tolerance),
        **_by_attention(reference, own, other),
    }
    counts = {name: value.double() for name, value in bad.items()}
    counts["incomplete"] = (~in_effect & missing.any(1)).double()
    counts |= {name: torch.where(in_effect, value.double(), 0.0) for name, value in values.items()}
    shown = in_effect[:, None]
    distance = query - (reference.start + torch.arange(count, device=keys.device))
    kinds = distance_bins(distance)
    parts = [torch.bincount(kinds[mask & shown], minlength=bins)[:bins] for mask in (own, missing, extra)]
    none = torch.iinfo(torch.int64).max
    least = torch.where(differs & shown, distance, none).amin(1) if count else torch.full_like(k, none)
    # A row that differs by what is no key at all has no distance.
    nearest = torch.where(least == none, -1, least)
    return Compared(counts, torch.stack(parts).cpu(), nearest)


def _by_score(
    reference: Reference,
    own: torch.Tensor,
    other: torch.Tensor,
    identical: torch.Tensor,
    clean: torch.Tensor,
    tolerance: float,
) -> dict[str, torch.Tensor]:
    """Whether keys that differ tie with the k-th score, and how far from it they lie.

    The k-th key itself has the k-th score. So a tie explains a key that is missing only where another one of that score
    is extra.
    """
    if reference.scores is None:
        nothing = torch.zeros(len(own), dtype=torch.float64, device=own.device)
        return {"scored": nothing, "alike": nothing, "differing": nothing, "tied": nothing, "gap": nothing}
    differs, scores = own ^ other, reference.scores.double()
    up = reference.eligible & (scores > -torch.inf)
    level = scores.masked_fill(~(own & up), torch.inf).amin(1)
    n = up.sum(1).clamp(min=1)
    held = scores.masked_fill(~up, 0.0)
    mean = held.sum(1) / n
    spread = ((held - mean[:, None]).masked_fill(~up, 0.0).square().sum(1) / n).sqrt()
    scored = level < torch.inf
    off = (scores - level[:, None]).abs().masked_fill(~(differs & up), 0.0)
    off = torch.where(scored[:, None], off, 0.0)
    ties = differs & up & (off <= tolerance * held.abs().amax(1)[:, None]) & scored[:, None]
    differing = torch.where(scored, differs.sum(1), 0)
    tied = 2 * torch.minimum((ties & own).sum(1), (ties & other).sum(1))
    return {
        "scored": scored,
        "alike": scored & (identical | (clean & (tied == differing))),
        "differing": differing,
        "tied": tied,
        "gap": off.sum(1) / spread.clamp(min=torch.finfo(torch.float64).tiny),
    }


def _by_attention(reference: Reference, own: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
    if reference.attention is None:
        return {"recall": own.new_zeros(len(own)), "baseline_recall": own.new_zeros(len(own))}
    attention = reference.attention.double()
    return {"recall": (attention * other).sum(1), "baseline_recall": (attention * own).sum(1)}
