"""What the layers show at an answer's queries, and how likely the answer is, in a run that something else asked for.

The queries of an answer of tokens a .. b - 1 are the positions a - 1 .. b - 2, which predict them: each sees the true
tokens before it, so that nothing is generated and the answer's later tokens do not pay for its first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.evidence.tables import ANSWERS, COLLECTED, EVIDENCE, TEXT
from indexscope.analysis.features.rows import AttentionRows
from indexscope.columns import Table, empty

Array = NDArray[np.float64]
#: Raise it when any number in the tables of answers would change.
VERSION = 1
#: Tokens that are shown of a sample, at most: its evidence with so many before and after each stretch of it, and its
#: answer with so many before.
SHOWN, BEFORE, AFTER, QUESTION = 160, 10, 4, 28


class Marking(Protocol):
    """An answer of tokens and the evidence that it needs, all before it; end of a span not included."""

    @property
    def spans(self) -> Sequence[tuple[int, int]]: ...  # noqa: D102
    @property
    def answer(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102


class Marked(Protocol):
    """A sample that may have an answer."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def input_ids(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def evidence(self) -> Marking | None: ...  # noqa: D102


@dataclass
class _Answer:
    """One sample: its answer's queries, its evidence, and what was seen of them.

    Attributes:
        item: Its row of the batch.
        sample: The sample.
        marks: What it marks.
        queries: Positions of the queries, [Q].
        evidence: Positions of the evidence's tokens, [E].
        layers: By layer, quantities of each query that was seen, in order.
        kept: How many layers and queries hold each evidence token, [E], and out of how many.
        seen: That number.
        predicted: Loss and whether it is right of each answer token, with the selection (False) and without (True).
    """

    item: int
    sample: Marked
    marks: Marking
    queries: torch.Tensor
    evidence: torch.Tensor
    layers: dict[int, list[dict[str, Array]]] = field(default_factory=lambda: defaultdict(list))
    kept: Array = field(default_factory=lambda: np.zeros(0))
    seen: int = 0
    predicted: dict[bool, list[tuple[Array, NDArray[np.bool_]]]] = field(default_factory=lambda: defaultdict(list))


class AnswerWatch:
    """Looks at the answers of a batch while it runs.

    Args:
        batch: The samples, of equal length; those that mark no answer are left alone.
        pieces: Text of each token id; None shows ids.
    """

    def __init__(self, batch: Sequence[Marked], pieces: Sequence[str] | None = None) -> None:
        self._pieces = pieces
        self._answers: list[_Answer] = []
        for item, sample in enumerate(batch):
            if sample.evidence is None:
                continue
            first, last = sample.evidence.answer
            evidence = [position for span in sample.evidence.spans for position in range(*span)]
            own = _Answer(
                item,
                sample,
                sample.evidence,
                torch.arange(first - 1, last - 1),
                torch.tensor(evidence, dtype=torch.int64),
            )
            own.kept = np.zeros(len(evidence))
            self._answers.append(own)

    def observe(self, chunk: AttentionChunk) -> None:
        """Take what one layer shows of one chunk; the chunks of a layer come in order."""
        for own in self._answers:
            place = _within(own.queries, chunk.start, chunk.query.shape[2])
            if len(place) and len(own.evidence):
                few = _at(chunk, own.item, place.to(chunk.query.device))
                kept = kept_tokens(few, own.evidence)
                own.layers[chunk.layer].append(_quantities(few, own.evidence, kept))
                if kept is not None:
                    own.kept += kept.sum(0).cpu().numpy()
                    own.seen += len(kept)

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take the logits of one chunk, [batch, queries, vocabulary], of the model as it is."""
        for own in self._answers:
            self._predict(own, start, logits[own.item], dense=False)

    def dense(self, start: int, logits: torch.Tensor, rows: Sequence[int]) -> None:
        """Take those of some rows of the batch with every key selected."""
        for own in self._answers:
            if own.item in rows:
                self._predict(own, start, logits[list(rows).index(own.item)], dense=True)

    def _predict(self, own: _Answer, start: int, logits: torch.Tensor, dense: bool) -> None:
        place = _within(own.queries, start, logits.shape[0])
        if not len(place) or not logits.shape[-1]:  # a source may predict nothing
            return
        rows = logits[place.to(logits.device)].double()
        truth = torch.tensor([own.sample.input_ids[int(at) + start + 1] for at in place], device=rows.device)
        nll = -rows.log_softmax(-1).gather(-1, truth[:, None])[:, 0]
        own.predicted[dense].append((nll.cpu().numpy(), (rows.argmax(-1) == truth).cpu().numpy()))

    def state(self) -> list[tuple[dict[int, list[dict[str, Array]]], Array, int]]:
        """What it saw of the layers that are done, of each answer."""
        return [(dict(own.layers), own.kept, own.seen) for own in self._answers]

    def restore(self, state: list[tuple[dict[int, list[dict[str, Array]]], Array, int]]) -> None:
        """Take up what another one saw of the same batch."""
        for own, (layers, kept, seen) in zip(self._answers, state, strict=True):
            own.layers.update(layers)
            own.kept, own.seen = kept, seen

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables of `indexscope.analysis.evidence.tables.COLLECTED`, empty ones included."""
        found = empty(COLLECTED)
        if self._answers:
            found["answers"] = _frame([_answer_row(own) for own in self._answers], ANSWERS)
            layers = [_layer_row(own, layer) for own in self._answers for layer in sorted(own.layers)]
            found["evidence"] = _frame(layers, EVIDENCE)
            found["answer_text"] = _frame([row for own in self._answers for row in _text(own, self._pieces)], TEXT)
        return found


