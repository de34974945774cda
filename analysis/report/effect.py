"""Whether an indexer does anything: a query that has no more keys than the indexer may select loses none of them."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.analysis.report.numbers import count, percent

#: With a smaller share of queries in effect, dense and sparse runs are mostly the same computation.
LITTLE = 0.5
#: A sequence of so many times what is selected has three quarters of its queries in effect.
TIMES = 4


def share_in_effect(lengths: Sequence[int], selected: int) -> float:
    """Share of all queries with more than ``selected`` keys: n - selected of the queries of a sequence of n tokens.

    >>> share_in_effect([128, 64], 64)
    0.3333333333333333
    """
    return sum(max(0, length - selected) for length in lengths) / sum(lengths)


def length_for(selected: int) -> int:
    """Tokens of a sequence in which an indexer that selects so many shows what it does."""
    return TIMES * selected


def selects_everything(name: str) -> str:
    """That the indexer of a model is in effect nowhere."""
    return (
        f"The indexer of {name} selects everything: no query has more keys than it may select, so nothing here is a "
        "result of sparsity."
    )


def hardly_in_effect(name: str, share: float, detail: str = "") -> str:
    """That it is in effect for few queries.

    Args:
        name: The model.
        share: Of the queries.
        detail: More about the share, in brackets.
    """
    more = f" ({detail})" if detail else ""
    return (
        f"The indexer of {name} is in effect for {percent(share)} of the queries{more}: for the others it selects "
        "every key, so that quality and cost say little about sparsity."
    )


def remedy(selected: int | None, positions: int | None = None) -> str:
    """What mends it.

    Args:
        selected: Tokens that the indexer may select; None where its entries are not tokens.
        positions: Longest sequence that the model takes, in tokens, if that is known.
    """
    joined = "samples may be shorter than that: dataset.packing joins short documents"
    if selected is None:
        return f"A larger dataset.max_length mends it, if there are texts of that length ({joined})."
    if positions is not None and positions <= selected:
        return f"It may select {count(selected)} keys, and the model takes no more than {count(positions)} tokens."
    length = min(length_for(selected), positions or length_for(selected))
    share = percent(share_in_effect([length], selected))
    return (
        f"It may select {count(selected)} keys, so that dataset.max_length of {count(length)} or more puts {share} of "
        f"the queries of a sample of that length in effect ({joined})."
    )