def kept_tokens(chunk: AttentionChunk, tokens: torch.Tensor) -> torch.Tensor | None:
    """Which tokens each query's selection holds, [queries, tokens], float64; None where nothing is selected.

    A token is held if its key is selected, or a compressed entry that it went into is chosen. Where groups of heads
    select for themselves it is the share of the groups.

    Args:
        chunk: Of one sample.
        tokens: Their positions.
    """
    if chunk.selected is None:
        return None
    tokens = tokens.to(chunk.selected.device)
    is_key = _positions(chunk)[:, None] == tokens  # [keys, tokens]
    held = chunk.selected[0].float() @ is_key.float()
    if chunk.entries is not None and chunk.entries.kind == "compressed" and chunk.chosen is not None:
        chosen = chunk.chosen[0] if chunk.chosen.dim() == 4 else chunk.chosen[0][None]
        inside = (chunk.entries.first[0][:, None] <= tokens) & (tokens <= chunk.entries.last[0][:, None])
        held = held + chosen.float() @ inside.float()
    return (held > 0).double().mean(0)


def ranks(scores: torch.Tensor, places: torch.Tensor, eligible: torch.Tensor) -> torch.Tensor:
    """Rank of some keys by index score: how many have a score at least as high, itself among them.

    So k of at least its rank keeps a key however ties are broken. A key that is not up for selection has the rank n_t.

    Args:
        scores: [queries, keys], -inf where a key is not up for selection.
        places: Which keys, [keys asked].
        eligible: E_t, [queries, keys].

    Returns:
        [queries, keys asked], float64.
    """
    own = scores[:, places].contiguous()
    lower = torch.searchsorted(scores.sort(-1).values, own)
    found = (scores.shape[-1] - lower).double()
    return torch.where(own > -torch.inf, found, eligible.sum(-1, keepdim=True).double())


def _quantities(chunk: AttentionChunk, evidence: torch.Tensor, kept: torch.Tensor | None) -> dict[str, Array]:
    """What is measured at each of some queries of one sample in one layer, [queries] each; NaN where unknown."""
    queries = chunk.eligible.shape[2]
    found = {name: np.full(queries, np.nan) for name in _MEASURED}
    eligible = chunk.eligible[0, 0]
    compressed = chunk.entries is not None and chunk.entries.kind == "compressed"
    positions = _positions(chunk)
    places = torch.nonzero(torch.isin(positions, evidence.to(positions.device)))[:, 0]
    if kept is not None and chunk.selected is not None:
        found["selected"] = _numbers(kept.mean(-1))
        n, k = eligible.sum(-1).double(), chunk.selected[0].double().sum(-1).mean(0)
        if not compressed:
            found["chance"] = _numbers(k / n.clamp(min=1))
            found["in_effect"] = _numbers((n > k).double())
        elif chunk.chosen is not None and chunk.scores is not None:
            up = (chunk.scores[0] > -torch.inf).sum(-1) > chunk.chosen[0].sum(-1)
            found["in_effect"] = _numbers(up.double() if up.dim() == 1 else up.double().mean(0))
    if not compressed:
        p = AttentionRows(chunk).mean[0][:, places].double()
        found["attention"] = _numbers(p.sum(-1))
        if kept is not None:
            there = torch.isin(evidence.to(positions.device), positions)
            found["attention_kept"] = _numbers((p * kept.to(p.device)[:, there]).sum(-1))
    scores = chunk.scores
    if scores is not None and scores.dim() == 3 and chunk.entries is None:
        every = ranks(scores[0].float().masked_fill(~eligible, -torch.inf), places, eligible)
        absent = len(places) < len(evidence)  # a key that left a sliding cache is not up for selection either
        found["best_rank"] = _numbers(every.min(-1).values if len(places) else eligible.sum(-1).double())
        found["worst_rank"] = _numbers(eligible.sum(-1).double() if absent else every.max(-1).values)
    return found


_MEASURED = ("selected", "chance", "in_effect", "attention", "attention_kept", "best_rank", "worst_rank")


def _positions(chunk: AttentionChunk) -> torch.Tensor:
    """Position of the token that each key is, [keys], -1 where it is none; ascending among tokens."""
    if chunk.positions is not None:
        return chunk.positions
    keys = chunk.eligible.shape[-1]
    # `_at` keeps the chunk's last position in `start`, whatever queries it keeps.
    return torch.arange(chunk.start - keys, chunk.start, device=chunk.eligible.device)


def _at(chunk: AttentionChunk, item: int, place: torch.Tensor) -> AttentionChunk:
    """Some queries of one sample of a chunk; its start is one past the position of the last key's token."""

    def own(values: torch.Tensor | None, dimension: int | None = None) -> torch.Tensor | None:
        if values is None:
            return None
        one = values[min(item, values.shape[0] - 1)][None]
        return one if dimension is None else one.index_select(dimension, place)

    bias, entries = chunk.bias, chunk.entries
    if bias is not None:
        bias = bias.index_select(-2, place) if bias.shape[-2] > 1 else bias
        bias = own(bias) if bias.dim() == 4 else bias
    if entries is not None:
        first, last = own(entries.first), own(entries.last)
        assert first is not None and last is not None
        entries = replace(entries, first=first, last=last)
    changed: dict[str, Any] = {
        "query": own(chunk.query, 2),
        "key": own(chunk.key),
        "value": own(chunk.value),
        "eligible": own(chunk.eligible, 2),
        "selected": own(chunk.selected, 2),
        "scores": own(chunk.scores, -2),
        "chosen": own(chunk.chosen, -2),
        "always": own(chunk.always, 2),
        "probabilities": own(chunk.probabilities, 2),
    }
    end = chunk.start + chunk.query.shape[2]
    return replace(
        chunk, start=end, bias=bias, entries=entries, head_scores=None, head_weights=None, hits=None, **changed
    )


def _within(queries: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Places of the queries that a chunk holds, within it."""
    return queries[(queries >= start) & (queries < start + count)] - start


def _answer_row(own: _Answer) -> dict[str, Any]:
    first, last = own.marks.answer
    row: dict[str, Any] = {
        "sample": own.sample.index,
        "kind": own.marks.kind,
        "tokens": len(own.sample.input_ids),
        "answer_start": first,
        "answer_tokens": last - first,
        "evidence_tokens": len(own.evidence),
        "evidence_start": int(own.evidence[0]) if len(own.evidence) else None,
    }
    for dense, prefix in ((False, ""), (True, "dense_")):
        parts = own.predicted.get(dense)
        nll, right = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else (None, None)
        row[f"{prefix}nll"] = None if nll is None else float(nll.mean())
        row[f"{prefix}right"] = None if right is None else float(right.mean())
        row[f"{prefix}exact"] = None if right is None else bool(right.all())
    return row


def _layer_row(own: _Answer, layer: int) -> dict[str, Any]:
    parts = own.layers[layer]
    every = {name: np.concatenate([part[name] for part in parts]) for name in _MEASURED}
    row: dict[str, Any] = {"sample": own.sample.index, "layer": layer, "queries": len(every["selected"])}
    row |= {name: _known(values.mean()) for name, values in every.items()}
    row["kept_all"] = None if row["selected"] is None else bool((every["selected"] == 1.0).all())
    row["needed"] = _known(every["worst_rank"].max())
    return row


def _text(own: _Answer, pieces: Sequence[str] | None) -> list[dict[str, Any]]:
    answer = range(*own.marks.answer)
    evidence = {int(position): place for place, position in enumerate(own.evidence)}
    right = {dense: np.concatenate([part[1] for part in parts]) for dense, parts in own.predicted.items()}
    rows: list[dict[str, Any]] = []
    for position in _shown(own.marks, len(own.sample.input_ids)):
        role = "answer" if position in answer else "evidence" if position in evidence else "text"
        place = position - answer.start
        kept = own.kept[evidence[position]] / own.seen if role == "evidence" and own.seen else None
        told = {dense: bool(flags[place]) for dense, flags in right.items() if role == "answer"}
        rows.append(
            {
                "sample": own.sample.index,
                "position": position,
                "token": _piece(own.sample.input_ids[position], pieces),
                "role": role,
                "kept": kept,
                "right": told.get(False),
                "dense_right": told.get(True),
            }
        )
    return rows


def _shown(marks: Marking, length: int) -> list[int]:
    """Positions of the tokens to show, ascending; of too many the first half of the room and the last."""
    first, last = marks.answer
    stretches = [(start - BEFORE, end + AFTER) for start, end in marks.spans] + [(first - QUESTION, last)]
    found = sorted({at for start, end in stretches for at in range(max(start, 0), min(end, length))})
    half = SHOWN // 2
    return found if len(found) <= SHOWN else [*found[:half], *found[-half:]]


def _piece(token: int, pieces: Sequence[str] | None) -> str:
    if pieces is None or token >= len(pieces):
        return f"id {token}"
    # Lone surrogates cannot be written to a file.
    return pieces[token].encode("utf-8", "replace").decode()


def _frame(rows: Sequence[Mapping[str, Any]], table: Table) -> pl.DataFrame:
    return table.shaped(pl.DataFrame(rows, schema=table.schema)) if rows else table.empty()


def _numbers(values: torch.Tensor) -> Array:
    return np.asarray(values.detach().cpu().double().numpy(), dtype=np.float64)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
